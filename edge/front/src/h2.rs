//! HTTP/2 over TLS, every window, list and count of it bounded.

mod body;
mod gather;
mod linger;
mod stream;
mod watch;

use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;
use eyot_plan::arrival::Answer;
use h2::server::{self, Builder, SendResponse};
use h2::{Ping, PingPong, Reason, RecvStream};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::begin::begin;
use crate::connection::{Activity, Connection};
use crate::drain::Drain;
use crate::exchange::Exchanges;
use crate::settings::Settings;
use crate::stall::Sending;
use gather::Gather;
use stream::Stream;
use watch::{Heard, Watch};

/// What a client may send before it is read, in bytes: on one stream, and on all of a connection.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;

/// What is kept of a response that the client has no room for, in bytes, for each stream.
const SEND_BYTES_MAX: usize = 256 << 10;

/// Streams a client may reset before they were looked at (CVE-2023-44487), and streams we may reset for its errors
/// (CVE-2025-8671 and its kin), before the connection is ended.
const RESETS_PENDING_MAX: usize = 20;
const RESETS_OURS_MAX: usize = 1024;

/// The compression table of a connection's request fields, in bytes.
const TABLE_BYTES: u32 = 4096;

/// How often a silent client is asked whether it is there, and how long it may take to say so.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// How long the last words to a client may take.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Requests that are begun together at most, and for how long: those after that become tasks of their own at once, so that
/// what takes its time is spread over all cores and holds nobody up.
const TOGETHER_MAX: usize = 32;
const TOGETHER_FOR: Duration = Duration::from_micros(300);

/// A request, and who answers it.
type Accepted = (Request<RecvStream>, SendResponse<Bytes>);

/// The way out of a connection.
type Out<S> = Gather<Sending<S>>;

/// What a connection is to its streams and to its client.
type Http<S> = server::Connection<Watch<Out<S>>, Bytes>;

/// Serves one connection until it ends, drains, idles or is cut.
pub(crate) async fn serve<A, S>(exchanges: Arc<Exchanges<A>>, connection: Arc<Connection>, io: S, mut drain: Drain)
where
    A: Answer,
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let settings = exchanges.settings.clone();
    let out = Gather::new(Sending::new(io, settings.send_idle, settings.send_rate_bytes_min));
    let (io, heard) = Watch::new(out.clone(), settings.header_timeout);
    let begun = tokio::select! {
        begun = timeout(settings.header_timeout, builder(&settings).handshake(io)) => begun,
        () = drain.cut() => return,
    };
    let mut http: Http<S> = match begun {
        Ok(Ok(http)) => http,
        Ok(Err(error)) => return tracing::debug!(%error, "no HTTP/2 connection began"),
        Err(_) => return,
    };
    let view = drain.clone();
    out.hold(true);
    let ended = tokio::select! {
        biased;
        reason = pings(http.ping_pong(), heard.clone()) => Some(reason),
        reason = heard.flood() => Some(reason),
        () = streams(&exchanges, &connection, &heard, (&mut http, &out), &view) => None,
        () = drain.cut() => None,
    };
    if let Some(reason) = ended {
        out.hold(false);
        http.abrupt_shutdown(reason);
        let _ = timeout(LAST_WORDS, poll_fn(|cx| http.poll_closed(cx))).await;
    }
}

fn builder(settings: &Settings) -> Builder {
    // Twice what is allowed: what is a little over is answered by us, with a problem document; what is far over by the
    // library, with a bare 431.
    let list_bytes_max = u32::try_from(settings.header_bytes_max.saturating_mul(2)).unwrap_or(u32::MAX);
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(settings.streams_max)
        .max_header_list_size(list_bytes_max)
        .max_send_buffer_size(SEND_BYTES_MAX)
        .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
        .max_local_error_reset_streams(Some(RESETS_OURS_MAX))
        .header_table_size(TABLE_BYTES)
        .enable_connect_protocol();
    builder
}

/// Takes streams until the client leaves, or has been asked to and has no reason to stay.
async fn streams<A, S>(
    exchanges: &Arc<Exchanges<A>>,
    connection: &Arc<Connection>,
    heard: &Heard,
    (http, out): (&mut Http<S>, &Out<S>),
    drain: &Drain,
) where
    A: Answer,
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (settings, activity) = (&exchanges.settings, &connection.activity);
    let mut closing = drain.clone();
    let mut quiet = pin!(quiet(activity, settings.header_timeout));
    let mut is_closing = false;
    loop {
        tokio::select! {
            biased;
            accepted = together(http, out) => match accepted {
                Some(Ok(all)) => {
                    let began = Instant::now();
                    for (request, respond) in all {
                        let stream = Stream::new(exchanges.clone(), connection.clone(), heard.clone(), respond);
                        let exchange = stream.run(request, drain.clone());
                        if began.elapsed() < TOGETHER_FOR {
                            begin(exchange).await;
                        } else {
                            tokio::spawn(exchange);
                        }
                    }
                }
                Some(Err(error)) => return tracing::debug!(%error, "an HTTP/2 connection broke off"),
                None => return,
            },
            () = closing.leaving(activity), if !is_closing => {
                is_closing = true;
                http.graceful_shutdown();
            }
            () = activity.idle(settings.connection_idle), if !is_closing => {
                is_closing = true;
                http.graceful_shutdown();
            }
            () = &mut quiet, if is_closing => return,
        }
    }
}

/// The requests that are there, when there is one. Those that came together are begun together, so that their answers leave
/// together: when there is none, what was written leaves.
async fn together<S>(http: &mut Http<S>, out: &Out<S>) -> Option<Result<Vec<Accepted>, h2::Error>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let first = poll_fn(|cx| {
        let accepted = http.poll_accept(cx);
        match accepted.is_pending().then(|| out.poll_leave(cx)) {
            Some(Poll::Ready(Err(error))) => {
                tracing::debug!(%error, "an HTTP/2 connection takes nothing more");
                Poll::Ready(None)
            }
            _ => accepted,
        }
    });
    let mut all = match first.await? {
        Ok(first) => vec![first],
        Err(error) => return Some(Err(error)),
    };
    while all.len() < TOGETHER_MAX {
        match poll_fn(|cx| Poll::Ready(http.poll_accept(cx))).await {
            Poll::Ready(Some(Ok(next))) => all.push(next),
            Poll::Ready(Some(Err(error))) => return Some(Err(error)),
            // What has ended is found so again.
            Poll::Ready(None) | Poll::Pending => break,
        }
    }
    Some(Ok(all))
}

/// A client with nothing in flight, twice in a row, has no reason to stay.
async fn quiet(activity: &Activity, limit: Duration) {
    loop {
        activity.idle(limit).await;
        sleep(limit).await;
        if timeout(Duration::ZERO, activity.idle(limit)).await.is_ok() {
            return;
        }
    }
}

/// Asks a client that says nothing whether it is there; ends when it is not.
async fn pings(pings: Option<PingPong>, heard: Heard) -> Reason {
    let Some(mut pings) = pings else { return core::future::pending().await };
    loop {
        let due = heard.last() + PING_EVERY;
        if Instant::now() < due {
            sleep_until(due).await;
            continue;
        }
        match timeout(PING_TIMEOUT, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            // The connection is over, and who drives it will see it.
            Ok(Err(_)) => return core::future::pending().await,
            Err(_) => return Reason::NO_ERROR,
        }
    }
}

#[cfg(test)]
mod tests;
