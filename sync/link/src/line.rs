//! One connection to one endpoint, over one of the three protocols.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;

use crate::body::Body;
use crate::error::Error;
use crate::{tcp, tls};

/// The largest head of a response, in bytes.
const HEAD_BYTES_MAX: u32 = 64 << 10;
/// How much may be in flight on one HTTP/2 stream, in bytes.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// How much may be in flight on one HTTP/2 connection, in bytes.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// How long each step of connecting to an address may take, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// TCP's handshake.
    pub tcp_ms: u64,
    /// TLS' handshake over TCP.
    pub tls_ms: u64,
    /// QUIC's handshake; then the next address or protocol is tried.
    pub quic_ms: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self { tcp_ms: 5_000, tls_ms: 5_000, quic_ms: 2_000 }
    }
}

impl Patience {
    /// The same for each step.
    pub fn each(ms: u64) -> Self {
        Self { tcp_ms: ms, tls_ms: ms, quic_ms: ms }
    }
}

/// The protocol of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    H1,
    /// HTTP/2.
    H2,
    /// HTTP/3.
    H3,
}

impl Protocol {
    /// Its name in ALPN.
    pub fn alpn(self) -> &'static str {
        match self {
            Self::H1 => "http/1.1",
            Self::H2 => "h2",
            Self::H3 => "h3",
        }
    }
}

/// Where to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `https://origin.example.net:7443`, without a slash at its end.
    pub url: String,
    /// Whether TLS is spoken: `https`.
    pub secure: bool,
    /// A name or an address literal; IPv6 in brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Endpoint {
    /// More addresses of one endpoint are not told.
    pub const ADDRESSES_MAX: usize = 64;

    /// The endpoint of a URL: scheme, host and port; the path must be empty.
    pub fn parse(url: &str) -> Result<Self, Error> {
        let uri = url.trim_end_matches('/').parse::<http::Uri>();
        let uri = uri.map_err(|error| Error::Settings(format!("`{url}` is no URL: {error}")))?;
        if uri.path().len() > 1 || uri.query().is_some() {
            return Err(Error::Settings(format!(
                "`{url}`: write only scheme, host and port: https://origin.example:7443"
            )));
        }
        Self::of(&uri)
    }

    /// The endpoint that a URI's request goes to.
    pub fn of(uri: &http::Uri) -> Result<Self, Error> {
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(Error::Settings(format!("`{uri}` does not begin with https:// or http://"))),
        };
        let authority = uri.authority().ok_or_else(|| Error::Settings(format!("`{uri}` has no host")))?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(Error::Settings(format!("`{uri}`: the host must be plain, without user or password")));
        }
        let scheme = if secure { "https" } else { "http" };
        Ok(Self {
            url: format!("{scheme}://{authority}"),
            secure,
            host: authority.host().to_ascii_lowercase(),
            port: authority.port_u16().unwrap_or(if secure { 443 } else { 80 }),
        })
    }

    /// Host and port as they stand in the URL.
    pub fn authority(&self) -> &str {
        self.url.split_once("://").map_or(self.url.as_str(), |(_, authority)| authority)
    }

    /// All addresses that it has now, at most [`Self::ADDRESSES_MAX`]; for who must keep away from them.
    pub async fn addresses(&self) -> Result<Vec<SocketAddr>, Error> {
        let found = tcp::resolve(&self.host, self.port, Self::ADDRESSES_MAX).await;
        found.map_err(|cause| Error::Connect { url: self.url.clone(), cause })
    }

    /// The name to verify in TLS.
    fn server_name(&self) -> Result<ServerName<'static>, String> {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']').to_owned();
        ServerName::try_from(bare).map_err(|_| format!("{} is no name for TLS", self.host))
    }
}

/// A connection.
#[derive(Debug)]
pub struct Line {
    url: String,
    inner: Inner,
}

enum Inner {
    H1(http1::SendRequest<Body>),
    H2(http2::SendRequest<Body>),
    H3(eyot_h3::client::Connection),
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::H1(_) => "h1",
            Self::H2(_) => "h2",
            Self::H3(_) => "h3",
        })
    }
}

impl Line {
    /// Connects over `protocol`; to `address` when given, whatever the endpoint's host resolves to.
    pub async fn connect(
        endpoint: &Endpoint,
        protocol: Protocol,
        tls: &ClientConfig,
        address: Option<SocketAddr>,
        patience: Patience,
    ) -> Result<Self, Error> {
        let failed = |cause: String| Error::Connect {
            url: endpoint.url.clone(),
            cause: format!("{}: {cause}", protocol.alpn()),
        };
        let addresses = match address {
            Some(address) => vec![address],
            None => tcp::resolve(&endpoint.host, endpoint.port, tcp::ADDRESSES_MAX).await.map_err(failed)?,
        };
        let config = tls::with_alpn(tls, protocol.alpn());
        let inner = match protocol {
            Protocol::H3 => h3(endpoint, config, &addresses, patience).await,
            Protocol::H1 | Protocol::H2 => over_tcp(endpoint, protocol, config, &addresses, patience).await,
        };
        Ok(Self { url: endpoint.url.clone(), inner: inner.map_err(failed)? })
    }

    /// Its protocol.
    pub fn protocol(&self) -> Protocol {
        match self.inner {
            Inner::H1(_) => Protocol::H1,
            Inner::H2(_) => Protocol::H2,
            Inner::H3(_) => Protocol::H3,
        }
    }

    /// A second handle to the same connection; HTTP/1.1 has none.
    pub fn share(&self) -> Option<Self> {
        let inner = match &self.inner {
            Inner::H1(_) => return None,
            Inner::H2(line) => Inner::H2(line.clone()),
            Inner::H3(line) => Inner::H3(line.clone()),
        };
        Some(Self { url: self.url.clone(), inner })
    }

