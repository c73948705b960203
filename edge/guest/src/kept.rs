//! Instances that have served a call and wait for another one of the same function: of one guest thread, bounded in number
//! and in time. They are in nobody's slot, but the pool has room for them; their memory stays their app's.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use crate::call::Function;
use crate::clock;
use crate::doors::Limit;
use crate::guest::Live;

/// Instances that wait on all threads together.
pub(crate) const KEPT_MAX: u32 = 256;

/// The instances that wait on one thread.
pub(crate) struct Kept {
    resting: Mutex<Resting>,
    most: usize,
}

#[derive(Default)]
struct Resting {
    /// The one that has waited longest comes first.
    all: VecDeque<Rested>,
    /// Somebody looks after those whose time is up.
    swept: bool,
}

/// One that waits.
struct Rested {
    live: Live,
    function: Arc<Function>,
    /// Its app's share, which pays for its end.
    share: Arc<dyn Limit>,
    until: Instant,
}

impl Rested {
    /// Ends it, at its app's cost.
    fn end(self) {
        let Self { live, share, .. } = self;
        let began_ns = clock::thread_ns();
        drop(live);
        let _ = share.cpu(clock::thread_ns().saturating_sub(began_ns) / 1000);
    }
}

impl Kept {
    /// For one of so many threads.
    pub(crate) fn new(threads: usize) -> Arc<Self> {
        let most = usize::try_from(KEPT_MAX).unwrap_or(usize::MAX) / threads.max(1);
        Arc::new(Self { resting: Mutex::default(), most })
    }

    /// One of this function, the one that served last.
    pub(crate) fn take(&self, function: &Arc<Function>) -> Option<Live> {
        let mut resting = self.resting();
        let at = resting.all.iter().rposition(|rested| Arc::ptr_eq(&rested.function, function))?;
        resting.all.remove(at).map(|rested| rested.live)
    }

    /// Keeps one until another call of its function takes it, its time is up, or too many wait. To be called on its thread.
    pub(crate) fn keep(self: &Arc<Self>, live: Live, function: &Arc<Function>, share: &Arc<dyn Limit>) {
        if self.most == 0 {
            return;
        }
        let until = Instant::now() + Duration::from_millis(function.reuse.idle_ms);
        let rested = Rested { live, function: Arc::clone(function), share: Arc::clone(share), until };
        let mut resting = self.resting();
        let last = if resting.all.len() < self.most { None } else { resting.all.pop_front() };
        resting.all.push_back(rested);
        let sweeps = !std::mem::replace(&mut resting.swept, true);
        drop(resting);
        if let Some(last) = last {
            last.end();
        }
        if sweeps {
            tokio::spawn(sweep(Arc::downgrade(self), until));
        }
    }

    /// How many wait.
    pub(crate) fn count(&self) -> usize {
        self.resting().all.len()
    }

    /// Ends those whose time is up; when the next one's is, if one waits.
    fn expire(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut resting = self.resting();
        let (over, waiting) = resting.all.drain(..).partition(|rested| rested.until <= now);
        resting.all = waiting;
        let next = resting.all.iter().map(|rested| rested.until).min();
        resting.swept = next.is_some();
        drop(resting);
        let over: VecDeque<Rested> = over;
        over.into_iter().for_each(Rested::end);
        next
    }

    fn resting(&self) -> MutexGuard<'_, Resting> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends what has waited its time, until nothing waits.
async fn sweep(kept: Weak<Kept>, mut next: Instant) {
    loop {
        tokio::time::sleep_until(next).await;
        let Some(kept) = kept.upgrade() else { return };
        match kept.expire() {
            Some(at) => next = at,
            None => return,
        }
    }
}
