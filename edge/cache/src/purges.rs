//! Purges. Nothing walks the cache: a counter grows with each purge that this node does, each kept answer remembers what
//! the counter was when its fill began, and a purge notes for its app, URL or key the count that it was given. What is
//! older than a note that means it is judged by it, also what was still on its way in when the purge came.
//!
//! The notes and how far the node has followed its parent are in a journal, beside the answers that are on disk.

mod hash;
mod journal;
mod marks;

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

pub use hash::Hash;

use journal::Journal;
use marks::{Marks, Since};

/// Purges of one app that are told apart. Of more, the oldest become one of the whole app.
pub const MARKS_MAX: usize = 10_000;

/// Stands for the name of an app where all are purged: no app has it.
pub const EVERY_APP: &str = "";

/// When the fill of a kept answer began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Born {
    /// The counter of purges.
    pub mark: u64,
    /// The node's clock, in milliseconds since 1970.
    pub at_ms: u64,
}

/// What purges say of a kept answer; the later the stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing.
    Fresh,
    /// It is stale: it may answer while it is revalidated, and when that fails.
    Stale,
    /// It may have been purged without this node knowing: it is revalidated first, and answers when that fails.
    Doubted,
    /// It does not exist.
    Gone,
}

/// A purge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purge {
    /// What of the app.
    pub what: What,
    /// How.
    pub how: How,
}

/// What of an app is purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// All of it.
    App,
    /// A URL or a surrogate key.
    Named(Hash),
}

impl What {
    fn named(self) -> Option<Hash> {
        match self {
            Self::App => None,
            Self::Named(hash) => Some(hash),
        }
    }
}

/// How something is purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// To [`Verdict::Stale`].
    Soft,
    /// To [`Verdict::Doubted`]: this node does not know what was purged.
    Doubt,
    /// To [`Verdict::Gone`].
    Hard,
}

impl Purge {
    fn at(&self, counter: u64) -> Since {
        let mut since = Since::default();
        match self.how {
            How::Soft => since.soft = counter,
            How::Doubt => since.doubt = counter,
            How::Hard => since.hard = counter,
        }
        since
    }
}

/// How far this node has followed the log of its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The log. One that was lost and begun again is another.
    pub log: u128,
    /// The last purge of it that was done here.
    pub n: u64,
}

/// The purges of a node.
#[derive(Debug)]
pub struct Purges {
    counter: AtomicU64,
    /// What was kept at an earlier count is of no journal that is known.
    first: AtomicU64,
    apps: RwLock<HashMap<Box<str>, Marks>>,
    marks_max: usize,
    lag: Lag,
    /// Also the order of purges: whoever purges holds it.
    kept: Mutex<Kept>,
    /// How far the parent's log was followed, for who cannot wait for a disk.
    followed: Mutex<Option<Position>>,
}

#[derive(Debug)]
struct Kept {
    journal: Option<Journal>,
    position: Option<Position>,
}

/// How long this node has not heard its parent.
#[derive(Debug)]
struct Lag {
    /// None: there is no parent.
    max_ms: Option<u64>,
    /// When this process began.
    began_ms: u64,
    /// When the parent was last heard by this process, 0: not yet.
    heard_ms: AtomicU64,
}

impl Lag {
    fn doubts(&self, born: Born, now_ms: u64) -> bool {
        let Some(max_ms) = self.max_ms else { return false };
        let filled_ms = if born.at_ms > now_ms { 0 } else { born.at_ms };
        let heard_ms = self.heard_ms.load(Ordering::Acquire);
        if heard_ms == 0 && filled_ms < self.began_ms {
            return true;
        }
        now_ms.saturating_sub(filled_ms.max(heard_ms)) > max_ms
    }
}

/// What was opened.
#[derive(Debug)]
pub struct Opened {
    /// The purges.
    pub purges: Purges,
    /// Why all that was kept on disk is to be dropped: the journal is not there, or damaged. It would be judged
    /// [`Verdict::Gone`] anyway.
    pub lost: Option<String>,
}

impl Purges {
    /// Purges of a node that keeps nothing on disk. `lag_max_ms`: what was kept longer ago is in doubt when the parent was
    /// not heard for as long; none: there is no parent.
    pub fn in_memory(lag_max_ms: Option<u64>, now_ms: u64) -> Self {
        let first = journal::first(now_ms);
        Self::new(first, first, HashMap::new(), Kept { journal: None, position: None }, lag_max_ms, now_ms)
    }

    /// Purges whose journal is in `folder`, which is there.
    ///
    /// # Errors
    /// What the system said. Then nothing may be kept on disk: purges of it would be forgotten.
    pub fn open(folder: &Path, lag_max_ms: Option<u64>, now_ms: u64) -> io::Result<Opened> {
        Self::open_within(MARKS_MAX, folder, lag_max_ms, now_ms)
    }

    fn open_within(marks_max: usize, folder: &Path, lag_max_ms: Option<u64>, now_ms: u64) -> io::Result<Opened> {
        let journal::Opened { journal, state, lost } = journal::open(folder, marks_max, now_ms)?;
        let kept = Kept { journal: Some(journal), position: state.position };
        let purges = Self::new(state.counter, state.first, state.apps, kept, lag_max_ms, now_ms);
        Ok(Opened { purges: Self { marks_max, ..purges }, lost })
    }

