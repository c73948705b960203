//! Where a request has been, and what was lent to it: the elements of its `CDN-Loop` (RFC 8586).

use http::header::{HeaderMap, HeaderValue};

use super::{CDN_LOOP, DEPTH_MAX};
use crate::fault::{Code, Fault};

/// What a function lends to whom it asks, in our element of `CDN-Loop`: only a node of this fleet heeds it, and only to
/// spend less. It cannot widen anything, so it need not be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lent {
    /// CPU, in microseconds.
    pub cpu_us: u64,
    /// Outbound requests.
    pub subrequests: u32,
    /// How deep the one that asks is among functions that call each other by name; 0: it was asked from outside.
    pub depth: u8,
}

impl Lent {
    /// The smaller of each.
    fn min(self, other: Self) -> Self {
        Self {
            cpu_us: self.cpu_us.min(other.cpu_us),
            subrequests: self.subrequests.min(other.subrequests),
            depth: self.depth.min(other.depth),
        }
    }

    /// What is lent of so much that is left: a quarter of the requests. Nothing of them to hosts that are not of this fleet,
    /// so that a request that comes back by a way that nobody knew of multiplies nothing.
    pub fn of(cpu_us: u64, subrequests: u32, depth: u8, is_ours: bool) -> Self {
        Self { cpu_us, subrequests: if is_ours { subrequests / 4 } else { 0 }, depth }
    }
}

/// Where a request has been: the elements of its `CDN-Loop`, ours included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trail {
    pub(super) values: Vec<HeaderValue>,
    hops: u8,
    lent: Option<Lent>,
}

impl Trail {
    /// The trail of an arrival with these fields, in the fleet of this name.
    ///
    /// # Errors
    /// `loop_detected` if it has passed the fleet [`DEPTH_MAX`] times.
    pub fn enter(headers: &HeaderMap, fleet: &str) -> Result<Self, Fault> {
        let passed = Passed::of(headers, fleet);
        let hops = passed.hops();
        if hops >= DEPTH_MAX {
            return Err(Fault::new(Code::LoopDetected).over("hops", DEPTH_MAX.into(), hops.into()));
        }
        Ok(Self { values: headers.get_all(CDN_LOOP).iter().cloned().collect(), hops, lent: passed.lent })
    }

    /// How often the request had passed the fleet when it arrived, calls of functions by name counted.
    pub fn hops(&self) -> u8 {
        self.hops
    }

    /// What those who brought it here have lent: the least of it.
    pub fn lent(&self) -> Option<Lent> {
        self.lent
    }
}

/// What the elements `eyot; fleet=<name>` of a `CDN-Loop` say: `calls`, `cpu` and `depth` where a function asked.
#[derive(Default)]
struct Passed {
    elements: u8,
    /// The calls by name among the hops.
    depths: u8,
    lent: Option<Lent>,
}

impl Passed {
    fn of(headers: &HeaderMap, fleet: &str) -> Self {
        let values = headers.get_all(CDN_LOOP).iter().filter_map(|value| value.to_str().ok());
        let mut passed = Self::default();
        values.flat_map(|value| value.split(',')).for_each(|element| passed.add(element, fleet));
        passed
    }

    fn add(&mut self, element: &str, fleet: &str) {
        let mut parts = element.split(';').map(str::trim);
        if !parts.next().is_some_and(|id| id.eq_ignore_ascii_case("eyot")) {
            return;
        }
        let (mut is_ours, mut said, mut depth) = (false, None, 0);
        let nothing = Lent { cpu_us: u64::MAX, subrequests: u32::MAX, depth: 0 };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let value = value.trim_matches('"');
            match name {
                "fleet" => is_ours |= value == fleet,
                "calls" => said.get_or_insert(nothing).subrequests = value.parse().unwrap_or(0),
                "cpu" => said.get_or_insert(nothing).cpu_us = value.parse().unwrap_or(0),
                "depth" => depth = value.parse().unwrap_or(DEPTH_MAX),
                _ => {}
            }
        }
        if is_ours {
            self.elements = self.elements.saturating_add(1);
            self.depths = self.depths.saturating_add(depth);
            self.lent = match (self.lent, said) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
        }
    }

    fn hops(&self) -> u8 {
        self.elements.saturating_add(self.depths)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::tests::map;

    #[test]
    fn the_eighth_passing_of_one_fleet_is_a_loop() {
        let passed = |count: usize| vec!["eyot; fleet=example"; count].join(", ");
        for (value, expect) in [
            ("none".to_owned(), 0),
            (passed(1), 1),
            ("eyot; fleet=other, EYOT ;a=b; fleet=\"example\"".to_owned(), 1),
            ("eyot, eyot; fleet, noteyot; fleet=example, eyot; fleet=examples".to_owned(), 0),
            (passed(7), 7),
            (passed(8), 8),
            (passed(300), 255),
        ] {
            let headers = map(&format!("cdn-loop: {value}"));
            assert_eq!(Passed::of(&headers, "example").hops(), expect, "{value}");
            let entered = Trail::enter(&headers, "example").map(|trail| trail.hops()).map_err(|fault| fault.code);
            assert_eq!(entered, if expect >= DEPTH_MAX { Err(Code::LoopDetected) } else { Ok(expect) });
        }
    }

    #[test]
    fn what_was_lent_is_the_least_that_any_hop_of_this_fleet_says_and_nobody_can_say_more() {
        let lent = |cpu_us, subrequests| Some(Lent { cpu_us, subrequests, depth: 0 });
        for (value, hops, expect) in [
            ("eyot; fleet=example", 1, None),
            ("eyot; fleet=example; calls=7; cpu=900", 1, lent(900, 7)),
            ("eyot; fleet=other; calls=7; cpu=900, other; calls=1", 0, None),
            ("eyot; calls=1; fleet=\"example\"; cpu=\"5\"", 1, lent(5, 1)),
            ("eyot; fleet=example; calls=7, eyot; fleet=example; calls=99; cpu=8", 2, lent(8, 7)),
            ("eyot; fleet=example; cpu=8; depth=3, eyot; fleet=example", 5, lent(8, u32::MAX)),
            ("eyot; fleet=example; calls=-1; cpu=much", 1, lent(0, 0)),
            ("eyot; fleet=example; calls=99999999999", 1, lent(u64::MAX, 0)),
        ] {
            let trail = Trail::enter(&map(&format!("cdn-loop: {value}")), "example").expect("no loop");
            assert_eq!((trail.hops(), trail.lent()), (hops, expect), "{value}");
        }
        for looped in ["depth=7", "depth=200", "depth=x"] {
            let headers = map(&format!("cdn-loop: eyot; fleet=example; {looped}"));
            assert_eq!(Trail::enter(&headers, "example").map(|_| ()).map_err(|it| it.code), Err(Code::LoopDetected));
        }
    }

    #[test]
    fn all_that_a_tree_lends_and_asks_is_no_more_than_its_root_had() {
        /// The calls of a function that has so many, each to this fleet, each answered by one that does the same.
        fn calls(mut left: u32) -> u32 {
            let mut made = 0;
            while left > 0 {
                left -= 1;
                let lent = Lent::of(0, left, 0, true).subrequests;
                left -= lent;
                made += 1 + calls(lent);
            }
            made
        }
        for most in [0, 1, 2, 5, 32, 1000] {
            assert_eq!(calls(most), most);
        }
        assert_eq!(Lent::of(9, 31, 2, false), Lent { cpu_us: 9, subrequests: 0, depth: 2 });
    }
}
