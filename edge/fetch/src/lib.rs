//! The one way out: every request that an app can cause leaves here, over HTTP/1.1, 2 or 3, streaming both ways.
//!
//! A name is resolved, every address judged by `plan::address`, and the address that was judged is the one connected.
//! Connections are kept per app, policy and identity. Redirects are not followed. It knows no route, no function and no
//! cache: what to ask and what an answer means is the caller's.

mod answer;
mod connection;
mod detour;
pub mod dial;
mod exchange;
mod fresh;
mod gate;
mod head;
mod http2;
mod http3;
mod incoming;
mod key;
mod lane;
mod many;
mod pool;
mod resolve;
mod room;
mod stream;
mod tls;
mod tunnel;
mod upload;

use core::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use eyot_plan::arrival::{Connect, Interim};
use eyot_plan::body::Body;
use eyot_plan::fault::Fault;
use eyot_plan::way::Way;
use http::{Request, Response};

use crate::detour::Detours;
use crate::dial::Out;
pub use crate::exchange::Failed;
use crate::lane::Lanes;
use crate::pool::Pool;
use crate::room::Room;
pub use crate::tls::fits;

/// The head of a response, and its trailers, in bytes at most.
pub const HEAD_BYTES_MAX: usize = 64 << 10;
/// The fields of a response's head at most.
pub const HEAD_FIELDS_MAX: usize = 256;

/// Who resolves names. `/etc/hosts` comes first either way, and its addresses are judged as all others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Resolver {
    /// These DNS servers, over UDP and TCP.
    Servers(Vec<SocketAddr>),
    /// Those of `/etc/resolv.conf`. Its search list is not used: a name is meant as it is written.
    #[default]
    System,
}

/// What a [`Fetch`] is made with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who resolves names.
    pub resolver: Resolver,
    /// The node's own addresses, which are never reached: see [`eyot_plan::address::allowed`].
    pub own: Vec<SocketAddr>,
    /// PEM of authorities to trust beside the public ones, where the upstream names none.
    pub ca: Option<String>,
    /// How long an idle connection is kept, in milliseconds.
    pub pool_idle_ms: u64,
    /// How long a kept connection is used before its name is looked up again, in milliseconds: one to an address that the
    /// name no longer has carries nothing new.
    pub addresses_ms: u64,
    /// Idle connections kept for one key at most.
    pub idle_per_key_max: usize,
    /// Idle connections kept in all at most.
    pub idle_max: usize,
    /// Connections of one app at most; what is over waits, then is `allowance_spent`.
    pub connections_per_app_max: usize,
    /// Connections in all at most; what is over waits, then is `overloaded`.
    pub connections_max: usize,
    /// Requests at once on one connection of HTTP/2 or HTTP/3 at most.
    pub streams_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            resolver: Resolver::System,
            own: Vec::new(),
            ca: None,
            pool_idle_ms: 60_000,
            addresses_ms: 30_000,
            idle_per_key_max: 32,
            idle_max: 1024,
            connections_per_app_max: 512,
            connections_max: 8192,
            streams_max: 100,
        }
    }
}

/// Why a [`Fetch`] cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The authorities given are no PEM certificates.
    #[error("the authorities are no PEM certificates: {0}")]
    Authorities(String),
    /// The resolver's configuration cannot be used.
    #[error("the resolver cannot be set up")]
    Resolver(#[source] hickory_resolver::net::NetError),
    /// The TLS library refuses its own defaults.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// The client of all apps. Cheap to clone.
#[derive(Clone)]
pub struct Fetch {
    out: Arc<Out>,
    pool: Arc<Pool>,
    room: Arc<Room>,
    lanes: Arc<Lanes>,
    detours: Arc<Detours>,
    addresses: Duration,
}

impl Fetch {
    /// A client.
    ///
    /// # Errors
    /// [`Error`]: an unreadable resolver configuration or a bad `ca`.
    pub fn new(options: Options) -> Result<Self, Error> {
        let room = Room::new(options.connections_per_app_max, options.connections_max);
        let idle = Duration::from_millis(options.pool_idle_ms);
        let (lanes, addresses) = (Arc::new(Lanes::default()), Duration::from_millis(options.addresses_ms));
        let freed = Arc::clone(&lanes);
        let pool = Pool::new(idle, options.idle_per_key_max, options.idle_max, options.streams_max, freed);
        let out = Out::new(&options.resolver, options.own, options.ca.as_deref())?;
        Ok(Self {
            out: Arc::new(out),
            pool: Arc::new(pool),
            room: Arc::new(room),
            lanes,
            detours: Arc::default(),
            addresses,
        })
    }

    /// Sends a request and gives its response once the head is there. The URI is absolute, `http` or `https`; the body
    /// streams up and the response's streams down, both with back-pressure and trailers. Interim responses are dropped.
    /// If the future or the response's body is dropped, an HTTP/1.1 connection is closed, a stream of the others reset.
    ///
    /// # Errors
    /// `egress_denied` (address, scheme, method), `upstream_unreachable` (name, connection), `upstream_tls`,
    /// `upstream_timeout`, `upstream_bad_response`, `bad_request` (the request cannot be sent as it is),
    /// `allowance_spent` (also where the upstream's own bound is reached), `overloaded` (no connection is left), or the fault of the request's own body. The response's
    /// body ends in the same.
    pub async fn send(&self, way: &Way, request: Request<Body>) -> Result<Response<Body>, Fault> {
        self.send_informed(way, request, &Interim::none()).await
    }

    /// The same; interim responses (102, 103) go to `interim`, without what is for one connection.
    ///
    /// # Errors
    /// As [`Fetch::send`].
    pub async fn send_informed(
        &self,
        way: &Way,
        request: Request<Body>,
        interim: &Interim,
    ) -> Result<Response<Body>, Fault> {
        Ok(self.attempt(way, request, interim).await?)
    }

    /// The same; what has no response tells how far it came, for who would try it again.
    ///
    /// # Errors
    /// As [`Fetch::send`].
    pub async fn attempt(
        &self,
        way: &Way,
        request: Request<Body>,
        interim: &Interim,
    ) -> Result<Response<Body>, Failed> {
        exchange::run(self, way, request, interim).await
    }

    /// Opens a tunnel as [`Connect`] describes it: over HTTP/2 where the server takes extended CONNECT (RFC 8441), else
    /// over HTTP/1.1. The request's body goes up once it is open. 200 says that it is, and its body is what comes down;
    /// any other response is the server's refusal. An open tunnel has no time in all, and ends when `tunnel_idle_ms`
    /// pass without a byte either way. Its connection carries nothing else (HTTP/1.1), and is never used again.
    ///
    /// # Errors
    /// As [`Fetch::send`]; `upstream_bad_response` for a success that opens nothing.
    pub async fn tunnel(
        &self,
        way: &Way,
        request: Request<Body>,
        connect: Connect,
        interim: &Interim,
    ) -> Result<Response<Body>, Fault> {
        tunnel::open(self, way, request, connect, interim).await
    }

    /// Takes these as the node's own addresses, in place of those it was made with: see [`Options::own`]. Connections that
    /// stand are left.
    pub fn set_own(&self, own: Vec<SocketAddr>) {
        self.out.set_own(own);
    }

    /// How many idle connections are kept.
    pub fn idle(&self) -> usize {
        self.pool.idle()
    }
}
