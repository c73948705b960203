//! Clocks: the thread's CPU time, which calls are charged by, and the coarse clocks that guests see.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock};

/// What guests see of time is rounded down to this: a finer clock would serve to listen to neighbours.
const RESOLUTION_MS: u64 = 1;

/// The CPU time of this thread, in nanoseconds. Being preempted and waiting do not count.
pub(crate) fn thread_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}

/// Milliseconds of a duration.
pub(crate) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The wall clock of guests.
pub(crate) struct Wall;

impl HostWallClock for Wall {
    fn resolution(&self) -> Duration {
        Duration::from_millis(RESOLUTION_MS)
    }

    fn now(&self) -> Duration {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Duration::from_millis(ms(now) / RESOLUTION_MS * RESOLUTION_MS)
    }
}

/// The monotonic clock of guests; it begins with the call, so that it says nothing of the host.
pub(crate) struct Monotonic(pub(crate) Instant);

impl HostMonotonicClock for Monotonic {
    fn resolution(&self) -> u64 {
        RESOLUTION_MS * 1_000_000
    }

    fn now(&self) -> u64 {
        ms(self.0.elapsed()) / RESOLUTION_MS * RESOLUTION_MS * 1_000_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thread_clock_goes_forward_with_work() {
        let before = thread_ns();
        let mut sum = 0_u64;
        while thread_ns() - before < 1_000_000 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(sum > 0);
    }

    #[test]
    fn guests_see_whole_milliseconds() {
        assert_eq!(Wall.now().subsec_nanos() % 1_000_000, 0);
        assert_eq!(Monotonic(Instant::now()).now() % 1_000_000, 0);
    }
}
