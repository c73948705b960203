//! An HTTP/2 connection: its driver and its pings, and a request on one of its streams with the interim responses, the
//! body that goes up, and extended CONNECT (RFC 8441). It knows no pool and no times of a request.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use eyot_plan::arrival::Interim;
use futures_util::task::noop_waker_ref;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Ping, PingPong, Reason, RecvStream, SendStream};
use http::header::CONTENT_LENGTH;
use http::{Method, Request, Response};
use http_body::Body as _;
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use crate::HEAD_BYTES_MAX;
use crate::connection::Unsent;
use crate::head;
use crate::incoming::{Incoming, Received, WireError};
use crate::stream::{Heard, Looked, Stream, listen};
use crate::upload::UploadBody;

/// Windows: what an upstream may send ahead of its reader, in bytes.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 2 << 20;
/// What one stream keeps to send, in bytes.
const SEND_BYTES_MAX: usize = 128 << 10;
/// Streams at once before the other side has said how many it takes.
const STREAMS_FIRST: usize = 100;
/// Streams we have reset that are remembered at most.
const RESETS_REMEMBERED: usize = 64;
/// Interim responses before a head at most.
const INTERIM_MAX: usize = 64;
/// How long nothing is heard while streams are open before the other side is asked whether it is there, and how long
/// it has to say so.
const SILENCE: Duration = Duration::from_secs(30);
const PONG_WITHIN: Duration = Duration::from_secs(10);

/// An HTTP/2 connection. It is closed when this is dropped and its last stream has ended.
pub(crate) struct H2 {
    sender: SendRequest<Bytes>,
    /// Whether the other side's settings are here. Its sender lives as long as the connection.
    settled: watch::Receiver<bool>,
}

impl H2 {
    /// Begins on a stream that has agreed on it. A permit of `streams`, of which there are `streams_max`, is held for
    /// each request.
    pub(crate) async fn open(stream: Stream, streams: Arc<Semaphore>, streams_max: usize) -> Result<Self, WireError> {
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
            .max_send_buffer_size(SEND_BYTES_MAX)
            .initial_max_send_streams(STREAMS_FIRST)
            .max_concurrent_reset_streams(RESETS_REMEMBERED)
            .enable_push(false);
        let heard = Arc::new(Heard::default());
        let stream = Looked { inner: stream, look: listen(Arc::clone(&heard)) };
        let (sender, mut connection) = builder.handshake::<_, Bytes>(stream).await?;
        let silence = silence(connection.ping_pong(), Arc::clone(&heard), streams, streams_max);
        let (settle, settled) = watch::channel(false);
        tokio::spawn(async move {
            let driven = poll_fn(|cx| {
                let polled = Pin::new(&mut connection).poll(cx);
                if heard.has_first_frame() {
                    settle.send_if_modified(|settled| !std::mem::replace(settled, true));
                }
                polled
            });
            tokio::select! {
                ended = driven => if let Err(error) = ended {
                    tracing::debug!(%error, "an HTTP/2 connection ended");
                },
                () = silence => tracing::debug!("an HTTP/2 connection no longer answers"),
            }
        });
        Ok(Self { sender, settled })
    }

    /// Whether it takes no more requests: it has ended, or is ending.
    pub(crate) fn is_closed(&self) -> bool {
        let polled = self.sender.clone().poll_ready(&mut Context::from_waker(noop_waker_ref()));
        matches!(polled, Poll::Ready(Err(_))) || self.settled.has_changed().is_err()
    }

    /// Whether the other side takes extended CONNECT (RFC 8441, section 3), as far as is known.
    pub(crate) fn takes_tunnels(&self) -> bool {
        self.sender.is_extended_connect_protocol_enabled()
    }

    /// Whether the other side's settings are here.
    pub(crate) fn is_settled(&self) -> bool {
        *self.settled.borrow()
    }

    /// Whether the other side takes extended CONNECT, once its settings are here; no if it ends before.
    pub(crate) async fn told_tunnels(&self) -> bool {
        self.settled.clone().wait_for(|settled| *settled).await.is_ok() && self.takes_tunnels()
    }

    /// The streams that the other side takes at once; at least one, so that what it does not take it refuses itself.
    pub(crate) fn streams_most(&self) -> usize {
        self.sender.current_max_send_streams().max(1)
    }

    /// Sends a request and waits for the head of its response; interim ones go to `interim`. If the future is dropped
    /// the stream is reset.
    pub(crate) async fn send(
        &self,
        request: Request<UploadBody>,
        interim: &Interim,
    ) -> Result<Response<Incoming>, Unsent> {
        let (mut parts, body) = request.into_parts();
        declare_length(&mut parts, &body);
        let mut sender = match self.sender.clone().ready().await {
            Ok(sender) => sender,
            // The connection had ended: nothing of the request has left.
            Err(error) => return Err(Unsent::never(error, body)),
        };
        let is_end = body.is_end_stream();
        let (response, stream) = match sender.send_request(Request::from_parts(parts, ()), is_end) {
            Ok(sent) => sent,
            Err(error) if error.is_go_away() || error.is_io() => return Err(Unsent::never(error, body)),
            Err(error) => return Err(Unsent::failed(error)),
        };
        if !is_end {
            tokio::spawn(lift(body, stream));
        }
        let response = answered(response, interim).await.map_err(Unsent::failed)?;
        let length = head::length(response.headers()).unwrap_or_default();
        Ok(response.map(|stream| Incoming::H2(Received::new(stream, length))))
    }
}

