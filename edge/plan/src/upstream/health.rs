//! Whether one server is healthy, by what probes found and by what requests met. It takes several of a kind in a row to
//! turn it either way, so that one lost packet does not.

use eyot_bundle::release::upstream::{Health as Probes, Passive};

/// How long a server that could not be connected to is asked only where there is no other, in milliseconds.
const SHAKEN_MS: u64 = 1_000;
/// A server is out for at most so many times the first time.
const EJECTION_TIMES_MAX: u32 = 32;
/// The least part that a server gets while it starts slowly, in thousandths.
const RAMP_LEAST: u64 = 100;
/// All of it, in thousandths.
pub(super) const RAMP_FULL: u64 = 1_000;

/// How a try at a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server failed: it was late, broke off, made no sense, or said itself that it cannot.
    Failed,
    /// It answered.
    Good,
    /// The try tells nothing of the server: the client left, or the node had no room.
    Neutral,
    /// It could not be connected to.
    Unreachable,
}

impl Outcome {
    /// Whether the server failed, where that is known.
    pub(super) fn failed(self) -> Option<bool> {
        match self {
            Self::Failed | Self::Unreachable => Some(true),
            Self::Good => Some(false),
            Self::Neutral => None,
        }
    }
}

/// How a server stands, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// It may be asked.
    Well,
    /// It may be asked if there is none that is well.
    Shaken,
    /// It failed too often; it may be asked if nobody else may. One request at a time when its time is over.
    Ejected,
    /// Probes found it down.
    Down,
}

/// What is known of one server.
#[derive(Clone, Debug)]
pub(super) struct Health {
    probed: Probed,
    /// Failures of requests in a row.
    streak: u32,
    /// Until when it is out; past that, on trial.
    ejected_until_ms: Option<u64>,
    /// How often it was taken out, without being well for long between.
    ejections: u32,
    /// When it was last connected to in vain.
    shaken_ms: Option<u64>,
    /// When it came, or came back; none: it was there from the beginning.
    since_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probed {
    /// No probe has ended: it is taken for healthy.
    Never,
    Up {
        bad: u32,
    },
    Down {
        good: u32,
    },
}

impl Health {
    /// A server that is taken for healthy; `since_ms` where others were there before it.
    pub(super) fn new(since_ms: Option<u64>) -> Self {
        Self { probed: Probed::Never, streak: 0, ejected_until_ms: None, ejections: 0, shaken_ms: None, since_ms }
    }

    /// How it stands, with so many requests under way at it.
    pub(super) fn standing(&self, now_ms: u64, under_way: u32) -> Standing {
        if matches!(self.probed, Probed::Down { .. }) {
            return Standing::Down;
        }
        if self.ejected_until_ms.is_some_and(|until_ms| now_ms < until_ms || under_way > 0) {
            return Standing::Ejected;
        }
        match self.shaken_ms {
            Some(at_ms) if now_ms < at_ms.saturating_add(SHAKEN_MS) => Standing::Shaken,
            _ => Standing::Well,
        }
    }

    /// Whether it is healthy, as operators are told.
    pub(super) fn is_healthy(&self) -> bool {
        !matches!(self.probed, Probed::Down { .. }) && self.ejected_until_ms.is_none()
    }

    /// The part of its weight that it gets now, in thousandths.
    pub(super) fn ramp(&self, now_ms: u64, slow_start_ms: u64) -> u64 {
        let Some(since_ms) = self.since_ms.filter(|_| slow_start_ms > 0) else { return RAMP_FULL };
        let passed_ms = now_ms.saturating_sub(since_ms).min(slow_start_ms);
        (passed_ms * RAMP_FULL / slow_start_ms).max(RAMP_LEAST)
    }

    /// A request to it has ended.
    pub(super) fn ended(&mut self, passive: Passive, now_ms: u64, outcome: Outcome) {
        match outcome {
            Outcome::Neutral => {}
            Outcome::Good => self.good(passive, now_ms),
            Outcome::Failed => self.bad(passive, now_ms),
            Outcome::Unreachable => {
                self.shaken_ms = Some(now_ms);
                self.bad(passive, now_ms);
            }
        }
    }

    fn good(&mut self, passive: Passive, now_ms: u64) {
        self.streak = 0;
        self.shaken_ms = None;
        match self.ejected_until_ms {
            // What began before it was taken out is no trial.
            Some(until_ms) if now_ms < until_ms => {}
            Some(_) => {
                self.ejected_until_ms = None;
                self.since_ms = Some(now_ms);
            }
            None => {
                let long = passive.eject_ms.saturating_mul(EJECTION_TIMES_MAX.into());
                if self.since_ms.is_none_or(|since_ms| now_ms >= since_ms.saturating_add(long)) {
                    self.ejections = 0;
                }
            }
        }
    }

    fn bad(&mut self, passive: Passive, now_ms: u64) {
        self.streak = self.streak.saturating_add(1);
        let on_trial = self.ejected_until_ms.is_some_and(|until_ms| now_ms >= until_ms);
        let is_in = self.ejected_until_ms.is_none();
        if passive.failures > 0 && (on_trial || (is_in && self.streak >= passive.failures)) {
            let times = 1_u32.checked_shl(self.ejections).unwrap_or(EJECTION_TIMES_MAX).min(EJECTION_TIMES_MAX);
            self.ejected_until_ms = Some(now_ms.saturating_add(passive.eject_ms.saturating_mul(times.into())));
            self.ejections = self.ejections.saturating_add(1);
            self.streak = 0;
        }
    }

