//! Answers, writes half a body, then traps: at once, or on `/later` after the head has left.

guests::guest!(|request, out| {
    let later = guests::path(&request).starts_with("/later");
    let body = guests::begin(out, 200, &[("content-type", "text/plain")]);
    let stream = body.write().expect("taken once");
    let _ = guests::write(&stream, b"half of it");
    if later {
        guests::sleep_ms(20);
    }
    panic!("the other half is missing");
});
