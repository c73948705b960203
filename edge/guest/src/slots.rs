//! Slots: how many calls run at once, how many more may wait, and for how long.
//!
//! Calls that are asked from outside have theirs; at each depth below, those that are called by name have a few of their
//! own. So who is called never waits for a slot that a caller holds who waits for him: a full node does not lock up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use eyot_plan::fault::{Code, Fault};
use eyot_plan::forward::DEPTH_MAX;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Of so many slots for calls from outside, those beside them for calls at `depth` of their tree: an eighth at the first,
/// half as many at each next one, and at least one. None at 0.
pub fn slots_below(slots: u32, depth: u8) -> u32 {
    if depth == 0 { 0 } else { slots.checked_shr(2 + u32::from(depth)).unwrap_or(0).max(1) }
}

/// Slots for calls at all depths.
pub(crate) fn slots_at_all_depths(slots: u32) -> u32 {
    slots + (1..DEPTH_MAX).map(|depth| slots_below(slots, depth)).sum::<u32>()
}

/// The slots of a node; as many as the pool of instances has.
pub(crate) struct Slots {
    /// By depth.
    levels: Vec<Level>,
    queued: AtomicUsize,
    queued_max: usize,
    wait: Duration,
}

/// The slots of one depth.
struct Level {
    free: Arc<Semaphore>,
    all: u32,
}

impl Level {
    fn new(all: u32) -> Self {
        let free = Arc::new(Semaphore::new(usize::try_from(all).unwrap_or(Semaphore::MAX_PERMITS)));
        Self { free, all }
    }

    fn is_busy(&self) -> bool {
        self.free.available_permits() < usize::try_from(self.all).unwrap_or(Semaphore::MAX_PERMITS)
    }
}

impl Slots {
    pub(crate) fn new(slots: u32, queued_max: usize, wait_ms: u64) -> Self {
        let below = (1..DEPTH_MAX).map(|depth| slots_below(slots, depth));
        let levels = std::iter::once(slots).chain(below).map(Level::new).collect();
        Self { levels, queued: AtomicUsize::new(0), queued_max, wait: Duration::from_millis(wait_ms) }
    }

    /// A slot for a call at `depth`; waits briefly if none is free.
    pub(crate) async fn take(&self, depth: u8) -> Result<OwnedSemaphorePermit, Fault> {
        let level = self.levels.get(usize::from(depth));
        let free = &level.ok_or_else(|| Fault::new(Code::LoopDetected).because("called too deep"))?.free;
        if let Ok(slot) = Arc::clone(free).try_acquire_owned() {
            return Ok(slot);
        }
        let _place = Place::take(self)?;
        let waiting = tokio::time::timeout(self.wait, Arc::clone(free).acquire_owned());
        match waiting.await {
            Ok(Ok(slot)) => Ok(slot),
            _ => Err(Fault::new(Code::Overloaded).because("no slot came free in time")),
        }
    }

    /// Resolves when all are free.
    pub(crate) async fn idle(&self) {
        // Who holds all from outside lets no new tree begin; those below then come free.
        let mut held = Vec::with_capacity(self.levels.len());
        for level in &self.levels {
            held.push(level.free.acquire_many(level.all).await);
        }
    }

    /// Whether any is taken.
    pub(crate) fn is_busy(&self) -> bool {
        self.levels.iter().any(Level::is_busy)
    }

    /// How many are free for calls from outside.
    pub(crate) fn free(&self) -> usize {
        self.levels.first().map_or(0, |level| level.free.available_permits())
    }

    /// How many calls wait.
    pub(crate) fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }
}

/// A place in the queue, until it is dropped.
struct Place<'a>(&'a Slots);

impl<'a> Place<'a> {
    fn take(slots: &'a Slots) -> Result<Self, Fault> {
        let place = Self(slots);
        if slots.queued.fetch_add(1, Ordering::Relaxed) >= slots.queued_max {
            return Err(Fault::new(Code::Overloaded).because("the queue is full"));
        }
        Ok(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.queued.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_waits_for_a_slot_in_a_bounded_queue_and_not_for_long() {
        let slots = Slots::new(1, 1, 1000);
        let held = slots.take(0).await.expect("free");
        let (one, two) = tokio::join!(slots.take(0), slots.take(0));
        assert_eq!(two.map(drop).map_err(|fault| fault.cause), Err(Some("the queue is full".to_owned())));
        let one = one.map(drop).expect_err("nothing came free");
        assert_eq!((one.code, one.retry_after), (Code::Overloaded, Some(1)));
        assert_eq!(slots.queued(), 0);
        let (waited, ()) = tokio::join!(slots.take(0), async { drop(held) });
        assert!(waited.is_ok());
        assert_eq!(slots.free(), 0);
    }

    #[test]
    fn each_depth_has_slots_of_its_own() {
        let at = |slots| (0..DEPTH_MAX).map(|depth| slots_below(slots, depth)).collect::<Vec<_>>();
        assert_eq!(at(2048), [0, 256, 128, 64, 32, 16, 8, 4]);
        assert_eq!(at(2), [0, 1, 1, 1, 1, 1, 1, 1]);
        assert_eq!(slots_at_all_depths(2048), 2556);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_called_never_waits_for_the_slot_of_a_caller() {
        let slots = Slots::new(1, 8, 1000);
        let mut held = Vec::new();
        for depth in 0..DEPTH_MAX {
            held.push(slots.take(depth).await.expect("free"));
        }
        let deeper = slots.take(DEPTH_MAX).await.map(drop).map_err(|fault| fault.code);
        assert_eq!(deeper, Err(Code::LoopDetected));
        let another = slots.take(3).await.map(drop).map_err(|fault| fault.code);
        assert_eq!(another, Err(Code::Overloaded), "at one depth they wait for each other, and not for long");
        assert!(slots.is_busy());
        let (idle, ()) = tokio::join!(tokio::time::timeout(Duration::from_secs(9), slots.idle()), async { drop(held) });
        assert!(idle.is_ok() && !slots.is_busy());
    }
}
