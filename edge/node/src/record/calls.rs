//! The calls of functions that one request leads to, whoever makes them, and what they spend.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eyot_guest::Meter;
use eyot_plan::fault::Fault;

use super::story::Last;
use crate::entry::Function;

/// The calls of one request, in their order.
#[derive(Default)]
pub(super) struct Calls(Mutex<Vec<Called>>);

/// A call.
#[derive(Clone)]
pub(super) struct Called {
    /// What is called.
    pub(super) function: Arc<Function>,
    /// What it spends.
    pub(super) meter: Arc<Meter>,
    /// How deep it is among functions that call each other: the faults of those that are called are told to their callers.
    pub(super) depth: u8,
}

impl Calls {
    /// All so far.
    pub(super) fn all(&self) -> Vec<Called> {
        self.lock().clone()
    }

    /// How many so far.
    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    /// CPU of all so far, in microseconds; none if there was none.
    pub(super) fn cpu_us(&self) -> Option<u64> {
        let calls = self.lock();
        (!calls.is_empty()).then(|| calls.iter().map(|call| call.meter.cpu_us()).sum())
    }

    /// The last fault of those that the line itself called since there were `told`.
    pub(super) fn fault_since(&self, told: usize) -> Option<Fault> {
        let calls = self.lock();
        let late = calls.get(told..).unwrap_or_default().iter().rev().filter(|call| call.depth == 0);
        late.filter_map(|call| call.meter.fault()).next().cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Called>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where calls are put on record, while the request goes on or after it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Bill {
    pub(super) calls: Arc<Calls>,
    /// As long as this lives, the record is not complete.
    pub(super) last: Arc<Last>,
}

impl Bill {
    /// A function is called, which says in the meter what it spends; the witness is dropped when it has ended.
    pub(crate) fn call(&self, function: &Arc<Function>, depth: u8) -> (Arc<Meter>, impl Send + use<>) {
        let meter = Arc::<Meter>::default();
        self.calls.lock().push(Called { function: Arc::clone(function), meter: Arc::clone(&meter), depth });
        (meter, Arc::clone(&self.last))
    }
}
