//! How old a kept answer is and how long it is fresh (RFC 9111, section 4.2), and when it may be used although it is not
//! (section 4.2.4, RFC 5861).

use http::header::{AGE, DATE, EXPIRES, HeaderMap, HeaderValue, LAST_MODIFIED, SET_COOKIE};
use http::{StatusCode, Uri};

use super::control::{self, Control, SECONDS_MAX, Wish};
use super::{Rules, date};

/// What an answer that names no time is fresh at most (RFC 9111, section 4.2.2): a day.
pub const HEURISTIC_MS_MAX: u64 = 86_400_000;
/// How long after its time an answer stands in for one that cannot be had, where it does not say (section 4.2.4): a day.
pub const UNREACHABLE_MS_MAX: u64 = 86_400_000;

/// The times of a kept answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// When it came, on this node's clock.
    pub answered_ms: u64,
    /// How old it was then (`corrected_initial_age`).
    pub initial_age_ms: u64,
    /// The age until which it is fresh (`freshness_lifetime`).
    pub fresh_ms: u64,
    /// How long after that it may be used while it is asked for anew; 0: not at all.
    pub stale_while_ms: u64,
    /// How long after that it may stand in for an error; none: it does not say.
    pub stale_error_ms: Option<u64>,
    /// Never used when it is stale, whatever else is said.
    pub strict: bool,
    /// Never used without asking.
    pub no_cache: bool,
}

/// What a kept answer is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It must be asked for first.
    Ask,
    /// It answers.
    Fresh,
    /// It answers, stale, since the request takes that.
    Stale,
    /// It answers, stale, while it is asked for anew.
    StaleWhile,
}

/// Why there is no good answer to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody answered, or not to the end.
    Unreachable,
    /// This answer.
    Status(StatusCode),
}

impl Life {
    /// The times of an answer with these `headers`, whose request went out at `asked_ms` and which came at `answered_ms`.
    pub fn of(
        status: StatusCode,
        headers: &HeaderMap,
        said: &Said,
        (asked_ms, answered_ms): (u64, u64),
        rules: &Rules,
    ) -> Self {
        let Said { control, .. } = said;
        let ms = |seconds: u64| seconds.saturating_mul(1000);
        let fresh_ms = match rules.told_ms.or(rules.ttl_ms) {
            Some(ttl_ms) => ttl_ms,
            None => lifetime_ms(status, headers, said, answered_ms, rules),
        };
        Self {
            answered_ms,
            // With a time of the route's own an answer's past elsewhere does not count.
            initial_age_ms: if rules.told_ms.or(rules.ttl_ms).is_some() && !rules.aged {
                0
            } else {
                initial_age_ms(headers, asked_ms, answered_ms)
            },
            fresh_ms,
            stale_while_ms: control.stale_while_revalidate.map(ms).or(rules.stale_while_revalidate_ms).unwrap_or(0),
            stale_error_ms: control.stale_if_error.map(ms).or(rules.stale_if_error_ms),
            // Section 5.2.2.10: `s-maxage` also means what `proxy-revalidate` does.
            strict: control.must_revalidate || control.s_maxage.is_some(),
            no_cache: control.no_cache.is_all(),
        }
    }

    /// Its age (section 4.2.3).
    pub fn age_ms(&self, now_ms: u64) -> u64 {
        self.initial_age_ms.saturating_add(now_ms.saturating_sub(self.answered_ms))
    }

    /// How long it is still fresh; 0 or less: it is stale, for so long.
    pub fn ttl_ms(&self, now_ms: u64) -> i64 {
        let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        signed(self.fresh_ms).saturating_sub(signed(self.age_ms(now_ms)))
    }

    /// For how long it has been stale; none while it is fresh.
    fn stale_ms(&self, now_ms: u64) -> Option<u64> {
        let age_ms = self.age_ms(now_ms);
        (age_ms >= self.fresh_ms).then(|| age_ms - self.fresh_ms)
    }

    /// What it is good for now; `outdated`: it is to be taken for stale, because it was purged softly.
    pub fn judge(&self, wish: Option<&Wish>, outdated: bool, now_ms: u64) -> Use {
        if self.no_cache || wish.is_some_and(|wish| wish.no_cache) {
            return Use::Ask;
        }
        let ms = |seconds: u64| seconds.saturating_mul(1000);
        let wish = wish.copied().unwrap_or_default();
        let age_ms = self.age_ms(now_ms);
        if wish.max_age.is_some_and(|most| age_ms > ms(most)) {
            return Use::Ask;
        }
        let stale_ms = if outdated { Some(self.stale_ms(now_ms).unwrap_or(0)) } else { self.stale_ms(now_ms) };
        let Some(stale_ms) = stale_ms else {
            let left_ms = self.fresh_ms - age_ms;
            return if wish.min_fresh.is_some_and(|least| left_ms < ms(least)) { Use::Ask } else { Use::Fresh };
        };
        if self.strict || wish.min_fresh.is_some() {
            return Use::Ask;
        }
        if !outdated && wish.max_stale.is_some_and(|most| stale_ms <= ms(most)) {
            return Use::Stale;
        }
        if stale_ms < self.stale_while_ms { Use::StaleWhile } else { Use::Ask }
    }

