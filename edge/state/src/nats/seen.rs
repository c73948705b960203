//! The revisions that this process has written or read: no read may give less.
//!
//! Any replica may answer a read. What it gives is good when it is at least as new as what was seen of the key; else, and
//! for keys of which nothing was seen, the leader is asked.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Keys that are remembered. When there are more, all are forgotten, and the leader is asked.
const KEYS_MAX: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<HashMap<String, u64>>);

impl Seen {
    fn keys(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A value of `key` with this revision was written, or given by the leader.
    pub(super) fn value(&self, key: &str, revision: u64) {
        let mut keys = self.keys();
        if let Some(seen) = keys.get_mut(key) {
            *seen = revision.max(*seen);
            return;
        }
        if keys.len() >= KEYS_MAX {
            keys.clear();
        }
        keys.insert(key.to_owned(), revision);
    }

    /// The key was deleted: the leader alone knows that.
    pub(super) fn gone(&self, key: &str) {
        self.keys().remove(key);
    }

    /// What a replica may give for `key` at least; none: nothing it gives is known to be new enough.
    pub(super) fn at_least(&self, key: &str) -> Option<u64> {
        self.keys().get(key).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_only_grows_and_what_is_too_much_is_forgotten() {
        let seen = Seen::default();
        assert_eq!(seen.at_least("a"), None);
        seen.value("a", 7);
        seen.value("a", 3);
        assert_eq!(seen.at_least("a"), Some(7), "an answer that came late is not newer");
        seen.gone("a");
        assert_eq!(seen.at_least("a"), None);
        for number in 0..KEYS_MAX {
            seen.value(&number.to_string(), 1);
        }
        assert_eq!(seen.at_least("0"), Some(1));
        seen.value("one more", 1);
        assert_eq!((seen.at_least("0"), seen.at_least("one more")), (None, Some(1)));
    }
}
