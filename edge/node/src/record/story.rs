//! What is told of one request: the labels, counts and times of its metrics and of its line in the access log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use eyot_guest::Tree;
use eyot_link::tail;
use eyot_plan::arrival::{Arrival, Protocol};
use eyot_plan::cache::status::Status;
use eyot_plan::fault::{Code, Fault, Side};
use http::{HeaderValue, Method, StatusCode, Uri};

use super::calls::{Called, Calls};
use super::id;
use crate::access::{Line, Log, TEXT_CHARS_MAX};
use crate::entry::{Entry, EventTarget, Route};
use crate::policy::Every;
use crate::telemetry::{CallEnd, EVENT, Place, RequestEnd, Telemetry, Text};

/// The status of a request whose client left before there was one.
const CLIENT_LEFT: u16 = 499;
/// The cause of a fault is cut in the node's log, in bytes: it holds names from the guest.
const CAUSE_BYTES_MAX: usize = 1024;
/// Bytes that the log line of a fault is counted as.
const FAULT_LINE_BYTES: usize = 256;

/// What is told of one request.
pub(crate) struct Story {
    telemetry: Arc<Telemetry>,
    access: Arc<Log>,
    /// Our id of the request.
    pub(crate) id: String,
    at: SystemTime,
    began: Instant,
    /// None: it is an event.
    protocol: Option<Protocol>,
    client: std::net::IpAddr,
    method: Method,
    uri: Uri,
    app: Text,
    /// What answers.
    pub(super) entry: Option<Arc<Entry>>,
    route: Text,
    target: Text,
    /// The target's metrics by this route; none as long as nothing is found that answers.
    place: Option<Arc<Place>>,
    status: u16,
    fault: Option<Code>,
    /// What the cache had to do with it; none: nothing.
    cache: Option<Status>,
    /// Whether it is no client's request, and no line of the access log.
    is_of_nobody: bool,
    /// The functions that were called, with what they spent.
    calls: Arc<Calls>,
    /// How many of them had been called when a fault was last met: how those ended is known.
    calls_told: usize,
    /// What a function elsewhere in the fleet has lent to this request.
    pub(crate) lent: Option<Arc<Tree>>,
    /// From the head's arrival to the last byte; known when the client has that.
    wall: Duration,
    /// Bytes of the request's body so far.
    pub(crate) in_bytes: Arc<AtomicU64>,
    /// Bytes of the response's body so far.
    pub(super) out_bytes: u64,
    /// What is done to whatever the answer is.
    pub(crate) every: Every,
    /// The methods that would have been taken, for `Allow`.
    pub(crate) allow: Option<HeaderValue>,
    /// Whether another node of the fleet asks.
    pub(crate) is_inward: bool,
}

impl Story {
    pub(super) fn begin(telemetry: &Arc<Telemetry>, access: &Arc<Log>, arrival: &Arrival) -> Self {
        Self {
            telemetry: Arc::clone(telemetry),
            access: Arc::clone(access),
            id: id::next(arrival.at),
            at: arrival.at,
            began: Instant::now(),
            protocol: Some(arrival.protocol),
            client: arrival.client.ip(),
            method: arrival.request.method().clone(),
            uri: arrival.request.uri().clone(),
            app: Text::const_str(""),
            entry: None,
            route: Text::const_str(""),
            target: Text::const_str(""),
            place: None,
            status: CLIENT_LEFT,
            fault: None,
            cache: None,
            is_of_nobody: false,
            calls: Arc::default(),
            calls_told: 0,
            lent: None,
            wall: Duration::ZERO,
            in_bytes: Arc::default(),
            out_bytes: 0,
            every: Every::default(),
            allow: None,
            is_inward: false,
        }
    }