    /// Whether no request can be sent any more.
    pub fn is_closed(&self) -> bool {
        match &self.inner {
            Inner::H1(line) => line.is_closed(),
            Inner::H2(line) => line.is_closed(),
            Inner::H3(line) => line.is_closed(),
        }
    }

    /// Sends a request, whose URI is absolute, and waits for the head of its response.
    pub async fn send(&mut self, mut request: http::Request<Body>) -> Result<http::Response<Body>, Error> {
        let url = self.url.clone();
        let broken = move |cause: String| Error::Broken { url: url.clone(), cause };
        let broken_later = broken.clone();
        match &mut self.inner {
            Inner::H1(line) => {
                origin_form(&mut request)?;
                let response = line.send_request(request).await.map_err(|error| broken(chain(&error)))?;
                Ok(response.map(|body| body.map_err(move |error| broken_later(chain(&error))).boxed_unsync()))
            }
            Inner::H2(line) => {
                *request.version_mut() = http::Version::HTTP_2;
                let response = line.send_request(request).await.map_err(|error| broken(chain(&error)))?;
                Ok(response.map(|body| body.map_err(move |error| broken_later(chain(&error))).boxed_unsync()))
            }
            Inner::H3(line) => {
                *request.version_mut() = http::Version::HTTP_3;
                let response = line.send(request).await.map_err(|error| broken(chain(&error)))?;
                Ok(response.map(|body| body.map_err(move |error| broken_later(chain(&error))).boxed_unsync()))
            }
        }
    }
}

/// HTTP/1.1 wants the path alone and the host as a field (RFC 9112, section 3.2).
fn origin_form(request: &mut http::Request<Body>) -> Result<(), Error> {
    let bad = || Error::Settings("the request's URL has no host".to_owned());
    let host = request.uri().authority().ok_or_else(bad)?.as_str().parse().map_err(|_| bad())?;
    let path = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let uri = path.parse().map_err(|_| bad())?;
    request.headers_mut().insert(http::header::HOST, host);
    *request.uri_mut() = uri;
    *request.version_mut() = http::Version::HTTP_11;
    Ok(())
}

async fn h3(
    endpoint: &Endpoint,
    config: Arc<ClientConfig>,
    addresses: &[SocketAddr],
    Patience { quic_ms, .. }: Patience,
) -> Result<Inner, String> {
    if !endpoint.secure {
        return Err("HTTP/3 needs https".to_owned());
    }
    let name = endpoint.host.trim_start_matches('[').trim_end_matches(']');
    let mut failures = Vec::new();
    for &address in addresses {
        let connecting = eyot_h3::client::connect(Arc::clone(&config), address, name);
        match tokio::time::timeout(Duration::from_millis(quic_ms), connecting).await {
            Ok(Ok(line)) => return Ok(Inner::H3(line)),
            Ok(Err(error)) => failures.push(format!("{address}: {}", chain(&error))),
            Err(_) => failures.push(format!("{address}: no answer within {quic_ms} ms")),
        }
    }
    Err(failures.join("; "))
}

async fn over_tcp(
    endpoint: &Endpoint,
    protocol: Protocol,
    config: Arc<ClientConfig>,
    addresses: &[SocketAddr],
    Patience { tcp_ms, tls_ms, .. }: Patience,
) -> Result<Inner, String> {
    let stream = tcp::connect(addresses, tcp_ms).await?;
    if !endpoint.secure {
        return speak(TokioIo::new(stream), protocol).await;
    }
    let handshake = TlsConnector::from(config).connect(endpoint.server_name()?, stream);
    let stream = tokio::time::timeout(Duration::from_millis(tls_ms), handshake)
        .await
        .map_err(|_| format!("TLS did not stand within {tls_ms} ms"))?
        .map_err(|error| format!("TLS: {error}"))?;
    // A server without ALPN speaks HTTP/1.1 (RFC 9113, section 3.3 requires it for HTTP/2).
    if protocol == Protocol::H2 && stream.get_ref().1.alpn_protocol() != Some(b"h2".as_slice()) {
        return Err("the server does not speak HTTP/2".to_owned());
    }
    speak(TokioIo::new(stream), protocol).await
}

/// Speaks HTTP/1.1 or HTTP/2 on a stream. The driving task ends with the last handle and the last body.
async fn speak<S>(stream: S, protocol: Protocol) -> Result<Inner, String>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    if protocol == Protocol::H1 {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD_BYTES_MAX as usize);
        let (line, connection) = builder.handshake(stream).await.map_err(|error| chain(&error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(cause = chain(&error), "an HTTP/1.1 connection broke");
            }
        });
        return Ok(Inner::H1(line));
    }
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .max_header_list_size(HEAD_BYTES_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    let (line, connection) = builder.handshake(stream).await.map_err(|error| chain(&error))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(cause = chain(&error), "an HTTP/2 connection broke");
        }
    });
    Ok(Inner::H2(line))
}

/// An error with its causes, each said once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_scheme_host_and_port_and_nothing_else() {
        for (url, host, port, authority) in [
            ("https://origin.example:7443", "origin.example", 7443, "origin.example:7443"),
            ("https://Origin.example/", "origin.example", 443, "Origin.example"),
            ("http://[::1]:80", "[::1]", 80, "[::1]:80"),
        ] {
            let endpoint = Endpoint::parse(url).expect("an endpoint");
            assert_eq!((endpoint.host.as_str(), endpoint.port, endpoint.authority()), (host, port, authority));
        }
        for bad in
            ["origin.example", "ftp://a", "https://a/b", "https://a?x", "https://u:p@a", "https://", "https:// a"]
        {
            assert!(matches!(Endpoint::parse(bad), Err(Error::Settings(_))), "{bad}");
        }
    }
}
