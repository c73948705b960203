//! The new process' side: what it was handed, and its way to become the one that serves.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream as Blocking};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use eyot_front::steer::{Generation, Keys, Other, Relay, Steering};
use eyot_front::{Lineage, Tickets, Turn};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::Upgrades;
use super::give::Giver;
use super::wire::{self, Hidden, Word};

/// Set for a process that is to take over: its standard input is the line to the one that serves.
pub(super) const VARIABLE: &str = "EYOT_UPGRADE";
/// How long this process serves before it is left to itself. Meanwhile the old one goes on as it was, for connections that
/// have just begun, datagrams in the buffers of its sockets, and clients that were asked to prove their address; and it
/// takes everything back should this one fall.
pub(super) const PROVEN_AFTER: Duration = Duration::from_secs(5);
/// How long the old process may take to hand its sockets over.
const HANDED_WITHIN: Duration = Duration::from_secs(30);

/// What a new process was handed.
#[derive(Debug)]
pub struct Handed {
    pub(crate) datagrams: Vec<UdpSocket>,
    pub(crate) streams: Vec<TcpListener>,
    /// Where both are nobody's but this line's.
    pub(crate) bound: Vec<SocketAddr>,
    pub(crate) admin_tcp: Vec<TcpListener>,
    pub(crate) admin_unix: Vec<(UnixListener, PathBuf)>,
    pub(crate) lineage: Lineage,
    /// Keys of session tickets, where they are of no file.
    pub(crate) tickets: Option<Arc<Tickets>>,
}

/// The line of a new process to the one that serves.
#[derive(Debug)]
pub struct Heir {
    line: Blocking,
    /// By which the old process asks the stores.
    stores: Option<Blocking>,
}

/// The same, when all is prepared and the ledger is ours.
#[derive(Debug)]
pub(crate) struct Taker(UnixStream);

/// Says to the old process why there is no new one.
#[derive(Debug)]
pub(crate) struct Explain(Blocking);

/// What this process was handed, if it is to take over from one that serves. To be asked once.
///
/// # Errors
/// When the old process hands over something else than sockets and keys, or nothing in time.
pub fn heir() -> io::Result<Option<(Heir, Handed)>> {
    if std::env::var_os(VARIABLE).is_none() {
        return Ok(None);
    }
    let line = Blocking::from(io::stdin().as_fd().try_clone_to_owned()?);
    line.set_read_timeout(Some(HANDED_WITHIN))?;
    let (hello, sockets) = wire::take(&line)?;
    let keys = STANDARD.decode(&hello.keys.0).ok().and_then(|keys| keys.try_into().ok());
    let keys = keys.map(Keys::from_bytes).ok_or_else(|| io::Error::other("the keys are none"))?;
    let generation = if hello.odd { Generation::Odd } else { Generation::Even };
    let mut sockets = sockets.into_iter();
    let mut some = |count: usize| sockets.by_ref().take(count).collect::<Vec<OwnedFd>>();
    let (datagrams, streams, admin_tcp) = (some(hello.datagrams), some(hello.streams), some(hello.admin_tcp));
    let admin_unix = some(hello.admin_unix.len());
    let relay = some(usize::from(hello.relays)).pop().map_or_else(Relay::default, Relay::by);
    let stores = some(usize::from(hello.stores)).pop().map(Blocking::from);
    let handed = Handed {
        datagrams: datagrams.into_iter().map(UdpSocket::from).collect(),
        streams: streams.into_iter().map(TcpListener::from).collect(),
        bound: hello.bound,
        admin_tcp: admin_tcp.into_iter().map(TcpListener::from).collect(),
        admin_unix: admin_unix.into_iter().map(UnixListener::from).zip(hello.admin_unix).collect(),
        lineage: Lineage { generation, keys, is_handed_over: true, turn: Turn::new(true), relay },
        tickets: hello.tickets.and_then(tickets),
    };
    tracing::info!(from = hello.version, to = env!("CARGO_PKG_VERSION"), "taking over from a process that serves");
    Ok(Some((Heir { line, stores }, handed)))
}

