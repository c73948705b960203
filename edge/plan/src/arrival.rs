//! An arrival: a request with where and when it came in. Listeners make it; the request line takes it.

use core::net::SocketAddr;
use std::time::SystemTime;

use crate::body::Body;

/// A request with where and when it came in.
#[derive(Debug)]
pub struct Arrival {
    /// The request, checked by [`crate::request`]: its URI is absolute (`https://host[:port]/path?query`), its host in
    /// lower case, its path normalised; it has no `host` and no hop-by-hop fields.
    pub request: http::Request<Body>,
    /// The protocol it came by.
    pub protocol: Protocol,
    /// The client's address.
    pub client: SocketAddr,
    /// The name the client gave in TLS, in lower case; absent in plain HTTP.
    pub sni: Option<String>,
    /// When its head was complete.
    pub at: SystemTime,
}

/// A protocol that brings requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.0 or HTTP/1.1.
    H1,
    /// HTTP/2.
    H2,
    /// HTTP/3.
    H3,
}

impl Protocol {
    /// The label in logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::H1 => "h1",
            Self::H2 => "h2",
            Self::H3 => "h3",
        }
    }
}

/// What answers arrivals: the node's request line, the origin's wire.
pub trait Answer: Send + Sync + 'static {
    /// Answers one arrival. It never fails: a fault is a response too. If the future or the response's body is
    /// dropped, the client has left.
    fn answer(&self, arrival: Arrival) -> impl Future<Output = http::Response<Body>> + Send;
}
