//! Answers, on `/length` with a Content-Length, then works on: waits and says so, on `/spin` counts without end, on `/ask`
//! asks `$TARGET` for `/never` and waits for that.

use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{Fields, OutgoingRequest, Scheme};

guests::guest!(|request, out| {
    let path = guests::path(&request);
    let length: &[(&str, &str)] = if path == "/length" { &[("content-length", "9")] } else { &[] };
    guests::answer(out, 200, length, b"answered\n");
    if path.starts_with("/ask") {
        return ask(&std::env::var("TARGET").expect("TARGET"));
    }
    guests::sleep_ms(20);
    println!("said after the answer");
    let mut count = 0_u64;
    while path.starts_with("/spin") {
        count = std::hint::black_box(count.wrapping_add(1));
    }
});

fn ask(authority: &str) {
    let request = OutgoingRequest::new(Fields::new());
    request.set_scheme(Some(&Scheme::Http)).expect("a scheme");
    request.set_authority(Some(authority)).expect("an authority");
    request.set_path_with_query(Some("/never")).expect("a path");
    handle(request, None).expect("a request of this guest").subscribe().block();
}
