//! The record of one request: filled in along the line, written once, when the response's body has ended or the client
//! has left. It decides nothing.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use eyot_guest::Meter;
use eyot_plan::arrival::{Arrival, Protocol};
use eyot_plan::body::Body;
use eyot_plan::fault::{Code, Fault, Side};
use http::{HeaderValue, Method, StatusCode, Uri};
use http_body::{Frame, SizeHint};

use crate::access::{Line, Log};
use crate::entry::{Entry, Function, Route, Target};
use crate::telemetry::{CallEnd, RequestEnd, Telemetry, Text};

/// The status of a request whose client left before there was one.
const CLIENT_LEFT: u16 = 499;
/// Bytes that the log line of a fault is counted as.
const FAULT_LINE_BYTES: usize = 256;

/// The record of one request. It is written when it is dropped.
pub(crate) struct Record {
    telemetry: Arc<Telemetry>,
    access: Arc<Log>,
    /// Our id of the request.
    pub(crate) id: String,
    at: SystemTime,
    began: Instant,
    protocol: Protocol,
    client: std::net::IpAddr,
    method: Method,
    uri: Uri,
    app: Text,
    entry: Option<Arc<Entry>>,
    route: Text,
    target: Text,
    status: u16,
    fault: Option<Code>,
    /// The functions that were called, with what they spent: the target, and the fallback when it was one too.
    calls: Vec<(Arc<Function>, Arc<Meter>)>,
    /// Bytes of the request's body so far.
    pub(crate) in_bytes: Arc<AtomicU64>,
    out_bytes: u64,
    /// The methods that would have been taken, for `Allow`.
    pub(crate) allow: Option<HeaderValue>,
}

impl Record {
    pub(crate) fn begin(telemetry: &Arc<Telemetry>, access: &Arc<Log>, arrival: &Arrival) -> Self {
        Self {
            telemetry: Arc::clone(telemetry),
            access: Arc::clone(access),
            id: uuid::Uuid::now_v7().to_string(),
            at: arrival.at,
            began: Instant::now(),
            protocol: arrival.protocol,
            client: arrival.client.ip(),
            method: arrival.request.method().clone(),
            uri: arrival.request.uri().clone(),
            app: Text::const_str(""),
            entry: None,
            route: Text::const_str(""),
            target: Text::const_str(""),
            status: CLIENT_LEFT,
            fault: None,
            calls: Vec::new(),
            in_bytes: Arc::default(),
            out_bytes: 0,
            allow: None,
        }
    }

    /// The host belongs to this app, which has nothing to answer with.
    pub(crate) fn app(&mut self, app: Text) {
        self.app = app;
    }

    /// This entry answers.
    pub(crate) fn entry(&mut self, entry: &Arc<Entry>) {
        self.app = entry.label.clone();
        self.entry = Some(Arc::clone(entry));
    }

    /// By this route.
    pub(crate) fn route(&mut self, route: &Route) {
        self.route = route.id.clone();
    }

    /// By this target; called again for a fallback.
    pub(crate) fn target(&mut self, target: &Target) {
        self.target = target.label.clone();
    }

    /// A function is called, which says in what is given back what it spends.
    pub(crate) fn call(&mut self, function: &Arc<Function>) -> Arc<Meter> {
        let meter = Arc::<Meter>::default();
        self.calls.push((Arc::clone(function), Arc::clone(&meter)));
        meter
    }

    /// The request met a fault.
    pub(crate) fn fault(&mut self, fault: &Fault) {
        self.fault = Some(fault.code);
        self.telemetry.fault(&self.app, &self.route, fault.code);
        let within = |entry: &Arc<Entry>| entry.share.log(FAULT_LINE_BYTES);
        if fault.code.side() != Side::Client && self.entry.as_ref().is_some_and(within) {
            tracing::info!(
                id = self.id,
                app = &*self.app,
                route = &*self.route,
                target = &*self.target,
                code = fault.code.name(),
                cause = fault.cause.as_deref().unwrap_or_default(),
                "a fault"
            );
        }
    }

    /// The head of this status is sent.
    pub(crate) fn head(&mut self, status: StatusCode) {
        self.status = status.as_u16();
    }

