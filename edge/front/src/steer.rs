//! Steering: which socket of a UDP port a datagram goes to. The sockets of one address form a group that shares its port
//! (`SO_REUSEPORT`); half of it belongs to each of two *generations*, the process that serves and the one that takes over
//! from it. A small program in the kernel reads the slot in the connection ID, so that a connection stays with its
//! endpoint whatever address its client has, and begins new connections at the generation that serves.
//!
//! It knows neither TLS nor what a connection carries.

mod attach;
mod cid;
mod keys;
mod program;

use core::net::SocketAddr;
use std::io;
use std::net::UdpSocket;

pub(crate) use cid::Slotted;
pub use keys::Keys;
use program::Program;

/// Sockets that one generation may have at an address: a slot is one byte, and there are two generations.
pub const UDP_SOCKETS_MAX: usize = 64;

/// Stale datagrams that are thrown away at each socket that is taken over; the kernel's buffer holds fewer.
const STALE_MAX: usize = 65_536;

/// Half of the sockets at each address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Generation {
    /// The first half: that of a process which nobody handed its sockets over to.
    #[default]
    Even,
    /// The second half.
    Odd,
}

impl Generation {
    /// The generation that follows.
    #[must_use]
    pub fn next(self) -> Self {
        match self {
            Self::Even => Self::Odd,
            Self::Odd => Self::Even,
        }
    }
}

/// What the generation that does not serve new connections does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Other {
    /// It still answers the connections it has.
    Drains,
    /// It has ended, or never was.
    Gone,
}

/// The sockets of one address, in the order in which they joined their group. Those that hold them all must keep them: a
/// socket that leaves a group changes the place of another.
#[derive(Debug)]
struct Group {
    address: SocketAddr,
    sockets: Vec<UdpSocket>,
}

/// Steers the groups of a process. It keeps all sockets of all groups open.
#[derive(Debug)]
pub struct Steering {
    groups: Vec<Group>,
}

/// A socket that this process reads, and the slot that its connections carry.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) socket: UdpSocket,
    pub(crate) slot: u8,
}

impl Steering {
    /// The groups among `sockets`, which have the order in which they were bound.
    pub(crate) fn new(sockets: Vec<UdpSocket>) -> io::Result<Self> {
        let mut groups: Vec<Group> = Vec::new();
        for socket in sockets {
            let address = socket.local_addr()?;
            match groups.iter_mut().find(|group| group.address == address) {
                Some(group) => group.sockets.push(socket),
                None => groups.push(Group { address, sockets: vec![socket] }),
            }
        }
        Ok(Self { groups })
    }

    /// Begins every new connection at `generation`.
    ///
    /// # Errors
    /// When the kernel takes no program, or an address has one socket only, which no two processes can share.
    pub fn steer(&self, generation: Generation, other: Other) -> io::Result<()> {
        self.groups.iter().try_for_each(|group| group.steer(generation, other))
    }

    /// Whether every address has sockets for two generations.
    pub fn has_two_generations(&self) -> bool {
        self.groups.iter().all(|group| group.per_generation() > 0)
    }

    /// The sockets of `generation` to be read. Where the kernel steers nothing, all of them: then no other process can
    /// ever take over, and a client that changes its address loses its connection.
    pub(crate) fn take(&self, generation: Generation, is_handed_over: bool) -> io::Result<Vec<Slot>> {
        let mut slots = Vec::new();
        for group in &self.groups {
            // Who handed the sockets over steers until this process is ready.
            let steered = if is_handed_over { Ok(()) } else { group.steer(generation, Other::Gone) };
            match steered {
                _ if group.sockets.len() == 1 => slots.extend(group.slots(0..1)?),
                Ok(()) => slots.extend(group.slots(group.half(generation))?),
                Err(error) => {
                    let address = group.address;
                    tracing::warn!(%address, %error, "the kernel steers no QUIC here: an upgrade would cut connections");
                    slots.extend(group.slots(0..group.sockets.len())?);
                }
            }
        }
        if is_handed_over {
            slots.iter().for_each(|slot| forget_stale(&slot.socket));
        }
        Ok(slots)
    }
}

impl Group {
    fn per_generation(&self) -> usize {
        (self.sockets.len() / 2).min(UDP_SOCKETS_MAX)
    }

    fn half(&self, generation: Generation) -> core::ops::Range<usize> {
        let count = self.per_generation();
        let base = if generation == Generation::Even { 0 } else { count };
        base..base + count
    }

    fn slots(&self, range: core::ops::Range<usize>) -> io::Result<Vec<Slot>> {
        let slot = |(index, socket): (usize, &UdpSocket)| {
            let slot = u8::try_from(index).map_err(|_| io::Error::other("too many sockets at one address"))?;
            Ok(Slot { socket: socket.try_clone()?, slot })
        };
        self.sockets.iter().enumerate().skip(range.start).take(range.len()).map(slot).collect()
    }

    fn steer(&self, generation: Generation, other: Other) -> io::Result<()> {
        let program =
            u32::try_from(self.per_generation()).ok().and_then(|count| Program::new(count, generation, other));
        match (program, self.sockets.first()) {
            (Some(program), Some(socket)) => attach::attach(socket, &program.instructions()),
            _ => Err(io::Error::other(format!("{} has one UDP socket, two generations need two", self.address))),
        }
    }
}

/// Throws away what came to a socket while nobody read it.
fn forget_stale(socket: &UdpSocket) {
    let mut buffer = [0; 1];
    if socket.set_nonblocking(true).is_ok() {
        let stale = (0..STALE_MAX).take_while(|_| socket.recv_from(&mut buffer).is_ok()).count();
        tracing::debug!(stale, "datagrams that nobody read were thrown away");
    }
}

#[cfg(test)]
mod tests;
