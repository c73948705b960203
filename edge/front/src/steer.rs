//! Steering: which socket of a UDP port a datagram goes to. The sockets of one address form a group that shares its port
//! (`SO_REUSEPORT`); half of it belongs to each of two *generations*, the process that serves and the one that takes over
//! from it. A small program in the kernel reads the slot in the connection ID, so that a connection stays with its
//! endpoint whatever address its client has, and begins new connections at the generation that serves. Where the kernel
//! takes no program, the processes do the same by themselves (`relay`).
//!
//! It knows neither TLS nor what a connection carries.

mod attach;
mod cid;
mod keys;
mod orphans;
mod program;
mod relay;

use core::net::SocketAddr;
use core::ops::Range;
use std::io;
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::sync::Arc;

pub(crate) use cid::Slotted;
pub use keys::Keys;
pub(crate) use orphans::Orphans;
use program::Program;
pub use relay::Relay;
pub(crate) use relay::Relayed;
use relay::{Desk, Reads};

use crate::counts::Counts;

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
    relay: Relay,
}

/// A socket that an endpoint of this process reads, and the slot that its connections carry.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) socket: UdpSocket,
    pub(crate) slot: u8,
    /// There where datagrams are relayed.
    pub(crate) relayed: Option<Relayed>,
}

impl Steering {
    /// The groups among `sockets`, which have the order in which they were bound.
    pub(crate) fn new(sockets: Vec<UdpSocket>, relay: Relay) -> io::Result<Self> {
        let mut groups: Vec<Group> = Vec::new();
        for socket in sockets {
            let address = socket.local_addr()?;
            match groups.iter_mut().find(|group| group.address == address) {
                Some(group) => group.sockets.push(socket),
                None => groups.push(Group { address, sockets: vec![socket] }),
            }
        }
        Ok(Self { groups, relay })
    }

    /// Begins every new connection at `generation`. Where the kernel does not, the process of the other generation is to
    /// say the same. Inside of a runtime.
    ///
    /// # Errors
    /// When the kernel takes no program any more, or an address has one socket only, which no two processes can share.
    pub fn steer(&self, generation: Generation, other: Other) -> io::Result<()> {
        if self.relay.is_on() {
            return self.relay.steer(generation, other);
        }
        self.groups.iter().try_for_each(|group| group.steer(generation, other))
    }

    /// Makes sure, for the process of `mine`, which is alone, that another one can take over without a cut connection;
    /// where datagrams are relayed, with the end of a line for it.
    ///
    /// # Errors
    /// As for [`Steering::steer`].
    pub fn successor(&self, mine: Generation) -> io::Result<Option<OwnedFd>> {
        if !self.relay.is_on() {
            // What the kernel does not do now it will not do then.
            return self.steer(mine, Other::Gone).map(|()| None);
        }
        self.groups.iter().try_for_each(|group| group.program(mine, Other::Gone).map(drop))?;
        self.relay.successor().map(Some)
    }

    /// Reads nothing any more. Where datagrams are relayed, the other process then reads all sockets.
    pub(crate) fn end(&self) {
        self.relay.end();
    }

    /// The sockets of `generation`, to be read by endpoints. Where the kernel steers nothing, all others are read, too, as
    /// long as nobody else does. Inside of a runtime.
    pub(crate) fn take(
        &self,
        generation: Generation,
        is_handed_over: bool,
        counts: &Arc<Counts>,
    ) -> io::Result<Vec<Slot>> {
        // Who handed the sockets over steers until this process is ready.
        let is_relaying = self.relay.is_on() || !is_handed_over && self.is_refused(generation);
        let desk =
            is_relaying.then(|| self.relay.open(generation, &self.endpoints(), Arc::clone(counts))).transpose()?;
        let mut slots = Vec::new();
        for (number, group) in self.groups.iter().enumerate() {
            slots.extend(group.slots(generation, number, desk.as_ref())?);
            if let Some(desk) = &desk {
                group.read_others(generation, number, desk)?;
            }
        }
        if is_handed_over && desk.is_none() {
            slots.iter().for_each(|slot| forget_stale(&slot.socket));
        }
        Ok(slots)
    }

    /// Whether the kernel refuses to steer a group that two generations share.
    fn is_refused(&self, generation: Generation) -> bool {
        let shared = self.groups.iter().filter(|group| group.per_generation() > 0);
        shared.fold(false, |is_refused, group| match group.steer(generation, Other::Gone) {
            Ok(()) => is_refused,
            Err(error) => {
                let address = group.address;
                tracing::warn!(%address, %error, "the kernel takes no program to steer QUIC: its datagrams are relayed");
                true
            }
        })
    }

    /// How many endpoints a generation has at each group, where two share it.
    fn endpoints(&self) -> Vec<u32> {
        self.groups.iter().map(|group| u32::try_from(group.per_generation()).unwrap_or(0)).collect()
    }
}

impl Group {
    fn per_generation(&self) -> usize {
        (self.sockets.len() / 2).min(UDP_SOCKETS_MAX)
    }

    /// The places of a generation. One socket alone is of whoever has it.
    fn half(&self, generation: Generation) -> Range<usize> {
        match (self.per_generation(), generation) {
            (0, _) => 0..self.sockets.len(),
            (count, Generation::Even) => 0..count,
            (count, Generation::Odd) => count..2 * count,
        }
    }

    fn slots(&self, generation: Generation, number: usize, desk: Option<&Arc<Desk>>) -> io::Result<Vec<Slot>> {
        let half = self.half(generation);
        let desk = desk.filter(|_| self.per_generation() > 0);
        let slot = |(endpoint, socket): (usize, &UdpSocket)| {
            let slot = u8::try_from(half.start + endpoint);
            let slot = slot.map_err(|_| io::Error::other("too many sockets at one address"))?;
            let relayed = desk.map(|desk| Relayed { desk: Arc::clone(desk), group: number, endpoint });
            Ok(Slot { socket: socket.try_clone()?, slot, relayed })
        };
        self.sockets[half.clone()].iter().enumerate().map(slot).collect()
    }

    /// Reads the sockets that are no endpoint's of `generation`: those of the other one, and those beyond both, which are
    /// the even one's.
    fn read_others(&self, generation: Generation, number: usize, desk: &Arc<Desk>) -> io::Result<()> {
        let (half, theirs) = (self.half(generation), self.half(generation.next()));
        for (place, socket) in self.sockets.iter().enumerate().filter(|(place, _)| !half.contains(place)) {
            let is_theirs = theirs.contains(&place) || generation == Generation::Odd;
            let reads = if is_theirs { Reads::WithoutOther } else { Reads::WithOurs };
            tokio::spawn(relay::read(Arc::clone(desk), number, socket.try_clone()?, reads));
        }
        Ok(())
    }

    fn steer(&self, generation: Generation, other: Other) -> io::Result<()> {
        let program = self.program(generation, other)?;
        self.sockets.first().map_or(Ok(()), |socket| attach::attach(socket, &program.instructions()))
    }

    fn program(&self, generation: Generation, other: Other) -> io::Result<Program> {
        let program =
            u32::try_from(self.per_generation()).ok().and_then(|count| Program::new(count, generation, other));
        program
            .ok_or_else(|| io::Error::other(format!("{} has one UDP socket, two generations need two", self.address)))
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
