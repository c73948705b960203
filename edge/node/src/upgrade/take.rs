//! The new process' side: what it was handed, and its way to become the one that serves.

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream as Blocking};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use eyot_front::Lineage;
use eyot_front::steer::{Generation, Keys, Other, Relay, Steering};
use tokio::net::UnixStream;

use super::Upgrades;
use super::wire::{self, Word};

/// Set for a process that is to take over: its standard input is the line to the one that serves.
pub(super) const VARIABLE: &str = "EYOT_UPGRADE";
/// How long the old process may take to hand its sockets over.
const HANDED_WITHIN: Duration = Duration::from_secs(30);

/// What a new process was handed.
#[derive(Debug)]
pub struct Handed {
    pub(crate) datagrams: Vec<UdpSocket>,
    pub(crate) streams: Vec<TcpListener>,
    pub(crate) admin_tcp: Vec<TcpListener>,
    pub(crate) admin_unix: Vec<(UnixListener, PathBuf)>,
    pub(crate) lineage: Lineage,
}

/// The line of a new process to the one that serves.
#[derive(Debug)]
pub struct Heir(Blocking);

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
    let handed = Handed {
        datagrams: datagrams.into_iter().map(UdpSocket::from).collect(),
        streams: streams.into_iter().map(TcpListener::from).collect(),
        admin_tcp: admin_tcp.into_iter().map(TcpListener::from).collect(),
        admin_unix: admin_unix.into_iter().map(UnixListener::from).zip(hello.admin_unix).collect(),
        lineage: Lineage { generation, keys, is_handed_over: true, relay },
    };
    tracing::info!(from = hello.version, to = env!("CARGO_PKG_VERSION"), "taking over from a process that serves");
    Ok(Some((Heir(line), handed)))
}

impl Heir {
    /// For whatever goes wrong on the way.
    pub(crate) fn explain(&self) -> Option<Explain> {
        self.0.try_clone().ok().map(Explain)
    }

    /// Says that everything is compiled, and waits until the ledger is free.
    pub(crate) async fn prepared(self) -> io::Result<Taker> {
        self.0.set_nonblocking(true)?;
        let mut line = UnixStream::from_std(self.0)?;
        wire::say(&mut line, &Word::Prepared).await?;
        match wire::hear(&mut line).await? {
            Word::Take => Ok(Taker(line)),
            _ => Err(io::Error::other("the old process does not let go")),
        }
    }
}

impl Taker {
    /// Says that this process serves, and returns when new connections come to it. An old process that is gone by now
    /// leaves everything to this one.
    pub(crate) async fn ready(mut self, steering: Arc<Steering>, mine: Generation, upgrades: Arc<Upgrades>) {
        let said = wire::say(&mut self.0, &Word::Ready).await;
        let go = match said {
            Ok(()) => wire::hear(&mut self.0).await,
            Err(error) => Err(error),
        };
        if !matches!(go, Ok(Word::Go)) {
            tracing::warn!("the old process is gone before it drained");
            alone(&steering, mine, &upgrades);
            return;
        }
        // The kernel was told the same by the old process; a relay is told by each.
        if let Err(error) = steering.steer(mine, Other::Drains) {
            tracing::error!(%error, "QUIC connections are not steered as they should be");
        }
        tokio::spawn(async move {
            // It says nothing more; the line ends with it.
            let _ = wire::hear(&mut self.0).await;
            tracing::info!("the old process has ended");
            alone(&steering, mine, &upgrades);
        });
    }
}

fn alone(steering: &Steering, mine: Generation, upgrades: &Upgrades) {
    if let Err(error) = steering.steer(mine, Other::Gone) {
        tracing::error!(%error, "QUIC is steered as if the old process had not ended");
    }
    upgrades.is_alone();
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
