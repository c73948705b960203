//! Writes a body without end.

guests::guest!(|_request, out| {
    let body = guests::begin(out, 200, &[("content-type", "application/octet-stream")]);
    let stream = body.write().expect("taken once");
    let piece = vec![b'x'; 64 << 10];
    while guests::write(&stream, &piece).is_ok() {}
});
