//! Asks `$TARGET` thousands of times. `/kind` answers with how often it was let, the others fail at the first refusal.

use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{Fields, OutgoingRequest, Scheme};

/// One request; whether it was answered.
fn ask(authority: &str, path: &str) -> bool {
    let request = OutgoingRequest::new(Fields::new());
    request.set_scheme(Some(&Scheme::Http)).expect("a scheme");
    request.set_authority(Some(authority)).expect("an authority");
    request.set_path_with_query(Some(path)).expect("a path");
    let Ok(response) = handle(request, None) else { return false };
    response.subscribe().block();
    matches!(response.get(), Some(Ok(Ok(_))))
}

guests::guest!(|request, out| {
    let kind = guests::path(&request).starts_with("/kind");
    let target = std::env::var("TARGET").expect("TARGET");
    let mut answered = 0;
    for _ in 0..4000 {
        if !ask(&target, "/") {
            break;
        }
        answered += 1;
    }
    assert!(kind, "refused after {answered}");
    guests::answer(out, 200, &[], answered.to_string().as_bytes());
});
