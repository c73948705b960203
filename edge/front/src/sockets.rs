//! Sockets: bound by us, or inherited. They are bound before anything else is built, so that a bad address fails at once.

use core::net::SocketAddr;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};

use crate::error::Error;
use crate::steer::{Generation, Keys, Relay, Steering};
use crate::turn::Turn;

/// How many connections wait for `accept`; the system caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// What the kernel may hold of datagrams, each way: a few hundred of GSO's 64 KiB bursts. As much as the system allows.
const DATAGRAM_BUFFER_BYTES: usize = 4 << 20;

/// Bound sockets.
#[derive(Debug, Default)]
pub struct Sockets {
    /// HTTP/3: for each address, in the order in which they were bound.
    pub udp: Vec<UdpSocket>,
    /// HTTP/2 and HTTP/1.1 over TLS.
    pub tls: Vec<TcpListener>,
    /// HTTP/1.1 in the clear.
    pub plain: Vec<TcpListener>,
    /// Where the sockets, of TCP and of UDP, are nobody's but this line's: one of its processes bound them.
    pub bound: Vec<SocketAddr>,
    /// Whose they are among the generations of this node; none: the only one that there will be.
    pub lineage: Option<Lineage>,
}

/// The place of a process in a line of processes that take over from each other.
#[derive(Clone, Debug)]
pub struct Lineage {
    /// Which half of the UDP sockets it reads.
    pub generation: Generation,
    /// What it shares with the others.
    pub keys: Keys,
    /// Whether another process handed its sockets over, and steers until this one is ready.
    pub is_handed_over: bool,
    /// Whether new connections come here.
    pub turn: Arc<Turn>,
    /// What passes datagrams on where the kernel does not steer them.
    pub relay: Relay,
}

/// What to bind.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// For HTTP/3, and TLS over TCP on the same port. Port 0: one the system chooses, the same for both.
    pub https: Vec<SocketAddr>,
    /// In the clear.
    pub http: Vec<SocketAddr>,
    /// UDP sockets for each address and generation, sharing its port; 0 for no HTTP/3.
    pub udp_sockets: usize,
    /// 2 for a node that another process may take over from; otherwise there is one, also with 0.
    pub generations: usize,
}

impl Sockets {
    /// Binds every address.
    ///
    /// # Errors
    /// [`Error::Bind`] names the first address that cannot be had.
    pub fn bind(addresses: &Addresses) -> Result<Self, Error> {
        let mut sockets = Self::default();
        for address in &addresses.https {
            let (tls, udp) = pair(*address, addresses.udp_sockets * addresses.generations.max(1))?;
            sockets.tls.push(tls);
            sockets.udp.extend(udp);
        }
        for address in &addresses.http {
            sockets.plain.push(tcp(*address)?);
        }
        sockets.bound = sockets.tls_addresses().into_iter().chain(sockets.plain_addresses()).collect();
        Ok(sockets)
    }

    /// The same sockets once more.
    ///
    /// # Errors
    /// When the system has no file descriptors left.
    pub fn try_clone(&self) -> io::Result<Self> {
        let tcp = |all: &[TcpListener]| all.iter().map(TcpListener::try_clone).collect::<io::Result<_>>();
        Ok(Self {
            udp: self.udp.iter().map(UdpSocket::try_clone).collect::<io::Result<_>>()?,
            tls: tcp(&self.tls)?,
            plain: tcp(&self.plain)?,
            bound: self.bound.clone(),
            lineage: self.lineage.clone(),
        })
    }

    /// Where HTTP/3 is listened for, each address once.
    pub fn udp_addresses(&self) -> Vec<SocketAddr> {
        let mut all: Vec<_> = self.udp.iter().filter_map(|socket| socket.local_addr().ok()).collect();
        all.dedup();
        all
    }

