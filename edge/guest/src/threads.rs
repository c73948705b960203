//! Guest threads: apart from the threads of I/O, each with a runtime of its own, so that a guest that computes delays no
//! packet. A function stays on one thread, where its memory images are warm; if that is busy, it has a second choice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use eyot_bundle::digest::Digest;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::kept::Kept;
use crate::settings::Error;

/// How many more ready guests than the second choice the first may have.
const LEAD_MAX: usize = 2;
/// A guest that runs for longer without giving way is in something that cannot be interrupted, in microseconds.
const STUCK_US: u64 = 4_000;

/// All guest threads.
pub(crate) struct Threads(Vec<Thread>);

/// One guest thread; it ends when this is dropped, and its guests with it.
struct Thread {
    handle: Handle,
    load: Arc<Load>,
    /// Its instances that wait for another call.
    kept: Arc<Kept>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Where a call runs.
pub(crate) struct Place {
    pub(crate) handle: Handle,
    pub(crate) turn: Turn,
    pub(crate) kept: Arc<Kept>,
}

/// How busy a thread is.
struct Load {
    /// Guests that could run now: not yet begun, running, or having given way.
    ready: AtomicUsize,
    /// When the guest that runs began to, in microseconds after `epoch`; 0: none runs.
    running_since_us: AtomicU64,
    epoch: Instant,
}

impl Load {
    fn new() -> Arc<Self> {
        Arc::new(Self { ready: AtomicUsize::new(0), running_since_us: AtomicU64::new(0), epoch: Instant::now() })
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX).max(1)
    }

    fn ready(&self) -> usize {
        self.ready.load(Ordering::Relaxed)
    }

    /// Whether its guest has not given way for long.
    fn is_stuck(&self) -> bool {
        let since = self.running_since_us.load(Ordering::Relaxed);
        since != 0 && self.now_us().saturating_sub(since) > STUCK_US
    }
}

impl Threads {
    /// Starts `count` threads; 0: one for each core.
    pub(crate) fn start(count: usize) -> Result<Self, Error> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count = if count == 0 { cores } else { count };
        (0..count).map(|index| Thread::start(index, Kept::new(count))).collect::<Result<_, _>>().map(Self)
    }

    /// Where a function runs next: the thread its digest names, or its second choice when that is clearly less busy.
    pub(crate) fn pick(&self, code: Digest) -> Place {
        let bytes = code.as_bytes();
        let word = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
        let count = self.0.len();
        let first = word(0) % count;
        let second = if count > 1 { (first + 1 + word(2) % (count - 1)) % count } else { first };
        let (first, second) = (&self.0[first], &self.0[second]);
        let lead = first.load.ready().saturating_sub(second.load.ready());
        let away = lead > LEAD_MAX || (first.load.is_stuck() && !second.load.is_stuck());
        let thread = if away { second } else { first };
        let turn = Turn::wait(Arc::clone(&thread.load));
        Place { handle: thread.handle.clone(), turn, kept: Arc::clone(&thread.kept) }
    }

    /// Instances that wait for another call.
    pub(crate) fn kept(&self) -> usize {
        self.0.iter().map(|thread| thread.kept.count()).sum()
    }
}

impl Thread {
    fn start(index: usize, kept: Arc<Kept>) -> Result<Self, Error> {
        let refuse = |error: std::io::Error| Error::Engine(error.to_string());
        let runtime = Builder::new_current_thread().enable_time().build().map_err(refuse)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let run = move || {
            let _ = runtime.block_on(stopped);
        };
        let thread = std::thread::Builder::new().name(format!("eyot-guest-{index}")).spawn(run).map_err(refuse)?;
        Ok(Self { handle, load: Load::new(), kept, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A guest's place among the ready ones of its thread.
pub(crate) struct Turn {
    load: Arc<Load>,
    counted: bool,
}

impl Turn {
    fn wait(load: Arc<Load>) -> Self {
        load.ready.fetch_add(1, Ordering::Relaxed);
        Self { load, counted: true }
    }

    /// For a guest that runs where it was called.
    pub(crate) fn here() -> Self {
        Self::wait(Load::new())
    }

    /// It runs.
    pub(crate) fn begins(&mut self) {
        if !std::mem::replace(&mut self.counted, true) {
            self.load.ready.fetch_add(1, Ordering::Relaxed);
        }
        self.load.running_since_us.store(self.load.now_us(), Ordering::Relaxed);
    }

    /// It stopped running; `gave_way`: it could go on.
    pub(crate) fn ends(&mut self, gave_way: bool) {
        self.load.running_since_us.store(0, Ordering::Relaxed);
        if !gave_way {
            self.leave();
        }
    }

    fn leave(&mut self) {
        if std::mem::replace(&mut self.counted, false) {
            self.load.ready.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_threads_as_were_asked_for_or_one_a_core() {
        let cores = std::thread::available_parallelism().expect("it is known").get();
        for (asked, expect) in [(0, cores), (1, 1), (3, 3)] {
            assert_eq!(Threads::start(asked).expect("threads").0.len(), expect);
        }
    }

    #[test]
    fn a_function_stays_on_its_thread_until_that_is_busy_and_knows_only_one_other() {
        let threads = Threads::start(4).expect("threads");
        let code = Digest::of(b"a function");
        let mut turns = Vec::new();
        for _ in 0..20 {
            turns.push(threads.pick(code).turn);
        }
        let mut ready: Vec<_> = threads.0.iter().map(|thread| thread.load.ready()).collect();
        ready.sort_unstable();
        assert_eq!((ready[0], ready[1], ready[2] + ready[3]), (0, 0, 20));
        assert!(ready[3] - ready[2] <= LEAD_MAX + 1);
        drop(turns);
        let first = threads.pick(code).turn;
        first.load.running_since_us.store(1, Ordering::Relaxed);
        while !first.load.is_stuck() {
            std::hint::spin_loop();
        }
        assert!(!Arc::ptr_eq(&first.load, &threads.pick(code).turn.load), "what is stuck is avoided");
        drop(first);
        assert!(threads.0.iter().all(|thread| thread.load.ready() == 0));
    }
}
