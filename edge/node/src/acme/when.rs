//! When a certificate is renewed, and when a failure is tried again. Pure: the time is an argument.

use jiff::{SignedDuration, Timestamp};

/// The first pause after a failure, in seconds; doubled with each.
const PAUSE_S: i64 = 60;
/// The longest pause, in seconds.
const PAUSE_S_MAX: i64 = 6 * 3600;
/// The shortest, in seconds: for a certificate that is about to end.
const PAUSE_S_MIN: i64 = 5;

/// From when until when a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) begins: Timestamp,
    pub(super) ends: Timestamp,
}

/// When its authority wants it renewed (RFC 9773, section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
}

impl Life {
    /// When it is renewed: somewhere in the window of its authority, else when a third of its life is left, or up to a
    /// thirtieth of its life earlier. `dice` says where, and is one for each certificate and node.
    pub(super) fn renew_at(&self, window: Option<Window>, dice: u64) -> Timestamp {
        let life = self.ends.duration_since(self.begins).max(SignedDuration::ZERO);
        let (start, length) = match window {
            // A window that is none, or lies past the end, is not believed.
            Some(window) if window.start < window.end && window.end < self.ends => {
                (window.start, window.end.duration_since(window.start))
            }
            _ => (self.ends - life / 3 - life / 30, life / 30),
        };
        start + part(length, dice)
    }

    /// Whether so little is left that it is renewed without waiting for others: a sixth.
    pub(super) fn is_urgent(&self, now: Timestamp) -> bool {
        now + self.ends.duration_since(self.begins).max(SignedDuration::ZERO) / 6 >= self.ends
    }

    /// How long to wait after the `failures`th failure in a row: half to one and a half times what doubles from a
    /// minute to six hours, and no more than a tenth of what is left, so that short lives are tried often enough.
    pub(super) fn pause(life: Option<Self>, failures: u32, now: Timestamp, dice: u64) -> SignedDuration {
        let doubled = PAUSE_S.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(PAUSE_S_MAX);
        // What has ended already is pressed no further than what never was.
        let left = life.map(|life| life.ends.duration_since(now).as_secs()).filter(|left| *left > 0);
        let most = left.map_or(PAUSE_S_MAX, |left| (left / 10).max(PAUSE_S_MIN));
        let pause = SignedDuration::from_secs(doubled.min(most));
        pause / 2 + part(pause, dice)
    }
}

/// A part of `length`, as `dice` says.
fn part(length: SignedDuration, dice: u64) -> SignedDuration {
    let thousandths = i32::try_from(dice % 1000).unwrap_or(0);
    length / 1000 * thousandths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    const DAY: i64 = 86_400;

    #[test]
    fn a_certificate_is_renewed_in_its_window_or_with_a_third_of_its_life_left_and_not_all_at_once() {
        let life = Life { begins: at(0), ends: at(90 * DAY) };
        let window = |start: i64, end: i64| Some(Window { start: at(start * DAY), end: at(end * DAY) });
        for (window, from, to) in [
            (None, 57, 60),
            (window(10, 12), 10, 12),
            (window(-5, -3), -5, -3),
            (window(12, 10), 57, 60),
            (window(88, 95), 57, 60),
        ] {
            let [first, middle, last] = [0, 1500, 999].map(|dice| life.renew_at(window, dice));
            assert_eq!((first, middle), (at(from * DAY), at((from + to) * DAY / 2)), "{window:?}");
            assert!(middle < last && last < at(to * DAY), "{window:?}");
        }
    }

    #[test]
    fn a_certificate_is_urgent_with_a_sixth_of_its_life_left() {
        let life = Life { begins: at(0), ends: at(60) };
        assert_eq!([49, 50, 70].map(|now| life.is_urgent(at(now))), [false, true, true]);
    }

    #[test]
    fn failures_are_tried_again_after_pauses_that_double_and_end_at_six_hours_or_a_tenth_of_what_is_left() {
        let long = Some(Life { begins: at(0), ends: at(90 * DAY) });
        let short = Some(Life { begins: at(0), ends: at(600) });
        for (life, failures, now, least) in [
            (None, 1, 0, 30),
            (None, 2, 0, 60),
            (None, 5, 0, 480),
            (long, 9, 60 * DAY, 7680),
            (long, 10, 60 * DAY, 3 * 3600),
            (long, u32::MAX, 60 * DAY, 3 * 3600),
            (short, 1, 400, 10),
            (short, 9, 400, 10),
            (short, 9, 595, 2),
            (short, 1, 700, 30),
            (short, 10, 700, 3 * 3600),
        ] {
            let pause = |dice| Life::pause(life, failures, at(now), dice).as_secs();
            assert_eq!(pause(0), least, "{life:?} {failures} {now}");
            assert!(pause(999) >= least && pause(999) <= 3 * least.max(5), "{life:?} {failures} {now}");
        }
    }
}
