//! The line between two processes that share their sockets: a pair of Unix sockets that keeps the bounds of messages and
//! says when the other end is gone. Whoever sends never waits; the kernel bounds what is under way.

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram as Blocking;
use std::sync::Arc;

use quinn::udp::RecvMeta;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::UnixDatagram;

use super::desk::Desk;
use super::parcel::{self, BYTES_MAX, HEAD_BYTES};
use super::{Phase, View};

/// What the kernel may hold of messages under way, each way; the system may give less.
const BUFFER_BYTES: usize = 4 << 20;
/// Messages that are taken before other tasks have their turn.
const TURN: usize = 64;

/// A line in use: to the runtime it is a socket of datagrams, as it receives whole messages.
#[derive(Debug)]
pub(super) struct Line(UnixDatagram);

/// The two ends of a new line: one for this process, one to be handed over.
pub(super) fn pair() -> io::Result<(Socket, OwnedFd)> {
    let (here, there) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None)?;
    for end in [&here, &there] {
        // The system may give less than asked for; it serves all the same.
        let _ = end.set_send_buffer_size(BUFFER_BYTES);
    }
    Ok((here, there.into()))
}

impl Line {
    /// A line of a socket.
    pub(super) fn of(socket: Socket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self(UnixDatagram::from_std(Blocking::from(OwnedFd::from(socket)))?))
    }

    /// Begins to use it: `desk` is in `phase` from now on, passes on by it and takes what comes by it.
    pub(super) fn open(socket: Socket, phase: Phase, desk: &Arc<Desk>) -> io::Result<()> {
        let line = Arc::new(Self::of(socket)?);
        desk.set(phase, Some(Arc::clone(&line)));
        tokio::spawn(hear(line, Arc::clone(desk)));
        Ok(())
    }

    /// Passes datagrams on; whether there was room, and somebody at the other end.
    #[must_use]
    pub(super) fn send(&self, group: usize, meta: &RecvMeta, bytes: &[u8]) -> bool {
        let Some(head) = parcel::head(group, meta) else { return false };
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let parts = [IoSlice::new(&head), IoSlice::new(bytes)];
        SockRef::from(&self.0).send_vectored_with_flags(&parts, flags).is_ok()
    }

    /// Says to the other end that nobody is here any more.
    pub(super) fn close(&self) {
        // It fails where the other end is gone already.
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }
}

/// Takes what comes until the other end is gone.
async fn hear(line: Arc<Line>, desk: Arc<Desk>) {
    // One byte more, so that what is too long is seen to be.
    let mut buffer = vec![0; HEAD_BYTES + BYTES_MAX + 1];
    loop {
        for _ in 0..TURN {
            match line.0.recv(&mut buffer).await {
                // No message is empty.
                Ok(0) => return desk.is_left_by(&line),
                Ok(length) => desk.receive(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return desk.is_left_by(&line),
            }
        }
        tokio::task::yield_now().await;
    }
}

impl View {
    /// The same without this line, if it has it.
    pub(super) fn without(&mut self, line: &Arc<Line>) -> bool {
        let is_it = self.peer.as_ref().is_some_and(|peer| Arc::ptr_eq(peer, line));
        if is_it {
            self.peer = None;
        }
        is_it
    }
}
