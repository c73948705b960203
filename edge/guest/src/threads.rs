//! Guest threads: apart from the threads of I/O, each with a runtime of its own, so that a guest that computes delays no
//! packet. A function stays on one thread, where its memory images are warm; if that is busy, it has a second choice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use eyot_bundle::digest::Digest;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::settings::Error;

/// How many more ready guests than the second choice the first may have.
const LEAD_MAX: usize = 2;

/// All guest threads.
pub(crate) struct Threads(Vec<Thread>);

/// One guest thread; it ends when this is dropped, and its guests with it.
struct Thread {
    handle: Handle,
    /// Guests that could run now: not yet begun, running, or having given way.
    ready: Arc<AtomicUsize>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Threads {
    /// Starts `count` threads; 0: one for each core.
    pub(crate) fn start(count: usize) -> Result<Self, Error> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count = if count == 0 { cores } else { count };
        (0..count).map(Thread::start).collect::<Result<_, _>>().map(Self)
    }

    /// Where a function runs next: the thread its digest names, or its second choice when that is clearly less busy.
    pub(crate) fn pick(&self, code: Digest) -> (Handle, Turn) {
        let bytes = code.as_bytes();
        let word = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
        let count = self.0.len();
        let first = word(0) % count;
        let second = if count > 1 { (first + 1 + word(2) % (count - 1)) % count } else { first };
        let (first, second) = (&self.0[first], &self.0[second]);
        let lead = first.ready.load(Ordering::Relaxed).saturating_sub(second.ready.load(Ordering::Relaxed));
        let thread = if lead > LEAD_MAX { second } else { first };
        (thread.handle.clone(), Turn::wait(Arc::clone(&thread.ready)))
    }
}

impl Thread {
    fn start(index: usize) -> Result<Self, Error> {
        let refuse = |error: std::io::Error| Error::Engine(error.to_string());
        let runtime = Builder::new_current_thread().enable_time().build().map_err(refuse)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let run = move || {
            let _ = runtime.block_on(stopped);
        };
        let thread = std::thread::Builder::new().name(format!("eyot-guest-{index}")).spawn(run).map_err(refuse)?;
        Ok(Self { handle, ready: Arc::default(), stop: Some(stop), thread: Some(thread) })
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
    ready: Arc<AtomicUsize>,
    counted: bool,
}

impl Turn {
    fn wait(ready: Arc<AtomicUsize>) -> Self {
        ready.fetch_add(1, Ordering::Relaxed);
        Self { ready, counted: true }
    }

    /// For a guest that runs where it was called.
    pub(crate) fn here() -> Self {
        Self::wait(Arc::default())
    }

    /// It runs.
    pub(crate) fn begins(&mut self) {
        if !std::mem::replace(&mut self.counted, true) {
            self.ready.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// It stopped running; `gave_way`: it could go on.
    pub(crate) fn ends(&mut self, gave_way: bool) {
        if !gave_way && std::mem::replace(&mut self.counted, false) {
            self.ready.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.ends(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_stays_on_its_thread_until_that_is_busy_and_knows_only_one_other() {
        let threads = Threads::start(4).expect("threads");
        let code = Digest::of(b"a function");
        let mut turns = Vec::new();
        for _ in 0..20 {
            turns.push(threads.pick(code).1);
        }
        let mut ready: Vec<_> = threads.0.iter().map(|thread| thread.ready.load(Ordering::Relaxed)).collect();
        ready.sort_unstable();
        assert_eq!((ready[0], ready[1], ready[2] + ready[3]), (0, 0, 20));
        assert!(ready[3] - ready[2] <= LEAD_MAX + 1);
        drop(turns);
        assert!(threads.0.iter().all(|thread| thread.ready.load(Ordering::Relaxed) == 0));
    }
}
