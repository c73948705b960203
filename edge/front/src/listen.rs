//! Taking connections from TCP listeners: a place for each, then TLS, then the protocol it chose.

use core::future::ready;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::io;
use std::sync::Arc;

use eyot_plan::arrival::{self, Answer, Protocol, TlsVersion};
use futures_util::FutureExt as _;
use rustls::ProtocolVersion;
use rustls::server::{Acceptor, ClientHello};
use rustls_pki_types::CertificateDer;
use socket2::SockRef;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::acme::ACME_TLS;
use crate::certificates::Certificates;
use crate::connection::{Activity, Connection, Door, Named};
use crate::drain::Drain;
use crate::exchange::Exchanges;
use crate::permits::{Permit, Permits, Place};
use crate::proxy;
use crate::tls::named::UNRECOGNIZED_NAME;
use crate::tls::{Made, Tls};
use crate::turn::Turn;
use crate::{h1, h2, last};

/// After a failed `accept` (no file descriptors, no memory) the next one waits so long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all listeners share.
pub(crate) struct House<A> {
    pub(crate) exchanges: Arc<Exchanges<A>>,
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) tls: Tls,
    pub(crate) permits: Arc<Permits>,
    pub(crate) drain: Drain,
    pub(crate) turn: Arc<Turn>,
}

/// What is spoken on a TCP listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Tls,
}

/// A listener.
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    pub(crate) kind: Kind,
    /// Whether the socket is nobody's but this line's.
    pub(crate) is_ours: bool,
}

/// Takes connections until draining begins; where nobody takes over, also those that have begun by then. What was accepted
/// is nobody else's, so it has its place, whatever comes.
pub(crate) async fn tcp<A: Answer>(house: Arc<House<A>>, listener: Listener) {
    let Listener { socket, kind, is_ours } = listener;
    let (mut drain, mut cut) = (house.drain.clone(), house.drain.clone());
    let mut waits = None;
    tokio::select! {
        biased;
        () = drain.draining() => {}
        () = accept(&house, &socket, kind, &mut waits) => return,
    }
    if drain.is_stopping() {
        if is_ours
            && house.turn.is_alone()
            && let Err(error) = last::begins(&socket)
        {
            tracing::debug!(%error, "a connection that begins at the very end may be reset");
        }
        tokio::select! {
            biased;
            () = drain.refusing() => {}
            () = accept(&house, &socket, kind, &mut waits) => return,
        }
        accept_last(&house, socket, kind);
    } else {
        drop(socket);
    }
    if waits.is_some() {
        tokio::select! {
            () = place(&house, kind, &mut waits) => {}
            () = cut.cut() => {}
        }
    }
}

/// The kernel answers the others: it refuses them, and resets none. What is another process's turn is left to it.
fn accept_last<A: Answer>(house: &Arc<House<A>>, socket: TcpListener, kind: Kind) {
    let is_our_turn = house.turn.while_ours(|| ready(())).now_or_never().is_some();
    let (true, Ok(socket)) = (is_our_turn, socket.into_std()) else { return };
    // The place comes first: what was accepted and has none would be reset, which else may wait for another process.
    while let Some(place) = house.permits.now()
        && let Ok((stream, client)) = socket.accept()
    {
        if stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            take(house, Accepted { stream, client, place }, kind);
        }
    }
}

/// A connection that was accepted and waits for its place.
type Waits = Option<(TcpStream, SocketAddr)>;

async fn accept<A: Answer>(house: &Arc<House<A>>, listener: &TcpListener, kind: Kind, waits: &mut Waits) {
    loop {
        // When all places are taken, one connection waits here and the rest in the backlog. The place is not taken
        // before: an idle listener would keep it from the others.
        if waits.is_none() {
            match house.turn.while_ours(|| listener.accept()).await {
                Ok(accepted) => *waits = Some(accepted),
                Err(error) => {
                    pause(&error).await;
                    continue;
                }
            }
        }
        place(house, kind, waits).await;
    }
}

/// Gives a place to the connection that waits for one.
async fn place<A: Answer>(house: &Arc<House<A>>, kind: Kind, waits: &mut Waits) {
    let place = house.permits.wait().await;
    if let (Some((stream, client)), Some(place)) = (waits.take(), place) {
        take(house, Accepted { stream, client, place }, kind);
    }
}

/// A connection that has a place, and does not yet count at an address.
struct Accepted {
    stream: TcpStream,
    client: SocketAddr,
    place: Place,
}

fn take<A: Answer>(house: &Arc<House<A>>, accepted: Accepted, kind: Kind) {
    let client = accepted.client.ip().to_canonical();
    match house.exchanges.settings.proxy_peers.iter().any(|net| net.contains(&client)) {
        true => drop(tokio::spawn(behind_a_balancer(house.clone(), accepted, kind))),
        false => begin(house, accepted, kind),
    }
}

/// Serves a connection, if there is room at its client's address: one more is closed before anything is read.
fn begin<A: Answer>(house: &Arc<House<A>>, accepted: Accepted, kind: Kind) {
    let Accepted { stream, client, place } = accepted;
    match house.permits.at(place, client.ip()) {
        Some(permit) => drop(tokio::spawn(serve(house.clone(), stream, client, kind, permit))),
        None => house.exchanges.settings.counts.refuse(),
    }
}

