//! What leaves together. The library writes each piece of a body alone, and each would be a record of TLS and a system call
//! of its own: what is written is gathered until whoever drives the connection has nothing more to do for it.

use core::pin::Pin;
use core::task::{Context, Poll, ready};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is gathered at most, in bytes: two whole records of TLS (RFC 8446, section 5.1).
const GATHERED_BYTES_MAX: usize = 32 << 10;

/// A connection as the library writes to it. Clones are the same connection, for whoever drives it.
pub(super) struct Gather<S>(Arc<Mutex<State<S>>>);

struct State<S> {
    io: S,
    bytes: Vec<u8>,
    /// How many of them have been written.
    written: usize,
    /// A flush is no reason to write.
    is_held: bool,
}

impl<S> Clone for Gather<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> Gather<S> {
    pub(super) fn new(io: S) -> Self {
        Self(Arc::new(Mutex::new(State { io, bytes: Vec::new(), written: 0, is_held: false })))
    }

    /// Whether what is flushed is held back until [`Self::poll_leave`].
    pub(super) fn hold(&self, is_held: bool) {
        self.state().is_held = is_held;
    }

    /// Only one task drives a connection: nobody waits here.
    fn state(&self) -> MutexGuard<'_, State<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: AsyncWrite + Unpin> Gather<S> {
    /// Writes what was gathered.
    pub(super) fn poll_leave(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.state().poll_leave(cx)
    }
}

impl<S: AsyncWrite + Unpin> State<S> {
    fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_empty(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_empty(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.bytes.len() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.bytes[self.written..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
        }
        // Of many connections most say nothing: they hold no room.
        (self.bytes, self.written) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }

    fn poll_take<'a>(
        &mut self,
        cx: &mut Context<'_>,
        pieces: impl Iterator<Item = &'a [u8]>,
    ) -> Poll<io::Result<usize>> {
        if self.bytes.len() >= GATHERED_BYTES_MAX {
            ready!(self.poll_empty(cx))?;
        }
        if self.bytes.capacity() == 0 {
            self.bytes.reserve_exact(GATHERED_BYTES_MAX);
        }
        let before = self.bytes.len();
        for piece in pieces {
            let room = GATHERED_BYTES_MAX - self.bytes.len();
            self.bytes.extend_from_slice(&piece[..piece.len().min(room)]);
        }
        Poll::Ready(Ok(self.bytes.len() - before))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gather<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.state().io).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gather<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.state().poll_take(cx, core::iter::once(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.state().poll_take(cx, pieces.iter().map(|piece| &**piece))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        if state.is_held { Poll::Ready(Ok(())) } else { state.poll_leave(cx) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        ready!(state.poll_empty(cx))?;
        Pin::new(&mut state.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    /// Takes each write whole, and remembers its size.
    #[derive(Default)]
    struct Writes(Vec<usize>);

    impl AsyncWrite for Writes {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.0.push(bytes.len());
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    async fn leave<S: AsyncWrite + Unpin>(gather: &Gather<S>) -> io::Result<()> {
        core::future::poll_fn(|cx| gather.poll_leave(cx)).await
    }

    #[tokio::test]
    async fn what_is_held_leaves_in_one_write_and_what_is_more_than_may_be_held_in_pieces_of_that() {
        let mut gather = Gather::new(Writes::default());
        gather.write_all(b"preface").await.expect("a write");
        gather.flush().await.expect("a flush");
        gather.hold(true);
        for _ in 0..10 {
            gather.write_all(&[1; 1000]).await.expect("a write");
            gather.flush().await.expect("a flush");
        }
        assert_eq!(gather.state().io.0, [7]);
        leave(&gather).await.expect("a write");
        assert_eq!(gather.state().io.0, [7, 10_000]);
        leave(&gather).await.expect("nothing is left");
        gather.write_all(&[1; 2 * GATHERED_BYTES_MAX + 5]).await.expect("a write");
        gather.shutdown().await.expect("a write, and the end");
        assert_eq!(gather.state().io.0, [7, 10_000, GATHERED_BYTES_MAX, GATHERED_BYTES_MAX, 5]);
    }

    #[tokio::test]
    async fn every_byte_comes_once_and_in_order_however_little_is_taken_at_once() {
        let (ours, theirs): (_, DuplexStream) = duplex(100);
        let sent: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
        let all = sent.clone();
        let sending = tokio::spawn(async move {
            let mut gather = Gather::new(ours);
            gather.hold(true);
            for (n, piece) in all.chunks(777).enumerate() {
                let (head, rest) = piece.split_at(piece.len().min(9));
                let taken = gather.write_vectored(&[io::IoSlice::new(head), io::IoSlice::new(rest)]).await;
                gather.write_all(&piece[taken.expect("a write")..]).await.expect("a write");
                if n % 5 == 0 {
                    leave(&gather).await.expect("a write");
                }
            }
            gather.hold(false);
            gather.flush().await.expect("a flush");
        });
        let mut came = Vec::new();
        { theirs }.read_to_end(&mut came).await.expect("the end");
        sending.await.expect("no panic");
        assert!(came == sent);
    }
}
