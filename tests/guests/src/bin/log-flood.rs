//! Writes a line, one without an end, and lines without end; then answers.

use std::io::Write;

guests::guest!(|_request, out| {
    println!("a line");
    eprintln!("another\u{1b}[31m");
    let long = vec![b'l'; 1 << 20];
    let _ = std::io::stdout().write_all(&long);
    for count in 0..20_000 {
        println!("line {count}");
    }
    guests::answer(out, 200, &[], b"said\n");
});
