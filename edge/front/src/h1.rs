//! HTTP/1.1: a strict gate in front of hyper's parser, then one exchange after the other.

mod chunks;
mod fields;
mod framing;
mod gate;
mod linger;

use core::convert::Infallible;
use core::future::{Future, poll_fn};
use core::pin::Pin;
use std::sync::Arc;

use eyot_plan::arrival::Answer;
use eyot_plan::request::FIELDS_MAX;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::connection::Connection;
use crate::drain::Drain;
use crate::exchange::Exchanges;
use crate::response_body::ResponseBody;
use crate::stall::Sending;
use gate::{Gate, Refusals};
use linger::linger;

type Answering = Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, Infallible>> + Send>>;

/// Serves one connection until it ends, drains or is cut.
pub(crate) async fn serve<A, S>(exchanges: Arc<Exchanges<A>>, connection: Arc<Connection>, io: S, mut drain: Drain)
where
    A: Answer,
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let settings = &exchanges.settings;
    let refusals = Arc::new(Refusals::default());
    let io = Sending::new(io, settings.send_idle);
    let gate = Gate::new(io, settings, connection.activity.clone(), refusals.clone());
    let head_bytes_max = settings.header_bytes_max;
    let service = service_fn(move |request: Request<Incoming>| {
        let (exchanges, connection, refusals) = (exchanges.clone(), connection.clone(), refusals.clone());
        let in_flight = connection.activity.begin();
        let answering: Answering = Box::pin(async move {
            Ok(match refusals.take(in_flight.number()) {
                Some(fault) => exchanges.refuse(&connection, &fault, in_flight),
                None => exchanges.exchange(&connection, request, in_flight).await,
            })
        });
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
            () = closing.draining(), if !is_closing => {
                is_closing = true;
                Pin::new(&mut http).graceful_shutdown();
            }
        }
    };
    match ended {
        // Cut, not closed: a response that broke off must not look complete.
        Err(error) => tracing::debug!(%error, "an HTTP/1 connection broke off"),
        Ok(()) => {
            let gate = http.into_parts().io;
            tokio::select! {
                () = linger(gate.into_inner()) => {}
                () = drain.cut() => {}
            }
        }
    }
}
