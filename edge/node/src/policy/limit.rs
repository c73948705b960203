//! An answer's body that is no larger than its route lets it be.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use eyot_plan::body::Body;
use eyot_plan::fault::{Code, Fault};
use http::Response;
use http::header::CONTENT_LENGTH;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;

/// `response`, whose body ends in a fault where it grows over `bytes_max`.
///
/// # Errors
/// `response_too_large`, when it says that it will.
pub(super) fn limited(response: Response<Body>, bytes_max: u64) -> Result<Response<Body>, Fault> {
    let said = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0);
    let declared = response.body().size_hint().lower().max(said);
    if declared > bytes_max {
        return Err(too_large(bytes_max, declared));
    }
    Ok(response.map(|body| Limited { body, bytes_max, used: 0 }.boxed_unsync()))
}

fn too_large(allowed: u64, used: u64) -> Fault {
    Fault::new(Code::ResponseTooLarge).over("response_body_bytes", allowed, used)
}

struct Limited {
    body: Body,
    bytes_max: u64,
    used: u64,
}

impl http_body::Body for Limited {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.used += frame.data_ref().map_or(0, |bytes| bytes.len() as u64);
            if self.used > self.bytes_max {
                return Poll::Ready(Some(Err(too_large(self.bytes_max, self.used))));
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
