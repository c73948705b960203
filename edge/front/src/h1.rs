//! HTTP/1.1: a strict gate in front of hyper's parser, then one exchange after the other.

mod chunks;
mod fields;
mod framing;
mod gate;
mod linger;
mod tunnel;

use core::convert::Infallible;
use core::future::{Future, poll_fn};
use core::pin::{Pin, pin};
use std::sync::Arc;

use bytes::Bytes;
use eyot_plan::arrival::Answer;
use eyot_plan::request::FIELDS_MAX;
use http::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_KEY};
use http::{Request, Response, Version};
use http_body_util::BodyExt as _;
use http_body_util::channel::Channel;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::connection::{Connection, InFlight};
use crate::drain::Drain;
use crate::exchange::Exchanges;
use crate::interim::{Heads, Reach};
use crate::response_body::ResponseBody;
use crate::stall::Sending;
use gate::{Gate, Refusals, Said};
use linger::linger;
use tunnel::Slot;

type Answering = Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, Infallible>> + Send>>;

/// What the gate, hyper's service and the end of one connection share.
struct Shared<A> {
    exchanges: Arc<Exchanges<A>>,
    connection: Arc<Connection>,
    refusals: Refusals,
    said: Said,
    slot: Slot,
    drain: Drain,
}

impl<A: Answer> Shared<A> {
    async fn answer(&self, mut request: Request<Incoming>, in_flight: InFlight) -> Response<ResponseBody> {
        let (exchanges, connection) = (&self.exchanges, &self.connection);
        if let Some(fault) = self.refusals.take(in_flight.number()) {
            return exchanges.refuse(connection, &fault, in_flight);
        }
        // The way of hyper to a tunnel is not ours: it would hold what the client sends behind its head.
        request.extensions_mut().clear();
        let mut reach = Reach::plain();
        let mut tunnel = None;
        if request.headers().iter().any(|(name, value)| tunnel::may_follow(name.as_ref(), value.as_bytes())) {
            let (up, body) = Channel::new(1);
            tunnel = Some((up, request.headers().get(SEC_WEBSOCKET_KEY).cloned()));
            reach.tunnel = Some(body.boxed_unsync());
        }
        let heads = Heads::default();
        if request.version() == Version::HTTP_11 {
            reach.interim = heads.interim();
        }
        let mut answering = pin!(exchanges.exchange(connection, request, reach, in_flight));
        let response = loop {
            tokio::select! {
                biased;
                // Said here, because hyper flushes after it has polled this.
                head = heads.next() => self.said.push(&head),
                response = &mut answering => break response,
            }
        };
        heads.end();
        while let Some(head) = heads.take() {
            self.said.push(&head);
        }
        self.said.end();
        match tunnel {
            None => self.last(response),
            Some((up, key)) => self.slot.answer(response, key.as_ref(), up),
        }
    }
}

impl<A> Shared<A> {
    /// Says that no response follows, where that is so: the library learns of it too late to say it with a response that
    /// is there at once.
    fn last(&self, mut response: Response<ResponseBody>) -> Response<ResponseBody> {
        if self.drain.is_draining() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Serves one connection until it ends, drains or is cut.
pub(crate) async fn serve<A, S>(exchanges: Arc<Exchanges<A>>, connection: Arc<Connection>, io: S, mut drain: Drain)
where
    A: Answer,
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let settings = &exchanges.settings;
    let io = Sending::new(io, settings.send_idle, settings.send_rate_bytes_min);
    let shared = Arc::new(Shared {
        exchanges: exchanges.clone(),
        refusals: Refusals::default(),
        said: Said::default(),
        slot: Slot::default(),
        drain: drain.clone(),
        connection,
    });
    let gate = Gate::new(io, settings, shared.clone());
    let head_bytes_max = settings.header_bytes_max;
    let (slot, activity) = (shared.clone(), shared.connection.activity.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let shared = shared.clone();
        let in_flight = shared.connection.activity.begin();
        let answering: Answering = Box::pin(async move { Ok(shared.answer(request, in_flight).await) });
        answering
    });
    let mut http = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(None) // the gate's, which answers before it closes
        .max_headers(FIELDS_MAX)
        .max_buf_size(head_bytes_max + (32 << 10))
        .serve_connection(gate, service);
    let mut closing = drain.clone();
    let mut is_closing = false;
    let ended = loop {
        tokio::select! {
            biased;
            ended = poll_fn(|cx| http.poll_without_shutdown(cx)) => break ended,
            () = drain.cut() => return,
            () = closing.leaving(&activity), if !is_closing => {
                is_closing = true;
                Pin::new(&mut http).graceful_shutdown();
            }
        }
    };
    match ended {
        // Cut, not closed: a response that broke off must not look complete.
        Err(error) => tracing::debug!(%error, "an HTTP/1 connection broke off"),
        Ok(()) => {
            let parts = http.into_parts();
            let (io, rest) = parts.io.into_inner();
            let end: Pin<Box<dyn Future<Output = ()> + Send>> = match slot.slot.take() {
                None => Box::pin(linger(io)),
                Some(tunnel) => Box::pin(tunnel.run(io, Bytes::from([parts.read_buf, rest].concat()))),
            };
            tokio::select! {
                () = end => {}
                () = drain.cut() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
