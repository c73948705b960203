//! Clients that take nothing: what is ready for them must not wait for ever. On the socket, [`Sending`] bounds a write;
//! for one stream of HTTP/2, [`watched`] bounds how long a piece of its body may wait for room. HTTP/3 bounds its own.

use core::future::{Future, poll_fn};
use core::pin::{Pin, pin};
use core::task::{Context, Poll};
use core::time::Duration;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use eyot_h3::patience::{Patience, credit};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep};

/// A socket on which a write that makes no progress, or next to none, for too long fails.
pub(crate) struct Sending<S> {
    io: S,
    patience: Patience,
}

impl<S> Sending<S> {
    pub(crate) fn new(io: S, limit: Duration, rate_bytes: u32) -> Self {
        Self { io, patience: Patience::new(limit, rate_bytes) }
    }

    /// Passes on what a write said, with a deadline while it is pending.
    fn bound<T>(
        &mut self,
        cx: &mut Context<'_>,
        said: Poll<io::Result<T>>,
        bytes: impl FnOnce(&T) -> usize,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(said) = said {
            self.patience.moved(said.as_ref().map_or(0, bytes));
            return Poll::Ready(said);
        }
        self.patience.poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Sending<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Sending<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let said = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.bound(cx, said, |bytes| *bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let said = Pin::new(&mut self.io).poll_write_vectored(cx, pieces);
        self.bound(cx, said, |bytes| *bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let said = Pin::new(&mut self.io).poll_flush(cx);
        self.bound(cx, said, |()| 0)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let said = Pin::new(&mut self.io).poll_shutdown(cx);
        self.bound(cx, said, |()| 0)
    }
}

/// Since when a piece of the body has been with the client's side; `None` while the answer is asked for the next.
type Since = Arc<Mutex<Option<Instant>>>;

tokio::task_local! {
    static SINCE: Since;
}

/// The body has given a piece: from now the client must take it.
pub(crate) fn given() {
    let _ = SINCE.try_with(|since| *since.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now()));
}

/// The body is asked for the next piece: the client is not to blame for the time this takes.
pub(crate) fn asked() {
    let _ = SINCE.try_with(|since| *since.lock().unwrap_or_else(PoisonError::into_inner) = None);
}

/// The client has taken so many bytes of the piece: it may take longer for the rest, at this rate.
pub(crate) fn taken(bytes: usize, rate_bytes: u32) {
    let _ = SINCE.try_with(|since| {
        let mut since = since.lock().unwrap_or_else(PoisonError::into_inner);
        *since = since.map(|from| (from + credit(bytes, rate_bytes)).min(Instant::now()));
    });
}

/// Runs one exchange, and drops it when a piece of its body waits for the client longer than `limit`.
pub(crate) async fn watched<F: Future>(limit: Duration, exchange: F) -> Option<F::Output> {
    let since = Since::default();
    let mut exchange = pin!(SINCE.scope(since.clone(), exchange));
    // Most exchanges never wait: they need no timer.
    if let Poll::Ready(output) = poll_fn(|cx| Poll::Ready(exchange.as_mut().poll(cx))).await {
        return Some(output);
    }
    let mut timer = pin!(sleep(limit));
    loop {
        tokio::select! {
            biased;
            output = &mut exchange => return Some(output),
            () = &mut timer => {
                let from = since.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or_else(Instant::now);
                if from.elapsed() >= limit {
                    return None;
                }
                timer.as_mut().reset(from + limit);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_exchange_ends_when_the_client_takes_nothing_and_not_when_the_answer_is_slow() {
        let limit = Duration::from_secs(30);
        let slow = async {
            given();
            asked();
            sleep(limit * 10).await;
        };
        assert_eq!(watched(limit, slow).await, Some(()));
        let stuck = async {
            asked();
            given();
            core::future::pending::<()>().await;
        };
        assert_eq!(watched(limit, stuck).await, None);
        let taking = async |bytes: usize| {
            given();
            for _ in 0..100 {
                sleep(Duration::from_secs(1)).await;
                taken(bytes, 256);
            }
        };
        assert_eq!(watched(limit, taking(256)).await, Some(()));
        assert_eq!(watched(limit, taking(1)).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_makes_no_progress_fails() {
        use tokio::io::AsyncWriteExt as _;
        let (ours, _theirs) = tokio::io::duplex(4);
        let mut sending = Sending::new(ours, Duration::from_secs(30), 256);
        assert!(sending.write_all(b"1234").await.is_ok());
        let error = sending.write_all(b"5").await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_makes_next_to_no_progress_fails_too() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (ours, mut theirs) = tokio::io::duplex(4);
        let mut sending = Sending::new(ours, Duration::from_secs(30), 256);
        let reading = tokio::spawn(async move {
            while theirs.read_u8().await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        let error = sending.write_all(&[0; 1000]).await.expect_err("a byte a second");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        reading.abort();
    }
}
