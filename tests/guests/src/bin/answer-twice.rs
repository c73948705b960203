//! Answers, then answers again through the same handle.

use wasip2::http::types::{Fields, OutgoingResponse, ResponseOutparam};

guests::guest!(|_request, out: ResponseOutparam| {
    let handle = out.take_handle();
    // SAFETY: none; using a handle twice is the point, and the host has to notice.
    let again = unsafe { ResponseOutparam::from_handle(handle) };
    let first = unsafe { ResponseOutparam::from_handle(handle) };
    ResponseOutparam::set(first, Ok(OutgoingResponse::new(Fields::new())));
    ResponseOutparam::set(again, Ok(OutgoingResponse::new(Fields::new())));
});
