//! Calls the function that is the first segment of its path, with the rest of it, and streams both bodies through; where
//! there is none it says so.

use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingRequest, ResponseOutparam, Scheme};

guests::guest!(relay);

fn relay(request: IncomingRequest, out: ResponseOutparam) {
    let path = guests::path(&request);
    let (next, rest) = path[1..].split_once('/').unwrap_or((&path[1..], ""));
    if next.is_empty() {
        let id = guests::field(&request, "x-request-id").unwrap_or_default();
        let said = format!("the end, at {}, of {id}", request.authority().unwrap_or_default());
        return guests::answer(out, 200, &[("eyot-next", "1"), ("x-end", "1")], said.as_bytes());
    }
    let onward = OutgoingRequest::new(Fields::new());
    onward.set_method(&request.method()).expect("a method");
    onward.set_scheme(Some(&Scheme::Http)).expect("a scheme");
    onward.set_authority(Some(&format!("{next}.function.eyot.internal"))).expect("an authority");
    onward.set_path_with_query(Some(&format!("/{rest}"))).expect("a path");
    let body = onward.body().expect("taken once");
    let answer = handle(onward, None).expect("a request of this guest");
    let stream = body.write().expect("taken once");
    let incoming = request.consume().expect("taken once");
    // The answer may begin while the request still goes on: piece by piece, either way.
    let reading = incoming.stream().expect("taken once");
    while let Ok(bytes) = reading.blocking_read(64 << 10) {
        if guests::write(&stream, &bytes).is_err() {
            break;
        }
    }
    drop((reading, stream));
    let _ = OutgoingBody::finish(body, None);
    answer.subscribe().block();
    match answer.get().expect("ready").expect("taken once") {
        Ok(response) => {
            let kept = response.headers().get("x-end").is_empty();
            let next = !response.headers().get("eyot-next").is_empty();
            let fields: &[(&str, &str)] = if kept { &[] } else { &[("x-end", "1")] };
            assert!(!next, "what only a function of its own may say");
            let body = guests::begin(out, response.status(), fields);
            let stream = body.write().expect("taken once");
            guests::copy(response.consume().expect("taken once"), |piece| {
                let _ = guests::write(&stream, piece);
            });
            drop(stream);
            let _ = OutgoingBody::finish(body, None);
        }
        Err(code) => guests::answer(out, 502, &[], format!("{code:?}").as_bytes()),
    }
}
