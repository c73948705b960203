//! One connection of either version: its handshake, its driver, and sending on it.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use eyot_plan::fault::{Code, Fault};
use http::request::Parts;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::head;
use crate::key::Destination;
use crate::room::Place;
use crate::stream::{Counted, HeadCount, Stream};
use crate::upload::UploadBody;
use crate::{HEAD_BYTES_MAX, HEAD_FIELDS_MAX};

/// All that may be read before a head is complete: interim responses, the head, and what comes with it.
const BEFORE_HEAD_BYTES_MAX: u64 = 256 << 10;
/// HTTP/2 windows: what an upstream may send ahead of its reader, in bytes.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 2 << 20;

/// A connection that was just made.
pub(crate) enum Connection {
    H1(H1),
    H2(Arc<H2>),
}

/// An HTTP/1.1 connection. It is closed when this is dropped.
pub(crate) struct H1 {
    sender: http1::SendRequest<UploadBody>,
    count: Arc<HeadCount>,
    driver: AbortHandle,
    _place: Place,
}

/// An HTTP/2 connection. It is closed when all that hold it have dropped it.
pub(crate) struct H2 {
    sender: http2::SendRequest<UploadBody>,
    streams: Arc<Semaphore>,
    streams_max: usize,
    /// What the other side allows, as last seen; what is over waits in hyper.
    peer_max: Arc<AtomicUsize>,
    used_at: Mutex<Instant>,
    _place: Place,
}

/// The right to send one request on a connection.
pub(crate) enum Lease {
    H1(H1),
    H2(Arc<H2>, OwnedSemaphorePermit),
}

impl Connection {
    /// Speaks HTTP on a stream, in the version that TLS agreed on.
    ///
    /// # Errors
    /// `upstream_bad_response` if the other side does not.
    pub(crate) async fn open(stream: Stream, place: Place, streams_max: usize) -> Result<Self, Fault> {
        let bad = |error: hyper::Error| Fault::new(Code::UpstreamBadResponse).because(error);
        if stream.is_h2() {
            H2::open(stream, place, streams_max).await.map(|h2| Self::H2(Arc::new(h2))).map_err(bad)
        } else {
            H1::open(stream, place).await.map(Self::H1).map_err(bad)
        }
    }
}

impl H1 {
    async fn open(stream: Stream, place: Place) -> hyper::Result<Self> {
        let count = Arc::new(HeadCount::default());
        let io = TokioIo::new(Counted { inner: stream, count: Arc::clone(&count) });
        let mut builder = http1::Builder::new();
        builder.max_headers(HEAD_FIELDS_MAX).max_header_size(HEAD_BYTES_MAX).max_buf_size(2 * HEAD_BYTES_MAX);
        let (sender, connection) = builder.handshake(io).await?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an HTTP/1.1 connection ended");
            }
        });
        Ok(Self { sender, count, driver: driver.abort_handle(), _place: place })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Resolves when the last response is over on both sides; whether another request may follow.
    pub(crate) async fn is_ready(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }
}

impl Drop for H1 {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl H2 {
    async fn open(stream: Stream, place: Place, streams_max: usize) -> hyper::Result<Self> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
            .max_send_buf_size(128 << 10)
            .max_concurrent_reset_streams(64)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(10));
        let (sender, mut connection) = builder.handshake(TokioIo::new(stream)).await?;
        let peer_max = Arc::new(AtomicUsize::new(connection.current_max_send_streams()));
        let seen = Arc::clone(&peer_max);
        tokio::spawn(async move {
            let ended = std::future::poll_fn(|cx| {
                let polled = Pin::new(&mut connection).poll(cx);
                seen.store(connection.current_max_send_streams(), Ordering::Relaxed);
                polled
            });
            if let Err(error) = ended.await {
                tracing::debug!(%error, "an HTTP/2 connection ended");
            }
        });
        let streams = Arc::new(Semaphore::new(streams_max));
        Ok(Self { sender, streams, streams_max, peer_max, used_at: Mutex::new(Instant::now()), _place: place })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// A stream, if the bounds of both sides leave one.
    pub(crate) fn lease(self: &Arc<Self>) -> Option<Lease> {
        let used = self.streams_max - self.streams.available_permits().min(self.streams_max);
        if used >= self.peer_max.load(Ordering::Relaxed).max(1) {
            return None;
        }
        let permit = Arc::clone(&self.streams).try_acquire_owned().ok()?;
        Some(Lease::H2(Arc::clone(self), permit))
    }

    /// A stream, as soon as one is over.
    pub(crate) async fn lease_in_time(self: &Arc<Self>) -> Option<Lease> {
        let permit = Arc::clone(&self.streams).acquire_owned().await.ok()?;
        Some(Lease::H2(Arc::clone(self), permit))
    }

    /// Whether it has carried nothing for `idle`.
    pub(crate) fn is_idle_for(&self, idle: Duration) -> bool {
        let used_at = *self.used_at.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_unused() && used_at.elapsed() >= idle
    }

    pub(crate) fn is_unused(&self) -> bool {
        self.streams.available_permits() >= self.streams_max
    }

    pub(crate) fn touch(&self) {
        *self.used_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

impl Lease {
    /// Makes the head what this version wants.
    pub(crate) fn shape(&self, parts: Parts, to: &Destination) -> Result<Parts, Fault> {
        match self {
            Self::H1(_) => head::for_h1(parts, to),
            Self::H2(..) => head::for_h2(parts, to),
        }
    }

    /// Sends a request and waits for the head of its response. If the future is dropped, so must the lease be.
    pub(crate) async fn send(
        &mut self,
        request: Request<UploadBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<UploadBody>>> {
        match self {
            Self::H1(h1) => {
                h1.count.begin(BEFORE_HEAD_BYTES_MAX);
                let response = h1.sender.try_send_request(request).await;
                if response.is_ok() {
                    h1.count.complete();
                }
                response
            }
            Self::H2(h2, _) => h2.sender.clone().try_send_request(request).await,
        }
    }

    /// Whether the other side has said nothing since the request began, as far as this version can tell.
    pub(crate) fn is_untouched(&self) -> bool {
        match self {
            Self::H1(h1) => h1.count.is_untouched(),
            Self::H2(..) => true,
        }
    }
}
