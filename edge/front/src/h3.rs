//! HTTP/3: taking QUIC connections, and their streams as exchanges. The protocol itself is `eyot_h3`.

use core::net::{IpAddr, SocketAddr};
use core::pin::pin;
use std::sync::Arc;

use eyot_h3::server;
use eyot_plan::arrival::{self, Answer, Interim, Protocol, TlsVersion};
use futures_util::FutureExt as _;
use http::header;
use quinn::crypto::rustls::HandshakeData;
use quinn::{Endpoint, EndpointConfig, Incoming, Runtime as _, TokioRuntime, VarInt, ZeroRttAccepted};
use rustls_pki_types::CertificateDer;
use tokio::time::timeout;

use crate::begin::begin;
use crate::connection::{Activity, Connection, Named};
use crate::drain::{Drain, Late};
use crate::error::Error;
use crate::exchange;
use crate::interim::{self, GoOn, Reach};
use crate::listen::{self, House};
use crate::permits::Permit;
use crate::settings::{Resumption, Settings};
use crate::steer::{Keys, Orphans, Slot, Slotted};
use crate::tls::{Made, Tls};
use crate::turn::Turn;

/// RFC 9114, section 8.1.
const H3_NO_ERROR: VarInt = VarInt::from_u32(0x100);

/// QUIC version 1 (RFC 9000): drafts are long over.
const VERSION_1: u32 = 1;

/// Connections that begin while the last packets of an endpoint leave, and are left to others: a flood holds nobody up.
const LATE_MAX: usize = 10_000;

/// The transport of all connections.
pub(crate) fn transport(settings: &Settings) -> quinn::TransportConfig {
    eyot_h3::server_transport(settings.streams_max)
}

/// Makes a bound socket an endpoint, whose connections say that they belong to its slot.
pub(crate) fn endpoint(tls: &Tls, keys: &Keys, turn: &Arc<Turn>, slot: Slot) -> Result<Endpoint, Error> {
    let Slot { socket, slot, relayed } = slot;
    let local = socket.local_addr().map_err(Error::Socket)?;
    let made = tls.at(Some(local.ip()), Some(local.port()))?;
    let mut config = EndpointConfig::new(keys.reset());
    let turn = Arc::clone(turn);
    config.supported_versions(vec![VERSION_1]).cid_generator(move || {
        let (own, turn) = (Slotted(slot), Arc::clone(&turn));
        Box::new(Orphans { own, turn })
    });
    socket.set_nonblocking(true).map_err(Error::Socket)?;
    let server = quinn::ServerConfig::clone(&made.quic);
    let socket = TokioRuntime.wrap_udp_socket(socket).map_err(Error::Socket)?;
    let socket = relayed.map_or_else(|| Arc::clone(&socket), |place| place.wrap(Arc::clone(&socket)));
    Endpoint::new_with_abstract_socket(config, Some(server), socket, Arc::new(TokioRuntime)).map_err(Error::Socket)
}

/// Takes connections until what is left is cut, but none that begins when nobody listens here any more.
pub(crate) async fn listen<A: Answer>(house: Arc<House<A>>, endpoint: Endpoint, late: Late) {
    let (mut drain, mut cut) = (house.drain.clone(), house.drain.clone());
    let mut is_refusing = false;
    let local = endpoint.local_addr().ok();
    loop {
        tokio::select! {
            biased;
            () = cut.cut() => return,
            () = drain.refusing(), if !is_refusing => {
                is_refusing = true;
                while let Some(incoming) = endpoint.accept().now_or_never().flatten() {
                    take(&house, incoming, local);
                }
            }
            incoming = endpoint.accept() => match incoming {
                None => return,
                Some(incoming) if is_refusing => late.meets(incoming),
                Some(incoming) => take(&house, incoming, local),
            },
        }
    }
}

/// Ends an endpoint whose connections are closed, and waits until its last packets have left.
pub(crate) async fn close(endpoint: &Endpoint, late: Late) {
    if late == Late::Refused {
        endpoint.close(H3_NO_ERROR, b"");
        return endpoint.wait_idle().await;
    }
    // One that was closed would refuse by itself what still comes. In this order: what is dropped unmet is refused too.
    for _ in 0..LATE_MAX {
        tokio::select! {
            biased;
            incoming = endpoint.accept() => match incoming {
                Some(incoming) => late.meets(incoming),
                None => return,
            },
            () = endpoint.wait_idle() => return,
        }
    }
    endpoint.wait_idle().await;
}

impl Late {
    fn meets(self, incoming: Incoming) {
        match self {
            Self::Left => incoming.ignore(),
            Self::Refused => incoming.refuse(),
        }
    }
}

/// Takes a connection if there is a place for it. Where places run short, the client proves its address first.
fn take<A: Answer>(house: &Arc<House<A>>, incoming: Incoming, bound: Option<SocketAddr>) {
    let client = incoming.remote_address();
    if incoming.may_retry() && !incoming.remote_address_validated() && house.permits.is_crowded(client.ip()) {
        // It cannot fail: `may_retry` was asked.
        let _ = incoming.retry();
        return;
    }
    let Some(permit) = house.permits.now().and_then(|place| house.permits.at(place, client.ip())) else {
        house.exchanges.settings.counts.refuse();
        incoming.refuse();
        return;
    };
    tokio::spawn(serve(house.clone(), incoming, client, bound, permit));
}

