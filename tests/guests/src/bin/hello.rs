//! Answers `hello`: the neighbour of all the hostile ones.

guests::guest!(|_request, out| guests::answer(out, 200, &[("content-type", "text/plain")], b"hello\n"));