/// Keys of another version that are none to this one are no reason to fail: clients then make whole handshakes.
fn tickets(keys: Hidden) -> Option<Arc<Tickets>> {
    STANDARD.decode(keys.0).ok().and_then(|keys| Tickets::from_bytes(&keys))
}

impl Heir {
    /// For whatever goes wrong on the way.
    pub(crate) fn explain(&self) -> Option<Explain> {
        self.line.try_clone().ok().map(Explain)
    }

    /// Says that everything is compiled, and waits until the ledger and the stores are free; with the line by which the old
    /// process asks those.
    pub(crate) async fn prepared(self) -> io::Result<(Taker, Option<UnixStream>)> {
        self.line.set_nonblocking(true)?;
        let mut line = UnixStream::from_std(self.line)?;
        let stores = match self.stores {
            Some(stores) => {
                stores.set_nonblocking(true)?;
                Some(UnixStream::from_std(stores)?)
            }
            None => None,
        };
        wire::say(&mut line, &Word::Prepared).await?;
        match wire::hear(&mut line).await? {
            Word::Take => Ok((Taker(line), stores)),
            _ => Err(io::Error::other("the old process does not let go")),
        }
    }
}

impl Taker {
    /// Says that this process serves, and returns when it has done so for a while and is left to itself. An old process
    /// that is gone by now leaves everything to this one.
    pub(crate) async fn ready(mut self, place: Place) {
        if !self.proves_itself(&place).await {
            tracing::warn!("the old process is gone before it drained");
            place.alone();
            return;
        }
        tokio::spawn(async move {
            // It says nothing more; the line ends with it.
            let _ = wire::hear(&mut self.0).await;
            tracing::info!("the old process has ended");
            place.alone();
        });
    }

    /// Whether the old process is still there when this one has served for a while.
    async fn proves_itself(&mut self, place: &Place) -> bool {
        if wire::say(&mut self.0, &Word::Ready).await.is_err() || !self.hears(&Word::Go).await {
            return false;
        }
        // The kernel was told the same by the old process; a relay is told by each.
        place.steer(Other::Drains);
        place.lineage.turn.take();
        tracing::info!("new connections come here");
        // Meanwhile nothing is said; the line may end.
        if timeout(PROVEN_AFTER, wire::hear(&mut self.0)).await.is_ok() {
            return false;
        }
        wire::say(&mut self.0, &Word::Proven).await.is_ok() && self.hears(&Word::Keep).await
    }

    async fn hears(&mut self, word: &Word) -> bool {
        wire::hear(&mut self.0).await.is_ok_and(|heard| heard == *word)
    }
}

/// The place of this process among those that share its sockets.
pub(crate) struct Place {
    steering: Arc<Steering>,
    lineage: Lineage,
    upgrades: Arc<Upgrades>,
}

impl Place {
    /// That of a process that may hand over in its turn.
    pub(crate) fn of(giver: &Giver) -> Self {
        let Giver { steering, lineage, upgrades, .. } = giver;
        Self { steering: Arc::clone(steering), lineage: lineage.clone(), upgrades: Arc::clone(upgrades) }
    }

    fn steer(&self, other: Other) {
        if let Err(error) = self.steering.steer(self.lineage.generation, other) {
            tracing::error!(%error, ?other, "QUIC connections are not steered as they should be");
        }
    }

    /// There is no other process any more.
    fn alone(&self) {
        self.steer(Other::Gone);
        self.lineage.turn.alone();
        self.upgrades.is_alone();
    }
}

impl Explain {
    /// Says why.
    pub(crate) fn say(&self, error: &dyn std::error::Error) {
        let whole = std::iter::successors(Some(error), |error| error.source());
        let why = whole.map(ToString::to_string).collect::<Vec<_>>().join(": ");
        // An old process that does not hear it sees the end of this one.
        let _ = wire::say_last(&self.0, &Word::Failed { why });
    }
}
