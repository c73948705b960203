//! A request lent to a target, to have it back if the target failed without touching the body: for a fallback, or for
//! the next server of an upstream.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use eyot_plan::body::{self, Body};
use eyot_plan::fault::{Code, Fault};
use http::{Method, Request};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;

/// What is kept of a lent request.
pub(crate) struct Loan {
    head: http::request::Parts,
    /// The body, until its first byte is asked for; none of a request without one.
    body: Option<Slot>,
}

type Slot = Arc<Mutex<Option<Body>>>;

fn lock(slot: &Slot) -> MutexGuard<'_, Option<Body>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Loan {
    /// Lends `request`.
    pub(crate) fn new(request: Request<Body>) -> (Self, Request<Body>) {
        let (head, body) = request.into_parts();
        if body.is_end_stream() {
            return (Self { head: head.clone(), body: None }, Request::from_parts(head, body));
        }
        let hint = body.size_hint();
        let slot = Arc::new(Mutex::new(Some(body)));
        let lent = Lent { slot: Arc::clone(&slot), taken: None, hint }.boxed_unsync();
        (Self { head: head.clone(), body: Some(slot) }, Request::from_parts(head, lent))
    }

    /// The request's method.
    pub(crate) fn method(&self) -> &Method {
        &self.head.method
    }

    /// The request as it was lent; nothing if its body was begun.
    pub(crate) fn back(self) -> Option<Request<Body>> {
        let body = match &self.body {
            None => body::empty(),
            Some(slot) => lock(slot).take()?,
        };
        Some(Request::from_parts(self.head, body))
    }
}

/// A lent body: it is taken over when its first byte is asked for.
struct Lent {
    slot: Slot,
    taken: Option<Body>,
    /// Its size, as long as it is not taken.
    hint: SizeHint,
}

impl http_body::Body for Lent {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if self.taken.is_none() {
            let body = lock(&self.slot).take();
            self.taken = body;
        }
        match &mut self.taken {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(Some(Err(Fault::new(Code::InternalError).because("the body was asked back")))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.taken.as_ref().is_some_and(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.taken.as_ref().map_or_else(|| self.hint, http_body::Body::size_hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(body: Body) -> Request<Body> {
        Request::builder().uri("https://a.test/").header("a", "b").body(body).expect("a request")
    }

    #[tokio::test]
    async fn a_request_comes_back_unless_its_body_was_begun() {
        for (sent, read, expect) in [("", true, Some("")), ("body", false, Some("body")), ("body", true, None)] {
            let body = if sent.is_empty() { body::empty() } else { body::full(sent) };
            let (loan, mut lent) = Loan::new(request(body));
            assert_eq!(lent.body().size_hint().exact(), Some(sent.len() as u64));
            if read {
                assert_eq!(lent.body_mut().collect().await.expect("a body").to_bytes(), sent);
            }
            drop(lent);
            let back = loan.back();
            assert_eq!(back.is_some(), expect.is_some(), "{sent} {read}");
            if let (Some(back), Some(expect)) = (back, expect) {
                assert_eq!(back.headers()["a"], "b");
                assert_eq!(back.into_body().collect().await.expect("a body").to_bytes(), expect);
            }
        }
    }

    #[tokio::test]
    async fn what_was_asked_back_is_read_by_nobody_else() {
        let (loan, lent) = Loan::new(request(body::full("body")));
        assert!(loan.back().is_some());
        assert!(lent.into_body().collect().await.is_err());
    }
}
