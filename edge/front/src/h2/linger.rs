//! The end of a connection whose client may still be sending, as it does while it takes a response: what came and nobody
//! read would make the kernel reset the connection when it is closed, and that takes the last response from the client.

use core::future::Future as _;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Sleep, sleep};

/// What is still read, in bytes, and for how long.
const LINGER_BYTES_MAX: usize = 1 << 20;
const LINGER: Duration = Duration::from_secs(2);

/// What is read of a client after our side has ended.
pub(super) struct Linger {
    left: usize,
    timer: Pin<Box<Sleep>>,
}

impl Linger {
    pub(super) fn new() -> Self {
        Self { left: LINGER_BYTES_MAX, timer: Box::pin(sleep(LINGER)) }
    }

    /// Ready when the client has ended its side, too, or has sent or taken too much.
    pub(super) fn poll<S: AsyncRead + Unpin>(&mut self, io: &mut S, cx: &mut Context<'_>) -> Poll<()> {
        let mut sink = [0; 4096];
        loop {
            let mut into = ReadBuf::new(&mut sink);
            match Pin::new(&mut *io).poll_read(cx, &mut into) {
                Poll::Pending => return self.timer.as_mut().poll(cx),
                Poll::Ready(Ok(())) if !into.filled().is_empty() && self.left > into.filled().len() => {
                    self.left -= into.filled().len();
                }
                Poll::Ready(_) => return Poll::Ready(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use core::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, duplex};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_is_read_until_it_ends_or_has_sent_a_mib_and_for_no_longer_than_two_seconds() {
        let from = Instant::now();
        let linger = |mut io: Box<dyn AsyncRead + Unpin>| async move {
            let mut linger = Linger::new();
            poll_fn(|cx| linger.poll(&mut io, cx)).await;
        };
        linger(Box::new(tokio::io::repeat(7).take(1000))).await;
        linger(Box::new(tokio::io::repeat(7))).await;
        assert_eq!(from.elapsed(), Duration::ZERO);
        let (ours, _theirs) = duplex(64);
        linger(Box::new(ours)).await;
        assert!((LINGER..LINGER * 2).contains(&from.elapsed()), "{:?}", from.elapsed());
    }
}
