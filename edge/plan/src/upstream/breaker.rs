//! The circuit breaker of an upstream: where too many tries of late have failed it is left alone for a while, then one
//! request shows whether it is back.

use eyot_bundle::release::upstream;

/// The parts of the window; the oldest falls out of it at once.
const PARTS: u64 = 8;
const PLACES: usize = 8;

/// How an upstream's breaker stands.
#[derive(Clone, Debug)]
pub(super) struct Breaker {
    config: upstream::Breaker,
    state: State,
    /// Tries and failures, by parts of the window; each with the number of its part since the clock began.
    parts: [Part; PLACES],
}

#[derive(Clone, Copy, Debug, Default)]
struct Part {
    number: u64,
    tries: u32,
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    /// Until then, nothing passes; from then on, one request.
    Open {
        until_ms: u64,
    },
    /// One request is under way.
    Trial,
}

impl Breaker {
    pub(super) fn new(config: upstream::Breaker) -> Self {
        Self { config, state: State::Closed, parts: Default::default() }
    }

    /// Whether a request may pass, and whether it is the one that shows how things are.
    ///
    /// # Errors
    /// In how many milliseconds to ask again.
    pub(super) fn admit(&mut self, now_ms: u64) -> Result<bool, u64> {
        match self.state {
            State::Closed => Ok(false),
            State::Open { until_ms } if now_ms < until_ms => Err(until_ms - now_ms),
            State::Open { .. } => {
                self.state = State::Trial;
                Ok(true)
            }
            State::Trial => Err(self.config.open_ms),
        }
    }

    /// A try has ended: well, badly, or without telling anything of the upstream.
    pub(super) fn ended(&mut self, now_ms: u64, was_trial: bool, failed: Option<bool>) {
        match (self.state, was_trial, failed) {
            (State::Trial, true, Some(false)) => {
                *self = Self::new(self.config);
            }
            (State::Trial, true, Some(true)) => self.open(now_ms),
            // It told nothing: the next one may.
            (State::Trial, true, None) => self.state = State::Open { until_ms: now_ms },
            (State::Closed, _, Some(failed)) => self.count(now_ms, failed),
            _ => {}
        }
    }

    fn open(&mut self, now_ms: u64) {
        self.state = State::Open { until_ms: now_ms.saturating_add(self.config.open_ms) };
    }

    fn count(&mut self, now_ms: u64, failed: bool) {
        let number = now_ms / (self.config.window_ms / PARTS).max(1);
        let part = &mut self.parts[usize::try_from(number % PARTS).unwrap_or(0)];
        if part.number != number {
            *part = Part { number, ..Part::default() };
        }
        part.tries = part.tries.saturating_add(1);
        part.failures = part.failures.saturating_add(u32::from(failed));
        let within = self.parts.iter().filter(|part| part.number + PARTS > number);
        let (tries, failures) = within.fold((0_u64, 0_u64), |(tries, failures), part| {
            (tries + u64::from(part.tries), failures + u64::from(part.failures))
        });
        if tries >= self.config.requests.into() && failures * 100 >= tries * u64::from(self.config.failures_percent) {
            self.open(now_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> Breaker {
        let config = upstream::Breaker { failures_percent: 50, requests: 10, window_ms: 8_000, open_ms: 1_000 };
        Breaker::new(config)
    }

    /// The first of these tries after which it is open, counted from 1.
    fn opens_after(tries: impl Iterator<Item = (u64, bool)>) -> Option<usize> {
        let mut breaker = breaker();
        let mut open = |(now_ms, failed)| {
            breaker.ended(now_ms, false, Some(failed));
            breaker.admit(now_ms).is_err()
        };
        tries.map(&mut open).position(|open| open).map(|at| at + 1)
    }

    #[test]
    fn it_opens_at_its_ratio_of_failures_of_late_and_not_before_there_were_enough_tries() {
        assert_eq!(opens_after((0..100).map(|at| (at, true))), Some(10));
        assert_eq!(opens_after((0..100).map(|at| (at, at % 2 == 0))), Some(10));
        assert_eq!(opens_after((0..1_000).map(|at| (at, at % 3 == 0))), None);
        // Never ten within the window.
        assert_eq!(opens_after((0..1_000).map(|at| (at * 1_000, true))), None);
        // A good hour does not outweigh a bad second.
        let hour = (0..3_600).map(|at| (at * 1_000, false));
        assert_eq!(opens_after(hour.chain((0..100).map(|at| (3_700_000 + at, true)))), Some(3_610));
    }

    #[test]
    fn one_request_shows_whether_it_is_back_and_one_that_tells_nothing_does_not_keep_it_shut() {
        let mut breaker = breaker();
        (0..10).for_each(|_| breaker.ended(0, false, Some(true)));
        assert_eq!(breaker.admit(0), Err(1_000));
        assert_eq!(breaker.admit(999), Err(1));
        assert_eq!((breaker.admit(1_000), breaker.admit(1_000)), (Ok(true), Err(1_000)));
        // What began before it opened says nothing now.
        breaker.ended(1_000, false, Some(false));
        assert_eq!(breaker.admit(1_000), Err(1_000));
        breaker.ended(1_100, true, None);
        assert_eq!(breaker.admit(1_100), Ok(true));
        breaker.ended(1_200, true, Some(true));
        assert_eq!((breaker.admit(2_199), breaker.admit(2_200)), (Err(1), Ok(true)));
        breaker.ended(2_300, true, Some(false));
        assert_eq!((breaker.admit(2_300), breaker.admit(2_300)), (Ok(false), Ok(false)));
        breaker.ended(2_300, false, Some(true));
        assert_eq!(breaker.admit(2_300), Ok(false), "it counts from the beginning");
    }
}
