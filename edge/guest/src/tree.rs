//! A tree of calls: a function, those it calls by name, those they call. They spend of one budget, and who spends the last
//! of it ends all. A tree may itself be within another one: what a caller elsewhere in the fleet has lent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::call::Remaining;

/// What a tree of calls may spend together, and has spent.
#[derive(Debug)]
pub struct Tree {
    most: Remaining,
    cpu_ns: AtomicU64,
    /// Outbound requests that were made or lent.
    subrequests: AtomicU64,
    within: Option<Arc<Tree>>,
}

/// In the extensions of every request a function sends: whose it is.
#[derive(Clone, Debug)]
pub struct Sender {
    /// The tree that it is of.
    pub tree: Arc<Tree>,
    /// How deep in its tree the function is: 0 for the one that was asked from outside.
    pub depth: u8,
    /// What the function has left, of its own budget and of its tree's.
    pub remaining: Remaining,
}

impl Tree {
    /// A tree that may spend as much, and no more than what is left of the one it is within.
    pub fn new(most: Remaining, within: Option<Arc<Self>>) -> Arc<Self> {
        Arc::new(Self { most, cpu_ns: AtomicU64::new(0), subrequests: AtomicU64::new(0), within })
    }

    /// What is left.
    pub fn remaining(&self) -> Remaining {
        let asked = u32::try_from(self.subrequests.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        let own = Remaining {
            cpu_us: self.most.cpu_us.saturating_sub(self.cpu_us()),
            subrequests: self.most.subrequests.saturating_sub(asked),
        };
        self.within.as_ref().map_or(own, |within| own.min(within.remaining()))
    }

    /// Takes so many outbound requests, if that many are left.
    pub fn take(&self, subrequests: u32) -> bool {
        let most = u64::from(self.most.subrequests);
        let grown = |taken: u64| taken.checked_add(subrequests.into()).filter(|grown| *grown <= most);
        if self.subrequests.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).is_err() {
            return false;
        }
        let taken = self.within.as_ref().is_none_or(|within| within.take(subrequests));
        if !taken {
            self.less(subrequests);
        }
        taken
    }

    /// Gives back outbound requests that were taken and not made.
    pub fn back(&self, subrequests: u32) {
        self.less(subrequests);
        if let Some(within) = &self.within {
            within.back(subrequests);
        }
    }

    fn less(&self, subrequests: u32) {
        let less = |taken: u64| Some(taken.saturating_sub(subrequests.into()));
        let _ = self.subrequests.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Spends CPU time, in nanoseconds.
    pub fn spend_cpu_ns(&self, ns: u64) {
        self.cpu_ns.fetch_add(ns, Ordering::Relaxed);
        if let Some(within) = &self.within {
            within.spend_cpu_ns(ns);
        }
    }

    /// CPU time that was spent, in microseconds.
    pub fn cpu_us(&self) -> u64 {
        self.cpu_ns.load(Ordering::Relaxed) / 1000
    }

    /// Outbound requests that were made or lent.
    pub fn subrequests(&self) -> u64 {
        self.subrequests.load(Ordering::Relaxed)
    }

    /// CPU that may be spent and CPU that was, in microseconds, where that is more.
    pub(crate) fn overrun(&self) -> Option<(u64, u64)> {
        let (most, used) = (self.most.cpu_us, self.cpu_us());
        if used > most { Some((most, used)) } else { self.within.as_ref().and_then(|within| within.overrun()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn most(cpu_us: u64, subrequests: u32) -> Remaining {
        Remaining { cpu_us, subrequests }
    }

    #[test]
    fn what_a_tree_spends_is_spent_by_all_that_it_is_within() {
        let lent = Tree::new(most(100, 5), None);
        let (one, two) = (Tree::new(most(80, 32), Some(lent.clone())), Tree::new(most(80, 2), Some(lent.clone())));
        assert_eq!((one.remaining(), two.remaining()), (most(80, 5), most(80, 2)));
        one.spend_cpu_ns(60_999);
        assert_eq!((one.remaining(), two.remaining()), (most(20, 5), most(40, 2)));
        assert!(one.take(4) && !two.take(2) && two.take(1), "what is refused takes nothing");
        assert_eq!((one.subrequests(), two.subrequests(), lent.remaining().subrequests), (4, 1, 0));
        one.back(3);
        assert!(two.take(1) && !two.take(1));
        two.spend_cpu_ns(45_000);
        assert_eq!(
            (one.overrun(), two.overrun(), lent.overrun()),
            (Some((100, 105)), Some((100, 105)), Some((100, 105)))
        );
        assert_eq!(lent.remaining(), most(0, 2));
    }
}
