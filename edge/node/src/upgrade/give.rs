//! The old process' side: it starts its successor, hands over step by step, and takes everything back when a step fails.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use eyot_front::steer::{Other, Steering};
use eyot_front::{Lineage, Tickets};
use sd_notify::NotifyState;
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::successor::Successor;
use super::take::PROVEN_AFTER;
use super::wire::{self, FORMAT, FORMAT_RELAYS, Hello, Hidden, Word};
use super::{Step, Upgrades};
use crate::cached::disk;
use crate::node::Node;
use crate::pull::Handle;
use crate::sockets::Sockets;

/// How long the new process may compile.
const PREPARED_WITHIN: Duration = Duration::from_secs(900);
/// How long it may take to load what the ledger has; nothing is pulled meanwhile.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long it may take to say that it has served for [`PROVEN_AFTER`].
const PROVEN_WITHIN: Duration = PROVEN_AFTER.saturating_add(Duration::from_secs(10));

/// What a process that serves can hand over.
pub(crate) struct Giver {
    pub(crate) upgrades: Arc<Upgrades>,
    /// What is kept on disk of answers is its.
    pub(crate) node: Arc<Node>,
    pub(crate) steering: Arc<Steering>,
    pub(crate) lineage: Lineage,
    /// All sockets, once more.
    pub(crate) sockets: Sockets,
    pub(crate) tickets: Arc<Tickets>,
    pub(crate) pull: Handle,
    /// The stores: their file is given away with the ledger, and asked by a line from then on.
    pub(crate) stores: eyot_state::Stores,
    /// The process that is to take over, until it has.
    pub(crate) successor: Mutex<Option<Successor>>,
}

/// The line to a process that has taken over. It sees by its end that this one is gone.
pub(crate) type Line = UnixStream;

impl Giver {
    /// Waits until an upgrade was asked for, and another process has served for a while.
    pub(crate) async fn handed_over(&self) -> (Successor, Line) {
        loop {
            self.upgrades.asked.notified().await;
            match self.attempt().await {
                Ok(given) => return given,
                Err(error) => {
                    tracing::error!(%error, "the upgrade failed; this process serves on");
                    self.upgrades.now(Step::Failed(error.to_string()));
                }
            }
        }
    }

    /// Leaves everything to the other process: there is no way back. `fell` is told if that fails while this one drains.
    pub(crate) async fn leave(&self, successor: Successor, mut line: Line, fell: Arc<Notify>) -> Line {
        let pid = successor.pid().unwrap_or(0);
        successor.let_go(fell);
        self.upgrades.now(Step::Done);
        self.upgrades.close_doors();
        tracing::info!(pid, "another process has taken over; this one drains");
        // Only the main process may tell the service manager anything, and until it has read this that is this one.
        if let Err(error) = sd_notify::notify(&[NotifyState::MainPid(pid), NotifyState::Ready]) {
            tracing::error!(%error, "the service manager was not told of the new process");
        }
        if let Err(error) = wire::say(&mut line, &Word::Keep).await {
            tracing::error!(%error, "the new process has ended as it took over");
        }
        line
    }

    /// This process is to end. One that serves already is told to end, too, and drains beside this one; any other is
    /// ended.
    pub(crate) fn stop(&self) -> Option<Successor> {
        let successor = self.successor().take().filter(|_| *self.upgrades.step() == Step::Proving)?;
        successor.terminate();
        Some(successor)
    }

    fn successor(&self) -> MutexGuard<'_, Option<Successor>> {
        self.successor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn attempt(&self) -> io::Result<(Successor, Line)> {
        let has_quic = !self.sockets.front.udp.is_empty();
        let relay = if has_quic { self.steering.successor(self.lineage.generation) } else { Ok(None) };
        let relay = relay.map_err(|error| {
            io::Error::other(format!("QUIC connections cannot be steered, an upgrade would cut them: {error}"))
        })?;
        let (successor, mut line) = Successor::start()?;
        let pid = successor.pid();
        self.upgrades.successor(pid);
        *self.successor() = Some(successor);
        let given = self.give(&mut line, relay, pid).await;
        let successor = self.successor().take();
        match (given, successor) {
            (Ok(()), Some(successor)) => Ok((successor, line)),
            (given, successor) => {
                self.take_back(successor).await;
                Err(given.err().unwrap_or_else(|| io::Error::other("there is no new process")))
            }
        }
    }

