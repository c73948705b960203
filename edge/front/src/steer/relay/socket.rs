//! A socket of an endpoint where datagrams are relayed: what comes to it is for the endpoint, or passed on; what others
//! passed on comes out of it as if it had come to it. What is sent goes out by it, as it has the address of all.

use core::net::SocketAddr;
use core::pin::Pin;
use std::io::{self, IoSliceMut};
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use super::View;
use super::desk::{Desk, Way};

/// Receives that may hold nothing for this endpoint before other tasks have their turn.
const ROUNDS: usize = 8;

/// The place of an endpoint at the desk.
#[derive(Clone, Debug)]
pub(crate) struct Relayed {
    pub(in crate::steer) desk: Arc<Desk>,
    /// The number of its group.
    pub(in crate::steer) group: usize,
    /// Its number in its group.
    pub(in crate::steer) endpoint: usize,
}

impl Relayed {
    /// Stands between a socket and its endpoint.
    pub(crate) fn wrap(self, socket: Arc<dyn AsyncUdpSocket>) -> Arc<dyn AsyncUdpSocket> {
        Arc::new(Wrapped { socket, place: self })
    }
}

#[derive(Debug)]
struct Wrapped {
    socket: Arc<dyn AsyncUdpSocket>,
    place: Relayed,
}

impl Wrapped {
    /// Keeps of what was received what is for this endpoint, and passes the rest on; how many buffers then hold something.
    fn keep(&self, view: &View, buffers: &mut [IoSliceMut<'_>], metas: &mut [RecvMeta]) -> usize {
        let mut kept = 0;
        for at in 0..buffers.len().min(metas.len()) {
            let length = self.keep_of(view, &mut buffers[at], &metas[at]);
            if length > 0 {
                metas[at].len = length;
                buffers.swap(kept, at);
                metas.swap(kept, at);
                kept += 1;
            }
        }
        kept
    }

    /// The same for one buffer: what is kept of it moves to its front, and the length of that is returned. Only the last
    /// datagram may be shorter than the others, and it stays the last.
    fn keep_of(&self, view: &View, buffer: &mut [u8], meta: &RecvMeta) -> usize {
        let Relayed { desk, group, endpoint } = &self.place;
        let (mut kept, mut seen) = (0, 0);
        while seen < meta.len {
            // What was moved is in front of what is looked at.
            let bytes = &buffer[seen..meta.len];
            let Some((way, range)) = desk.ways(view, *group, meta.stride, bytes).next() else { break };
            let range = seen + range.start..seen + range.end;
            seen = range.end;
            if way == Way::Mine(*endpoint) {
                let length = range.len();
                if range.start != kept {
                    buffer.copy_within(range, kept);
                }
                kept += length;
            } else {
                desk.pass(view, *group, way, meta, &buffer[range]);
            }
        }
        kept
    }
}

impl AsyncUdpSocket for Wrapped {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.socket).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let Relayed { desk, group, endpoint } = &self.place;
        // Half of the room, so that neither way starves the other. This comes first: it asks to be woken.
        let half = buffers.len().div_ceil(2);
        let filled = desk.take((*group, *endpoint), cx, &mut buffers[..half], metas);
        let (buffers, metas) = (&mut buffers[filled..], &mut metas[filled..]);
        for _ in 0..ROUNDS {
            let view = desk.view();
            let received = if view.phase.reads() && !buffers.is_empty() {
                self.socket.poll_recv(cx, buffers, metas)
            } else {
                Poll::Pending
            };
            match received {
                Poll::Pending if filled == 0 => return Poll::Pending,
                Poll::Pending => return Poll::Ready(Ok(filled)),
                Poll::Ready(Err(_)) if filled > 0 => return Poll::Ready(Ok(filled)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(count)) => {
                    let kept = self.keep(&view, &mut buffers[..count], &mut metas[..count]);
                    if filled + kept > 0 {
                        return Poll::Ready(Ok(filled + kept));
                    }
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}
