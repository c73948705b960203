//! The old process' side: it starts its successor, hands over step by step, and takes everything back when a step fails.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as Blocking;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use eyot_front::Lineage;
use eyot_front::steer::{Other, Steering};
use sd_notify::NotifyState;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::take::VARIABLE;
use super::wire::{self, FORMAT, FORMAT_RELAYS, Hello, Hidden, Word};
use super::{Step, Upgrades};
use crate::pull::Handle;
use crate::sockets::Sockets;

/// How long the new process may compile.
const PREPARED_WITHIN: Duration = Duration::from_secs(900);
/// How long it may take to load what the ledger has; nothing is pulled meanwhile.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// What a service manager tells one process and not its child.
const NOT_INHERITED: [&str; 4] = ["LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "WATCHDOG_PID"];

/// What a process that serves can hand over.
pub(crate) struct Giver {
    pub(crate) upgrades: Arc<Upgrades>,
    pub(crate) steering: Arc<Steering>,
    pub(crate) lineage: Lineage,
    /// All sockets, once more.
    pub(crate) sockets: Sockets,
    pub(crate) pull: Handle,
}

/// The line to a process that has taken over. It sees by its end that this one is gone.
pub(crate) type Line = UnixStream;

/// The new process, which is ended with this unless it serves.
struct Successor(Option<Child>);

impl Drop for Successor {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Giver {
    /// Waits until an upgrade was asked for and has succeeded.
    pub(crate) async fn handed_over(&self) -> Line {
        loop {
            self.upgrades.asked.notified().await;
            match self.attempt().await {
                Ok(line) => return line,
                Err(error) => {
                    tracing::error!(%error, "the upgrade failed; this process serves on");
                    self.upgrades.now(Step::Failed(error.to_string()));
                }
            }
        }
    }

    async fn attempt(&self) -> io::Result<Line> {
        let has_quic = !self.sockets.front.udp.is_empty();
        let relay = if has_quic { self.steering.successor(self.lineage.generation) } else { Ok(None) };
        let relay = relay.map_err(|error| {
            io::Error::other(format!("QUIC connections cannot be steered, an upgrade would cut them: {error}"))
        })?;
        let (mut successor, mut line) = self.start()?;
        wire::say(&mut line, &Word::Hello(self.hello(relay.is_some()))).await.map_err(|_| ended())?;
        wire::hand(&line, &self.all(relay.as_ref())).await.map_err(|_| ended())?;
        self.upgrades.now(Step::Preparing);
        expect(&mut line, &Word::Prepared, PREPARED_WITHIN).await?;
        self.upgrades.now(Step::Taking);
        self.pull.pause().await?;
        match self.give(&mut line, has_quic, &successor).await {
            Ok(()) => {
                // It lives on.
                drop(successor.0.take());
                Ok(line)
            }
            Err(error) => {
                // Its hold on the ledger ends with it.
                drop(successor);
                self.pull.resume();
                Err(error)
            }
        }
    }

    /// From the ledger's release to the first connection of the new process.
    async fn give(&self, line: &mut Line, has_quic: bool, successor: &Successor) -> io::Result<()> {
        wire::say(line, &Word::Take).await.map_err(|_| ended())?;
        expect(line, &Word::Ready, READY_WITHIN).await?;
        if has_quic {
            self.steering.steer(self.lineage.generation.next(), Other::Drains)?;
        }
        self.upgrades.now(Step::Done);
        self.upgrades.close_doors();
        let pid = successor.0.as_ref().map_or(0, Child::id);
        tracing::info!(pid, "another process has taken over; this one drains");
        // Only the main process may tell the service manager anything, and until it has read this that is this one.
        if let Err(error) = sd_notify::notify(&[NotifyState::MainPid(pid), NotifyState::Ready]) {
            tracing::error!(%error, "the service manager was not told of the new process");
        }
        if let Err(error) = wire::say(line, &Word::Go).await {
            tracing::error!(%error, "the new process has ended as it took over");
        }
        Ok(())
    }

    /// Starts the program by the name it was started by: its file may be another one now.
    fn start(&self) -> io::Result<(Successor, Line)> {
        let (here, there) = Blocking::pair()?;
        let mut arguments = std::env::args_os();
        let program = arguments.next().ok_or_else(|| io::Error::other("this process has no name"))?;
        let mut command = Command::new(&program);
        command.args(arguments).stdin(Stdio::from(OwnedFd::from(there))).env(VARIABLE, "1");
        for name in NOT_INHERITED {
            command.env_remove(name);
        }
        let child = command
            .spawn()
            .map_err(|error| io::Error::other(format!("{} cannot be started: {error}", program.display())))?;
        here.set_nonblocking(true)?;
        Ok((Successor(Some(child)), UnixStream::from_std(here)?))
    }

    fn hello(&self, relays: bool) -> Hello {
        let (front, admin) = (&self.sockets.front, &self.sockets.admin);
        Hello {
            format: if relays { FORMAT_RELAYS } else { FORMAT },
            version: env!("CARGO_PKG_VERSION").to_owned(),
            odd: self.lineage.generation.next() == eyot_front::steer::Generation::Odd,
            keys: Hidden(STANDARD.encode(self.lineage.keys.to_bytes())),
            datagrams: front.udp.len(),
            streams: front.tls.len() + front.plain.len(),
            admin_tcp: admin.tcp.len(),
            admin_unix: admin.unix.iter().map(|(_, path)| path.clone()).collect(),
            relays,
        }
    }

    /// All sockets, in the order of their counts.
    fn all<'a>(&'a self, relay: Option<&'a OwnedFd>) -> Vec<BorrowedFd<'a>> {
        let (front, admin) = (&self.sockets.front, &self.sockets.admin);
        let mut all: Vec<_> = front.udp.iter().map(AsFd::as_fd).collect();
        all.extend(front.tls.iter().chain(&front.plain).map(AsFd::as_fd));
        all.extend(admin.tcp.iter().map(AsFd::as_fd));
        all.extend(admin.unix.iter().map(|(socket, _)| socket.as_fd()));
        all.extend(relay.map(AsFd::as_fd));
        all
    }
}

fn ended() -> io::Error {
    io::Error::other("the new process ended before it was ready; its log says why")
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
