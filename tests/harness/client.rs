//! Asking a node as the public does, over each protocol, with our own client.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use eyot_link::body::{self, Body};
use eyot_link::get::{Get, get};
use eyot_link::tls::Authorities;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body_util::BodyExt as _;
use tokio::runtime::Runtime;

use super::process::PATIENCE;
use super::world::{Node, World};

use eyot_link::line::Patience;
pub(crate) use eyot_link::line::Protocol;

/// All that a node speaks.
pub(crate) const PROTOCOLS: [Protocol; 3] = [Protocol::H1, Protocol::H2, Protocol::H3];

/// A request to be.
pub(crate) struct Ask {
    get: Get,
    patience: Duration,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Answer {
    /// A field as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The fault's code, from the problem document.
    pub(crate) fn code(&self) -> String {
        let problem: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        problem["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl Ask {
    /// `GET https://<host>:<port of the node><path>`.
    pub(crate) fn get(world: &World, node: &Node, protocol: Protocol, host: &str, path: &str) -> Self {
        Self::at(world, node.port, protocol, host, path)
    }

    /// `GET https://<host>:<port><path>`.
    pub(crate) fn at(world: &World, port: u16, protocol: Protocol, host: &str, path: &str) -> Self {
        let url = format!("https://{host}:{port}{path}");
        let ca = std::fs::read(world.ca()).expect("the CA");
        Self::url(&url, protocol, Authorities::Pem(ca), SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// The same, for a client that knows the CA and not the world.
    pub(crate) fn trusting(ca: &[u8], port: u16, protocol: Protocol, host: &str, path: &str) -> Self {
        let url = format!("https://{host}:{port}{path}");
        Self::url(&url, protocol, Authorities::Pem(ca.to_vec()), SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// `GET http://127.0.0.1:<port><path>` over HTTP/1.1.
    pub(crate) fn plain(port: u16, path: &str) -> Self {
        let url = format!("http://127.0.0.1:{port}{path}");
        Self::url(&url, Protocol::H1, Authorities::Public, SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// Any URL, at this address, trusting these authorities.
    pub(crate) fn url(url: &str, protocol: Protocol, authorities: Authorities, connect: SocketAddr) -> Self {
        let url = url.parse().unwrap_or_else(|error| panic!("{url}: {error}"));
        let (method, headers, body) = (Method::GET, HeaderMap::new(), body::empty());
        let connect = Some(connect);
        // No test is about how soon an address is given up, unless it says so.
        let patience = Patience::each(60_000);
        Self {
            get: Get { url, protocol, connect, authorities, method, headers, body, patience, head_ms: 60_000 },
            patience: PATIENCE,
        }
    }

    /// With so many milliseconds for each step of connecting.
    pub(crate) fn connecting(mut self, each_ms: u64) -> Self {
        self.get.patience = Patience::each(each_ms);
        self
    }

    /// With another method.
    pub(crate) fn method(mut self, method: &str) -> Self {
        self.get.method = method.parse().expect("a method");
        self
    }

    /// With a field.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        let name: HeaderName = name.parse().expect("a name");
        self.get.headers.append(name, HeaderValue::from_str(value).expect("a value"));
        self
    }

    /// With a body.
    pub(crate) fn body(mut self, bytes: impl Into<Bytes>) -> Self {
        self.get.body = body::full(bytes.into());
        self
    }

    /// One that stays open for as long as a slow machine needs.
    pub(crate) fn held(mut self) -> Self {
        self.get.head_ms = 900_000;
        self.patience = Duration::from_secs(900);
        self
    }

    /// With a body that is a stream.
    pub(crate) fn stream(mut self, body: Body) -> Self {
        self.get.body = body;
        self
    }
}

/// Asks, and reads the answer whole.
pub(crate) fn ask(ask: Ask) -> Result<Answer, String> {
    runtime().block_on(patiently(ask))
}

/// The same on a runtime of the caller's, whose thread may be in another network.
pub(crate) fn ask_on(runtime: &Runtime, ask: Ask) -> Result<Answer, String> {
    runtime.block_on(patiently(ask))
}

/// Asks all at once.
pub(crate) fn ask_all(asks: Vec<Ask>) -> Vec<Result<Answer, String>> {
    runtime().block_on(futures_util::future::join_all(asks.into_iter().map(patiently)))
}

/// One for all: a connection that ends says so to its peer after its request.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let build =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    RUNTIME.get_or_init(build)
}

async fn patiently(ask: Ask) -> Result<Answer, String> {
    let patience = ask.patience;
    tokio::time::timeout(patience, send(ask)).await.map_err(|_| format!("no answer in {patience:?}"))?
}

async fn send(ask: Ask) -> Result<Answer, String> {
    let response = get(ask.get).await.map_err(|error| chain(&error))?;
    let (head, body) = response.into_parts();
    let collected =
        body.collect().await.map_err(|error| format!("after the head {}: {}", head.status, chain(&error)))?;
    let trailers = collected.trailers().cloned();
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body: collected.to_bytes(), trailers })
}

fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// A page of an admin's unix socket; its body.
pub(crate) fn unix(socket: &Path, path: &str) -> String {
    unix_asks(socket, "GET", path).1
}

/// What an admin's unix socket answers: the status, and the body.
pub(crate) fn unix_asks(socket: &Path, method: &str, path: &str) -> (u16, String) {
    let mut stream =
        std::os::unix::net::UnixStream::connect(socket).unwrap_or_else(|error| panic!("{socket:?}: {error}"));
    let head = format!("{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    write!(stream, "{head}").expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("read");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("{text}")), body.to_owned())
}
