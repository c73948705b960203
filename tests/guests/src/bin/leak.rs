//! Answers, and returns well without finishing its body: at once, on `/later` after the head has left, on `/length` with
//! all the bytes it has announced.

guests::guest!(|request, out| {
    let path = guests::path(&request);
    let length: &[(&str, &str)] = if path == "/length" { &[("content-length", "10")] } else { &[] };
    let body = guests::begin(out, 200, length);
    let stream = body.write().expect("taken once");
    let _ = guests::write(&stream, b"all of it?");
    drop(stream);
    if path == "/later" {
        guests::sleep_ms(20);
    }
    std::mem::forget(body);
});
