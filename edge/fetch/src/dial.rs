//! The one place that opens a socket: a name is resolved, each address judged, and exactly a judged address connected.
//! It is done again for every connection, so a name that changes its address is judged again.

use core::net::{IpAddr, SocketAddr};
use std::io;
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
    let found = out.addresses(&to.host).await.map_err(|cause| unreachable(to, cause))?;
    let own = out.own();
    let judged = judged(&found, way, to, &own)?;
    let mut tcp = connect_any(&judged, way.timeouts.connect_ms).await.map_err(|error| unreachable(to, error))?;
    if is_ourselves(&tcp, &own) {
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

/// The addresses that may be reached.
fn judged(found: &[IpAddr], way: &Way, to: &Destination, own: &[SocketAddr]) -> Result<Vec<SocketAddr>, Fault> {
    if found.is_empty() {
        return Err(unreachable(to, "the name has no address"));
    }
    let allowed = found.iter().filter(|ip| address::allowed(**ip, to.port, &way.private, own));
    let judged: Vec<_> = allowed.map(|ip| SocketAddr::new(*ip, to.port)).take(ATTEMPTS_MAX).collect();
    if judged.is_empty() { Err(denied(to)) } else { Ok(judged) }
}

/// The first of these that answers, each tried a little after the one before it (RFC 8305).
async fn connect_any(addresses: &[SocketAddr], connect_ms: u64) -> io::Result<TcpStream> {
    let share = connect_ms / u64::try_from(addresses.len().max(1)).unwrap_or(1);
    let each = Duration::from_millis(share).max(ATTEMPT_MIN);
    let mut waiting = addresses.iter();
    let mut trying = FuturesUnordered::new();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        if let Some(address) = waiting.next() {
            trying.push(connect(*address, each));
        } else if trying.is_empty() {
            return Err(last);
        }
        tokio::select! {
            biased;
            done = trying.next() => match done {
                Some(Ok(tcp)) => return Ok(tcp),
                Some(Err(error)) => last = error,
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
fn is_ourselves(tcp: &TcpStream, own: &[SocketAddr]) -> bool {
    let (Ok(local), Ok(peer)) = (tcp.local_addr(), tcp.peer_addr()) else { return true };
    let here = local.ip() == peer.ip();
    let listens = |own: &SocketAddr| own.ip().is_unspecified() && (own.port() == peer.port() || own.port() == 0);
    local == peer || (here && own.iter().any(listens))
}

async fn secure(out: &Out, way: &Way, to: &Destination, offer: Offer, tcp: TcpStream) -> Result<Stream, Fault> {
    let failed = |cause: String| Fault::new(Code::UpstreamTls).because(cause);
    let config = out.tls.configuration(way, offer).map_err(failed)?;
    let name = way.tls.as_ref().and_then(|tls| tls.name.as_deref()).unwrap_or(&to.host);
    let name = name.strip_suffix('.').unwrap_or(name).to_owned();
    let name = ServerName::try_from(name).map_err(|error| failed(error.to_string()))?;
    let stream = tokio_rustls::TlsConnector::from(config).connect(name, tcp).await;
    stream.map(|tls| Stream::Tls(Box::new(tls))).map_err(|error| failed(error.to_string()))
}

fn unreachable(to: &Destination, cause: impl std::fmt::Display) -> Fault {
    Fault::new(Code::UpstreamUnreachable).because(format_args!("{}: {cause}", to.authority()))
}

fn denied(to: &Destination) -> Fault {
    Fault::new(Code::EgressDenied).because(format_args!("{} has no address that may be reached", to.authority()))
}
