//! Lets through who brings a signed token, and streams the upstream's answer.
//!
//! The token is a JSON Web Token signed by Ed25519 (RFC 7519, RFC 8037) in `Authorization: Bearer …`; the issuer's public
//! key stands in the environment, so a node never holds anything that could sign:
//!
//! ```toml
//! [functions.auth]
//! env    = { UPSTREAM = "https://api.example", PREFIX = "/auth", ISSUER_KEY = "<base64url of 32 bytes>" }
//! egress = ["https://api.example"]
//! ```
//!
//! The upstream gets the request without the token and with `X-User: <sub>`. Bodies are streamed both ways.

mod token;

use std::time::{SystemTime, UNIX_EPOCH};

use wstd::http::{Body, Client, Error, HeaderValue, Request, Response, StatusCode};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    let key = setting("ISSUER_KEY")?;
    match token::verify(bearer(&request), &key, now()) {
        Ok(user) => forward(request, &user).await,
        Err(refused) => {
            eprintln!("refused: {refused}");
            let refusal = Response::builder().status(StatusCode::UNAUTHORIZED);
            Ok(refusal.header("www-authenticate", "Bearer").body(Body::from("a valid token is needed\n"))?)
        }
    }
}

/// The token, or nothing.
fn bearer(request: &Request<Body>) -> &str {
    let value = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    value.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default()
}

/// Sends the request on and gives what comes back.
async fn forward(request: Request<Body>, user: &str) -> Result<Response<Body>, Error> {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let prefix = std::env::var("PREFIX").unwrap_or_default();
    let path = path.strip_prefix(prefix.as_str()).unwrap_or(path);
    let slash = if path.starts_with('/') { "" } else { "/" };
    parts.uri = format!("{}{slash}{path}", setting("UPSTREAM")?).parse()?;
    parts.headers.remove("authorization");
    parts.headers.insert("x-user", HeaderValue::from_str(user)?);
    Client::new().send(Request::from_parts(parts, body)).await
}

fn setting(name: &str) -> Result<String, Error> {
    std::env::var(name).map_err(|_| Error::msg(format!("{name} is not set")))
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
