//! An arrival: a request with where and when it came in. Listeners make it; the request line takes it.

use core::fmt;
use core::net::SocketAddr;
use std::sync::Arc;
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
    /// What TLS says of its connection; absent in plain HTTP.
    pub tls: Option<Tls>,
    /// When its head was complete.
    pub at: SystemTime,
    /// What the request opens instead of asking for a resource; none for all others.
    pub connect: Option<Connect>,
    /// Whether it came in TLS early data, so that it may be a replay (RFC 8470).
    pub early: bool,
    /// Where interim heads for its client go.
    pub interim: Interim,
}

/// A tunnel, in one form whichever protocol asked for it: the request's method is GET, its body is what the client
/// sends into the tunnel. A response 200 accepts: its body is what goes to the client, and the tunnel ends with it. Any
/// other response refuses. `Sec-WebSocket-Key` and `-Accept` belong to one hop of HTTP/1.1 and are not in it;
/// `Sec-WebSocket-Protocol`, `-Extensions` and `-Version` are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Connect {
    /// A WebSocket (RFC 6455; RFC 8441 over HTTP/2, RFC 9220 over HTTP/3).
    WebSocket,
}

/// Where interim responses (RFC 9110, section 15.2) go while the final one is made. Cheap to clone; it never waits.
#[derive(Clone, Default)]
pub struct Interim(Option<Arc<Inform>>);

type Inform = dyn Fn(http::Response<()>) + Send + Sync;

impl Interim {
    /// Heads go to `inform`, which must neither wait nor keep more than a few.
    pub fn new(inform: impl Fn(http::Response<()>) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(inform)))
    }

    /// Heads go nowhere: the client's protocol has none.
    pub fn none() -> Self {
        Self(None)
    }

    /// Says `head` to the client, if it can be told. Only 102 and 103 pass: 100 is the listener's to say, 101 is no
    /// interim response of a request that goes on.
    pub fn send(&self, head: http::Response<()>) {
        if let (Some(inform), 102 | 103) = (&self.0, head.status().as_u16()) {
            inform(head);
        }
    }
}

impl fmt::Debug for Interim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Interim").field(&self.0.is_some()).finish()
    }
}

/// What TLS says of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Its version.
    pub version: TlsVersion,
    /// The name the client gave, in lower case.
    pub sni: Option<String>,
}

/// A version of TLS that listeners speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    V1_2,
    /// TLS 1.3 (RFC 8446).
    V1_3,
}

impl TlsVersion {
    /// The version as it is written.
    pub fn label(self) -> &'static str {
        match self {
            Self::V1_2 => "1.2",
            Self::V1_3 => "1.3",
        }
    }
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
    fn answer(&self, arrival: Box<Arrival>) -> impl Future<Output = http::Response<Body>> + Send;
}