/// Asks the balancer who its client is. What it says counts everywhere, also for how many one address may have.
async fn behind_a_balancer<A: Answer>(house: Arc<House<A>>, mut accepted: Accepted, kind: Kind) {
    let mut drain = house.drain.clone();
    let header = timeout(house.exchanges.settings.header_timeout, proxy::header(&mut accepted.stream));
    let said = tokio::select! {
        said = header => said,
        () = drain.cut() => return,
    };
    match said {
        Ok(Ok(client)) => accepted.client = client.unwrap_or(accepted.client),
        Ok(Err(error)) => {
            return tracing::debug!(balancer = %accepted.client, %error, "a balancer's client is not known");
        }
        Err(_) => return tracing::debug!(balancer = %accepted.client, "a balancer did not name its client in time"),
    }
    begin(&house, accepted, kind);
}

/// A client that left before it was accepted is its own affair; a system that is out of something needs a moment.
async fn pause(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionReset) {
        tracing::warn!(%error, "a connection could not be accepted");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

async fn serve<A: Answer>(house: Arc<House<A>>, stream: TcpStream, client: SocketAddr, kind: Kind, permit: Permit) {
    let _permit = permit;
    // Without it small responses wait for acknowledgements; a socket that refuses is already dead.
    let _ = stream.set_nodelay(true);
    // What the kernel still holds for a client that takes nothing goes after the connection that we ended: it would be
    // held as long as that client says that it is there.
    let patience = house.exchanges.settings.send_idle * 2;
    let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(patience));
    match kind {
        Kind::Plain => {
            let _open = house.exchanges.settings.counts.open(Protocol::H1);
            let door = Door::Common(house.exchanges.settings.tls.guards.clone());
            let connection = Connection { protocol: Protocol::H1, client, tls: None, door, activity: Activity::new() };
            h1::serve(house.exchanges.clone(), Arc::new(connection), stream, house.drain.clone()).await;
        }
        Kind::Tls => tls(&house, stream, client).await,
    }
}

async fn tls<A: Answer>(house: &House<A>, stream: TcpStream, client: SocketAddr) {
    let settings = &house.exchanges.settings;
    let local = stream.local_addr().ok();
    let Ok(made) = house.tls.at(local.map(|at| at.ip()), local.map(|at| at.port())) else { return };
    let local = local.map(|address| address.ip());
    let mut drain = house.drain.clone();
    let handshake = timeout(settings.header_timeout, handshake(house, stream, local, &made));
    let handshaken = tokio::select! {
        handshaken = handshake => handshaken,
        () = drain.cut() => return,
    };
    let Ok(Ok(mut stream)) = handshaken else {
        settings.counts.handshake_failed();
        tracing::debug!(%client, "a TLS handshake failed");
        return;
    };
    if stream.get_ref().1.alpn_protocol() == Some(ACME_TLS) {
        // The handshake was all (RFC 8737, section 3); how the other side takes its end is its own affair.
        let _ = timeout(settings.header_timeout, stream.shutdown()).await;
        return;
    }
    let session = stream.get_ref().1;
    let sni = session.server_name().map(str::to_ascii_lowercase);
    let protocol = if session.alpn_protocol() == Some(b"h2") { Protocol::H2 } else { Protocol::H1 };
    let certificates = house.certificates.candidates(sni.as_deref(), local);
    let door = door(house, &made, sni.as_deref(), session.peer_certificates());
    let version = match session.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => TlsVersion::V1_3,
        _ => TlsVersion::V1_2,
    };
    let tls = Some(Named { said: arrival::Tls { version, sni }, certificates });
    let connection = Arc::new(Connection { protocol, client, tls, door, activity: Activity::new() });
    let _open = settings.counts.open(protocol);
    match protocol {
        Protocol::H2 => h2::serve(house.exchanges.clone(), connection, stream, drain).await,
        Protocol::H1 | Protocol::H3 => h1::serve(house.exchanges.clone(), connection, stream, drain).await,
    }
}

/// The handshake, unless the client asks for a name we do not have.
async fn handshake<A>(
    house: &House<A>,
    stream: TcpStream,
    local: Option<IpAddr>,
    made: &Made,
) -> io::Result<TlsStream<TcpStream>> {
    let mut asked = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    if !is_known(&house.certificates, &asked.client_hello(), local) {
        asked.io.write_all(&UNRECOGNIZED_NAME).await?;
        return Err(io::Error::other("an unknown name"));
    }
    asked.into_stream(made.tcp.clone()).await
}

fn is_known(certificates: &Certificates, hello: &ClientHello<'_>, local: Option<IpAddr>) -> bool {
    let is_challenge = hello.alpn().is_some_and(|mut protocols| protocols.any(|name| name == ACME_TLS));
    is_challenge || !certificates.candidates(hello.server_name(), local).is_empty()
}

/// The door that a client came through, when its handshake is over.
pub(crate) fn door<A>(house: &House<A>, made: &Made, sni: Option<&str>, chain: Option<&[CertificateDer<'_>]>) -> Door {
    match &made.guard {
        None => Door::Common(house.exchanges.settings.tls.guards.clone()),
        Some(guard) => Door::Guarded(guard.admits(sni, chain.unwrap_or_default())),
    }
}
