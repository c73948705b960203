//! Greets whoever `?name=` names.

use wstd::http::{Body, Error, Request, Response, StatusCode};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    let (status, text) = match request.uri().path() {
        "/" => (StatusCode::OK, format!("hello, {}\n", name(request.uri().query().unwrap_or_default()))),
        path => (StatusCode::NOT_FOUND, format!("nothing at {path}\n")),
    };
    let response = Response::builder().status(status).header("content-type", "text/plain; charset=utf-8");
    Ok(response.body(text.into())?)
}

/// The letters and digits of the query's `name`.
fn name(query: &str) -> String {
    let name = query.split('&').find_map(|pair| pair.strip_prefix("name=")).unwrap_or("world");
    name.chars().filter(char::is_ascii_alphanumeric).take(40).collect()
}
