//! Counted windows: so many of a key in so long. Bounded: when it is full, the windows that end first are forgotten.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Windows of many keys; `now` is an argument, in milliseconds of any clock that only goes forward.
#[derive(Debug)]
pub struct Windows {
    windows: HashMap<Arc<Key>, Window>,
    /// The same by their ends; the number tells apart those that end at once.
    ends: BTreeMap<(u64, u64), Arc<Key>>,
    /// Counted up with each window that begins.
    next: u64,
    keys_max: usize,
}

/// What is counted apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// What is counted.
    pub key: String,
    /// How many may come in a window.
    pub limit: u32,
    /// How long a window is, in milliseconds.
    pub window_ms: u64,
}

#[derive(Debug)]
struct Window {
    end: (u64, u64),
    used: u32,
}

/// What came of counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Whether it may come; if not, it was not counted.
    pub allowed: bool,
    /// How many more may come in this window.
    pub remaining: u32,
    /// Until the next window begins, in milliseconds.
    pub reset_ms: u64,
}

impl Windows {
    /// Windows of at most so many keys.
    pub fn new(keys_max: usize) -> Self {
        Self { windows: HashMap::new(), ends: BTreeMap::new(), next: 0, keys_max: keys_max.max(1) }
    }

    /// Counts `cost` more of `key`, if its window has room. A window begins with the first that is counted in it.
    pub fn take(&mut self, key: &Key, cost: u32, now_ms: u64) -> Counted {
        self.forget(now_ms);
        let (limit, window_ms) = (key.limit, key.window_ms);
        if !self.windows.contains_key(key) {
            if cost > limit {
                return Counted { allowed: false, remaining: limit, reset_ms: window_ms };
            }
            self.begin(key.clone(), now_ms);
        }
        let Some(window) = self.windows.get_mut(key) else {
            return Counted { allowed: false, remaining: 0, reset_ms: window_ms };
        };
        let allowed = limit - window.used >= cost;
        if allowed {
            window.used += cost;
        }
        Counted { allowed, remaining: limit - window.used, reset_ms: window.end.0.saturating_sub(now_ms) }
    }

    /// Whether the window of `key` has room for `cost` more.
    pub fn has_room(&mut self, key: &Key, cost: u32, now_ms: u64) -> bool {
        self.look(key, now_ms).remaining >= cost
    }

    /// How it is with `key`, of which nothing comes. It is allowed if one more would be.
    pub fn look(&mut self, key: &Key, now_ms: u64) -> Counted {
        self.forget(now_ms);
        let Some(window) = self.windows.get(key) else {
            return Counted { allowed: key.limit > 0, remaining: key.limit, reset_ms: key.window_ms };
        };
        let remaining = key.limit - window.used;
        Counted { allowed: remaining > 0, remaining, reset_ms: window.end.0.saturating_sub(now_ms) }
    }

    /// How many keys have a window.
    pub fn len(&self) -> usize {
        self.windows.len()
    }

    /// Whether no key has one.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    fn begin(&mut self, key: Key, now_ms: u64) {
        while self.windows.len() >= self.keys_max {
            self.forget_first();
        }
        let end = (now_ms.saturating_add(key.window_ms), self.next);
        self.next += 1;
        let key = Arc::new(key);
        self.ends.insert(end, Arc::clone(&key));
        self.windows.insert(key, Window { end, used: 0 });
    }

    /// Forgets the windows that have ended.
    fn forget(&mut self, now_ms: u64) {
        while self.ends.first_key_value().is_some_and(|((end_ms, _), _)| *end_ms <= now_ms) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, key)) = self.ends.pop_first() {
            self.windows.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(key: &str, limit: u32, window_ms: u64) -> Key {
        Key { key: key.to_owned(), limit, window_ms }
    }

    #[test]
    fn so_many_come_in_a_window_and_as_many_in_the_next() {
        let mut windows = Windows::new(10);
        for (now_ms, cost, allowed, remaining, reset_ms) in [
            (1_000, 1, true, 2, 5_000),
            (1_000, 4, false, 2, 5_000),
            (2_000, 2, true, 0, 4_000),
            (5_999, 1, false, 0, 1),
            (6_000, 1, true, 2, 5_000),
            (60_000, 4, false, 3, 5_000),
            (60_000, 3, true, 0, 5_000),
        ] {
            let counted = windows.take(&key("a", 3, 5_000), cost, now_ms);
            assert_eq!(counted, Counted { allowed, remaining, reset_ms }, "at {now_ms}");
        }
    }

    #[test]
    fn a_key_with_another_limit_or_window_is_counted_apart() {
        let mut windows = Windows::new(10);
        for other in [key("a", 1, 5_000), key("b", 1, 5_000), key("a", 2, 5_000), key("a", 1, 6_000)] {
            assert!(windows.take(&other, 1, 0).allowed);
        }
        assert_eq!(windows.len(), 4);
        assert!(!windows.take(&key("a", 1, 5_000), 1, 0).allowed);
    }

    #[test]
    fn those_that_end_first_are_forgotten_when_there_are_too_many() {
        let mut windows = Windows::new(3);
        assert!(windows.take(&key("long", 1, 90_000), 1, 0).allowed);
        for number in 0..1_000 {
            assert!(windows.take(&key(&number.to_string(), 1, 5_000), 1, 0).allowed);
            assert!(windows.len() <= 3);
        }
        assert!(!windows.take(&key("long", 1, 90_000), 1, 0).allowed, "it ends last");
        assert!(!windows.take(&key("999", 1, 5_000), 1, 0).allowed);
        assert!(windows.take(&key("0", 1, 5_000), 1, 0).allowed, "it was forgotten");
        windows.take(&key("z", 1, 1), 1, 1_000_000);
        assert_eq!(windows.len(), 1, "those that have ended go");
    }
}
