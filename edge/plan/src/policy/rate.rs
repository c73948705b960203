//! How often one may ask: what is counted apart, and what is said of it (draft-ietf-httpapi-ratelimit-headers-10).

use core::fmt::Write as _;
use core::net::IpAddr;

use eyot_bundle::digest::Digest;
use eyot_bundle::release::policy::{Rate, RateKey};
use http::header::COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::fault::{Code, Fault};
use crate::windows::{Counted, Key, Windows};

/// What a client may do by the rules (section 3).
pub const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// What is left of it (section 4).
pub const LEFT: HeaderName = HeaderName::from_static("ratelimit");

/// What came of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Of each window, in the order of the release.
    pub counted: Vec<Counted>,
}

/// Counts a request of `client` with these `headers` at the route with this `id`. It is counted in every window, or, where
/// one has no room, in none.
pub fn take(windows: &mut Windows, rate: &Rate, id: &str, client: IpAddr, headers: &HeaderMap, now_ms: u64) -> Verdict {
    let name = key(&rate.key, id, client, headers);
    let keys = rate.windows.iter().map(|window| Key {
        key: name.clone(),
        limit: window.requests,
        window_ms: window.window_ms,
    });
    let keys: Vec<_> = keys.collect();
    let room = keys.iter().all(|key| windows.has_room(key, 1, now_ms));
    let mut count = |key: &Key| match room {
        true => windows.take(key, 1, now_ms),
        false => windows.look(key, now_ms),
    };
    Verdict { counted: keys.iter().map(&mut count).collect() }
}

/// What is counted apart. Values that clients choose are digested: however long they are, a key is short.
fn key(key: &RateKey, id: &str, client: IpAddr, headers: &HeaderMap) -> String {
    let digest = |kind: &str, value: &[u8]| format!("{id} {kind} {}", Digest::of(value));
    let named = match key {
        RateKey::Client => None,
        RateKey::Cookie(name) => cookie(headers, name).map(|value| digest("cookie", value)),
        RateKey::Header(name) => headers.get(name.as_str()).map(|value| digest("header", value.as_bytes())),
        RateKey::Route => Some(id.to_owned()),
    };
    named.unwrap_or_else(|| format!("{id} client {}", network(client)))
}

/// The client's address, or of IPv6 its first 64 bits: who has one address of those has all of them (RFC 7934, section 8).
pub fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
    }
}

/// The first cookie of this name (RFC 6265, section 5.4).
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let pairs = headers.get_all(COOKIE).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
    let named = |pair: &'a [u8]| pair.trim_ascii_start().strip_prefix(name.as_bytes())?.strip_prefix(b"=");
    pairs.filter_map(named).next()
}

impl Verdict {
    /// The fault of a request that comes too often.
    ///
    /// # Errors
    /// `rate_limited`, with the time after which to try again.
    pub fn check(&self, rate: &Rate) -> Result<(), Fault> {
        let all = rate.windows.iter().zip(&self.counted);
        let Some((window, counted)) = all.filter(|(_, it)| !it.allowed).max_by_key(|(_, it)| it.reset_ms) else {
            return Ok(());
        };
        let allowed = u64::from(window.requests);
        let mut fault = Fault::new(Code::RateLimited).over("requests", allowed, allowed + 1);
        fault.retry_after = Some(u32::try_from(counted.reset_ms.div_ceil(1_000)).unwrap_or(u32::MAX).max(1));
        Err(fault)
    }

    /// What clients are told: the rules, and what is left. Each rule has its time for its name.
    pub fn fields(&self, rate: &Rate) -> [(HeaderName, HeaderValue); 2] {
        let (mut rules, mut left) = (String::new(), String::new());
        for (window, counted) in rate.windows.iter().zip(&self.counted) {
            let comma = if rules.is_empty() { "" } else { ", " };
            let (seconds, reset) = (window.window_ms / 1_000, counted.reset_ms.div_ceil(1_000));
            // Writing to a text does not fail.
            let _ = write!(rules, "{comma}\"{seconds}s\";q={};w={seconds}", window.requests);
            let _ = write!(left, "{comma}\"{seconds}s\";r={};t={reset}", counted.remaining);
        }
        let value = |text: &str| HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""));
        [(POLICY, value(&rules)), (LEFT, value(&left))]
    }
}

#[cfg(test)]
mod tests {
    use eyot_bundle::release::policy::Window;
    use proptest::prelude::*;

    use super::super::tests::map;
    use super::*;

