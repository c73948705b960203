//! Fetches the URL in the field `x-url` with the request's method and body, and streams the answer through.

use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingRequest, ResponseOutparam, Scheme};

guests::guest!(fetch);

fn fetch(request: IncomingRequest, out: ResponseOutparam) {
    let url = guests::field(&request, "x-url").expect("x-url");
    let (scheme, rest) = url.split_once("://").expect("an absolute URL");
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let onward = OutgoingRequest::new(Fields::new());
    onward.set_method(&request.method()).expect("a method");
    onward.set_scheme(Some(&if scheme == "https" { Scheme::Https } else { Scheme::Http })).expect("a scheme");
    onward.set_authority(Some(authority)).expect("an authority");
    onward.set_path_with_query(Some(path)).expect("a path");
    let body = onward.body().expect("taken once");
    let answer = handle(onward, None).expect("a request of this guest");
    let stream = body.write().expect("taken once");
    let trailers = guests::copy(request.consume().expect("taken once"), |piece| {
        let _ = guests::write(&stream, piece);
    });
    drop(stream);
    let _ = OutgoingBody::finish(body, trailers);
    answer.subscribe().block();
    match answer.get().expect("ready").expect("taken once") {
        Ok(response) => {
            let body = guests::begin(out, response.status(), &[]);
            let stream = body.write().expect("taken once");
            let trailers = guests::copy(response.consume().expect("taken once"), |piece| {
                let _ = guests::write(&stream, piece);
            });
            drop(stream);
            let _ = OutgoingBody::finish(body, trailers);
        }
        Err(code) => guests::answer(out, 502, &[], format!("{code:?}").as_bytes()),
    }
}
