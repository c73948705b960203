//! One request and its response: on a kept connection or a new one, within its times, with each failure named after the
//! side it belongs to.

use std::sync::Arc;
use std::time::Duration;

use eyot_plan::arrival::Interim;
use eyot_plan::body::Body;
use eyot_plan::fault::{Code, Fault};
use eyot_plan::way::Way;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::Fetch;
use crate::answer::Answer;
use crate::connection::{Connection, Lease, Unsent};
use crate::dial::dial;
use crate::head;
use crate::incoming::{Incoming, WireError};
use crate::key::{Destination, Key};
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
enum Failed {
    /// The connection was no longer there; the request may be sent again, with this body.
    Stale(UploadBody),
    /// For good.
    Good(Fault),
}

/// Asks: see [`Fetch::send`].
pub(crate) async fn run(
    fetch: &Fetch,
    way: &Way,
    request: Request<Body>,
    interim: &Interim,
) -> Result<Response<Body>, Fault> {
    let (parts, body, length) = head::outgoing(request)?;
    let (body, upload) = UploadBody::new(body, length);
    let cut = CutOnDrop(Arc::clone(&upload));
    let exchange = Exchange::new(fetch, way, &parts.uri, upload, interim)?;
    let method = parts.method.clone();
    let (lease, response) = exchange.run(parts, body).await?;
    exchange.answered(lease, response, cut, &method)
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

    async fn run(&self, parts: Parts, body: UploadBody) -> Result<(Lease, Response<Incoming>), Fault> {
        let until = self.connect_until();
        let kept = match self.fetch.pool.take(&self.key) {
            Kept::Lease(lease) => Some(lease),
            Kept::Full(h2) => timeout_at(until, h2.lease_in_time()).await.map_err(|_| late("for a stream"))?,
            Kept::Nothing => None,
        };
        let Some(lease) = kept else { return self.on_a_new_one(parts, body).await };
        match self.attempt(lease, parts.clone(), body).await {
            Ok(answered) => Ok(answered),
            Err(Failed::Stale(body)) => self.on_a_new_one(parts, body).await,
            Err(Failed::Good(fault)) => Err(fault),
        }
    }

    async fn on_a_new_one(&self, parts: Parts, body: UploadBody) -> Result<(Lease, Response<Incoming>), Fault> {
        let lease = self.connect(Offer::All).await?;
        self.attempt(lease, parts, body).await.map_err(|failed| match failed {
            Failed::Good(fault) => fault,
            Failed::Stale(_) => Fault::new(Code::UpstreamBadResponse).because("the connection closed at once"),
        })
    }

    /// Until when a connection that is begun now must be there.
    pub(crate) fn connect_until(&self) -> Instant {
        (Instant::now() + millis(self.way.timeouts.connect_ms)).min(self.total_at)
    }

    /// A new connection, within the time for it.
    pub(crate) async fn connect(&self, offer: Offer) -> Result<Lease, Fault> {
        let until = self.connect_until();
        let (fetch, app) = (self.fetch, self.way.app.as_str());
        let (place, dialling) = fetch.room.enter(app, until, &fetch.pool).await?;
        let open = async {
            let stream = dial(&fetch.out, self.way, &self.to, offer).await?;
            Connection::open(stream, place, fetch.pool.streams_max).await
        };
        let connection = timeout_at(until, open).await.map_err(|_| late("to connect"))??;
        drop(dialling);
        match connection {
            Connection::H1(h1) => Ok(Lease::H1(h1)),
            Connection::H2(h2) => {
                let lease = h2.lease().ok_or_else(|| Fault::new(Code::UpstreamBadResponse).because("no stream"))?;
                fetch.pool.share(self.key.clone(), &h2);
                Ok(lease)
            }
        }
    }

    async fn attempt(
        &self,
        mut lease: Lease,
        parts: Parts,
        body: UploadBody,
    ) -> Result<(Lease, Response<Incoming>), Failed> {
        let parts = lease.shape(parts, &self.to).map_err(Failed::Good)?;
        let is_replayable = http_body::Body::is_end_stream(&body) && head::is_idempotent(&parts.method);
        let sent = self.in_time(lease.send(Request::from_parts(parts, body), self.interim)).await;
        let Unsent { error, body } = match sent.map_err(Failed::Good)? {
            Ok(response) => return Ok((lease, response)),
            Err(unsent) => unsent,
        };
        if let Some(body) = body {
            return Err(Failed::Stale(body));
        }
        if is_replayable && lease.is_untouched() && error.is_gone() {
            let (body, _) = UploadBody::new(eyot_plan::body::empty(), None);
            return Err(Failed::Stale(body));
        }
        Err(Failed::Good(fault_of(&error, &self.upload)))
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
