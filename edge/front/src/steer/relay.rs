//! The relay: what stands in the place of the kernel's program where the kernel takes none. The kernel then spreads
//! datagrams over all sockets of a group by their addresses, so whoever reads one looks where it belongs, by the rule of
//! the program, and passes it on: to another endpoint of the process by its mailbox, to the other process of an upgrade by
//! a line between them. What has no room is dropped, as UDP would.
//!
//! Every socket of a group is read by somebody at any time: while two generations live, each reads its half; a process
//! that is alone reads all. So one socket is read by one process, and datagrams of one sender keep their order.

mod desk;
mod line;
mod mailbox;
mod parcel;
mod reader;
mod socket;

use core::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use socket2::Socket;

use super::{Generation, Other};
use crate::counts::Counts;
pub(super) use desk::Desk;
use line::Line;
pub(super) use reader::{Reads, read};
pub(crate) use socket::Relayed;

/// What a process does among those that share its sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It is the only one.
    Alone,
    /// Another one has taken over; it still answers the connections it has.
    Drains,
    /// It reads nothing any more.
    Ended,
    /// It serves, and the one before it drains.
    Serves,
    /// It is not yet the one that serves.
    Waits,
}

impl Phase {
    /// Which generation takes new connections, as the process of `mine` sees it, and what the other one does.
    fn steers(self, mine: Generation) -> (Generation, Other) {
        match self {
            Self::Alone => (mine, Other::Gone),
            Self::Serves | Self::Waits => (mine, Other::Drains),
            Self::Drains | Self::Ended => (mine.next(), Other::Drains),
        }
    }

    fn reads(self) -> bool {
        matches!(self, Self::Alone | Self::Drains | Self::Serves)
    }
}

/// How a process stands now.
#[derive(Clone, Debug)]
struct View {
    phase: Phase,
    /// The line to the other process, while that lives.
    peer: Option<Arc<Line>>,
}

/// The relay of a process. It is off until the kernel refuses to steer.
#[derive(Clone, Default)]
pub struct Relay(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// There when it is on and the sockets are read.
    desk: OnceLock<Arc<Desk>>,
    /// The end of a line that is not in use yet: to the process before this one until the sockets are read, later to one
    /// that is being started.
    line: Mutex<Option<Socket>>,
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("is_on", &self.is_on()).finish()
    }
}

impl Relay {
    /// That of a process which was handed a line by the one before it.
    pub fn by(line: OwnedFd) -> Self {
        let relay = Self::default();
        relay.keep(Some(line.into()));
        relay
    }

    /// Whether datagrams are relayed.
    pub(super) fn is_on(&self) -> bool {
        self.0.desk.get().is_some() || self.0.line.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Begins to relay between the endpoints of this process, `endpoints` at each group of sockets, and with the process that
    /// handed a line over. Inside of a runtime.
    pub(super) fn open(&self, mine: Generation, endpoints: &[u32], counted: Arc<Counts>) -> io::Result<Arc<Desk>> {
        let line = self.keep(None);
        let phase = if line.is_some() { Phase::Waits } else { Phase::Alone };
        counted.relay();
        let desk = Arc::new(Desk::new(mine, endpoints, View { phase, peer: None }, counted));
        if self.0.desk.set(Arc::clone(&desk)).is_err() {
            return Err(io::Error::other("its sockets are read already"));
        }
        if let Some(line) = line {
            Line::open(line, phase, &desk)?;
        }
        Ok(desk)
    }

    /// A line for a process that is to take over, which needs its other end. There is one such process at a time.
    pub(super) fn successor(&self) -> io::Result<OwnedFd> {
        let (here, there) = line::pair()?;
        self.keep(Some(here));
        Ok(there)
    }

    /// New connections begin at `generation` from now on. Inside of a runtime.
    pub(super) fn steer(&self, generation: Generation, other: Other) -> io::Result<()> {
        let desk = self.0.desk.get().ok_or_else(|| io::Error::other("the sockets are not read yet"))?;
        match (generation == desk.mine(), other) {
            (true, Other::Gone) => desk.set(Phase::Alone, None),
            (true, Other::Drains) => desk.serve(),
            (false, _) => {
                let line = self.keep(None).ok_or_else(|| io::Error::other("there is no line to another process"))?;
                Line::open(line, Phase::Drains, desk)?;
            }
        }
        Ok(())
    }

    /// Reads nothing any more, and says so to the other process, which then reads all.
    pub(super) fn end(&self) {
        if let Some(desk) = self.0.desk.get() {
            desk.set(Phase::Ended, None);
        }
    }

    fn keep(&self, line: Option<Socket>) -> Option<Socket> {
        core::mem::replace(&mut *self.0.line.lock().unwrap_or_else(PoisonError::into_inner), line)
    }
}

#[cfg(test)]
mod tests;
