//! Sleeps for as many milliseconds as its query says, then answers.

guests::guest!(|request, out| {
    let path = guests::path(&request);
    let ms = path.split_once('?').and_then(|(_, ms)| ms.parse().ok()).unwrap_or(60_000);
    guests::sleep_ms(ms);
    guests::answer(out, 200, &[], b"slept\n");
});
