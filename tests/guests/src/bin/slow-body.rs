//! Writes a byte a minute.

guests::guest!(|_request, out| {
    let body = guests::begin(out, 200, &[("content-type", "text/plain")]);
    let stream = body.write().expect("taken once");
    while guests::write(&stream, b".").is_ok() {
        guests::sleep_ms(60_000);
    }
});
