//! One request and its response: on a kept connection or a new one, within its times, with each failure named after the
//! side it belongs to.

use std::sync::Arc;
use std::time::Duration;

use eyot_plan::arrival::Interim;
use eyot_plan::body::Body;
use eyot_plan::fault::{Code, Fault};
use eyot_plan::upstream::retry::{self, Failure};
use eyot_plan::way::{Bound, Way};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::Fetch;
use crate::answer::Answer;
use crate::connection::{Connection, Lease, Unsent};
use crate::dial::{dial, dial_quic};
use crate::fresh::Fresh;
use crate::head;
use crate::incoming::{Incoming, WireError};
use crate::key::{Destination, Key, Scheme};
use crate::lane::Turn;
use crate::many::Many;
use crate::pool::Kept;
use crate::tls::Offer;
use crate::upload::{CutOnDrop, Standing, Upload, UploadBody};

/// The longest any time may be set to.
const TIME_MS_MAX: u64 = 24 * 3600 * 1000;

/// What one exchange has to know all along.
pub(crate) struct Exchange<'a> {
    pub(crate) fetch: &'a Fetch,
    pub(crate) way: &'a Way,
    pub(crate) to: Destination,
    pub(crate) key: Key,
    pub(crate) upload: Arc<Upload>,
    pub(crate) interim: &'a Interim,
    pub(crate) total_at: Instant,
}

/// Why an attempt on a kept connection failed.
enum Missed {
    /// For good.
    Good(Failed),
    /// The connection was no longer there; the request may be sent again, with this body.
    Stale(UploadBody, Failure),
}

/// What carries a request.
enum Ready {
    /// A kept connection.
    Kept(Lease),
    /// A new one, by this right where it needs one.
    New(Option<Turn>),
}

/// What is waited for.
#[derive(Clone, Copy)]
enum Line {
    /// Whatever carries a request.
    Any,
    /// A new connection.
    New,
}

/// A request that has no response.
#[derive(Debug)]
pub struct Failed {
    /// The fault, as the client is told.
    pub fault: Fault,
    /// How far it came.
    pub failure: Failure,
}

impl Failed {
    /// The connection was not there.
    fn connect(fault: Fault) -> Self {
        let failure = if Failure::of(&fault) == Failure::Local { Failure::Local } else { Failure::Connect };
        Self { fault, failure }
    }
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Self { failure: Failure::of(&fault), fault }
    }
}

impl From<Failed> for Fault {
    fn from(failed: Failed) -> Self {
        failed.fault
    }
}

/// Asks: see [`Fetch::send`].
pub(crate) async fn run(
    fetch: &Fetch,
    way: &Way,
    request: Request<Body>,
    interim: &Interim,
) -> Result<Response<Body>, Failed> {
    let (parts, body, length) = head::outgoing(request)?;
    let (body, upload) = UploadBody::new(body, length);
    let cut = CutOnDrop(Arc::clone(&upload));
    let exchange = Exchange::new(fetch, way, &parts.uri, upload, interim)?;
    let method = parts.method.clone();
    let (lease, response) = exchange.run(parts, body).await?;
    Ok(exchange.answered(lease, response, cut, &method)?)
}

impl<'a> Exchange<'a> {
    /// An exchange with the server that `uri` names.
    ///
    /// # Errors
    /// As [`Destination::of`].
    pub(crate) fn new(
        fetch: &'a Fetch,
        way: &'a Way,
        uri: &Uri,
        upload: Arc<Upload>,
        interim: &'a Interim,
    ) -> Result<Self, Fault> {
        let total_at = Instant::now() + millis(way.timeouts.total_ms);
        let to = Destination::of(uri)?;
        let key = Key::of(way, &to);
        Ok(Self { fetch, way, to, key, upload, interim, total_at })
    }

