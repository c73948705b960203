//! Answers with the request: its method and path as fields, its body streamed, its trailers.

guests::guest!(handle);

fn handle(request: wasip2::http::types::IncomingRequest, out: wasip2::http::types::ResponseOutparam) {
    let path = guests::path(&request);
    let method = format!("{:?}", request.method());
    let authority = request.authority().unwrap_or_default();
    let mut fields = vec![("x-path", path.as_str()), ("x-method", &method), ("x-authority", &authority)];
    let (kind, trailer) = (guests::field(&request, "content-type"), guests::field(&request, "trailer"));
    fields.extend(kind.as_deref().map(|kind| ("content-type", kind)));
    fields.extend(trailer.as_deref().map(|trailer| ("trailer", trailer)));
    let early = guests::field(&request, "early-data");
    fields.extend(early.as_deref().map(|early| ("x-saw-early-data", early)));
    let incoming = request.consume().expect("taken once");
    let body = guests::begin(out, 200, &fields);
    let stream = body.write().expect("taken once");
    let trailers = guests::copy(incoming, |piece| {
        let _ = guests::write(&stream, piece);
    });
    drop(stream);
    let _ = wasip2::http::types::OutgoingBody::finish(body, trailers);
}