    /// All of it, step by step, to the moment when the new process has proven itself.
    async fn give(&self, line: &mut Line, relay: Option<OwnedFd>, pid: Option<u32>) -> io::Result<()> {
        let (stores, theirs) = UnixStream::pair()?;
        let theirs = OwnedFd::from(theirs.into_std()?);
        wire::say(line, &Word::Hello(self.hello(relay.is_some()))).await.map_err(|_| ended())?;
        wire::hand(line, &self.all(relay.as_ref(), &theirs)).await.map_err(|_| ended())?;
        drop((relay, theirs));
        self.upgrades.now(Step::Preparing);
        expect(line, &Word::Prepared, PREPARED_WITHIN).await?;
        self.upgrades.now(Step::Taking);
        self.pull.pause().await?;
        disk::let_go(&self.node).await;
        self.stores.close_here().await;
        self.stores.lend(stores);
        wire::say(line, &Word::Take).await.map_err(|_| ended())?;
        expect(line, &Word::Ready, READY_WITHIN).await?;
        self.steering.steer(self.lineage.generation.next(), Other::Drains)?;
        self.lineage.turn.pass();
        self.upgrades.now(Step::Proving);
        tracing::info!(pid, "another process serves, and is watched for a while");
        wire::say(line, &Word::Go).await.map_err(|_| fell())?;
        expect(line, &Word::Proven, PROVEN_WITHIN).await.map_err(|_| fell())
    }

    /// New connections, and the ledger, are of this process again, as if there had been no other.
    async fn take_back(&self, successor: Option<Successor>) {
        let mut successor = successor;
        successor.iter_mut().for_each(Successor::kill);
        self.steer_back();
        self.lineage.turn.alone();
        if let Some(successor) = &mut successor {
            // Its hold on the ledger ends with it, and so does the last word that it may have had on the steering.
            successor.ended().await;
            self.steer_back();
        }
        self.upgrades.successor(None);
        if let Err(error) = self.stores.open_here().await {
            tracing::error!(%error, "the stores of this node are shut");
        }
        disk::take_up(&self.node).await;
        self.pull.resume();
    }

    fn steer_back(&self) {
        if let Err(error) = self.steering.steer(self.lineage.generation, Other::Gone) {
            tracing::error!(%error, "QUIC is steered as if the new process served");
        }
    }

    fn hello(&self, relays: bool) -> Hello {
        let (front, admin) = (&self.sockets.front, &self.sockets.admin);
        Hello {
            format: if relays { FORMAT_RELAYS } else { FORMAT },
            version: env!("CARGO_PKG_VERSION").to_owned(),
            odd: self.lineage.generation.next() == eyot_front::steer::Generation::Odd,
            keys: Hidden(STANDARD.encode(self.lineage.keys.to_bytes())),
            tickets: self.tickets.to_bytes().map(|keys| Hidden(STANDARD.encode(keys))),
            datagrams: front.udp.len(),
            streams: front.tls.len() + front.plain.len(),
            bound: front.bound.clone(),
            admin_tcp: admin.tcp.len(),
            admin_unix: admin.unix.iter().map(|(_, path)| path.clone()).collect(),
            relays,
            stores: true,
        }
    }

    /// All sockets, in the order of their counts.
    fn all<'a>(&'a self, relay: Option<&'a OwnedFd>, stores: &'a OwnedFd) -> Vec<BorrowedFd<'a>> {
        let (front, admin) = (&self.sockets.front, &self.sockets.admin);
        let mut all: Vec<_> = front.udp.iter().map(AsFd::as_fd).collect();
        all.extend(front.tls.iter().chain(&front.plain).map(AsFd::as_fd));
        all.extend(admin.tcp.iter().map(AsFd::as_fd));
        all.extend(admin.unix.iter().map(|(socket, _)| socket.as_fd()));
        all.extend(relay.map(AsFd::as_fd));
        all.push(stores.as_fd());
        all
    }
}

fn ended() -> io::Error {
    io::Error::other("the new process ended before it was ready; its log says why")
}

fn fell() -> io::Error {
    io::Error::other("the new process served for a moment and fell; this one has taken everything back")
}

/// Waits for a word.
async fn expect(line: &mut Line, word: &Word, within: Duration) -> io::Result<()> {
    match timeout(within, wire::hear(line)).await {
        Ok(Ok(heard)) if heard == *word => Ok(()),
        Ok(Ok(Word::Failed { why })) => Err(io::Error::other(why)),
        Ok(Ok(_)) => Err(io::Error::other("the new process speaks another language")),
        Ok(Err(_)) => Err(ended()),
        Err(_) => Err(io::Error::other(format!("the new process was not ready in {} s", within.as_secs()))),
    }
}
