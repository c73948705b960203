//! Takes events and says what came; how it ends, its environment says: at once, after a while, or by luck.

use std::hash::{BuildHasher as _, RandomState};

guests::guest!(handle);

fn handle(request: wasip2::http::types::IncomingRequest, out: wasip2::http::types::ResponseOutparam) {
    let field = |name| guests::field(&request, name).unwrap_or_default();
    let authority = request.authority().unwrap_or_default();
    let (kind, time, attempt) = (field("ce-type"), field("ce-time"), field("ce-attempt"));
    let mut body = Vec::new();
    guests::copy(request.consume().expect("taken once"), |piece| body.extend_from_slice(piece));
    let body = String::from_utf8_lossy(&body).into_owned();
    let name = std::env::var("NAME").unwrap_or_default();
    println!("begun {name} at {authority} {kind} {time} {attempt} {body}.");
    match std::env::var("MODE").as_deref() {
        Ok("slow") => guests::sleep_ms(20_000),
        // Four of ten fail, each half in its own way.
        Ok("luck") => match RandomState::new().hash_one(&body) % 10 {
            0 | 1 => return guests::answer(out, 500, &[], b"bad luck"),
            2 | 3 => panic!("bad luck"),
            _ => {}
        },
        _ => {}
    }
    println!("done {kind} {body} {time}.");
    guests::answer(out, 204, &[], b"");
}
