//! Listening, from bound sockets to the last connection.

use core::future::Future;
use core::net::SocketAddr;
use std::sync::Arc;

use eyot_plan::arrival::Answer;
use http::header::HeaderValue;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::certificates::Certificates;
use crate::drain::{Ending, Late, ON_ITS_WAY, Phase, drain};
use crate::error::Error;
use crate::exchange::Exchanges;
use crate::h3;
use crate::listen::{self, House, Kind, Listener};
use crate::permits::Permits;
use crate::settings::Settings;
use crate::sockets::{Lineage, Sockets};
use crate::steer::{Generation, Keys, Relay, Slot, Steering};
use crate::tls::{Tls, Waiting};
use crate::turn::Turn;

/// How long a client may remember that HTTP/3 is there, in seconds.
const ALT_SVC_SECONDS: u32 = 86_400;

/// Serves until `shutdown` resolves; then takes nothing new, lets what is in flight end within `settings.drain`, cuts
/// the rest and returns. Where the sockets were handed over, QUIC connections that still come here are served; where they
/// are somebody else's, too, those that come too late are left to whoever comes next.
///
/// # Errors
/// A socket that cannot be used, or TLS that cannot be set up, at the start. Nothing a client does.
pub async fn run<A: Answer>(
    sockets: Sockets,
    certificates: Arc<Certificates>,
    settings: Settings,
    answer: Arc<A>,
    shutdown: impl Future<Output: Into<Ending>>,
) -> Result<(), Error> {
    let (phase, drain) = drain();
    let until = settings.drain;
    let permits = Permits::new(settings.connections_max, settings.connections_per_address_max);
    let lineage = match &sockets.lineage {
        Some(lineage) => lineage.clone(),
        None => first().map_err(Error::Socket)?,
    };
    let tls = Tls::new(
        certificates.clone(),
        settings.tls.clone(),
        h3::transport(&settings),
        &Waiting::default(),
        &lineage.keys,
    )?;
    let exchanges = Exchanges {
        answer,
        challenges: certificates.challenges(),
        alt_svc: alt_svc(&sockets, &settings),
        https_port: common(sockets.tls_addresses(), &settings).unwrap_or(443),
        settings,
    };
    let house = Arc::new(House {
        exchanges: Arc::new(exchanges),
        certificates,
        tls,
        permits: permits.clone(),
        drain,
        turn: lineage.turn.clone(),
    });
    let Started { steering, endpoints, mut listening } = start(&house, sockets, &lineage)?;
    let ending = shutdown.await.into();
    let ended = async {
        match ending {
            Ending::HandedOver => phase.send_replace(Phase::Leaving),
            Ending::Stop => {
                phase.send_replace(Phase::Stopping);
                sleep(ON_ITS_WAY).await;
                tracing::info!("no connection begins here any more; what is in flight may end");
                phase.send_replace(Phase::Draining)
            }
        };
        while listening.join_next().await.is_some() {}
        permits.none_left().await;
    };
    if timeout(until, ended).await.is_err() {
        tracing::info!("the time to drain is over; what is left is cut");
    }
    let _ = phase.send(Phase::Cut);
    permits.none_left().await;
    for (endpoint, late) in &endpoints {
        h3::close(endpoint, *late).await;
    }
    steering.end();
    Ok(())
}

/// The only process of its line.
fn first() -> std::io::Result<Lineage> {
    let (generation, keys, turn) = (Generation::Even, Keys::random()?, Turn::new(false));
    Ok(Lineage { generation, keys, is_handed_over: false, turn, relay: Relay::default() })
}

/// What listens.
struct Started {
    /// To be kept as long as the endpoints.
    steering: Steering,
    endpoints: Vec<(quinn::Endpoint, Late)>,
    /// The tasks of the TCP listeners; they end with the phase.
    listening: JoinSet<()>,
}

/// Makes every socket a task that ends with the phase.
fn start<A: Answer>(house: &Arc<House<A>>, sockets: Sockets, lineage: &Lineage) -> Result<Started, Error> {
    let tcp = sockets.tls.into_iter().map(|socket| (socket, Kind::Tls));
    let tcp = tcp.chain(sockets.plain.into_iter().map(|socket| (socket, Kind::Plain)));
    let mut listeners = Vec::new();
    for (socket, kind) in tcp {
        socket.set_nonblocking(true).map_err(Error::Socket)?;
        let socket = TcpListener::from_std(socket).map_err(Error::Socket)?;
        let is_ours = socket.local_addr().is_ok_and(|address| sockets.bound.contains(&address));
        listeners.push(Listener { socket, kind, is_ours });
    }
    let steering = Steering::new(sockets.udp, lineage.relay.clone()).map_err(Error::Socket)?;
    let counts = &house.exchanges.settings.counts;
    let slots = steering.take(lineage.generation, lineage.is_handed_over, counts).map_err(Error::Socket)?;
    let endpoint = |slot: Slot| {
        let is_ours = slot.socket.local_addr().is_ok_and(|address| sockets.bound.contains(&address));
        let late = if is_ours { Late::Refused } else { Late::Left };
        Ok((h3::endpoint(&house.tls, &lineage.keys, &lineage.turn, slot)?, late))
    };
    let endpoints = slots.into_iter().map(endpoint).collect::<Result<Vec<_>, Error>>()?;
    let listening = listeners.into_iter().map(|listener| listen::tcp(house.clone(), listener)).collect();
    for (endpoint, late) in &endpoints {
        tokio::spawn(h3::listen(house.clone(), endpoint.clone(), *late));
    }
    Ok(Started { steering, endpoints, listening })
}

/// The first port that is for all hosts.
fn common(addresses: Vec<SocketAddr>, settings: &Settings) -> Option<u16> {
    addresses.into_iter().map(|address| address.port()).find(|port| settings.tls.guards.at(*port).is_none())
}

/// RFC 7838, section 3; RFC 9114, section 3.1.1.
fn alt_svc(sockets: &Sockets, settings: &Settings) -> Option<HeaderValue> {
    let port = common(sockets.udp_addresses(), settings).filter(|_| settings.alt_svc)?;
    HeaderValue::try_from(format!("h3=\":{port}\"; ma={ALT_SVC_SECONDS}")).ok()
}