async fn serve<A: Answer>(
    house: Arc<House<A>>,
    incoming: Incoming,
    client: SocketAddr,
    bound: Option<SocketAddr>,
    permit: Permit,
) {
    let _permit = permit;
    let counts = &house.exchanges.settings.counts;
    let local = incoming.local_ip().or(bound.map(|address| address.ip()));
    let Ok(made) = house.tls.at(local, bound.map(|address| address.port())) else { return };
    let mut drain = house.drain.clone();
    let settings = &house.exchanges.settings;
    let handshake =
        async { timeout(settings.header_timeout, handshake(settings, incoming, &made)).await.ok().flatten() };
    let handshaken = tokio::select! {
        handshaken = handshake => handshaken,
        () = drain.cut() => return,
    };
    let Some((quic, proven)) = handshaken else {
        counts.handshake_failed();
        tracing::debug!(%client, "a QUIC handshake failed");
        return;
    };
    let _open = counts.open(Protocol::H3);
    tokio::select! {
        () = streams(&house, quic.clone(), proven, (&made, local)) => {}
        () = drain.cut() => {}
    }
    quic.close(H3_NO_ERROR, b"");
}

/// The handshake; where early data is allowed, only its first half, and what says when the rest is over.
async fn handshake(
    settings: &Settings,
    incoming: Incoming,
    made: &Made,
) -> Option<(quinn::Connection, Option<ZeroRttAccepted>)> {
    let mut connecting = incoming.accept_with(made.quic.clone()).ok()?;
    if settings.tls.resumption == Resumption::Tickets || made.guard.is_some() {
        return Some((connecting.await.ok()?, None));
    }
    connecting.handshake_data().await.ok()?;
    match connecting.into_0rtt() {
        Ok((quic, proven)) => Some((quic, Some(proven))),
        Err(connecting) => Some((connecting.await.ok()?, None)),
    }
}

/// The chain of certificates the client gave.
fn client_chain(quic: &quinn::Connection) -> Option<Vec<CertificateDer<'static>>> {
    quic.peer_identity()?.downcast().ok().map(|chain| *chain)
}

/// The name the client gave.
fn server_name(quic: &quinn::Connection) -> Option<String> {
    let data = quic.handshake_data()?.downcast::<HandshakeData>().ok()?;
    data.server_name.map(|name| name.to_ascii_lowercase())
}

async fn streams<A: Answer>(
    house: &Arc<House<A>>,
    quic: quinn::Connection,
    proven: Option<ZeroRttAccepted>,
    (made, local): (&Made, Option<IpAddr>),
) {
    let settings = &house.exchanges.settings;
    let sni = server_name(&quic);
    let certificates = house.certificates.candidates(sni.as_deref(), local);
    let activity = Activity::new();
    let connection = Arc::new(Connection {
        protocol: Protocol::H3,
        client: quic.remote_address(),
        door: listen::door(house, made, sni.as_deref(), client_chain(&quic).as_deref()),
        // QUIC has no other (RFC 9001, section 4.2).
        tls: Some(Named { said: arrival::Tls { version: TlsVersion::V1_3, sni }, certificates }),
        activity: activity.clone(),
    });
    let limits = eyot_h3::Limits {
        header_bytes_max: settings.header_bytes_max,
        header_time_max: settings.header_timeout,
        write_time_max: settings.send_idle,
        write_rate_bytes_min: settings.send_rate_bytes_min,
        too_large: exchange::too_large,
        connect_protocol: true,
        ..eyot_h3::Limits::default()
    };
    let http = match proven {
        None => server::Connection::new(quic, limits).await,
        Some(proven) => server::Connection::early(quic, proven, limits).await,
    };
    let Ok(mut http) = http else { return };
    let mut drain = house.drain.clone();
    let mut is_closing = false;
    loop {
        tokio::select! {
            biased;
            () = drain.leaving(&activity), if !is_closing => {
                is_closing = true;
                http.drain();
            }
            () = activity.idle(settings.connection_idle), if !is_closing => {
                is_closing = true;
                http.drain();
            }
            accepted = http.accept() => match accepted {
                Ok(Some((request, responder))) => {
                    begin(stream(house.clone(), connection.clone(), request, responder)).await;
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(%error, "an HTTP/3 connection broke off");
                    return;
                }
            },
        }
    }
}

/// What a stream lends to its exchange.
fn reach(request: &http::Request<eyot_h3::RecvBody>, responder: &mut server::Responder) -> Reach {
    let extended = request.extensions().get::<eyot_h3::Protocol>().map(|protocol| protocol.as_str().to_owned());
    let says = responder.interim();
    let interim = Interim::new(move |head| {
        says.send(interim::clean(head));
    });
    let go_on = request.headers().contains_key(header::EXPECT).then(|| {
        let goes_on = responder.interim();
        Box::new(move || {
            goes_on.send(interim::go_on());
        }) as GoOn
    });
    Reach { interim, go_on, extended, tunnel: None }
}

/// One exchange: it ends when the client leaves it, takes nothing, or with everything.
async fn stream<A: Answer>(
    house: Arc<House<A>>,
    connection: Arc<Connection>,
    request: http::Request<eyot_h3::RecvBody>,
    mut responder: server::Responder,
) {
    let in_flight = connection.activity.begin();
    let reach = reach(&request, &mut responder);
    let mut drain: Drain = house.drain.clone();
    let mut cut = pin!(drain.cut());
    // In this order: most are over before anyone has to be asked to wake them.
    let response = tokio::select! {
        biased;
        response = house.exchanges.exchange(&connection, request, reach, in_flight) => response,
        () = responder.gone() => return,
        () = &mut cut => return,
    };
    tokio::select! {
        biased;
        sent = responder.send(response) => if let Err(error) = sent {
            tracing::debug!(%error, "an HTTP/3 response broke off");
        },
        () = &mut cut => {}
    }
}

#[cfg(test)]
mod tests;
