//! The ports of the demo: free ones, or those that were asked for, and which of them is busy.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use anyhow::bail;

/// Nodes of the demo.
pub(super) const NODES: usize = 3;
/// Tries to find a port that is free for both TCP and UDP.
const TRIES_MAX: usize = 100;

/// A port for each listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    /// The origin's wire.
    pub(crate) origin: u16,
    /// Each node's public port and its admin's.
    pub(crate) nodes: [(u16, u16); NODES],
}

impl Ports {
    /// The nodes from `first` on, the origin 1000 below, the admins 738 above: of 8443, at 7443 and from 9181 on.
    pub(crate) fn from(first: u16) -> anyhow::Result<Self> {
        if !(2_024..=64_000).contains(&first) {
            bail!("--port {first} leaves no room around it: choose one between 2024 and 64000");
        }
        let node = |index: u16| (first + index, first + 738 + index);
        let ports = Self { origin: first - 1_000, nodes: [node(0), node(1), node(2)] };
        let wanted = ports.nodes.iter().flat_map(|(public, admin)| [(*public, true), (*admin, false)]);
        let busy: Vec<_> = wanted.chain([(ports.origin, true)]).filter_map(|(port, udp)| busy(port, udp)).collect();
        if busy.is_empty() {
            return Ok(ports);
        }
        bail!("{}; end what listens there, or choose other ports by --port", busy.join(", "))
    }

    /// Ports that are free now.
    pub(crate) fn any() -> anyhow::Result<Self> {
        // All are held until all are found, so that none is given twice.
        let mut held = Vec::new();
        let mut next = || free(&mut held);
        Ok(Self { origin: next()?, nodes: [(next()?, next()?), (next()?, next()?), (next()?, next()?)] })
    }
}

fn bind(port: u16) -> (io::Result<TcpListener>, io::Result<UdpSocket>) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    (TcpListener::bind(address), UdpSocket::bind(address))
}

/// Why a port cannot be had.
fn busy(port: u16, udp: bool) -> Option<String> {
    match bind(port) {
        (Err(error), _) => Some(format!("TCP port {port} is busy ({error})")),
        (_, Err(error)) if udp => Some(format!("UDP port {port} is busy ({error})")),
        _ => None,
    }
}

fn free(held: &mut Vec<(TcpListener, UdpSocket)>) -> anyhow::Result<u16> {
    for _ in 0..TRIES_MAX {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = tcp.local_addr()?;
        if let Ok(udp) = UdpSocket::bind(address) {
            held.push((tcp, udp));
            return Ok(address.port());
        }
    }
    bail!("no port is free for both TCP and UDP")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_port_is_named() {
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = held.local_addr().unwrap().port();
        assert!(busy(port, true).unwrap().contains(&port.to_string()));
    }

    #[test]
    fn free_ports_are_all_different() {
        let ports = Ports::any().unwrap();
        let mut all: Vec<u16> = ports.nodes.iter().flat_map(|(public, admin)| [*public, *admin]).collect();
        all.push(ports.origin);
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 7);
    }
}