    fn new(
        counter: u64,
        first: u64,
        apps: HashMap<Box<str>, Marks>,
        kept: Kept,
        max_ms: Option<u64>,
        began_ms: u64,
    ) -> Self {
        let lag = Lag { max_ms, began_ms, heard_ms: AtomicU64::new(0) };
        let (counter, first) = (AtomicU64::new(counter), AtomicU64::new(first));
        let (apps, followed) = (RwLock::new(apps), Mutex::new(kept.position));
        Self { counter, first, apps, marks_max: MARKS_MAX, lag, kept: Mutex::new(kept), followed }
    }

    /// What an answer remembers whose fill begins now: asked before the request is sent.
    pub fn now(&self, now_ms: u64) -> Born {
        Born { mark: self.counter.load(Ordering::Acquire), at_ms: now_ms }
    }

    /// What purges say of an answer of `app` that was kept for `url` and has these surrogate keys.
    pub fn judge(&self, app: &str, born: Born, url: Hash, keys: &[Hash], now_ms: u64) -> Verdict {
        let counter = self.counter.load(Ordering::Acquire);
        if born.mark < self.first.load(Ordering::Acquire) || born.mark > counter {
            return Verdict::Gone;
        }
        let purged = match born.mark {
            mark if mark == counter => Verdict::Fresh,
            mark => {
                let apps = self.apps();
                let judge = |app| apps.get(app).map_or(Verdict::Fresh, |marks: &Marks| marks.judge(mark, url, keys));
                judge(app).max(judge(EVERY_APP))
            }
        };
        if purged < Verdict::Doubted && self.lag.doubts(born, now_ms) { Verdict::Doubted } else { purged }
    }

    /// Does purges: what was kept before this call is judged by them. They hold at once, and when this has returned, after
    /// a crash too; it waits for the disk. `upto` is how far the parent's log is followed with them.
    ///
    /// # Errors
    /// What the system said: the purges hold in this process, but a later one may not know them, so `upto` is not noted
    /// and what is on disk must not outlive the process. A later call that succeeds makes up for it.
    pub fn apply(&self, purges: &[(&str, Purge)], upto: Option<Position>) -> io::Result<()> {
        let mut kept = self.kept();
        let counter = self.counter.load(Ordering::Acquire) + u64::from(!purges.is_empty());
        let mut apps = self.apps.write().unwrap_or_else(PoisonError::into_inner);
        for (app, purge) in purges {
            if !apps.contains_key(*app) {
                apps.insert((*app).into(), Marks::default());
            }
            if let Some(marks) = apps.get_mut(*app) {
                marks.mark(purge.what.named(), purge.at(counter), self.marks_max);
            }
        }
        drop(apps);
        // After the marks: who reads the new count finds them.
        self.counter.store(counter, Ordering::Release);
        let position = upto.or(kept.position);
        if let Some(journal) = &mut kept.journal {
            journal.append(counter, purges, upto, || self.state(position))?;
        }
        kept.position = position;
        *self.followed() = position;
        Ok(())
    }

    /// Takes up the journal in `folder`, which is there, beside what was purged in this process. Why all that was kept on
    /// disk is to be dropped is told as by [`Self::open`].
    ///
    /// # Errors
    /// What the system said. Then nothing may be kept on disk.
    pub fn take_up(&self, folder: &Path, now_ms: u64) -> io::Result<Option<String>> {
        let mut kept = self.kept();
        let journal::Opened { mut journal, state, lost } = journal::open(folder, self.marks_max, now_ms)?;
        let mut apps = self.apps.write().unwrap_or_else(PoisonError::into_inner);
        for (app, marks) in state.apps {
            apps.entry(app).or_default().take_in(&marks, self.marks_max);
        }
        drop(apps);
        self.first.store(state.first, Ordering::Release);
        // Above all that either counted.
        self.counter.fetch_max(state.counter, Ordering::AcqRel);
        journal.anew(&self.state(state.position))?;
        *kept = Kept { journal: Some(journal), position: state.position };
        *self.followed() = state.position;
        Ok(lost)
    }

    /// All that there is to be written down.
    fn state(&self, position: Option<Position>) -> journal::State {
        let (counter, first) = (self.counter.load(Ordering::Acquire), self.first.load(Ordering::Acquire));
        journal::State { counter, first, apps: self.apps().clone(), position }
    }

    /// Writes no journal from now on: another process owns what is on disk.
    pub fn let_go(&self) {
        self.kept().journal = None;
    }

    /// How far the parent's log was followed; none: not at all yet. It waits for no disk.
    pub fn position(&self) -> Option<Position> {
        *self.followed()
    }

    fn followed(&self) -> MutexGuard<'_, Option<Position>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The parent was heard at `now_ms`, and all that it had to tell of purges until then was done before.
    pub fn heard(&self, now_ms: u64) {
        self.lag.heard_ms.fetch_max(now_ms, Ordering::AcqRel);
    }

    /// Whether the parent was not heard for longer than it may be, so that only what was kept since is not in doubt.
    pub fn lagging(&self, now_ms: u64) -> bool {
        self.lag.doubts(Born { mark: 0, at_ms: 0 }, now_ms)
    }

    /// How many purges of one app are told apart now, of the app that has most.
    pub fn marks(&self) -> usize {
        self.apps().values().map(|marks| marks.named.len()).max().unwrap_or_default()
    }

    fn apps(&self) -> std::sync::RwLockReadGuard<'_, HashMap<Box<str>, Marks>> {
        self.apps.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
