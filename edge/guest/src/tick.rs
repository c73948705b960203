//! The tick that interrupts guests: once a millisecond while calls run. When none does it sleeps, so that a node without
//! requests costs nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::settings::Error;

/// How often a running guest is looked at.
const TICK: Duration = Duration::from_millis(1);
/// Ticks for nobody before it sleeps: calls that come one after the other need not wake it each time.
const IDLE_TICKS_MAX: u32 = 100;

/// The ticking thread; it ends when this is dropped.
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// It is about to sleep, or sleeps.
    asleep: AtomicBool,
    stopped: AtomicBool,
}

impl Ticker {
    /// Calls `tick` once a millisecond while `is_busy`.
    pub(crate) fn start(
        tick: impl Fn() + Send + 'static,
        is_busy: impl Fn() -> bool + Send + 'static,
    ) -> Result<Self, Error> {
        let shared = Arc::<Shared>::default();
        let ticking = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("eyot-ticker".to_owned());
        let thread = thread.spawn(move || run(&ticking, &tick, &is_busy));
        let thread = thread.map_err(|error| Error::Engine(error.to_string()))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// To be called once it is busy: it ticks from now on.
    pub(crate) fn wake(&self) {
        // Either this sees that it sleeps, or it sees that it is busy before it does: both look after both have said.
        fence(Ordering::SeqCst);
        if let (true, Some(thread)) = (self.shared.asleep.load(Ordering::SeqCst), &self.thread) {
            thread.thread().unpark();
        }
    }
}

fn run(shared: &Shared, tick: &impl Fn(), is_busy: &impl Fn() -> bool) {
    let mut idle_ticks = 0;
    while !shared.stopped.load(Ordering::SeqCst) {
        std::thread::park_timeout(TICK);
        tick();
        idle_ticks = if is_busy() { 0 } else { idle_ticks + 1 };
        if idle_ticks < IDLE_TICKS_MAX {
            continue;
        }
        shared.asleep.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if !is_busy() && !shared.stopped.load(Ordering::SeqCst) {
            std::thread::park();
        }
        shared.asleep.store(false, Ordering::SeqCst);
        idle_ticks = 0;
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn it_ticks_while_calls_run_and_sleeps_when_none_does() {
        let (ticks, busy) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (counted, asked) = (Arc::clone(&ticks), Arc::clone(&busy));
        let tick = move || {
            counted.fetch_add(1, Ordering::SeqCst);
        };
        let ticker = Ticker::start(tick, move || asked.load(Ordering::SeqCst)).expect("a thread");
        let until = |done: &dyn Fn() -> bool| {
            while !done() {
                std::thread::yield_now();
            }
        };
        for _ in 0..20 {
            until(&|| ticker.shared.asleep.load(Ordering::SeqCst));
            let before = ticks.load(Ordering::SeqCst);
            busy.store(true, Ordering::SeqCst);
            ticker.wake();
            until(&|| ticks.load(Ordering::SeqCst) > before + 1);
            assert!(!ticker.shared.asleep.load(Ordering::SeqCst), "it does not sleep while a call runs");
            busy.store(false, Ordering::SeqCst);
        }
    }
}
