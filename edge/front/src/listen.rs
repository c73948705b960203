//! Taking connections from TCP listeners: a place for each, then TLS, then the protocol it chose.

use core::net::SocketAddr;
use core::time::Duration;
use std::io;
use std::sync::Arc;

use eyot_plan::arrival::{Answer, Protocol};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::certificates::Certificates;
use crate::connection::{Activity, Connection, Named};
use crate::drain::Drain;
use crate::exchange::Exchanges;
use crate::permits::{Permit, Permits};
use crate::tls::Tls;
use crate::{h1, h2};

/// After a failed `accept` (no file descriptors, no memory) the next one waits so long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all listeners share.
pub(crate) struct House<A> {
    pub(crate) exchanges: Arc<Exchanges<A>>,
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) tls: Tls,
    pub(crate) permits: Arc<Permits>,
    pub(crate) drain: Drain,
}

/// What is spoken on a TCP listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Tls,
}

/// Takes connections until draining begins.
pub(crate) async fn tcp<A: Answer>(house: Arc<House<A>>, listener: TcpListener, kind: Kind) {
    let mut drain = house.drain.clone();
    tokio::select! {
        biased;
        () = drain.draining() => {}
        () = accept(&house, &listener, kind) => {}
    }
}

async fn accept<A: Answer>(house: &Arc<House<A>>, listener: &TcpListener, kind: Kind) {
    loop {
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                pause(&error).await;
                continue;
            }
        };
        // When all places are taken, one connection waits here and the rest in the backlog. The place is not taken
        // before: an idle listener would keep it from the others.
        let Ok(place) = house.permits.wait().await else { return };
        let Some(permit) = house.permits.at(place, client.ip()) else {
            house.exchanges.settings.counts.refuse();
            continue;
        };
        tokio::spawn(serve(house.clone(), stream, client, kind, permit));
    }
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
    match kind {
        Kind::Plain => {
            let _open = house.exchanges.settings.counts.open(Protocol::H1);
            let connection = Connection { protocol: Protocol::H1, client, tls: None, activity: Activity::new() };
            h1::serve(house.exchanges.clone(), Arc::new(connection), stream, house.drain.clone()).await;
        }
        Kind::Tls => tls(&house, stream, client).await,
    }
}

async fn tls<A: Answer>(house: &House<A>, stream: TcpStream, client: SocketAddr) {
    let settings = &house.exchanges.settings;
    let local = stream.local_addr().ok().map(|address| address.ip());
    let Ok(made) = house.tls.at(local) else { return };
    let mut drain = house.drain.clone();
    let handshake = timeout(settings.header_timeout, TlsAcceptor::from(made.tcp).accept(stream));
    let handshaken = tokio::select! {
        handshaken = handshake => handshaken,
        () = drain.cut() => return,
    };
    let Ok(Ok(stream)) = handshaken else {
        settings.counts.handshake_failed();
        tracing::debug!(%client, "a TLS handshake failed");
        return;
    };
    let session = stream.get_ref().1;
    let sni = session.server_name().map(str::to_ascii_lowercase);
    let protocol = if session.alpn_protocol() == Some(b"h2") { Protocol::H2 } else { Protocol::H1 };
    let certificates = house.certificates.candidates(sni.as_deref(), local);
    let tls = Some(Named { sni, certificates });
    let connection = Arc::new(Connection { protocol, client, tls, activity: Activity::new() });
    let _open = settings.counts.open(protocol);
    match protocol {
        Protocol::H2 => h2::serve(house.exchanges.clone(), connection, stream, drain).await,
        Protocol::H1 | Protocol::H3 => h1::serve(house.exchanges.clone(), connection, stream, drain).await,
    }
}
