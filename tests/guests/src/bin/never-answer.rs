//! Ends without an answer.

guests::guest!(|_request, _out| {});