    /// A probe of it has ended. The first one decides alone: nothing is known before it.
    pub(super) fn probed(&mut self, probes: &Probes, now_ms: u64, is_good: bool) {
        self.probed = match (self.probed, is_good) {
            (Probed::Never | Probed::Up { .. }, true) => Probed::Up { bad: 0 },
            (Probed::Never, false) => Probed::Down { good: 0 },
            (Probed::Up { bad }, false) if bad + 1 < probes.unhealthy => Probed::Up { bad: bad + 1 },
            (Probed::Up { .. } | Probed::Down { .. }, false) => Probed::Down { good: 0 },
            (Probed::Down { good }, true) if good + 1 < probes.healthy => Probed::Down { good: good + 1 },
            (Probed::Down { .. }, true) => {
                // It is another server now than the one that requests met.
                *self = Self::new(Some(now_ms));
                Probed::Up { bad: 0 }
            }
        };
    }

    /// It is no longer probed: what probes said is forgotten.
    pub(super) fn unprobed(&mut self) {
        self.probed = Probed::Never;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probes(healthy: u32, unhealthy: u32) -> Probes {
        Probes { healthy, unhealthy, ..Probes::default() }
    }

    #[test]
    fn it_takes_so_many_probes_of_a_kind_in_a_row_to_turn_and_the_first_decides_alone() {
        for (answers, expect) in [
            ("", ""),
            ("+", "+"),
            ("-", "-"),
            ("+--+--+--", "+++++++++"),
            ("+---", "+++-"),
            ("+---+-++-", "+++----++"),
            ("-++---", "--+++-"),
        ] {
            let mut health = Health::new(None);
            let mut seen = String::new();
            for answer in answers.chars() {
                health.probed(&probes(2, 3), 0, answer == '+');
                seen.push(if health.is_healthy() { '+' } else { '-' });
            }
            assert_eq!(seen, expect, "{answers}");
        }
    }

    const PASSIVE: Passive = Passive { failures: 3, eject_ms: 1_000 };

    #[test]
    fn failures_in_a_row_take_it_out_for_longer_each_time_and_one_request_at_a_time_brings_it_back() {
        let mut health = Health::new(None);
        let fail = |health: &mut Health, now_ms| health.ended(PASSIVE, now_ms, Outcome::Failed);
        for outcome in [Outcome::Failed, Outcome::Failed, Outcome::Good, Outcome::Failed, Outcome::Neutral] {
            health.ended(PASSIVE, 0, outcome);
        }
        fail(&mut health, 0);
        assert_eq!(health.standing(0, 9), Standing::Well);
        fail(&mut health, 0);
        let mut now_ms = 0;
        for times in [1, 2, 4, 8, 16, 32, 32, 32] {
            assert_eq!(health.standing(now_ms + 1_000 * times - 1, 0), Standing::Ejected, "{times}");
            now_ms += 1_000 * times;
            assert_eq!((health.standing(now_ms, 0), health.is_healthy()), (Standing::Well, false), "{times}");
            assert_eq!(health.standing(now_ms, 1), Standing::Ejected, "one at a time");
            fail(&mut health, now_ms);
        }
        now_ms += 32_000;
        health.ended(PASSIVE, now_ms - 1, Outcome::Good);
        assert!(!health.is_healthy(), "what began before is no trial");
        health.ended(PASSIVE, now_ms, Outcome::Good);
        assert_eq!((health.standing(now_ms, 9), health.is_healthy()), (Standing::Well, true));
        (0..3).for_each(|_| fail(&mut health, now_ms));
        assert_eq!(health.standing(now_ms + 31_999, 0), Standing::Ejected, "it was not well for long");
        now_ms += 32_000;
        health.ended(PASSIVE, now_ms, Outcome::Good);
        health.ended(PASSIVE, now_ms + 32_000, Outcome::Good);
        (0..3).for_each(|_| fail(&mut health, now_ms + 32_000));
        assert_eq!(health.standing(now_ms + 33_000, 0), Standing::Well, "it was");
    }

    #[test]
    fn a_server_that_cannot_be_connected_to_is_the_last_to_be_asked_for_a_second() {
        let mut health = Health::new(None);
        health.ended(PASSIVE, 5, Outcome::Unreachable);
        assert_eq!((health.standing(1_004, 0), health.standing(1_005, 0)), (Standing::Shaken, Standing::Well));
        health.ended(PASSIVE, 6, Outcome::Good);
        assert_eq!(health.standing(7, 0), Standing::Well);
        let never = Passive { failures: 0, ..PASSIVE };
        (0..100).for_each(|_| health.ended(never, 8, Outcome::Failed));
        assert!(health.is_healthy());
    }

    #[test]
    fn what_came_back_gets_its_part_slowly() {
        let mut health = Health::new(None);
        assert_eq!(health.ramp(0, 10_000), RAMP_FULL);
        for is_good in [false, true, true] {
            health.probed(&probes(2, 1), 5_000, is_good);
        }
        for (now_ms, part) in [(5_000, 100), (5_999, 100), (10_000, 500), (15_000, 1_000), (99_000, 1_000)] {
            assert_eq!(health.ramp(now_ms, 10_000), part, "{now_ms}");
        }
        assert_eq!(health.ramp(5_000, 0), RAMP_FULL);
    }
}