    /// What steers the sockets for HTTP/3, from outside of [`crate::run`].
    ///
    /// # Errors
    /// When the system has no file descriptors left.
    pub fn steering(&self) -> io::Result<Steering> {
        let relay = self.lineage.as_ref().map(|lineage| lineage.relay.clone());
        Steering::new(self.udp.iter().map(UdpSocket::try_clone).collect::<io::Result<_>>()?, relay.unwrap_or_default())
    }

    /// Where TLS is listened for.
    pub fn tls_addresses(&self) -> Vec<SocketAddr> {
        self.tls.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }

    /// Where plain HTTP is listened for.
    pub fn plain_addresses(&self) -> Vec<SocketAddr> {
        self.plain.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }
}

/// TCP and UDP on one port. A port that the system chose for TCP may be taken for UDP: then another is tried.
fn pair(address: SocketAddr, udp_sockets: usize) -> Result<(TcpListener, Vec<UdpSocket>), Error> {
    const TRIES: usize = 16;
    let mut tries = 0;
    loop {
        let tls = tcp(address)?;
        let bound = tls.local_addr().map_err(Error::Socket)?;
        match (0..udp_sockets).map(|_| udp(bound, udp_sockets > 1)).collect::<Result<Vec<_>, _>>() {
            Ok(udp) => return Ok((tls, udp)),
            Err(error) if address.port() != 0 || tries == TRIES => return Err(error),
            Err(_) => tries += 1,
        }
    }
}

fn tcp(address: SocketAddr) -> Result<TcpListener, Error> {
    let bind = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        own_family(&socket, address)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    bind().map_err(|source| Error::Bind { address, transport: "tcp", source })
}

fn udp(address: SocketAddr, shared: bool) -> Result<UdpSocket, Error> {
    let bind = || {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_reuse_port(shared)?;
        own_family(&socket, address)?;
        // The system may give less than asked for; it serves all the same.
        let _ = socket.set_recv_buffer_size(DATAGRAM_BUFFER_BYTES);
        let _ = socket.set_send_buffer_size(DATAGRAM_BUFFER_BYTES);
        socket.bind(&address.into())?;
        Ok(socket.into())
    };
    bind().map_err(|source| Error::Bind { address, transport: "udp", source })
}

/// `[::]:443` is IPv6 only, so that `0.0.0.0:443` can stand beside it.
fn own_family(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() { socket.set_only_v6(true) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_and_http_3_share_the_port_that_the_system_chose() {
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let addresses = Addresses { https: vec![any], http: vec![any], udp_sockets: 2, generations: 2 };
        let sockets = Sockets::bind(&addresses).expect("loopback is there");
        let tls = sockets.tls_addresses();
        assert_eq!((sockets.udp.len(), sockets.udp_addresses()), (4, vec![tls[0]]));
        assert_ne!(sockets.plain_addresses(), tls);
    }

    #[test]
    fn connections_that_nobody_accepts_wait_and_many_of_them() {
        const WAITING: usize = 600; // more than what the standard library (128) would let wait
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let sockets = Sockets::bind(&Addresses { http: vec![any], ..Addresses::default() }).expect("loopback is there");
        let address = sockets.plain_addresses()[0];
        let system =
            std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok().and_then(|text| text.trim().parse().ok());
        let waiting = WAITING.min(system.unwrap_or(WAITING));
        // One over the backlog is not refused: the kernel is silent until the client gives up.
        let connect = |_| client(address, core::time::Duration::from_secs(10)).expect("it waits");
        let all: Vec<_> = (0..waiting).map(connect).collect();
        assert_eq!(all.len(), waiting);
    }

    fn client(address: SocketAddr, within: core::time::Duration) -> io::Result<Socket> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.connect_timeout(&address.into(), within)?;
        Ok(socket)
    }

    #[test]
    fn a_taken_address_is_named() {
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let first = Sockets::bind(&Addresses { http: vec![any], ..Addresses::default() }).expect("loopback is there");
        let taken = first.plain_addresses();
        let error = Sockets::bind(&Addresses { http: taken.clone(), ..Addresses::default() }).expect_err("it is taken");
        assert!(error.to_string().contains(&taken[0].to_string()), "{error}");
    }
}
