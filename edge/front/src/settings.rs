//! What a listener allows: sizes, counts and times. Each is bounded, each has a default.

use core::time::Duration;
use std::sync::Arc;

use ipnet::IpNet;

use crate::counts::Counts;
use crate::guard::Guards;
use crate::tls::tickets::Tickets;

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
    /// What a client sends of a request's body at the least, in bytes a second: the time that it is waited for beyond
    /// `body_idle`.
    pub body_rate_bytes_min: u32,
    /// What it takes of a response at the least, in bytes a second: the time that it is waited for beyond `send_idle`.
    pub send_rate_bytes_min: u32,
    /// How long nothing may pass through a tunnel, in either direction; who answers it may have less patience.
    pub tunnel_idle: Duration,
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
    /// Balancers whose TCP connections begin with a header of the PROXY protocol (version 1 or 2), which names their
    /// client. Connections from elsewhere are their own.
    pub proxy_peers: Vec<IpNet>,
    /// What TLS does.
    pub tls: TlsSettings,
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

/// What TLS does, on all listeners that have it.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// Whether TLS 1.2 is spoken over TCP, beside 1.3. Guarded ports and QUIC never do.
    pub tls_1_2: bool,
    /// How clients come back.
    pub resumption: Resumption,
    /// The keys of session tickets.
    pub tickets: Arc<Tickets>,
    /// The hosts that ask their clients for a certificate.
    pub guards: Arc<Guards>,
}

/// How clients come back without a whole handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumption {
    /// Over HTTP/3 by sessions that are kept here, with early data; over TCP by tickets, without.
    EarlyData,
    /// By tickets, without early data.
    Tickets,
}

impl Default for TlsSettings {
    fn default() -> Self {
        Self { tls_1_2: false, resumption: Resumption::Tickets, tickets: Tickets::of_process(), guards: Guards::none() }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            header_bytes_max: 65_536,
            header_timeout: Duration::from_secs(10),
            body_idle: Duration::from_secs(30),
            send_idle: Duration::from_secs(30),
            body_rate_bytes_min: 256,
            send_rate_bytes_min: 256,
            tunnel_idle: Duration::from_secs(3600),
            connection_idle: Duration::from_secs(60),
            connections_max: 50_000,
            connections_per_address_max: 256,
            streams_max: 100,
            drain: Duration::from_secs(30),
            alt_svc: true,
            plain: Plain::Redirect,
            proxy_peers: Vec::new(),
            tls: TlsSettings::default(),
            counts: Arc::default(),
        }
    }
}
