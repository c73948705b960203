//! The nonces of signed requests, kept as long as a signature is good: a request that was overheard cannot be sent
//! again, not even to the next process, which takes nothing that was signed before it began.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use eyot_link::signature::WINDOW_S;
use http::StatusCode;

use crate::denied::Denied;

/// Nonces kept, of all keys. When it is full, signed requests wait for the oldest to end.
const NONCES_MAX: usize = 200_000;
/// Nonces kept of one key.
const NONCES_PER_KEY_MAX: usize = 20_000;

/// The nonces that were seen.
#[derive(Debug)]
pub(crate) struct Nonces {
    since_s: i64,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    count: usize,
    /// By key: the nonce and until when it is kept, in seconds since 1970.
    keys: BTreeMap<String, BTreeMap<String, i64>>,
}

impl Nonces {
    /// Nothing was seen yet. What was signed before `since_s` may have been, by an earlier process.
    pub(crate) fn new(since_s: i64) -> Self {
        Self { since_s, seen: Mutex::default() }
    }

    /// Since when every nonce is known, in seconds since 1970.
    pub(crate) fn since_s(&self) -> i64 {
        self.since_s
    }

    /// Takes a nonce of a proven request, once.
    pub(crate) fn take(&self, key_id: &str, nonce: &str, now_s: i64) -> Result<(), Denied> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let held = seen.keys.get(key_id).map_or(0, BTreeMap::len);
        if held >= NONCES_PER_KEY_MAX || seen.count >= NONCES_MAX {
            seen.forget(now_s);
        }
        let full = seen.count >= NONCES_MAX;
        let nonces = seen.keys.entry(key_id.to_owned()).or_default();
        if full || nonces.len() >= NONCES_PER_KEY_MAX {
            let detail = "too many signed requests; try again in some minutes";
            return Err(Denied::request(StatusCode::SERVICE_UNAVAILABLE, "overloaded", detail));
        }
        // A signature is good for its window on both sides of its time, so a nonce outlives both.
        match nonces.insert(nonce.to_owned(), now_s.saturating_add(2 * WINDOW_S)) {
            None => {
                seen.count += 1;
                Ok(())
            }
            Some(_) => {
                let detail = "a request with this nonce was taken before";
                Err(Denied::request(StatusCode::UNAUTHORIZED, "replayed", detail))
            }
        }
    }
}

impl Seen {
    fn forget(&mut self, now_s: i64) {
        self.keys.retain(|_, nonces| {
            nonces.retain(|_, until_s| *until_s >= now_s);
            !nonces.is_empty()
        });
        self.count = self.keys.values().map(BTreeMap::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_taken_once_and_the_store_is_bounded() {
        let nonces = Nonces::new(0);
        assert!(nonces.take("a", "1", 0).is_ok() && nonces.take("b", "1", 0).is_ok());
        assert_eq!(nonces.take("a", "1", 2 * WINDOW_S).expect_err("again").code(), "replayed");
        for number in 0..NONCES_PER_KEY_MAX {
            nonces.take("c", &number.to_string(), 0).expect("room");
        }
        assert_eq!(nonces.take("c", "more", 0).expect_err("full").code(), "overloaded");
        assert!(nonces.take("a", "2", 0).is_ok());
        assert!(nonces.take("c", "more", 2 * WINDOW_S + 1).is_ok());
    }

    #[test]
    fn the_nonces_of_all_keys_are_bounded_and_those_that_ended_make_room() {
        let nonces = Nonces::new(0);
        for number in 0..NONCES_MAX {
            let key = (number / NONCES_PER_KEY_MAX).to_string();
            nonces.take(&key, &number.to_string(), 0).expect("room");
        }
        for key in ["0", "another"] {
            assert_eq!(nonces.take(key, "more", 2 * WINDOW_S).expect_err("full").code(), "overloaded", "{key}");
        }
        assert!(nonces.take("another", "more", 2 * WINDOW_S + 1).is_ok());
    }
}