    /// The response with its body, which gives the lease back when it has ended.
    pub(crate) fn answered(
        self,
        lease: Lease,
        mut response: Response<Incoming>,
        cut: CutOnDrop,
        method: &Method,
    ) -> Result<Response<Body>, Fault> {
        head::incoming(&mut response)?;
        let bodiless = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&response.status());
        let bodiless = bodiless || method == Method::HEAD;
        let times = (millis(self.way.timeouts.between_bytes_ms), self.total_at);
        let pool = Arc::clone(&self.fetch.pool);
        Ok(response.map(|incoming| {
            // A body where there can be none is not read: its connection or stream ends here.
            let must_end = bodiless && !http_body::Body::is_end_stream(&incoming);
            let answer = Answer::new(incoming, (self.key, lease), pool, cut, times);
            if must_end { eyot_plan::body::empty() } else { answer.boxed_unsync() }
        }))
    }

    async fn run(&self, parts: Parts, body: UploadBody) -> Result<(Lease, Response<Incoming>), Failed> {
        let lease = match self.ready().await? {
            Ready::Kept(lease) => lease,
            Ready::New(turn) => return self.on_a_new_one(parts, body, turn).await,
        };
        match self.attempt(lease, parts.clone(), body).await {
            Ok(answered) => Ok(answered),
            Err(Missed::Stale(body, _)) => {
                let turn = self.turn().await?;
                self.on_a_new_one(parts, body, turn).await
            }
            Err(Missed::Good(failed)) => Err(failed),
        }
    }

    /// What carries the request: a kept connection, or a new one if there may be one more; where there may not, the first
    /// that is free in time.
    async fn ready(&self) -> Result<Ready, Failed> {
        let kept = loop {
            let kept = self.fetch.pool.take(&self.key);
            let Kept::Lease(lease) = kept else { break kept };
            if self.is_current(&lease.fresh()).await {
                break Kept::Lease(lease);
            }
            lease.retire();
        };
        match (kept, self.way.bound) {
            (Kept::Lease(lease), _) => Ok(Ready::Kept(lease)),
            (Kept::Full(many), None) => {
                let lease = timeout_at(self.connect_until(), many.lease_in_time()).await;
                let lease = lease.map_err(|_| Failed::connect(late("for a stream")))?;
                Ok(lease.map_or(Ready::New(None), Ready::Kept))
            }
            (Kept::Nothing, None) => Ok(Ready::New(None)),
            (Kept::Full(_) | Kept::Nothing, Some(bound)) => self.in_line(bound, Line::Any).await,
        }
    }

    /// Whether the server's name still has the address that a connection goes to. Where nobody answers, what is there
    /// carries on.
    async fn is_current(&self, fresh: &Fresh) -> bool {
        if self.way.at.is_some() || !fresh.is_due(self.fetch.addresses) {
            return true;
        }
        let found = timeout_at(self.connect_until(), self.fetch.out.addresses(&self.to.host)).await;
        matches!(found, Err(_) | Ok(Err(_))) || found.is_ok_and(|found| found.is_ok_and(|found| fresh.is_among(&found)))
    }

    /// The right to make one more connection, where that needs one.
    async fn turn(&self) -> Result<Option<Turn>, Failed> {
        let Some(bound) = self.way.bound else { return Ok(None) };
        match self.in_line(bound, Line::New).await? {
            Ready::New(turn) => Ok(turn),
            Ready::Kept(_) => Ok(None),
        }
    }

    /// Waits in the line of the server.
    async fn in_line(&self, bound: Bound, line: Line) -> Result<Ready, Failed> {
        let lane = self.fetch.lanes.of(&self.key.server);
        if let Some(turn) = lane.enter(bound.connections_max) {
            return Ok(Ready::New(Some(turn)));
        }
        let (most, length) = (bound.connections_max.into(), bound.queue.length);
        let spent = |why: &str| Fault::new(Code::AllowanceSpent).over("upstream_connections", most, most).because(why);
        let _waiting = lane.wait(length).ok_or_else(|| spent("the line for the server is full"))?;
        let until = (Instant::now() + millis(bound.queue.wait_ms)).min(self.total_at);
        loop {
            let mut freed = std::pin::pin!(lane.freed());
            // From here on nothing that becomes free is missed.
            freed.as_mut().enable();
            if matches!(line, Line::Any)
                && let Kept::Lease(lease) = self.fetch.pool.take(&self.key)
            {
                return Ok(Ready::Kept(lease));
            }
            if let Some(turn) = lane.enter(bound.connections_max) {
                return Ok(Ready::New(Some(turn)));
            }
            // What is idle is of no use to who needs a new one, and none for another client.
            let may_shed = matches!(line, Line::New) || self.way.proxied.is_some();
            if may_shed && self.fetch.pool.shed_of(&self.key.server) {
                continue;
            }
            timeout_at(until, freed).await.map_err(|_| spent("no connection to the server became free in time"))?;
        }
    }

    async fn on_a_new_one(
        &self,
        parts: Parts,
        body: UploadBody,
        turn: Option<Turn>,
    ) -> Result<(Lease, Response<Incoming>), Failed> {
        let lease = self.connected(self.offer(), turn).await.map_err(Failed::connect)?;
        self.attempt(lease, parts, body).await.map_err(|failed| match failed {
            Missed::Good(failed) => failed,
            Missed::Stale(_, failure) => {
                let fault = Fault::new(Code::UpstreamBadResponse).because("the connection closed at once");
                Failed { fault, failure }
            }
        })
    }

    /// Until when a connection that is begun now must be there.
    pub(crate) fn connect_until(&self) -> Instant {
        (Instant::now() + millis(self.way.timeouts.connect_ms)).min(self.total_at)
    }

    /// A new connection, within the time for it.
    pub(crate) async fn connect(&self, offer: Offer) -> Result<Lease, Failed> {
        let turn = self.turn().await?;
        self.connected(offer, turn).await.map_err(Failed::connect)
    }

    async fn connected(&self, offer: Offer, turn: Option<Turn>) -> Result<Lease, Fault> {
        let until = self.connect_until();
        let (fetch, app) = (self.fetch, self.way.app.as_str());
        let (place, dialling) = fetch.room.enter(app, until, &fetch.pool, turn).await?;
        let quic = if offer == Offer::Http3 { self.over_quic(until).await } else { None };
        let open = async {
            if let Some(quic) = quic {
                return Ok(Connection::Many(Arc::new(Many::over_quic(quic, place, fetch.pool.streams_max))));
            }
            let offer = if offer == Offer::Http3 { Offer::All } else { offer };
            let stream = dial(&fetch.out, self.way, &self.to, offer).await?;
            Connection::open(stream, place, fetch.pool.streams_max).await
        };
        let connection = timeout_at(until, open).await.map_err(|_| late("to connect"))??;
        drop(dialling);
        match connection {
            Connection::H1(h1) => Ok(Lease::H1(h1)),
            Connection::Many(many) => {
                let lease = many.lease().ok_or_else(|| Fault::new(Code::UpstreamBadResponse).because("no stream"))?;
                fetch.pool.share(self.key.clone(), &many);
                many.tell_line();
                Ok(lease)
            }
        }
    }

    /// What a new connection is to offer the server.
    fn offer(&self) -> Offer {
        let is_quic = self.way.http.takes_3() && self.to.scheme == Scheme::Https;
        if is_quic { Offer::Http3 } else { Offer::All }
    }

    /// A connection over QUIC, if the server answers there in half of the time that is left, and was not silent of late.
    /// The other half is TCP's.
    async fn over_quic(&self, until: Instant) -> Option<eyot_h3::client::Connection> {
        let Fetch { out, detours, .. } = self.fetch;
        if detours.is_known(&self.key.server) {
            return None;
        }
        let now = Instant::now();
        let until = now + until.saturating_duration_since(now) / 2;
        let fault = match timeout_at(until, dial_quic(out, self.way, &self.to)).await {
            Ok(Ok(quic)) => return Some(quic),
            Ok(Err(fault)) => fault,
            Err(_) => late("to connect"),
        };
        let (app, to) = (self.way.app.as_str(), self.to.authority());
        tracing::debug!(app, to, %fault, "no HTTP/3: the server is asked over TCP for a while");
        detours.note(&self.key.server);
        None
    }

    async fn attempt(
        &self,
        mut lease: Lease,
        parts: Parts,
        body: UploadBody,
    ) -> Result<(Lease, Response<Incoming>), Missed> {
        let good = |fault: Fault| Missed::Good(fault.into());
        let parts = lease.shape(parts, &self.to).map_err(good)?;
        let is_replayable = http_body::Body::is_end_stream(&body) && retry::is_idempotent(&parts.method);
        let sent = self.in_time(lease.send(Request::from_parts(parts, body), self.interim)).await;
        let Unsent { error, body } = match sent.map_err(good)? {
            Ok(response) => return Ok((lease, response)),
            Err(unsent) => unsent,
        };
        if let Some(body) = body {
            return Err(Missed::Stale(body, Failure::Unsent));
        }
        if is_replayable && lease.is_untouched() && error.is_gone() {
            let (body, _) = UploadBody::new(eyot_plan::body::empty(), None);
            return Err(Missed::Stale(body, Failure::Reset));
        }
        let fault = fault_of(&error, &self.upload);
        let broken_off = lease.is_untouched() && error.is_broken_off() && Failure::of(&fault) == Failure::Malformed;
        let failure = if broken_off { Failure::Reset } else { Failure::of(&fault) };
        Err(Missed::Good(Failed { fault, failure }))
    }

    /// Waits for the head: the upstream gets `between_bytes_ms` to take each piece of the request, and `first_byte_ms`
    /// from its end. Time in which the request's own source is slow is not the upstream's.
    async fn in_time<F: Future>(&self, head: F) -> Result<F::Output, Fault> {
        let first_byte = millis(self.way.timeouts.first_byte_ms);
        let between = millis(self.way.timeouts.between_bytes_ms);
        let mut head = std::pin::pin!(head);
        // What passed before there was a connection was the time to connect.
        let begun = Instant::now();
        loop {
            let now = Instant::now();
            let due = match self.upload.standing() {
                Standing::Ended(at) => at.max(begun) + first_byte,
                Standing::Source => now + between,
                Standing::Upstream(at) => at.max(begun) + between,
            };
            let due = due.min(self.total_at);
            if due <= now {
                return Err(self.upload.fault().unwrap_or_else(|| late("for the response's head")));
            }
            tokio::select! {
                biased;
                head = &mut head => return Ok(head),
                () = self.upload.ended() => {}
                () = sleep_until(due) => {}
            }
        }
    }
}

/// The fault that an error of the connection stands for: the request body's own, if it had one.
pub(crate) fn fault_of(error: &WireError, upload: &Upload) -> Fault {
    if let Some(fault) = upload.fault() {
        return fault;
    }
    let mut cause = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        cause = format!("{cause}: {inner}");
        source = inner.source();
    }
    Fault::new(Code::UpstreamBadResponse).because(cause)
}

pub(crate) fn late(what: &str) -> Fault {
    Fault::new(Code::UpstreamTimeout).because(format_args!("it took too long {what}"))
}

pub(crate) fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms.min(TIME_MS_MAX))
}
