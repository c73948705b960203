//! What is sent of a kept answer, and of one that is not kept.

use eyot_plan::body::{self, Body};
use eyot_plan::cache::answer;
use eyot_plan::files::Sent;
use http::request::Parts;
use http::{Method, Response};

use crate::object::Object;

/// What is sent of `object` to a request with this head. None: its body was let go of.
pub(super) fn of(object: &Object, asked: &Parts, now_ms: u64) -> Option<Response<Body>> {
    with(object, asked, now_ms, |from, to| object.read(from, to))
}

/// The same, with the bytes of its body that `read` gives.
pub(super) fn with(
    object: &Object,
    asked: &Parts,
    now_ms: u64,
    read: impl FnOnce(u64, Option<u64>) -> Option<Body>,
) -> Option<Response<Body>> {
    let (kept, length) = (&object.kept, object.length());
    let sent = answer::sent(kept.status, &kept.headers, length, &asked.method, &asked.headers, now_ms);
    let body = match sent {
        _ if asked.method == Method::HEAD => body::empty(),
        Sent::Whole => read(0, None)?,
        Sent::Part(from, to) => read(from, Some(to))?,
        Sent::NotModified | Sent::PreconditionFailed | Sent::Unsatisfiable => body::empty(),
    };
    let mut response = Response::new(body);
    *response.status_mut() = answer::status(kept.status, sent);
    *response.headers_mut() = answer::fields(kept, sent, length, now_ms);
    Some(response)
}

/// All of `object`, as it came.
pub(super) fn whole(object: &Object, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = object.kept.status;
    response.headers_mut().clone_from(&object.kept.headers);
    response
}

/// An answer that is not kept, for a request whose conditions were not sent on.
pub(super) fn passed(response: Response<Body>, asked: &Parts, now_ms: u64) -> Response<Body> {
    let (status, headers) = (response.status(), response.headers());
    match answer::sent(status, headers, None, &asked.method, &asked.headers, now_ms) {
        Sent::NotModified => {
            let mut response = response.map(|_| body::empty());
            *response.status_mut() = answer::status(status, Sent::NotModified);
            answer::shape(response.headers_mut(), Sent::NotModified, None);
            response
        }
        _ => response,
    }
}
