//! Slots: how many calls run at once, how many more may wait, and for how long.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use eyot_plan::fault::{Code, Fault};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The slots of a node; as many as the pool of instances has.
pub(crate) struct Slots {
    free: Arc<Semaphore>,
    all: u32,
    queued: AtomicUsize,
    queued_max: usize,
    wait: Duration,
}

impl Slots {
    pub(crate) fn new(slots: u32, queued_max: usize, wait_ms: u64) -> Self {
        let free = Arc::new(Semaphore::new(usize::try_from(slots).unwrap_or(Semaphore::MAX_PERMITS)));
        Self { free, all: slots, queued: AtomicUsize::new(0), queued_max, wait: Duration::from_millis(wait_ms) }
    }

    /// A slot; waits briefly if none is free.
    pub(crate) async fn take(&self) -> Result<OwnedSemaphorePermit, Fault> {
        if let Ok(slot) = Arc::clone(&self.free).try_acquire_owned() {
            return Ok(slot);
        }
        let _place = Place::take(self)?;
        let waiting = tokio::time::timeout(self.wait, Arc::clone(&self.free).acquire_owned());
        match waiting.await {
            Ok(Ok(slot)) => Ok(slot),
            _ => Err(Fault::new(Code::Overloaded).because("no slot came free in time")),
        }
    }

    /// Resolves when all are free.
    pub(crate) async fn idle(&self) {
        let _all = self.free.acquire_many(self.all).await;
    }

    /// Whether any is taken.
    pub(crate) fn is_busy(&self) -> bool {
        self.free() < usize::try_from(self.all).unwrap_or(Semaphore::MAX_PERMITS)
    }

    /// How many are free.
    pub(crate) fn free(&self) -> usize {
        self.free.available_permits()
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
        let held = slots.take().await.expect("free");
        let (one, two) = tokio::join!(slots.take(), slots.take());
        assert_eq!(two.map(drop).map_err(|fault| fault.cause), Err(Some("the queue is full".to_owned())));
        let one = one.map(drop).expect_err("nothing came free");
        assert_eq!((one.code, one.retry_after), (Code::Overloaded, Some(1)));
        assert_eq!(slots.queued(), 0);
        let (waited, ()) = tokio::join!(slots.take(), async { drop(held) });
        assert!(waited.is_ok());
        assert_eq!(slots.free(), 0);
    }
}
