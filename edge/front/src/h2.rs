//! HTTP/2 over TLS, by hyper, with every window, list and count bounded.

use core::convert::Infallible;
use core::future::Future;
use core::pin::pin;
use core::time::Duration;
use std::sync::Arc;

use eyot_plan::arrival::Answer;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{sleep, timeout};

use crate::connection::Connection;
use crate::drain::Drain;
use crate::exchange::Exchanges;
use crate::stall::{self, Sending};

/// What a client may send before it is read, in bytes: on one stream, and on all of a connection.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;

/// What is kept of a response that the client has no room for, in bytes, for each stream.
const SEND_BYTES_MAX: usize = 256 << 10;

/// Streams a client may reset before they were looked at (CVE-2023-44487), and streams we may reset for its errors
/// (CVE-2024-2653 and its kin), before the connection is ended.
const RESETS_PENDING_MAX: usize = 20;
const RESETS_OURS_MAX: usize = 1024;

/// The compression table of a connection's request fields, in bytes.
const TABLE_BYTES: u32 = 4096;

/// How often a silent client is asked whether it is there, and how long it may take to say so.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Serves one connection until it ends, drains, idles or is cut.
pub(crate) async fn serve<A, S>(exchanges: Arc<Exchanges<A>>, connection: Arc<Connection>, io: S, mut drain: Drain)
where
    A: Answer,
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let settings = exchanges.settings.clone();
    let activity = connection.activity.clone();
    let io = TokioIo::new(Sending::new(io, settings.send_idle));
    let service = service_fn(move |request: Request<Incoming>| {
        let (exchanges, connection) = (exchanges.clone(), connection.clone());
        let in_flight = connection.activity.begin();
        async move { Ok::<_, Infallible>(exchanges.exchange(&connection, request, in_flight).await) }
    });
    // Twice what is allowed: what is a little over is answered by us, with a problem document; what is far over by the
    // library, with a bare 431.
    let list_bytes_max = u32::try_from(settings.header_bytes_max.saturating_mul(2)).unwrap_or(u32::MAX);
    let http = http2::Builder::new(Streams { drain: drain.clone(), send_idle: settings.send_idle })
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(settings.streams_max)
        .max_header_list_size(list_bytes_max)
        .max_send_buf_size(SEND_BYTES_MAX)
        .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
        .max_local_error_reset_streams(RESETS_OURS_MAX)
        .header_table_size(TABLE_BYTES)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(io, service);
    let mut http = pin!(http);
    let mut closing = drain.clone();
    tokio::select! {
        biased;
        ended = &mut http => return log(ended),
        () = drain.cut() => return,
        () = closing.draining() => {}
        () = activity.idle(settings.connection_idle) => {}
    }
    http.as_mut().graceful_shutdown();
    // A client with nothing in flight has no reason to stay.
    let quiet = async {
        loop {
            activity.idle(settings.header_timeout).await;
            sleep(settings.header_timeout).await;
            if timeout(Duration::ZERO, activity.idle(settings.header_timeout)).await.is_ok() {
                return;
            }
        }
    };
    tokio::select! {
        biased;
        ended = &mut http => log(ended),
        () = drain.cut() => {}
        () = quiet => {}
    }
}

fn log(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP/2 connection broke off");
    }
}

/// Runs the streams of a connection, each as a task that ends when its client takes nothing, or with everything.
#[derive(Clone)]
struct Streams {
    drain: Drain,
    send_idle: Duration,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let (mut drain, send_idle) = (self.drain.clone(), self.send_idle);
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = drain.cut() => {}
                _ = stall::watched(send_idle, stream) => {}
            }
        });
    }
}

#[cfg(test)]
mod tests;
