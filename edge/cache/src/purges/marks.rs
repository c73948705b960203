//! The marks of one app: what was purged of it, and when by the counter. Pure.

use std::collections::HashMap;

use super::{Hash, Verdict};

/// When something was last purged, by the counter; 0: never. What was kept before is judged so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Since {
    /// Stale: may answer while it is fetched anew.
    pub(super) soft: u64,
    /// In doubt: asked for before it answers.
    pub(super) doubt: u64,
    /// Gone.
    pub(super) hard: u64,
}

impl Since {
    fn judge(self, born: u64) -> Verdict {
        match born {
            born if born < self.hard => Verdict::Gone,
            born if born < self.doubt => Verdict::Doubted,
            born if born < self.soft => Verdict::Stale,
            _ => Verdict::Fresh,
        }
    }

    /// Whether all that `other` judges, this judges as hard.
    fn covers(self, other: Self) -> bool {
        let doubt = self.doubt.max(self.hard);
        other.hard <= self.hard && other.doubt <= doubt && other.soft <= self.soft.max(doubt)
    }

    fn last(self) -> u64 {
        self.soft.max(self.doubt).max(self.hard)
    }

    /// The later of each.
    pub(super) fn raise(&mut self, other: Self) {
        self.soft = self.soft.max(other.soft);
        self.doubt = self.doubt.max(other.doubt);
        self.hard = self.hard.max(other.hard);
    }
}

/// The marks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// Of the whole app: its generation.
    pub(super) app: Since,
    /// Of URLs and keys.
    pub(super) named: HashMap<Hash, Since>,
    /// The last of all.
    last: u64,
}

impl Marks {
    /// Notes when the app, or a URL or key of it, was purged. Of more than `most` of them the oldest are forgotten; what
    /// they were for, the whole app is then purged of as it was when they came, so nothing that was purged comes back.
    pub(super) fn mark(&mut self, of: Option<Hash>, since: Since, most: usize) {
        match of {
            None => self.app.raise(since),
            Some(hash) => self.named.entry(hash).or_default().raise(since),
        }
        self.last = self.last.max(since.last());
        if self.named.len() > most {
            self.merge(most);
        }
    }

    /// Notes all that `other` has, too.
    pub(super) fn take_in(&mut self, other: &Self, most: usize) {
        self.mark(None, other.app, most);
        other.named.iter().for_each(|(hash, since)| self.mark(Some(*hash), *since, most));
    }

    /// Forgets the oldest quarter of the names, and those that the whole app's mark covers.
    fn merge(&mut self, most: usize) {
        let app = self.app;
        self.named.retain(|_, since| !app.covers(*since));
        if self.named.len() <= most {
            return;
        }
        let mut lasts: Vec<u64> = self.named.values().map(|since| since.last()).collect();
        let keep_from = (lasts.len() - most + most / 4).min(lasts.len() - 1);
        let (_, first_kept, _) = lasts.select_nth_unstable(keep_from);
        let first_kept = *first_kept;
        let mut merged = Since::default();
        self.named.retain(|_, since| {
            let keep = since.last() >= first_kept;
            if !keep {
                merged.raise(*since);
            }
            keep
        });
        // A batch has one count for all its purges: then there is no oldest among them.
        if self.named.len() > most {
            self.named.drain().for_each(|(_, since)| merged.raise(since));
        }
        self.app.raise(merged);
    }

    pub(super) fn judge(&self, born: u64, url: Hash, keys: &[Hash]) -> Verdict {
        if born >= self.last {
            return Verdict::Fresh;
        }
        let named = keys.iter().chain([&url]).filter_map(|hash| self.named.get(hash));
        named.map(|since| since.judge(born)).fold(self.app.judge(born), Verdict::max)
    }
}
