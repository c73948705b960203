//! The allowance: what an app may spend on a node per second, a token bucket that may go into debt. It counts any unit
//! (CPU microseconds, requests); time comes in as an argument.

/// How much debt is remembered, in seconds of refill: a burst of overruns closes an app for at most this long.
pub const DEBT_SECONDS_MAX: u64 = 60;

const MILLION: i128 = 1_000_000;

/// A token bucket. It lets calls begin while it is above zero; what they used is drawn afterwards, all of it, so an
/// overrun is paid by the calls that follow.
#[derive(Clone, Debug)]
pub struct Allowance {
    per_second: u64,
    burst: u64,
    /// In millionths of the unit, so that no refill is lost to rounding.
    level_millionths: i128,
    at_us: u64,
}

impl Allowance {
    /// A full bucket that gains `per_second` units a second up to `burst`. `now_us` is any clock that does not go back,
    /// in microseconds; the same clock in every call.
    pub fn new(per_second: u64, burst: u64, now_us: u64) -> Self {
        Self { per_second, burst, level_millionths: i128::from(burst) * MILLION, at_us: now_us }
    }

    /// Changes rate and burst, keeping what is saved or owed.
    pub fn set(&mut self, per_second: u64, burst: u64, now_us: u64) {
        self.refill(now_us);
        (self.per_second, self.burst) = (per_second, burst);
        self.level_millionths = self.level_millionths.clamp(self.debt_max(), i128::from(burst) * MILLION);
    }

    /// Whether a call may begin.
    pub fn is_open(&mut self, now_us: u64) -> bool {
        self.refill(now_us);
        self.level_millionths > 0
    }

    /// Draws what was used, into debt if need be. Says whether anything is left.
    pub fn draw(&mut self, used: u64, now_us: u64) -> bool {
        self.refill(now_us);
        self.level_millionths = (self.level_millionths - i128::from(used) * MILLION).max(self.debt_max());
        self.level_millionths > 0
    }

    /// Draws `used` only if that much is there: for counts known beforehand, such as requests or log bytes.
    pub fn take(&mut self, used: u64, now_us: u64) -> bool {
        self.refill(now_us);
        let left = self.level_millionths - i128::from(used) * MILLION;
        let enough = left >= 0;
        if enough {
            self.level_millionths = left;
        }
        enough
    }

    /// Microseconds until a call may begin; 0: now; `u64::MAX`: never at this rate.
    pub fn wait_us(&mut self, now_us: u64) -> u64 {
        self.refill(now_us);
        if self.level_millionths > 0 {
            return 0;
        }
        if self.per_second == 0 || self.burst == 0 {
            return u64::MAX;
        }
        // One unit a second is one millionth a microsecond. One millionth above zero is open.
        let missing = 1 - self.level_millionths;
        u64::try_from((missing + i128::from(self.per_second) - 1) / i128::from(self.per_second)).unwrap_or(u64::MAX)
    }

    fn debt_max(&self) -> i128 {
        -i128::from(self.per_second) * i128::from(DEBT_SECONDS_MAX) * MILLION
    }

    fn refill(&mut self, now_us: u64) {
        // A clock that went back gives nothing and takes nothing.
        let passed_us = now_us.saturating_sub(self.at_us);
        self.at_us = self.at_us.max(now_us);
        let gain = i128::from(passed_us).saturating_mul(i128::from(self.per_second));
        self.level_millionths = self.level_millionths.saturating_add(gain).min(i128::from(self.burst) * MILLION);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn an_overrun_is_paid_back_before_the_next_call_begins() {
        let mut allowance = Allowance::new(500_000, 100_000, 0);
        assert!(allowance.is_open(0) && allowance.draw(99_999, 0));
        assert!(!allowance.draw(200_001, 0), "now 200 ms in debt");
        assert_eq!(allowance.wait_us(0), 400_001);
        assert!(!allowance.is_open(400_000) && allowance.is_open(400_001));
        assert!(allowance.is_open(10 * SECOND) && !allowance.draw(100_000, 10 * SECOND), "never above its burst");
    }

    #[test]
    fn a_debt_is_forgotten_past_its_bound_and_a_rate_of_nothing_never_opens() {
        let mut allowance = Allowance::new(10, 10, 0);
        assert!(!allowance.draw(u64::MAX, 0));
        assert_eq!(allowance.wait_us(0), DEBT_SECONDS_MAX * SECOND + 1);
        let mut closed = Allowance::new(0, 1, 0);
        assert!(closed.take(1, 0) && !closed.take(1, u64::MAX));
        assert_eq!(closed.wait_us(u64::MAX), u64::MAX);
        let mut wide = Allowance::new(u64::MAX, u64::MAX, 0);
        assert!(wide.draw(5, u64::MAX) && wide.is_open(u64::MAX));
    }

    #[test]
    fn a_clock_that_goes_back_gives_and_takes_nothing() {
        let mut allowance = Allowance::new(1, 5, 100 * SECOND);
        assert!(!allowance.draw(5, 100 * SECOND));
        assert!(!allowance.is_open(0) && !allowance.is_open(100 * SECOND));
        assert!(allowance.take(1, 101 * SECOND));
    }

    #[test]
    fn a_new_rate_keeps_what_is_owed() {
        let mut allowance = Allowance::new(10, 10, 0);
        allowance.draw(30, 0);
        allowance.set(20, 5, 0);
        assert_eq!(allowance.wait_us(0), SECOND + 1);
        assert!(allowance.take(5, 100 * SECOND) && !allowance.take(1, 100 * SECOND));
    }

    proptest! {
        #[test]
        fn over_any_time_no_more_is_taken_than_burst_and_refill(
            per_second in 0u64..10_000, burst in 0u64..10_000,
            steps in proptest::collection::vec((0u64..500_000, 0u64..4_000), 1..80),
        ) {
            let mut allowance = Allowance::new(per_second, burst, 0);
            let (mut now, mut taken) = (0u64, 0u64);
            for (passed, used) in steps {
                now += passed;
                if allowance.take(used, now) {
                    taken += used;
                }
                let most = u128::from(burst) + u128::from(per_second) * u128::from(now) / 1_000_000;
                prop_assert!(u128::from(taken) <= most);
            }
        }

        #[test]
        fn it_is_open_exactly_after_the_wait_it_names(per_second in 1u64..1_000_000, burst in 1u64..1_000, used in 0u64..9_999) {
            let mut allowance = Allowance::new(per_second, burst, 7);
            allowance.draw(used, 7);
            let wait = allowance.wait_us(7);
            prop_assert!(wait == 0 || !allowance.clone().is_open(7 + wait - 1));
            prop_assert!(allowance.is_open(7 + wait));
        }
    }
}
