//! Reading sockets that no endpoint of this process has: all that comes to them is passed on.

use core::future::poll_fn;
use std::io::{self, IoSliceMut};
use std::net::UdpSocket;
use std::sync::Arc;

use quinn::udp::RecvMeta;
use quinn::{AsyncUdpSocket, Runtime as _, TokioRuntime};
use tokio::sync::watch;

use super::desk::Desk;
use super::{Phase, View};

/// What is received at once: so many times what one receive may give.
const BUFFERS: usize = 8;
const BUFFER_BYTES: usize = 1 << 16;

/// When a process reads such a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::steer) enum Reads {
    /// When it reads those of its endpoints: it is of its half.
    WithOurs,
    /// While there is no other process, whose it is.
    WithoutOther,
}

impl Reads {
    fn now(self, view: &View) -> bool {
        view.phase.reads() && (self == Self::WithOurs || view.peer.is_none())
    }
}

/// Reads a socket of the group of this number whenever it is to be read, until the desk ends.
pub(in crate::steer) async fn read(desk: Arc<Desk>, group: usize, socket: UdpSocket, reads: Reads) {
    let mut views = desk.views();
    loop {
        when(&mut views, |view| reads.now(view) || view.phase == Phase::Ended).await;
        if desk.view().phase == Phase::Ended {
            return;
        }
        // Opened for each time, so that nobody is woken by what is not read.
        let read = match open(&socket) {
            Ok(open) => pass_on(&desk, group, open.as_ref(), &mut views, reads).await,
            Err(error) => Err(error),
        };
        if let Err(error) = read {
            tracing::error!(%error, "a socket that shares its port cannot be read: connections will suffer");
            return;
        }
    }
}

/// Waits until it stands so.
async fn when(views: &mut watch::Receiver<View>, stands: impl FnMut(&View) -> bool) {
    // The desk, and so the sender, is there as long as the reader.
    let _ = views.wait_for(stands).await;
}

fn open(socket: &UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
    let socket = socket.try_clone()?;
    socket.set_nonblocking(true)?;
    TokioRuntime.wrap_udp_socket(socket)
}

async fn pass_on(
    desk: &Desk,
    group: usize,
    socket: &dyn AsyncUdpSocket,
    views: &mut watch::Receiver<View>,
    reads: Reads,
) -> io::Result<()> {
    let mut memory = vec![0; BUFFERS * BUFFER_BYTES];
    loop {
        let mut buffers: [IoSliceMut<'_>; BUFFERS] = core::array::from_fn(|_| IoSliceMut::new(&mut []));
        for (buffer, room) in buffers.iter_mut().zip(memory.chunks_mut(BUFFER_BYTES)) {
            *buffer = IoSliceMut::new(room);
        }
        let mut metas = [RecvMeta::default(); BUFFERS];
        let count = tokio::select! {
            biased;
            () = when(views, |view| !reads.now(view)) => return Ok(()),
            count = poll_fn(|cx| socket.poll_recv(cx, &mut buffers, &mut metas)) => count?,
        };
        let view = desk.view();
        for (buffer, meta) in buffers.iter().zip(&metas).take(count) {
            desk.pass_all(&view, group, meta, &buffer[..meta.len.min(buffer.len())]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steer::relay::line::{Line, pair};

    #[tokio::test]
    async fn every_socket_is_read_by_one_process_at_a_time() {
        use Phase::{Alone, Drains, Ended, Serves, Waits};
        let line = Line::of(pair().expect("a pair").0).expect("a runtime");
        let peer = Some(Arc::new(line));
        // The phases of the process whose half it is, and of the other one; as long as both live.
        for (ours, theirs) in [(Alone, Waits), (Drains, Serves), (Serves, Drains), (Waits, Alone)] {
            let reads = |phase: Phase, reads: Reads| {
                let peer = peer.clone().filter(|_| phase != Alone);
                reads.now(&View { phase, peer })
            };
            let readers = [reads(ours, Reads::WithOurs), reads(theirs, Reads::WithoutOther)];
            assert_eq!(readers.iter().filter(|reads| **reads).count(), 1, "{ours:?} {theirs:?}");
        }
        for phase in [Alone, Drains, Serves] {
            let alone = View { phase, peer: None };
            assert!(Reads::WithOurs.now(&alone) && Reads::WithoutOther.now(&alone), "whoever is left reads all");
        }
        for phase in [Ended, Waits] {
            let view = View { phase, peer: None };
            assert!(!Reads::WithOurs.now(&view) && !Reads::WithoutOther.now(&view), "{phase:?}");
        }
    }
}
