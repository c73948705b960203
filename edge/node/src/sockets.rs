//! The node's sockets: inherited from the service manager where it has them, else bound. Bound before anything else is
//! built, so that a bad address fails at once.
#![allow(unsafe_code)] // Taking over inherited file descriptors: `inherited`, and nothing else.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use eyot_front::steer::{Generation, Keys, Relay};
use eyot_front::{Addresses, Lineage, Tickets, Turn};
use rustix::net::SocketType;

use crate::admin::{self, AdminError};
use crate::config::Listen;
use crate::upgrade::take::{Handed, Heir};

/// All sockets of a node.
#[derive(Debug, Default)]
pub struct Sockets {
    /// The public ones.
    pub front: eyot_front::Sockets,
    /// The admin's.
    pub admin: admin::Sockets,
    /// The line to the process that had them before, if this one is to take over.
    pub heir: Option<Heir>,
    /// The keys of that one's session tickets.
    pub tickets: Option<Arc<Tickets>>,
}

/// Why the sockets cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketsError {
    /// The admin's.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The public ones.
    #[error(transparent)]
    Front(#[from] eyot_front::Error),
    /// Those that the service manager handed over.
    #[error("the inherited sockets cannot be taken")]
    Inherited(#[source] io::Error),
    /// The keys of QUIC.
    #[error("there are no keys for QUIC")]
    Keys(#[source] io::Error),
}

impl Sockets {
    /// Binds all that `listen` names.
    ///
    /// # Errors
    /// The first that cannot be bound.
    pub fn bind(listen: &Listen) -> Result<Self, SocketsError> {
        Self::with(listen, Inherited::default(), None)
    }

    /// Takes what another process of this node handed over for as long as it fits `listen`, and binds the rest.
    ///
    /// # Errors
    /// The first that cannot be bound.
    pub fn handed(listen: &Listen, heir: Heir, handed: Handed) -> Result<Self, SocketsError> {
        let Handed { datagrams, streams, bound, admin_tcp, admin_unix, lineage, tickets } = handed;
        let admin = admin::Sockets { tcp: admin_tcp, unix: admin_unix };
        let mut sockets = Self::with(listen, Inherited { streams, datagrams, admin }, Some(lineage))?;
        sockets.front.bound.extend(bound);
        Ok(Self { heir: Some(heir), tickets, ..sockets })
    }

    /// The same sockets once more, for the process that takes over.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { front: self.front.try_clone()?, admin: self.admin.try_clone()?, ..Self::default() })
    }

    /// Takes what the service manager handed over and binds the rest. What is inherited for a port is all there is for
    /// it; what fits no address of `listen` is closed. Works once in a process.
    ///
    /// # Errors
    /// When the inherited sockets cannot be used, or the first that cannot be bound.
    pub fn inherit(listen: &Listen) -> Result<Self, SocketsError> {
        Self::with(listen, inherited().map_err(SocketsError::Inherited)?, None)
    }

    fn with(listen: &Listen, mut inherited: Inherited, lineage: Option<Lineage>) -> Result<Self, SocketsError> {
        let mut front = eyot_front::Sockets { lineage: Some(or_first(lineage)?), ..Default::default() };
        let mut rest = Addresses { udp_sockets: listen.udp_sockets, generations: 2, ..Default::default() };
        for address in listen.https.iter().chain(&listen.guarded) {
            let taken = inherited.take_streams(address.port(), &mut front.tls);
            let taken = inherited.take_datagrams(address.port(), &mut front.udp) || taken;
            if !taken && !holds(&front, *address) {
                rest.https.push(*address);
            }
        }
        for address in &listen.http {
            if !inherited.take_streams(address.port(), &mut front.plain) && !holds(&front, *address) {
                rest.http.push(*address);
            }
        }
        inherited.warn();
        let bound = eyot_front::Sockets::bind(&rest)?;
        front.udp.extend(bound.udp);
        front.tls.extend(bound.tls);
        front.plain.extend(bound.plain);
        front.bound = bound.bound;
        Ok(Self { front, admin: inherited.admin.with(listen)?, ..Self::default() })
    }
}

/// The place of a process that nobody handed anything: the first of its line.
fn or_first(lineage: Option<Lineage>) -> Result<Lineage, SocketsError> {
    let first = || {
        let (generation, keys, relay) = (Generation::Even, Keys::random()?, Relay::default());
        Ok(Lineage { generation, keys, is_handed_over: false, turn: Turn::new(false), relay })
    };
    lineage.map_or_else(first, Ok).map_err(SocketsError::Keys)
}

/// Whether a socket for the port of `address` was inherited already: `[::]:443` often stands for `0.0.0.0:443` too.
fn holds(front: &eyot_front::Sockets, address: SocketAddr) -> bool {
    let all = front.tls_addresses().into_iter().chain(front.udp_addresses()).chain(front.plain_addresses());
    address.port() != 0 && all.into_iter().any(|held| held.port() == address.port())
}

/// Sockets that the service manager handed over.
#[derive(Debug, Default)]
struct Inherited {
    streams: Vec<TcpListener>,
    datagrams: Vec<UdpSocket>,
    admin: admin::Sockets,
}

fn port(address: io::Result<SocketAddr>) -> Option<u16> {
    address.ok().map(|address| address.port())
}

impl Inherited {
    /// Moves the stream sockets of `wanted` into `to`; whether there was one.
    fn take_streams(&mut self, wanted: u16, to: &mut Vec<TcpListener>) -> bool {
        let before = to.len();
        to.extend(self.streams.extract_if(.., |socket| port(socket.local_addr()) == Some(wanted)));
        to.len() > before
    }

    /// Moves the datagram sockets of `wanted` into `to`; whether there was one.
    fn take_datagrams(&mut self, wanted: u16, to: &mut Vec<UdpSocket>) -> bool {
        let before = to.len();
        to.extend(self.datagrams.extract_if(.., |socket| port(socket.local_addr()) == Some(wanted)));
        to.len() > before
    }

    fn warn(&self) {
        let streams = self.streams.iter().filter_map(|socket| socket.local_addr().ok());
        let datagrams = self.datagrams.iter().filter_map(|socket| socket.local_addr().ok());
        for address in streams.chain(datagrams) {
            tracing::warn!(%address, "an inherited socket fits no address of `listen` and is closed");
        }
    }
}

/// Takes over the file descriptors of `LISTEN_FDS`, told apart by their type; all sockets of one unit share one name.
fn inherited() -> io::Result<Inherited> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let mut inherited = Inherited::default();
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Ok(inherited);
    }
    for fd in sd_notify::listen_fds()? {
        // SAFETY: the service manager opened it for this process alone (LISTEN_PID was checked), and `TAKEN` lets nobody
        // take it a second time.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        match rustix::net::sockopt::socket_type(&fd)? {
            SocketType::STREAM => inherited.streams.push(fd.into()),
            SocketType::DGRAM => inherited.datagrams.push(fd.into()),
            _ => tracing::warn!("an inherited socket is neither stream nor datagram and is closed"),
        }
    }
    Ok(inherited)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Plain;

    fn listen(https: &[SocketAddr], http: &[SocketAddr]) -> Listen {
        Listen {
            https: https.to_vec(),
            http: http.to_vec(),
            plain: Plain::Redirect,
            proxy_peers: vec![],
            guarded: vec![],
            admin_tcp: vec![],
            admin_unix: vec![],
            udp_sockets: 1,
        }
    }

    #[test]
    fn an_inherited_socket_is_matched_by_type_and_port_and_the_rest_is_bound() {
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let tcp = TcpListener::bind(any).expect("loopback");
        let address = tcp.local_addr().expect("bound");
        let udp = UdpSocket::bind(address).expect("the port is free for UDP");
        let stray = TcpListener::bind(any).expect("loopback");
        let inherited = Inherited { streams: vec![tcp, stray], datagrams: vec![udp], ..Inherited::default() };
        let sockets = Sockets::with(&listen(&[address], &[any]), inherited, None).expect("all there");
        assert_eq!(sockets.front.tls_addresses(), [address]);
        assert_eq!(sockets.front.udp_addresses(), [address]);
        assert_eq!(sockets.front.plain.len(), 1);
    }
}
