//! Which response goes first: what is asked for each (RFC 9218), for as long as it is being sent.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Waker;

use futures_util::task::AtomicWaker;

use crate::core::priority::Priority;

/// How many requests may be spoken of before they are here. A client that has more to say first is not heard.
const HELD_MAX: usize = 64;

/// What is asked for one response.
#[derive(Debug)]
pub(crate) struct Place {
    stream: u64,
    /// By the client.
    asked: AtomicU8,
    /// By the response itself, which counts more.
    answered: AtomicU8,
    /// The task that sends.
    waker: AtomicWaker,
}

/// Set in [`Place::asked`] when a PRIORITY_UPDATE said it: the request's own field then says nothing any more.
const UPDATED: u8 = 0x80;

impl Place {
    fn new(stream: u64, held: Option<Priority>) -> Self {
        Self {
            stream,
            asked: AtomicU8::new(held.map_or(0, |priority| pack(priority) | UPDATED)),
            answered: AtomicU8::new(0),
            waker: AtomicWaker::new(),
        }
    }

    /// Its place now, as quinn takes it; the task is woken when it changes.
    pub(crate) fn order(&self, waker: &Waker) -> i32 {
        self.waker.register(waker);
        self.order_now()
    }

    fn order_now(&self) -> i32 {
        let [answered, asked] = [&self.answered, &self.asked].map(|it| unpack(it.load(Ordering::Acquire)));
        answered.or(asked).order(self.stream)
    }

    /// The request's own field says this.
    pub(crate) fn ask(&self, priority: Priority) {
        let _ = self.asked.compare_exchange(0, pack(priority), Ordering::AcqRel, Ordering::Relaxed);
    }

    /// The response's own field says this.
    pub(crate) fn answer(&self, priority: Priority) {
        self.answered.store(pack(priority), Ordering::Release);
    }

    fn update(&self, priority: Priority) {
        self.asked.store(pack(priority) | UPDATED, Ordering::Release);
        self.waker.wake();
    }
}

/// All of a connection.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    /// The requests that are here, until their responses have left.
    places: HashMap<u64, Arc<Place>>,
    /// What was said of requests that are not.
    held: HashMap<u64, Priority>,
    /// The next request that will come.
    next: u64,
}

impl Schedule {
    /// A request is here.
    pub(crate) fn enter(&mut self, stream: u64) -> Arc<Place> {
        let place = Arc::new(Place::new(stream, self.held.remove(&stream)));
        self.passed(stream);
        self.places.insert(stream, Arc::clone(&place));
        place
    }

    /// A request came and is not taken.
    pub(crate) fn passed(&mut self, stream: u64) {
        self.next = self.next.max(stream.saturating_add(4));
        if !self.held.is_empty() {
            self.held.retain(|held, _| *held >= self.next);
        }
    }

    /// Its response has left, or never will.
    pub(crate) fn leave(&mut self, place: &Place) {
        self.places.remove(&place.stream);
    }

    /// A PRIORITY_UPDATE says this. It gives the place in which the response then is, if the request is here.
    pub(crate) fn update(&mut self, stream: u64, priority: Priority) -> Option<i32> {
        if let Some(place) = self.places.get(&stream) {
            place.update(priority);
            return Some(place.order_now());
        }
        if stream >= self.next && (self.held.len() < HELD_MAX || self.held.contains_key(&stream)) {
            self.held.insert(stream, priority);
        }
        None
    }
}

/// Urgency in bits 0 to 2, which counts if bit 3 is set, and the same of bit 4 and bit 5. 0x40: it was said.
fn pack(priority: Priority) -> u8 {
    let urgency = priority.urgency.map_or(0, |urgency| urgency & 7 | 8);
    let incremental = priority.incremental.map_or(0, |it| u8::from(it) << 4 | 0x20);
    urgency | incremental | 0x40
}

fn unpack(bits: u8) -> Priority {
    Priority {
        urgency: (bits & 8 != 0).then_some(bits & 7),
        incremental: (bits & 0x20 != 0).then_some(bits & 0x10 != 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(urgency: u8) -> Priority {
        Priority { urgency: Some(urgency), incremental: None }
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        for urgency in (0..8).map(Some).chain([None]) {
            for incremental in [None, Some(false), Some(true)] {
                let priority = Priority { urgency, incremental };
                assert_eq!(unpack(pack(priority)), priority);
                assert_eq!(unpack(pack(priority) | UPDATED), priority);
            }
        }
    }

    #[test]
    fn the_response_goes_before_an_update_and_that_before_the_request() {
        let mut schedule = Schedule::default();
        assert_eq!(schedule.update(4, said(1)), None);
        let [first, second] = [0, 4].map(|stream| schedule.enter(stream));
        for place in [&first, &second] {
            place.ask(said(6));
        }
        assert_eq!(first.order_now(), said(6).order(0));
        assert_eq!(second.order_now(), said(1).order(4), "it was spoken of before it was here");
        assert_eq!(schedule.update(0, said(2)), Some(said(2).order(0)));
        first.answer(Priority { urgency: None, incremental: Some(true) });
        assert_eq!(first.order_now(), Priority { urgency: Some(2), incremental: Some(true) }.order(0));
        first.answer(said(7));
        assert_eq!(schedule.update(0, said(0)), Some(said(7).order(0)));
    }

    #[test]
    fn what_is_said_of_requests_that_are_not_here_is_held_up_to_a_bound() {
        let mut schedule = Schedule::default();
        for stream in 0..1000 {
            assert_eq!(schedule.update(4 * stream, said(1)), None);
        }
        assert_eq!(schedule.held.len(), HELD_MAX);
        assert_eq!(schedule.update(0, said(2)), None);
        assert_eq!(schedule.enter(0).order_now(), said(2).order(0), "what is held can be said anew");
        assert_eq!(schedule.held.len(), HELD_MAX - 1);
        let place = schedule.enter(4 * 40);
        assert_eq!(place.order_now(), said(1).order(4 * 40));
        assert_eq!(schedule.held.len(), HELD_MAX - 41, "of what has passed nothing is held");
        schedule.leave(&place);
        assert_eq!(schedule.update(4 * 40, said(1)), None);
        assert_eq!((schedule.held.len(), schedule.places.len()), (HELD_MAX - 41, 1), "nor of what is over");
    }
}
