//! A request's body of HTTP/2: the client gets room for what has been taken, and a body that breaks off never looks
//! whole.

use core::pin::Pin;
use core::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Frame, SizeHint};

/// What comes on one stream.
pub(super) struct Incoming {
    stream: RecvStream,
    /// What the head's `Content-Length` leaves, in bytes; the library holds the client to it.
    left: Option<u64>,
    /// The trailers are next.
    is_data_over: bool,
}

impl Incoming {
    pub(super) fn new(stream: RecvStream, length: Option<u64>) -> Self {
        let left = if stream.is_end_stream() { Some(0) } else { length };
        Self { stream, left, is_data_over: false }
    }
}

impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.is_data_over {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // It fails only for more than was received.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.is_data_over = true,
            }
        }
        let trailers = ready!(self.stream.poll_trailers(cx)).transpose();
        Poll::Ready(trailers.map(|trailers| trailers.map(Frame::trailers)))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
