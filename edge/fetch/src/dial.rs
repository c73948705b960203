//! The one place that opens a socket: a name is resolved, each address judged, and exactly a judged address connected.
//! It is done again for every connection, so a name that changes its address is judged again.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::io;
use std::net::UdpSocket;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use eyot_plan::address;
use eyot_plan::fault::{Code, Fault};
use eyot_plan::way::Way;
use futures_util::stream::{FuturesUnordered, StreamExt};
use rustls_pki_types::ServerName;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

pub use crate::key::{Destination, Scheme};
use crate::resolve::Names;
pub use crate::stream::Stream;
pub use crate::tls::Offer;
use crate::tls::Tls;
use crate::{Error, Resolver};

/// How long one address is tried alone before the next is tried beside it (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);
/// The least time one address gets.
const ATTEMPT_MIN: Duration = Duration::from_millis(500);
/// How many addresses are tried at most.
const ATTEMPTS_MAX: usize = 6;

/// What dialling needs: the resolver, the trusted authorities, the node's own addresses.
pub struct Out {
    names: Names,
    own: RwLock<Arc<[SocketAddr]>>,
    tls: Tls,
}

impl Out {
    /// See [`crate::Options`] for the arguments.
    ///
    /// # Errors
    /// An unreadable resolver configuration or a bad `ca`.
    pub fn new(resolver: &Resolver, own: Vec<SocketAddr>, ca: Option<&str>) -> Result<Self, Error> {
        Ok(Self { names: Names::new(resolver)?, own: RwLock::new(own.into()), tls: Tls::new(ca)? })
    }

    /// What is never reached, from the next connection on.
    pub fn set_own(&self, own: Vec<SocketAddr>) {
        *self.own.write().unwrap_or_else(PoisonError::into_inner) = own.into();
    }

