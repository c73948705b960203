//! The budget of retries: so many for a hundred requests, and a few beside them for an upstream that is seldom asked.
//! Without it every request to a server that fails becomes several, just when it can bear them least.

/// Retries that are there from the beginning, and come back one a second.
const FLOOR: u64 = 10;
/// Retries that are saved at most.
const SAVED_MAX: u64 = 100;
/// The bucket counts thousandths of a retry.
const ONE: u64 = 1_000;

/// What is left of an upstream's retries.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    percent: u64,
    level: u64,
    at_ms: u64,
}

impl Budget {
    pub(super) fn new(percent: u32, now_ms: u64) -> Self {
        Self { percent: percent.into(), level: FLOOR * ONE, at_ms: now_ms }
    }

    /// The same level, filled as `other` is.
    pub(super) fn with_percent_of(self, other: &Self) -> Self {
        Self { percent: other.percent, ..self }
    }

    /// A request begins: it pays its part.
    pub(super) fn earn(&mut self) {
        self.level = (self.level + self.percent * ONE / 100).min(SAVED_MAX * ONE);
    }

    /// Draws one retry, if one is there.
    pub(super) fn draw(&mut self, now_ms: u64) -> bool {
        let passed_ms = now_ms.saturating_sub(self.at_ms);
        self.at_ms = now_ms.max(self.at_ms);
        if self.level < FLOOR * ONE {
            // A millisecond brings a thousandth.
            self.level = self.level.saturating_add(passed_ms).min(FLOOR * ONE);
        }
        let left = self.level.checked_sub(ONE);
        self.level = left.unwrap_or(self.level);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many retries so many requests get that all ask for `each`, one request a millisecond.
    fn retries(percent: u32, requests: u64, each: u64) -> u64 {
        let mut budget = Budget::new(percent, 0);
        let mut drawn = 0;
        for now_ms in 0..requests {
            budget.earn();
            drawn += (0..each).filter(|_| budget.draw(now_ms)).count() as u64;
        }
        drawn
    }

    #[test]
    fn requests_that_all_fail_are_multiplied_by_no_more_than_the_budget_and_its_floor() {
        for (percent, requests, each) in
            [(20, 10_000, 5), (20, 10_000, 1), (0, 10_000, 3), (100, 5_000, 2), (1, 100, 5)]
        {
            let most = FLOOR + u64::from(percent) * requests / 100 + requests / 1_000;
            let drawn = retries(percent, requests, each);
            assert!(drawn <= most, "{percent} % of {requests}, each {each}: {drawn} of {most}");
            assert!(
                drawn + 1 >= most.min(requests * each),
                "{percent} % of {requests}, each {each}: {drawn} of {most}"
            );
        }
    }

    #[test]
    fn what_was_saved_in_a_good_day_is_bounded_and_the_floor_comes_back_with_time() {
        let mut budget = Budget::new(20, 0);
        (0..1_000_000).for_each(|_| budget.earn());
        assert_eq!((0..1_000).filter(|_| budget.draw(0)).count() as u64, SAVED_MAX);
        assert!(!budget.draw(999) && budget.draw(1_998));
        assert_eq!((0..1_000).filter(|_| budget.draw(60_000_000)).count() as u64, FLOOR);
    }
}
