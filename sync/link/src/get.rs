//! The general client behind `eyot get`: one request over the protocol that was asked for, with the body streamed both
//! ways. It is for a person at the command line; redirects are shown and not followed.

use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderMap, Method, Uri};

use crate::body::Body;
use crate::error::Error;
use crate::line::{Endpoint, Line, Patience, Protocol};
use crate::tls::{self, Authorities};

/// One request.
#[derive(Debug)]
pub struct Get {
    /// An absolute URL, `https` or `http`.
    pub url: Uri,
    /// The protocol, exactly.
    pub protocol: Protocol,
    /// Where to connect, whatever the URL's host resolves to.
    pub connect: Option<SocketAddr>,
    /// Whom to trust.
    pub authorities: Authorities,
    /// The method.
    pub method: Method,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Body,
    /// How long connecting may take.
    pub patience: Patience,
    /// How long the head of the response may take, in milliseconds.
    pub head_ms: u64,
}

/// Sends it. The connection ends when the response's body is read or dropped.
pub async fn get(get: Get) -> Result<http::Response<Body>, Error> {
    let endpoint = Endpoint::of(&get.url)?;
    let config = tls::config(&get.authorities)?;
    let mut line = Line::connect(&endpoint, get.protocol, &config, get.connect, get.patience).await?;
    let mut request = http::Request::new(get.body);
    *request.method_mut() = get.method;
    *request.headers_mut() = get.headers;
    *request.uri_mut() = get.url;
    match tokio::time::timeout(Duration::from_millis(get.head_ms), line.send(request)).await {
        Ok(response) => response,
        Err(_) => Err(Error::Silent { url: endpoint.url, seconds: get.head_ms / 1000 }),
    }
}
