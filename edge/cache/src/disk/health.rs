//! Whether the disk takes what is written to it. After a failure nothing is written for a while, and longer each time;
//! it is said when that begins and when it ends.

use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The longest that nothing is written after a failure.
const PAUSE_MAX: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub(crate) struct Health {
    since: Instant,
    first: Duration,
    /// In milliseconds since `since`.
    paused_until: AtomicU64,
    failures: AtomicU32,
}

impl Health {
    /// With the pause after a first failure.
    pub(crate) fn new(first: Duration) -> Self {
        Self { since: Instant::now(), first, paused_until: AtomicU64::new(0), failures: AtomicU32::new(0) }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.failures.load(Ordering::Relaxed) > 0 && self.now_ms() < self.paused_until.load(Ordering::Relaxed)
    }

    pub(crate) fn failed(&self, error: &io::Error) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed);
        let pause = self.first.saturating_mul(1 << failures.min(16)).min(PAUSE_MAX);
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        self.paused_until.store(self.now_ms().saturating_add(pause_ms), Ordering::Relaxed);
        if failures == 0 {
            tracing::warn!(%error, "the cache's disk tier cannot write: nothing is stored there for now");
        }
    }

    pub(crate) fn wrote(&self) {
        if self.failures.swap(0, Ordering::Relaxed) > 0 {
            tracing::info!("the cache's disk tier writes again");
        }
    }
}

/// Whether it is for want of room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), FileTooLarge | QuotaExceeded | StorageFull)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_failure_nothing_is_written_for_a_while() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let health = Health::new(Duration::from_secs(3600));
        assert!(!health.is_paused());
        health.failed(&full);
        assert!(health.is_paused() && is_full(&full));
        // What was under way and still went well ends it.
        health.wrote();
        assert!(!health.is_paused());
        for _ in 0..100 {
            health.failed(&full);
        }
        let until = Duration::from_millis(health.paused_until.load(Ordering::Relaxed));
        assert!(until <= health.since.elapsed() + PAUSE_MAX);
    }
}
