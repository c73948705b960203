//! Asks itself, by the name it was asked by, and answers with the status it got.

use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingRequest, ResponseOutparam};

guests::guest!(|request: IncomingRequest, out: ResponseOutparam| {
    let again = OutgoingRequest::new(Fields::new());
    again.set_scheme(request.scheme().as_ref()).expect("a scheme");
    again.set_authority(request.authority().as_deref()).expect("an authority");
    again.set_path_with_query(request.path_with_query().as_deref()).expect("a path");
    let answer = handle(again, None).map_err(Some).and_then(|future| {
        future.subscribe().block();
        future.get().and_then(Result::ok).unwrap_or(Ok(()).and(Err(wasip2::http::types::ErrorCode::InternalError(None)))).map_err(Some)
    });
    match answer {
        Ok(response) => guests::answer(out, response.status(), &[], b"asked\n"),
        Err(code) => guests::answer(out, 508, &[], format!("{code:?}").as_bytes()),
    }
});
