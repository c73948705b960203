//! Answers `hello`.

p3::guest!(|_request| async { p3::answer(200, &[("content-type", "text/plain")], *b"hello\n") });
