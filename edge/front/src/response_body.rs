//! A response's body on its way out. It says no more and no less than its head declared, it tells how long the client
//! takes, and a panic inside it is a fault of that one response.

use core::pin::Pin;
use core::task::{Context, Poll};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use eyot_plan::body::Body;
use eyot_plan::fault::{Code, Fault};
use http_body::{Frame, SizeHint};

use crate::connection::InFlight;
use crate::counts::Counts;
use crate::request_body::only_trailers;
use crate::stall;

/// The body of a response.
pub(crate) struct ResponseBody {
    /// Gone when it has ended: its owner learns the end at once, not when the client has everything.
    body: Option<Body>,
    /// What the head's `Content-Length` still leaves, in bytes.
    left: Option<u64>,
    counts: Arc<Counts>,
    _in_flight: Option<InFlight>,
}

impl ResponseBody {
    /// `length` is the head's `Content-Length`; without a `body` the message ends with its head.
    pub(crate) fn new(body: Option<Body>, length: Option<u64>, counts: Arc<Counts>, in_flight: InFlight) -> Self {
        let left = if body.is_some() { length } else { None };
        Self { body, left, counts, _in_flight: Some(in_flight) }
    }

    /// No body, of an exchange that another body carries on.
    pub(crate) fn none() -> Self {
        Self { body: None, left: None, counts: Arc::default(), _in_flight: None }
    }

    fn check(&mut self, frame: &mut Frame<Bytes>) -> Result<(), Fault> {
        if let Some(trailers) = frame.trailers_mut() {
            only_trailers(trailers);
        }
        let (Some(data), Some(left)) = (frame.data_ref(), self.left.as_mut()) else { return Ok(()) };
        let bytes = data.len() as u64;
        *left = left.checked_sub(bytes).ok_or_else(|| wrong_length("more"))?;
        Ok(())
    }
}

fn wrong_length(than: &str) -> Fault {
    Fault::new(Code::UpstreamBadResponse).because(format!("the body has {than} bytes than `Content-Length` says"))
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let Some(body) = self.body.as_mut() else { return Poll::Ready(None) };
        stall::asked();
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(body).poll_frame(cx)));
        let said = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(None)) if self.left.is_some_and(|left| left > 0) => Some(Err(wrong_length("fewer"))),
            Ok(Poll::Ready(said)) => said,
            Err(_) => {
                self.counts.panicked();
                Some(Err(Fault::new(Code::InternalError).because("a panic inside a body")))
            }
        };
        let said = said.map(|frame| frame.and_then(|mut frame| self.check(&mut frame).map(|()| frame)));
        if matches!(said, None | Some(Err(_))) {
            self.body = None;
        }
        stall::given();
        Poll::Ready(said)
    }

    fn is_end_stream(&self) -> bool {
        let short = self.left.is_some_and(|left| left > 0);
        self.body.as_ref().is_none_or(|body| body.is_end_stream() && !short)
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.body, self.left) {
            (None, _) => SizeHint::with_exact(0),
            (Some(_), Some(left)) => SizeHint::with_exact(left),
            (Some(body), None) => body.size_hint(),
        }
    }
}
