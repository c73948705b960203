//! Adds header fields without end, or on `/some` as many as fit into a head of about 40 KiB; on `/some/trailers` these
//! are its trailers.

use wasip2::http::types::{Fields, OutgoingBody, OutgoingResponse, ResponseOutparam};

guests::guest!(|request, out| {
    let path = guests::path(&request);
    let some = path.starts_with("/some");
    let fields = Fields::new();
    let value = [b'v'; 1000];
    let mut count = 0_u64;
    while !(some && count == 40) {
        if fields.append(&format!("x-{count}"), &value).is_err() {
            break;
        }
        count += 1;
    }
    let (head, trailers) = if path == "/some/trailers" { (Fields::new(), Some(fields)) } else { (fields, None) };
    let response = OutgoingResponse::new(head);
    let body = response.body().expect("taken once");
    ResponseOutparam::set(out, Ok(response));
    let _ = OutgoingBody::finish(body, trailers);
});
