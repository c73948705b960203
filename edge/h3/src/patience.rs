//! How long the other side is waited for. What it sends or takes pays the waiting back at the lowest rate that is borne,
//! so a trickle ends like silence, and a pause after much does not.

use core::future::Future as _;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// What a rate, in bytes a second, pays back for so many bytes.
pub fn credit(bytes: usize, rate_bytes: u32) -> Duration {
    let nanos = (bytes as u64).saturating_mul(1_000_000_000) / u64::from(rate_bytes.max(1));
    Duration::from_nanos(nanos)
}

/// One direction of one message, or of one connection.
#[derive(Debug)]
pub struct Patience {
    limit: Duration,
    /// In a second.
    rate_bytes: u32,
    /// Waited, and not paid back.
    owed: Duration,
    /// Since when it is waited now.
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    /// Waits for this long, and longer for what moves, at the rate in bytes a second.
    pub fn new(limit: Duration, rate_bytes: u32) -> Self {
        Self { limit, rate_bytes, owed: Duration::ZERO, since: None, timer: None }
    }

    /// Nothing moves: ready when that has been so for too long. The timer is moved only when it fires, not with every
    /// piece.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = *self.since.get_or_insert_with(Instant::now) + self.limit.saturating_sub(self.owed);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if deadline <= Instant::now() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }

    /// So many bytes moved.
    pub fn moved(&mut self, bytes: usize) {
        if let Some(since) = self.since.take() {
            self.owed += since.elapsed();
        }
        self.owed = self.owed.saturating_sub(credit(bytes, self.rate_bytes));
    }

    /// Something moved, and how much does not matter.
    pub fn forgive(&mut self) {
        (self.since, self.owed) = (None, Duration::ZERO);
    }
}

#[cfg(test)]
mod tests {
    use core::future::poll_fn;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_trickle_ends_like_silence_and_who_keeps_the_rate_may_pause() {
        let pause = Duration::from_secs(10);
        for (bytes, rounds) in [(0, 2), (10, 3), (100 * 5, 4), (100 * 10, 1000)] {
            let mut patience = Patience::new(pause * 3, 100);
            let mut waited = 0;
            while waited < 1000 && timeout(pause, poll_fn(|cx| patience.poll(cx))).await.is_err() {
                patience.moved(bytes);
                waited += 1;
            }
            assert_eq!(waited, rounds, "{bytes} bytes each time");
        }
    }
}
