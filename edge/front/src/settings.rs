//! What a listener allows: sizes, counts and times. Each is bounded, each has a default.

use core::time::Duration;
use std::sync::Arc;

use crate::counts::Counts;

/// What a listener allows.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The target and fields of a request, in bytes (RFC 9113, section 6.5.2 counts 32 more for each field).
    pub header_bytes_max: usize,
    /// From the first byte of a head, or from the accepted connection, to its last byte; also the TLS handshake.
    pub header_timeout: Duration,
    /// Between two pieces of a request's body.
    pub body_idle: Duration,
    /// How long a client may take nothing of a response that is there.
    pub send_idle: Duration,
    /// How long a connection without a request stays open.
    pub connection_idle: Duration,
    /// Connections at once, over all listeners.
    pub connections_max: u32,
    /// Connections at once from one address (IPv4), or from one /64 (IPv6).
    pub connections_per_address_max: u32,
    /// Requests at once on one connection (HTTP/2, HTTP/3).
    pub streams_max: u32,
    /// What is given to the requests in flight after shutdown began.
    pub drain: Duration,
    /// Whether responses over TCP announce HTTP/3, when a UDP socket is there.
    pub alt_svc: bool,
    /// What the plain listeners do.
    pub plain: Plain,
    /// Where connections and panics are counted.
    pub counts: Arc<Counts>,
}

/// What a listener without TLS does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plain {
    /// Sends everyone to https (308).
    Redirect,
    /// Answers, as if TLS was ended before it.
    Serve,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            header_bytes_max: 65_536,
            header_timeout: Duration::from_secs(10),
            body_idle: Duration::from_secs(30),
            send_idle: Duration::from_secs(30),
            connection_idle: Duration::from_secs(60),
            connections_max: 50_000,
            connections_per_address_max: 256,
            streams_max: 100,
            drain: Duration::from_secs(30),
            alt_svc: true,
            plain: Plain::Redirect,
            counts: Arc::default(),
        }
    }
}