/// The head of the response, once interim ones are through.
async fn answered(mut response: ResponseFuture, interim: &Interim) -> Result<Response<RecvStream>, h2::Error> {
    let mut heads = 0;
    poll_fn(|cx| {
        while let Poll::Ready(Some(head)) = response.poll_informational(cx) {
            heads += 1;
            if heads > INTERIM_MAX {
                return Poll::Ready(Err(Reason::ENHANCE_YOUR_CALM.into()));
            }
            head::interim(head?, interim);
        }
        Pin::new(&mut response).poll(cx)
    })
    .await
}

/// A length that is known is declared, as HTTP/1.1 would frame it.
fn declare_length(parts: &mut http::request::Parts, body: &UploadBody) {
    let has_body = [Method::POST, Method::PUT, Method::PATCH].contains(&parts.method);
    if let (Some(length), true) = (body.size_hint().exact(), parts.method != Method::CONNECT)
        && (length > 0 || has_body)
    {
        parts.headers.entry(CONTENT_LENGTH).or_insert_with(|| length.into());
    }
}

/// Sends a body up, as fast as the other side takes it, until it ends, is cut, or is no longer wanted.
async fn lift(body: UploadBody, mut stream: SendStream<Bytes>) {
    let upload = body.upload();
    let ended = tokio::select! {
        biased;
        () = upload.was_cut() => Err(Reason::CANCEL),
        ended = pieces(body, &mut stream) => ended,
    };
    if let Err(reason) = ended {
        stream.send_reset(reason);
    }
}

/// Sends all pieces. The error is what the stream is to be reset with.
async fn pieces(mut body: UploadBody, stream: &mut SendStream<Bytes>) -> Result<(), Reason> {
    let mut body = Pin::new(&mut body);
    loop {
        // Asked before there is a piece, so that none is held that the other side does not take.
        stream.reserve_capacity(1);
        poll_fn(|cx| poll_room(stream, cx)).await?;
        let polled = poll_fn(|cx| match body.as_mut().poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(Ok(frame)),
            Poll::Pending => poll_reset(stream, cx),
        });
        let frame = match polled.await? {
            None => return stream.send_data(Bytes::new(), true).map_err(|_| Reason::CANCEL),
            Some(Err(_)) => return Err(Reason::CANCEL),
            Some(Ok(frame)) => frame,
        };
        match frame.into_data() {
            Ok(data) => {
                let is_end = body.is_end_stream();
                stream.send_data(data, is_end).map_err(|_| Reason::CANCEL)?;
                if is_end {
                    return Ok(());
                }
            }
            Err(frame) => {
                stream.reserve_capacity(0);
                let trailers = frame.into_trailers().unwrap_or_default();
                return stream.send_trailers(trailers).map_err(|_| Reason::CANCEL);
            }
        }
    }
}

/// Until the other side takes more, or does not want it.
fn poll_room(stream: &mut SendStream<Bytes>, cx: &mut Context<'_>) -> Poll<Result<(), Reason>> {
    if let Poll::Ready(Err(reason)) = poll_reset::<()>(stream, cx) {
        return Poll::Ready(Err(reason));
    }
    if stream.capacity() > 0 {
        return Poll::Ready(Ok(()));
    }
    loop {
        match stream.poll_capacity(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(Ok(0))) => {}
            Poll::Ready(Some(Ok(_))) => return Poll::Ready(Ok(())),
            Poll::Ready(None | Some(Err(_))) => return Poll::Ready(Err(Reason::CANCEL)),
        }
    }
}

/// Whether the other side has reset the stream. Its reason is its own; ours is that we stop.
fn poll_reset<T>(stream: &mut SendStream<Bytes>, cx: &mut Context<'_>) -> Poll<Result<T, Reason>> {
    stream.poll_reset(cx).map(|_| Err(Reason::CANCEL))
}

/// Resolves when the other side has been silent and does not answer a ping. Nobody asks while nothing is under way.
async fn silence(ping: Option<PingPong>, heard: Arc<Heard>, streams: Arc<Semaphore>, streams_max: usize) {
    let Some(mut ping) = ping else { return std::future::pending().await };
    loop {
        let before = heard.bytes();
        sleep(SILENCE).await;
        if heard.bytes() != before || streams.available_permits() >= streams_max {
            continue;
        }
        if ping.send_ping(Ping::opaque()).is_err() {
            return std::future::pending().await;
        }
        if !matches!(timeout(PONG_WITHIN, poll_fn(|cx| ping.poll_pong(cx))).await, Ok(Ok(_))) {
            return;
        }
    }
}
