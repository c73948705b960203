//! What comes back on a connection of any version: the response's body, and the errors that end it. It knows no
//! fault and no pool.

use std::error::Error as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Frame, SizeHint};

use crate::http3;

/// Why an exchange on a connection failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    /// HTTP/1.1.
    #[error(transparent)]
    H1(#[from] hyper::Error),
    /// HTTP/2.
    #[error(transparent)]
    H2(#[from] h2::Error),
    /// HTTP/3.
    #[error(transparent)]
    H3(#[from] eyot_h3::Error),
}

impl WireError {
    /// Whether the connection, and not the exchange, has ended, or the exchange was refused before it was looked at.
    pub(crate) fn is_gone(&self) -> bool {
        match self {
            Self::H1(error) => {
                error.is_closed() || error.is_canceled() || error.is_incomplete_message() || is_cut(error)
            }
            Self::H2(error) => {
                error.is_go_away() || error.is_io() || error.reason() == Some(h2::Reason::REFUSED_STREAM)
            }
            Self::H3(error) => error.is_connection() || error.is_unprocessed(),
        }
    }
}

impl WireError {
    /// Whether the other side broke off: the connection, or the one stream.
    pub(crate) fn is_broken_off(&self) -> bool {
        let reset = |error: &h2::Error| error.is_reset() && error.is_remote();
        let was_reset = match self {
            Self::H1(_) => false,
            Self::H2(error) => reset(error),
            Self::H3(error) => matches!(error, eyot_h3::Error::Reset(_)),
        };
        self.is_gone() || was_reset
    }
}

/// Whether the stream under an HTTP/1.1 connection has ended.
fn is_cut(error: &hyper::Error) -> bool {
    let closing = [
        std::io::ErrorKind::BrokenPipe,
        std::io::ErrorKind::ConnectionAborted,
        std::io::ErrorKind::ConnectionReset,
        std::io::ErrorKind::NotConnected,
        std::io::ErrorKind::UnexpectedEof,
    ];
    let io = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
    io.is_some_and(|io| closing.contains(&io.kind()))
}

/// A response's body as it comes.
pub(crate) enum Incoming {
    /// HTTP/1.1.
    H1(hyper::body::Incoming),
    /// HTTP/2.
    H2(Received),
    /// HTTP/3.
    H3(http3::Received),
}

impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = WireError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, WireError>>> {
        match self.get_mut() {
            Self::H1(incoming) => Pin::new(incoming).poll_frame(cx).map_err(WireError::H1),
            Self::H2(received) => received.poll_frame(cx),
            Self::H3(received) => received.poll_frame(cx).map_err(WireError::H3),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::H1(incoming) => incoming.is_end_stream(),
            Self::H2(received) => received.stream.is_end_stream(),
            Self::H3(received) => received.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::H1(incoming) => incoming.size_hint(),
            Self::H2(received) => received.left.map_or_else(SizeHint::default, SizeHint::with_exact),
            Self::H3(received) => received.size_hint(),
        }
    }
}

/// What comes on a stream of HTTP/2. Dropped before its end it resets the stream.
pub(crate) struct Received {
    stream: RecvStream,
    /// What is left of the declared length, in bytes; the connection checks it.
    left: Option<u64>,
    /// Only trailers are left.
    is_past_data: bool,
}

impl Received {
    /// The body of a response that has declared this length, if any.
    pub(crate) fn new(stream: RecvStream, length: Option<u64>) -> Self {
        Self { stream, left: length, is_past_data: false }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, WireError>>> {
        if !self.is_past_data {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // It is passed on at once, so what may come next is the reader's to say, by asking.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    let count = u64::try_from(data.len()).unwrap_or(u64::MAX);
                    self.left = self.left.map(|left| left.saturating_sub(count));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                // The response is whole and the rest of the request is not wanted (RFC 9113, section 8.1).
                Some(Err(error)) if error.reason() == Some(h2::Reason::NO_ERROR) => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => self.is_past_data = true,
            }
        }
        match ready!(self.stream.poll_trailers(cx)) {
            Ok(trailers) => Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers)))),
            Err(error) if error.reason() == Some(h2::Reason::NO_ERROR) => Poll::Ready(None),
            Err(error) => Poll::Ready(Some(Err(error.into()))),
        }
    }
}
