//! Answers with the request: its body handed on as it is, or copied piece by piece; its trailers.

p3::guest!(handle);

async fn handle(request: wasip3::http::types::Request) -> p3::Answer {
    let path = p3::path(&request);
    let method = format!("{:?}", request.get_method());
    let authority = request.get_authority().unwrap_or_default();
    let scheme = format!("{:?}", request.get_scheme());
    let fields = [("x-path", &*path), ("x-method", &method), ("x-authority", &authority), ("x-scheme", &scheme)];
    let (mut body, ends) = p3::consume(request);
    if !path.starts_with("/copy") {
        return Ok(p3::respond(200, &fields, body, ends));
    }
    p3::begin(200, &fields, move |mut to| async move {
        p3::copy(&mut body, &mut to).await;
        drop(to);
        ends.await
    })
}
