//! Says what `$SAY` or the field `x-say` tells it to, as `204;eyot-next=1;x-a=b`, and of the request, in its body and in
//! `eyot-request-x-seen`, what it saw. `trap` and `spin` are what they say.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

guests::guest!(|request: IncomingRequest, out: ResponseOutparam| {
    let say = std::env::var("SAY").ok().or_else(|| guests::field(&request, "x-say")).expect("told");
    assert_ne!(say, "trap", "as it was told");
    let mut count = 0_u64;
    while say == "spin" {
        count = std::hint::black_box(count.wrapping_add(1));
    }
    let user = guests::field(&request, "x-user").unwrap_or_default();
    let host = request.authority().unwrap_or_default();
    let (method, path) = (format!("{:?}", request.method()), guests::path(&request));
    let mut bytes = 0;
    guests::copy(request.consume().expect("taken once"), |piece| bytes += piece.len());
    let seen = format!("{method} {host}{path} {bytes} bytes of {user}");
    let mut words = say.split(';');
    let status = words.next().and_then(|status| status.parse().ok()).expect("a status");
    let mut fields: Vec<_> = words.filter_map(|word| word.split_once('=')).collect();
    fields.push(("eyot-request-x-seen", &seen));
    guests::answer(out, status, &fields, if status == 204 { b"" } else { seen.as_bytes() });
});