    /// The addresses of `host`, unjudged.
    pub(crate) async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        self.names.addresses(host).await
    }

    /// The addresses of a destination that may be reached.
    async fn judged(&self, way: &Way, to: &Destination, own: &[SocketAddr]) -> Result<Vec<SocketAddr>, Fault> {
        let found = match way.at {
            Some(at) => vec![at],
            None => {
                let found = self.addresses(&to.host).await.map_err(|cause| unreachable(to, cause))?;
                found.into_iter().map(|ip| SocketAddr::new(ip, to.port)).collect()
            }
        };
        judged(&found, way, to, own)
    }

    fn own(&self) -> Arc<[SocketAddr]> {
        Arc::clone(&self.own.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Connects to a destination, as an app may, with TLS where the scheme says so, offering these versions of HTTP. Before
/// that it says whose request it is, where the way tells so. The caller bounds the whole by `connect_ms`; one address
/// gets its share of it.
///
/// # Errors
/// `egress_denied` if no address of the name may be reached, `upstream_unreachable` if there is none or none answers,
/// `upstream_tls` if TLS fails.
pub async fn dial(out: &Out, way: &Way, to: &Destination, offer: Offer) -> Result<Stream, Fault> {
    let own = out.own();
    let judged = out.judged(way, to, &own).await?;
    let tcp = connect_any(&judged, way.timeouts.connect_ms, connect).await;
    let mut tcp = tcp.map_err(|error| error.map_or_else(|| denied(to), |error| unreachable(to, error)))?;
    if is_ourselves(tcp.local_addr(), tcp.peer_addr(), &own) {
        return Err(denied(to));
    }
    tcp.set_nodelay(true).map_err(|error| unreachable(to, error))?;
    if let Some(proxied) = &way.proxied {
        tcp.write_all(&proxied.header()).await.map_err(|error| unreachable(to, error))?;
    }
    match to.scheme {
        Scheme::Http => Ok(Stream::Plain(tcp)),
        Scheme::Https => secure(out, way, to, offer, tcp).await,
    }
}

/// The same over QUIC, for HTTP/3, which is always over TLS. No datagram goes to an address that may not be reached.
///
/// # Errors
/// As [`dial`].
pub(crate) async fn dial_quic(out: &Out, way: &Way, to: &Destination) -> Result<eyot_h3::client::Connection, Fault> {
    let own = out.own();
    let mut judged = out.judged(way, to, &own).await?;
    judged.retain(|address| !leads_here(*address, &own));
    let config =
        out.tls.configuration(way, Offer::Http3).map_err(|cause| Fault::new(Code::UpstreamTls).because(cause))?;
    let connect = |address, within| {
        let connecting = eyot_h3::client::connect(Arc::clone(&config), address, name(way, to));
        async move { timeout(within, connecting).await.map_err(|_| None)?.map_err(Some) }
    };
    let connected = connect_any(&judged, way.timeouts.connect_ms, connect).await;
    connected.map_err(|error| match error {
        None => denied(to),
        Some(None) => unreachable(to, "nothing answers over QUIC"),
        Some(Some(error)) if error.is_tls() => Fault::new(Code::UpstreamTls).because(error),
        Some(Some(error)) => unreachable(to, error),
    })
}

/// Whether datagrams to this address would come to this host, at a port of the node's own. Asking sends none.
fn leads_here(address: SocketAddr, own: &[SocketAddr]) -> bool {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).and_then(|socket| socket.connect(address).map(|()| socket));
    socket.map_or(true, |socket| is_ourselves(socket.local_addr(), Ok(address), own))
}

/// The addresses that may be reached.
fn judged(found: &[SocketAddr], way: &Way, to: &Destination, own: &[SocketAddr]) -> Result<Vec<SocketAddr>, Fault> {
    if found.is_empty() {
        return Err(unreachable(to, "the name has no address"));
    }
    let allowed = found.iter().filter(|at| address::allowed(at.ip(), at.port(), &way.private, own));
    let judged: Vec<_> = allowed.copied().take(ATTEMPTS_MAX).collect();
    if judged.is_empty() { Err(denied(to)) } else { Ok(judged) }
}

/// The first of these that answers, each tried a little after the one before it (RFC 8305). The error is the last one;
/// none: there was no address.
async fn connect_any<T, E, F: Future<Output = Result<T, E>>>(
    addresses: &[SocketAddr],
    connect_ms: u64,
    connect: impl Fn(SocketAddr, Duration) -> F,
) -> Result<T, Option<E>> {
    let share = connect_ms / u64::try_from(addresses.len().max(1)).unwrap_or(1);
    let each = Duration::from_millis(share).max(ATTEMPT_MIN);
    let mut waiting = addresses.iter();
    let mut trying = FuturesUnordered::new();
    let mut last = None;
    loop {
        if let Some(address) = waiting.next() {
            trying.push(connect(*address, each));
        } else if trying.is_empty() {
            return Err(last);
        }
        tokio::select! {
            biased;
            done = trying.next() => match done {
                Some(Ok(connected)) => return Ok(connected),
                Some(Err(error)) => last = Some(error),
                None => {}
            },
            () = sleep(STAGGER), if waiting.len() > 0 => {}
        }
    }
}

async fn connect(address: SocketAddr, within: Duration) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    timeout(within, socket.connect(address)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Whether what was connected is this host at a port of the node's own: an own address may be unspecified, and then
/// only the kernel knows what it stands for. A stream to an address of this host has that address at both ends.
fn is_ourselves(local: io::Result<SocketAddr>, peer: io::Result<SocketAddr>, own: &[SocketAddr]) -> bool {
    let (Ok(local), Ok(peer)) = (local, peer) else { return true };
    let here = local.ip() == peer.ip();
    let listens = |own: &SocketAddr| own.ip().is_unspecified() && (own.port() == peer.port() || own.port() == 0);
    local == peer || (here && own.iter().any(listens))
}

async fn secure(out: &Out, way: &Way, to: &Destination, offer: Offer, tcp: TcpStream) -> Result<Stream, Fault> {
    let failed = |cause: String| Fault::new(Code::UpstreamTls).because(cause);
    let config = out.tls.configuration(way, offer).map_err(failed)?;
    let name = ServerName::try_from(name(way, to).to_owned()).map_err(|error| failed(error.to_string()))?;
    let stream = tokio_rustls::TlsConnector::from(config).connect(name, tcp).await;
    stream.map(|tls| Stream::Tls(Box::new(tls))).map_err(|error| failed(error.to_string()))
}

/// The name that is sent and verified.
fn name<'a>(way: &'a Way, to: &'a Destination) -> &'a str {
    let name = way.tls.as_ref().and_then(|tls| tls.name.as_deref()).unwrap_or(&to.host);
    name.strip_suffix('.').unwrap_or(name)
}

fn unreachable(to: &Destination, cause: impl std::fmt::Display) -> Fault {
    Fault::new(Code::UpstreamUnreachable).because(format_args!("{}: {cause}", to.authority()))
}

fn denied(to: &Destination) -> Fault {
    Fault::new(Code::EgressDenied).because(format_args!("{} has no address that may be reached", to.authority()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_are_not_sent_to_this_host_at_a_port_of_the_nodes_own() {
        let any = |port| vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))];
        // Whatever other address this host has.
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
        let other = socket.connect(("192.0.2.200", 9)).and_then(|()| socket.local_addr()).map(|local| local.ip());
        for ip in other.into_iter().chain([Ipv4Addr::LOCALHOST.into()]) {
            for (own, expect) in [(any(443), true), (any(0), true), (any(444), false), (Vec::new(), false)] {
                assert_eq!(leads_here(SocketAddr::new(ip, 443), &own), expect, "{ip} {own:?}");
            }
        }
    }
}