    fn rate(windows: &[&str], key: &str) -> Rate {
        let windows = windows.iter().map(|text| text.parse::<Window>().expect("a rate")).collect();
        Rate { windows, key: key.parse().expect("a key") }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_request_is_counted_in_all_windows_or_in_none_and_told_when_to_come_again() {
        let mut windows = Windows::new(100);
        let rate = rate(&["2/1s", "3/60s"], "client");
        let mut ask = |now_ms| {
            let verdict = take(&mut windows, &rate, "r", address("203.0.113.9"), &HeaderMap::new(), now_ms);
            let [(_, rules), (_, left)] = verdict.fields(&rate);
            assert_eq!(rules, "\"1s\";q=2;w=1, \"60s\";q=3;w=60");
            let left = left.to_str().expect("ASCII").to_owned();
            (verdict.check(&rate).err().map(|fault| (fault.code, fault.retry_after)), left)
        };
        let limited = |seconds| Some((Code::RateLimited, Some(seconds)));
        assert_eq!(ask(0), (None, "\"1s\";r=1;t=1, \"60s\";r=2;t=60".to_owned()));
        assert_eq!(ask(500), (None, "\"1s\";r=0;t=1, \"60s\";r=1;t=60".to_owned()));
        for _ in 0..5 {
            assert_eq!(ask(600), (limited(1), "\"1s\";r=0;t=1, \"60s\";r=1;t=60".to_owned()), "it is not counted");
        }
        assert_eq!(ask(1_000), (None, "\"1s\";r=1;t=1, \"60s\";r=0;t=59".to_owned()));
        assert_eq!(ask(1_100), (limited(59), "\"1s\";r=1;t=1, \"60s\";r=0;t=59".to_owned()));
        assert_eq!(ask(60_000).0, None);
    }

    #[test]
    fn what_is_counted_apart_is_what_the_key_says() {
        let same = |name: &str, one: (&str, &[(&str, &str)]), other: (&str, &[(&str, &str)])| {
            let name = name.parse().expect("a key");
            let of = |(client, fields): (&str, &[(&str, &str)])| key(&name, "r", address(client), &map(fields));
            of(one) == of(other)
        };
        let (a, b) = ("203.0.113.1", "203.0.113.2");
        for (key, one, other, expect) in [
            ("client", (a, &[][..]), (b, &[][..]), false),
            ("client", (a, &[("x-forwarded-for", "1.1.1.1")]), (a, &[("x-forwarded-for", "2.2.2.2")]), true),
            ("client", (a, &[]), ("::ffff:203.0.113.1", &[]), true),
            ("client", ("2001:db8::1", &[]), ("2001:db8::ffff:1", &[]), true),
            ("client", ("2001:db8::1", &[]), ("2001:db8:0:1::1", &[]), false),
            ("route", (a, &[]), (b, &[]), true),
            ("header:x-key", (a, &[("x-key", "1")]), (b, &[("x-key", "1")]), true),
            ("header:X-Key", (a, &[("x-key", "1")]), (a, &[("x-key", "2")]), false),
            ("header:x-key", (a, &[]), (b, &[]), false),
            ("cookie:uid", (a, &[("cookie", "a=b; uid=7")]), (b, &[("cookie", "uid=7; uid=8")]), true),
            ("cookie:uid", (a, &[("cookie", "uid=7")]), (a, &[("cookie", "uid=8")]), false),
            ("cookie:uid", (a, &[("cookie", "xuid=7")]), (a, &[("cookie", "xuid=8")]), true),
            ("cookie:uid", (a, &[("cookie", "UID=7")]), (a, &[("cookie", "UID=8")]), true),
        ] {
            assert_eq!(same(key, one, other), expect, "{key} {one:?} {other:?}");
        }
        let long = "x".repeat(60_000);
        let name = "header:x".parse().expect("a key");
        assert!(key(&name, "r", address(a), &map(&[("x", &long)])).len() < 100, "a key is short");
    }

    proptest! {
        /// Whatever comes when: no window lets more through than it says, and what it says is left can be had.
        #[test]
        fn no_window_lets_more_through_than_it_says(steps in proptest::collection::vec(0_u64..700, 1..200)) {
            let mut windows = Windows::new(100);
            let rate = rate(&["3/1s", "7/5s"], "route");
            let (mut now_ms, mut admitted): (u64, Vec<u64>) = (0, Vec::new());
            let mut begun = [None::<u64>; 2];
            for step in steps {
                now_ms += step;
                let verdict = take(&mut windows, &rate, "r", address("::1"), &HeaderMap::new(), now_ms);
                if verdict.check(&rate).is_err() {
                    continue;
                }
                admitted.push(now_ms);
                for (begun, window) in begun.iter_mut().zip(&rate.windows) {
                    let start = begun.filter(|start| now_ms < start + window.window_ms).unwrap_or(now_ms);
                    *begun = Some(start);
                    let within = admitted.iter().filter(|at| **at >= start).count();
                    prop_assert!(within <= window.requests as usize, "{within} since {start}");
                }
            }
        }
    }
}
