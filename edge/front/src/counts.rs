//! What the listeners count, for the metrics of who runs them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use eyot_plan::arrival::Protocol;
use eyot_plan::fault::Code;

/// Counts of the listeners. They only go up, but `connections`, which is a gauge.
#[derive(Debug, Default)]
pub struct Counts {
    connections: [AtomicU64; 3],
    refused: AtomicU64,
    handshakes_failed: AtomicU64,
    panics: AtomicU64,
    faults: [AtomicU64; Code::ALL.len()],
    is_relaying: AtomicBool,
    relayed: AtomicU64,
    relay_dropped: AtomicU64,
}

impl Counts {
    /// Connections open now that speak this protocol.
    pub fn connections(&self, protocol: Protocol) -> u64 {
        self.connections[index(protocol)].load(Ordering::Relaxed)
    }

    /// Connections refused because their address, or all, had too many.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// TLS handshakes that failed, over TCP and QUIC: an unknown name, a scan, a client that gave up.
    pub fn handshakes_failed(&self) -> u64 {
        self.handshakes_failed.load(Ordering::Relaxed)
    }

    /// Requests that ended in a panic. Each ended alone.
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// Requests that the listeners answered with this fault themselves, so that nobody else saw them. A head of HTTP/3
    /// that was too large to be kept is not among them.
    pub fn faults(&self, code: Code) -> u64 {
        self.faults[code as usize].load(Ordering::Relaxed)
    }

    /// Whether QUIC's datagrams are relayed, because the kernel does not steer them.
    pub fn is_relaying(&self) -> bool {
        self.is_relaying.load(Ordering::Relaxed)
    }

    /// Datagrams passed on, to another endpoint or process than that of the socket they came to.
    pub fn relayed(&self) -> u64 {
        self.relayed.load(Ordering::Relaxed)
    }

    /// Datagrams that were to be passed on and for which there was no room, or nobody.
    pub fn relay_dropped(&self) -> u64 {
        self.relay_dropped.load(Ordering::Relaxed)
    }

    pub(crate) fn relay(&self) {
        self.is_relaying.store(true, Ordering::Relaxed);
    }

    pub(crate) fn pass_on(&self, datagrams: u64) {
        self.relayed.fetch_add(datagrams, Ordering::Relaxed);
    }

    pub(crate) fn drop_relayed(&self, datagrams: u64) {
        self.relay_dropped.fetch_add(datagrams, Ordering::Relaxed);
    }

    pub(crate) fn fault(&self, code: Code) {
        self.faults[code as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn handshake_failed(&self) {
        self.handshakes_failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn panicked(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection as long as what is given back lives.
    pub(crate) fn open(self: &std::sync::Arc<Self>, protocol: Protocol) -> Open {
        self.connections[index(protocol)].fetch_add(1, Ordering::Relaxed);
        Open { counts: self.clone(), protocol }
    }
}

fn index(protocol: Protocol) -> usize {
    match protocol {
        Protocol::H1 => 0,
        Protocol::H2 => 1,
        Protocol::H3 => 2,
    }
}

/// A connection that is counted.
pub(crate) struct Open {
    counts: std::sync::Arc<Counts>,
    protocol: Protocol,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.counts.connections[index(self.protocol)].fetch_sub(1, Ordering::Relaxed);
    }
}