    /// What is told of a request that this one leads to and that nobody waits for.
    pub(super) fn twin(&self) -> Self {
        Self {
            telemetry: Arc::clone(&self.telemetry),
            access: Arc::clone(&self.access),
            id: self.id.clone(),
            at: SystemTime::now(),
            began: Instant::now(),
            protocol: self.protocol,
            client: self.client,
            method: self.method.clone(),
            uri: self.uri.clone(),
            app: self.app.clone(),
            entry: self.entry.clone(),
            route: self.route.clone(),
            target: self.target.clone(),
            place: None,
            status: CLIENT_LEFT,
            fault: None,
            cache: None,
            is_of_nobody: true,
            calls: Arc::default(),
            calls_told: 0,
            lent: None,
            wall: Duration::ZERO,
            in_bytes: Arc::default(),
            out_bytes: 0,
            every: Every::default(),
            allow: None,
            is_inward: false,
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

    /// It is an event, which this entry's function is called with.
    pub(crate) fn event(&mut self, entry: &Arc<Entry>, target: &EventTarget) {
        self.protocol = None;
        self.entry(entry);
        self.route = target.route.clone();
        self.target(&target.label, &target.place);
    }

    /// By what has this label and these metrics; called again for who answers instead.
    pub(crate) fn target(&mut self, label: &Text, place: &Arc<Place>) {
        self.target = label.clone();
        self.place = Some(Arc::clone(place));
    }

    /// What the cache had to do with it.
    pub(crate) fn cache(&mut self, status: Status) {
        self.cache = Some(status);
    }

    /// What the cache had to do with it.
    pub(crate) fn cached(&self) -> Option<&Status> {
        self.cache.as_ref()
    }

    pub(super) fn calls(&self) -> &Arc<Calls> {
        &self.calls
    }

    /// The request met a fault.
    pub(crate) fn fault(&mut self, fault: &Fault) {
        self.fault = Some(fault.code);
        self.calls_told = self.calls.count();
        self.telemetry.fault(&self.app, &self.route, fault.code);
        let release = self.entry.as_ref().map(|entry| entry.release);
        self.access.tap().tell(&self.app, || {
            tail::Line::Fault(tail::Fault {
                time: jiff::Timestamp::now(),
                id: self.id.clone(),
                app: self.app.to_string(),
                release,
                target: self.target.to_string(),
                code: fault.code.name().to_owned(),
                cause: fault.cause.as_deref().unwrap_or_default().to_owned(),
            })
        });
        let within = |entry: &Arc<Entry>| entry.share.log(FAULT_LINE_BYTES);
        if fault.code.side() != Side::Client && self.entry.as_ref().is_some_and(within) {
            tracing::info!(
                id = self.id,
                app = &*self.app,
                route = &*self.route,
                target = &*self.target,
                code = fault.code.name(),
                cause = cut(fault.cause.as_deref().unwrap_or_default()),
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
        self.calls.cpu_us()
    }

    /// The response has ended, or the client has left.
    pub(super) fn told(mut self) -> Self {
        self.wall = self.began.elapsed();
        self
    }

    /// A function that failed after its answer, or when its client had left, has told nobody yet.
    fn late_fault(&mut self) {
        if let Some(fault) = self.calls.fault_since(self.calls_told) {
            self.fault(&fault);
        }
    }

    /// The request, for those who follow the app.
    fn ended(&self, in_bytes: u64) -> tail::Request {
        let calls = self.calls.all();
        let meters = || calls.iter().map(|call| &call.meter);
        // What is called spends of its caller's.
        let roots = calls.iter().filter(|call| call.depth == 0);
        let cpu_us_max = roots.map(|call| call.function.guest.limits.cpu_us).sum();
        tail::Request {
            time: jiff::Timestamp::try_from(self.at).unwrap_or_default(),
            id: self.id.clone(),
            app: self.app.to_string(),
            release: self.entry.as_ref().map(|entry| entry.release),
            route: self.route.to_string(),
            target: self.target.to_string(),
            protocol: self.protocol.map_or(EVENT, Protocol::label).to_owned(),
            method: self.method.to_string(),
            host: self.uri.host().unwrap_or_default().to_owned(),
            path: self.uri.path().chars().take(TEXT_CHARS_MAX).collect(),
            status: self.status,
            fault: self.fault.map(|code| code.name().to_owned()),
            cache: self.cache.map(|status| status.result().to_owned()),
            wall_us: u64::try_from(self.wall.as_micros()).unwrap_or(u64::MAX),
            cpu_us: self.cpu_us().unwrap_or(0),
            cpu_us_max: (!calls.is_empty()).then_some(cpu_us_max),
            memory_bytes: meters().map(|meter| meter.memory_bytes()).max().unwrap_or(0),
            subrequests: meters().map(|meter| meter.subrequests()).sum(),
            in_bytes,
            out_bytes: self.out_bytes,
        }
    }

    fn write(mut self) {
        self.late_fault();
        let in_bytes = self.in_bytes.load(Ordering::Relaxed);
        let calls = self.calls.all();
        for Called { function, meter, .. } in &calls {
            self.telemetry.call(CallEnd {
                app: self.app.clone(),
                function: function.label.clone(),
                release: self.entry.as_ref().map_or(Text::const_str(""), |entry| entry.release_label.clone()),
                cpu_us: meter.cpu_us(),
                memory_bytes: meter.memory_bytes(),
                subrequests: meter.subrequests(),
            });
        }
        if self.is_of_nobody {
            return;
        }
        if self.access.is_on() {
            let meters = || calls.iter().map(|call| &call.meter);
            self.access.line(&Line {
                at: jiff::Timestamp::try_from(self.at).unwrap_or_default(),
                id: &self.id,
                app: &self.app,
                release: self.entry.as_ref().map(|entry| entry.release),
                route: &self.route,
                target: &self.target,
                protocol: self.protocol.map_or(EVENT, Protocol::label),
                client: self.client,
                method: self.method.as_str(),
                host: self.uri.host().unwrap_or_default(),
                path: self.uri.path(),
                status: self.status,
                fault: self.fault.map(Code::name),
                cache: self.cache.map(|status| status.result()),
                wall_us: u64::try_from(self.wall.as_micros()).unwrap_or(u64::MAX),
                cpu_us: self.cpu_us().unwrap_or(0),
                memory_bytes: meters().map(|meter| meter.memory_bytes()).max().unwrap_or(0),
                subrequests: meters().map(|meter| meter.subrequests()).sum(),
                in_bytes,
                out_bytes: self.out_bytes,
            });
        }
        self.access.tap().tell(&self.app, || tail::Line::Request(self.ended(in_bytes)));
        let end = RequestEnd {
            app: &self.app,
            route: &self.route,
            target: &self.target,
            protocol: self.protocol,
            status: self.status,
            wall: self.wall,
            in_bytes,
            out_bytes: self.out_bytes,
        };
        match &self.place {
            Some(place) => self.telemetry.request(&end, place),
            None => self.telemetry.request(&end, &Place::default()),
        }
    }
}

/// The beginning of a cause, for the node's log.
fn cut(cause: &str) -> &str {
    let end = (0..=CAUSE_BYTES_MAX.min(cause.len())).rev().find(|at| cause.is_char_boundary(*at));
    cause.get(..end.unwrap_or(0)).unwrap_or_default()
}

/// A story that is told when the last that has a part in it lets go: the response, and each function that was called.
#[derive(Default)]
pub(super) struct Last(OnceLock<Story>);

impl Last {
    /// The response has had its part.
    pub(super) fn tell(&self, story: Story) {
        let _ = self.0.set(story);
    }
}

impl Drop for Last {
    fn drop(&mut self) {
        if let Some(story) = self.0.take() {
            story.write();
        }
    }
}