    /// The release that answers, as `shop/417`.
    pub(crate) fn release(&self) -> Option<String> {
        self.entry.as_ref().map(|entry| format!("{}/{}", entry.app, entry.release))
    }

    /// What all functions have spent so far, in microseconds of CPU; none if none was called.
    pub(crate) fn cpu_us(&self) -> Option<u64> {
        (!self.calls.is_empty()).then(|| self.calls.iter().map(|(_, meter)| meter.cpu_us()).sum())
    }

    fn write(&self) {
        let wall = self.began.elapsed();
        let in_bytes = self.in_bytes.load(Ordering::Relaxed);
        for (function, meter) in &self.calls {
            self.telemetry.call(CallEnd {
                app: self.app.clone(),
                function: function.label.clone(),
                release: self.entry.as_ref().map_or(Text::const_str(""), |entry| entry.release_label.clone()),
                cpu_us: meter.cpu_us(),
                memory_bytes: meter.memory_bytes(),
                subrequests: meter.subrequests(),
            });
        }
        if self.access.is_on() {
            let meters = || self.calls.iter().map(|(_, meter)| meter);
            self.access.line(&Line {
                at: jiff::Timestamp::try_from(self.at).unwrap_or_default(),
                id: &self.id,
                app: &self.app,
                release: self.entry.as_ref().map(|entry| entry.release),
                route: &self.route,
                target: &self.target,
                protocol: self.protocol.label(),
                client: self.client,
                method: self.method.as_str(),
                host: self.uri.host().unwrap_or_default(),
                path: self.uri.path(),
                status: self.status,
                fault: self.fault.map(Code::name),
                wall_us: u64::try_from(wall.as_micros()).unwrap_or(u64::MAX),
                cpu_us: self.cpu_us().unwrap_or(0),
                memory_bytes: meters().map(|meter| meter.memory_bytes()).max().unwrap_or(0),
                subrequests: meters().map(|meter| meter.subrequests()).sum(),
                in_bytes,
                out_bytes: self.out_bytes,
            });
        }
        self.telemetry.request(RequestEnd {
            app: self.app.clone(),
            route: self.route.clone(),
            target: self.target.clone(),
            protocol: self.protocol,
            status: self.status,
            wall,
            in_bytes,
            out_bytes: self.out_bytes,
        });
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.write();
    }
}

/// A response's body that carries its request's record: what it sends is counted, its fault noted, and a generation that
/// is too old ends it. A panic of the body becomes a fault.
pub(crate) struct Recorded {
    /// Dropped before the record is written, so that a function's last steps are in it.
    body: Option<Body>,
    record: Record,
    /// Resolves when the entry that answers is closed; made when the body first has to wait.
    closed: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Recorded {
    pub(crate) fn new(body: Body, record: Record) -> Self {
        Self { body: Some(body), record, closed: None }
    }

    /// Asks to be woken when the entry is closed. Whether it is.
    fn watch(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(entry) = &self.record.entry else { return false };
        self.closed.get_or_insert_with(|| Box::pin(entry.closed())).as_mut().poll(cx).is_ready()
    }

    fn fail(&mut self, fault: Fault) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        self.body = None;
        self.record.fault(&fault);
        Poll::Ready(Some(Err(fault)))
    }
}

fn too_old() -> Fault {
    Fault::new(Code::NotReady).because("the release has ended here")
}

impl http_body::Body for Recorded {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        if this.record.entry.as_ref().is_some_and(|entry| entry.is_closed()) {
            return this.fail(too_old());
        }
        let poll = std::panic::AssertUnwindSafe(|| Pin::new(body).poll_frame(cx));
        match std::panic::catch_unwind(poll) {
            Ok(Poll::Pending) if this.watch(cx) => this.fail(too_old()),
            Ok(Poll::Ready(Some(Ok(frame)))) => {
                this.record.out_bytes += frame.data_ref().map_or(0, |bytes| bytes.len() as u64);
                Poll::Ready(Some(Ok(frame)))
            }
            Ok(Poll::Ready(Some(Err(fault)))) => this.fail(fault),
            Ok(other) => other,
            Err(_) => this.fail(Fault::new(Code::InternalError).because("a panic")),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), http_body::Body::size_hint)
    }
}
