//! One flight per key: who asks first asks for all, and those who come later wait for what is made of the answer.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eyot_plan::fault::Fault;
use tokio::sync::watch;

use crate::object::Object;

/// What becomes of a flight, for those who wait.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The answer is not kept: each asks by itself, at once.
    Alone,
    /// There was none.
    Failed(Fault),
    /// It is kept, though its body may still be coming.
    Kept(Arc<Object>),
    /// There was no good one, and this stale one stands in for it.
    StoodIn(Arc<Object>),
    /// Who asked has gone before there was an answer: one of those who wait asks.
    Left,
}

/// What a flight is for: the primary key, and a digest of the fields that the answer is known to vary by.
pub(crate) type Key = (u128, u128);

type Watched = watch::Receiver<Option<Outcome>>;

/// The flights of an app.
#[derive(Debug)]
pub(crate) struct Flights {
    most: usize,
    all: Mutex<HashMap<Key, Watched>>,
}

/// The place of one who asks.
#[derive(Debug)]
pub(crate) enum Joined {
    /// Alone: there are too many flights.
    Full,
    /// As the one who asks.
    Lead(Lead),
    /// As one who waits.
    Wait(Wait),
}

impl Flights {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, all: Mutex::default() }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Key, Watched>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count(&self) -> usize {
        self.all().len()
    }

    /// Joins the flight of `key`, or begins it.
    pub(crate) fn join(self: &Arc<Self>, key: Key) -> Joined {
        let mut all = self.all();
        let full = all.len() >= self.most;
        match all.entry(key) {
            Entry::Occupied(flight) => Joined::Wait(Wait(flight.get().clone())),
            Entry::Vacant(_) if full => Joined::Full,
            Entry::Vacant(place) => {
                let (tell, watched) = watch::channel(None);
                place.insert(watched);
                Joined::Lead(Lead { flights: Arc::clone(self), key, tell })
            }
        }
    }
}

/// Who asks for all. Dropped, the flight is over.
#[derive(Debug)]
pub(crate) struct Lead {
    flights: Arc<Flights>,
    key: Key,
    tell: watch::Sender<Option<Outcome>>,
}

impl Lead {
    /// Tells those who wait, and those who join from now on, for as long as this is held.
    pub(crate) fn tell(&self, outcome: Outcome) {
        self.tell.send_replace(Some(outcome));
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        // Who comes from now on finds what is kept, or begins anew.
        self.flights.all().remove(&self.key);
        self.tell.send_if_modified(|outcome| {
            let left = outcome.is_none();
            if left {
                *outcome = Some(Outcome::Left);
            }
            left
        });
    }
}

/// Who waits.
#[derive(Debug)]
pub(crate) struct Wait(Watched);

impl Wait {
    /// What became of it.
    pub(crate) async fn outcome(mut self) -> Outcome {
        match self.0.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(Outcome::Left),
            Err(_) => Outcome::Left,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn more_flights_than_there_may_be_are_asked_for_alone() {
        let flights = Arc::new(Flights::new(2));
        let (first, second) = (flights.join((1, 0)), flights.join((2, 0)));
        assert!(matches!((&first, &second), (Joined::Lead(_), Joined::Lead(_))));
        assert!(matches!(flights.join((3, 0)), Joined::Full));
        let Joined::Wait(wait) = flights.join((1, 0)) else { unreachable!("who comes later waits") };
        drop(first);
        assert!(matches!(wait.outcome().await, Outcome::Left), "who led has left");
        assert!(matches!(flights.join((3, 0)), Joined::Lead(_)), "and there is a place");
    }
}