    /// Whether it may stand in where there is no good answer.
    pub fn stands_in(&self, failure: Failure, now_ms: u64) -> bool {
        if self.strict || self.no_cache {
            return false;
        }
        let stale_ms = self.stale_ms(now_ms).unwrap_or(0);
        match (failure, self.stale_error_ms) {
            // RFC 5861, section 4: these are the errors.
            (Failure::Status(status), _) if !matches!(status.as_u16(), 500 | 502 | 503 | 504) => false,
            (_, Some(most_ms)) => stale_ms <= most_ms,
            (Failure::Unreachable, None) => stale_ms <= UNREACHABLE_MS_MAX,
            (Failure::Status(_), None) => false,
        }
    }

    /// When nothing can make it answer any more but being asked for: what is kept beyond that is of use for its validators
    /// alone.
    pub fn over_ms(&self) -> u64 {
        let error_ms = if self.strict { 0 } else { self.stale_error_ms.unwrap_or(UNREACHABLE_MS_MAX) };
        let after_ms = self.fresh_ms.saturating_add(self.stale_while_ms.max(error_ms));
        self.answered_ms.saturating_add(after_ms.saturating_sub(self.initial_age_ms))
    }
}

/// What an answer says of its keeping, read once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The directives that count.
    pub control: Control,
    /// Whether they were said to caches like this one alone; then `Expires` does not count (RFC 9213, section 2.2).
    pub targeted: bool,
}

impl Said {
    /// What `headers` say.
    pub fn of(headers: &HeaderMap) -> Self {
        let (control, targeted) = Control::of(headers);
        Self { control, targeted }
    }

    /// What who made an answer has said of it beside its fields: this counts, and they do not.
    pub fn told(ms: u64) -> Self {
        let control = Control { max_age: Some(ms / 1000), no_store: ms == 0, ..Control::default() };
        Self { control, targeted: true }
    }

    /// Whether a time is named (section 4.2.1).
    pub fn is_explicit(&self, headers: &HeaderMap) -> bool {
        let Control { s_maxage, max_age, .. } = self.control;
        s_maxage.is_some() || max_age.is_some() || (!self.targeted && headers.contains_key(EXPIRES))
    }
}

/// Statuses that may be kept without a time of their own (RFC 9110, section 15.1), but for 206, which is none of a whole.
pub fn is_heuristic(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// `freshness_lifetime` (section 4.2.1).
fn lifetime_ms(status: StatusCode, headers: &HeaderMap, said: &Said, answered_ms: u64, rules: &Rules) -> u64 {
    let Said { control, targeted } = said;
    let seconds = |ms: u64| i64::try_from(ms / 1000).unwrap_or(i64::MAX);
    let now = seconds(answered_ms);
    let stated = control.s_maxage.or(control.max_age);
    let dated = single(headers, &DATE).and_then(|date| date::parse(date.as_bytes(), now)).unwrap_or(now);
    if let Some(stated) = stated {
        return stated * 1000;
    }
    if !targeted && headers.contains_key(EXPIRES) {
        // What is no date, or two, is in the past (section 5.3).
        let expires = single(headers, &EXPIRES).and_then(|value| date::parse(value.as_bytes(), now));
        let left = expires.map_or(0, |expires| expires.saturating_sub(dated));
        return u64::try_from(left).unwrap_or(0).min(SECONDS_MAX) * 1000;
    }
    if *targeted {
        return 0;
    }
    if (status.is_client_error() || status.is_server_error())
        && let Some(negative_ms) = rules.negative_ttl_ms
    {
        return negative_ms;
    }
    // Section 4.2.2. What sets a cookie was hardly meant for all, where nobody says so.
    if !(is_heuristic(status) || control.public) || headers.contains_key(SET_COOKIE) {
        return 0;
    }
    let modified = single(headers, &LAST_MODIFIED).and_then(|value| date::parse(value.as_bytes(), now));
    let old = modified.map_or(0, |modified| u64::try_from(dated.saturating_sub(modified)).unwrap_or(0));
    (old.min(SECONDS_MAX) * 100).min(HEURISTIC_MS_MAX)
}

/// `corrected_initial_age` (section 4.2.3).
fn initial_age_ms(headers: &HeaderMap, asked_ms: u64, answered_ms: u64) -> u64 {
    let now = i64::try_from(answered_ms / 1000).unwrap_or(i64::MAX);
    let dated = single(headers, &DATE).and_then(|date| date::parse(date.as_bytes(), now));
    let apparent = dated.map_or(0, |dated| u64::try_from(now.saturating_sub(dated)).unwrap_or(0));
    let corrected_ms = age(headers).unwrap_or(0) * 1000 + answered_ms.saturating_sub(asked_ms);
    corrected_ms.max(apparent.saturating_mul(1000))
}

/// `Age`, in seconds: the first of several (section 5.1), and what is no number is ignored.
pub fn age(headers: &HeaderMap) -> Option<u64> {
    let first = headers.get(AGE)?.to_str().ok()?.split(',').next()?.trim();
    control::seconds(first)
}

/// A field that stands once.
pub(super) fn single<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> Option<&'a HeaderValue> {
    let mut all = headers.get_all(name).iter();
    all.next().filter(|_| all.next().is_none())
}

/// Whether two URIs are of one origin.
pub(super) fn same_origin(one: &Uri, other: &Uri) -> bool {
    one.scheme() == other.scheme() && one.authority() == other.authority()
}
