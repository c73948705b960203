//! Which response goes first: what is asked for each (RFC 9218), for as long as it is being sent.
//!
//! quinn sends from the stream with the largest number. It looks at a stream's number anew only when it has sent from it:
//! one that is raised while it waits would go on waiting. So whenever one is raised, all get numbers below all that were
//! given before (a new *generation*): each has one packet, and from then on the new order.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::task::Waker;

use futures_util::task::AtomicWaker;

use crate::core::priority::{LATER_MAX, Priority, RANKS};

/// How many requests may be spoken of before they are here. A client that has more to say first is not heard.
const HELD_MAX: usize = 64;
/// How many generations a connection may begin, and one more for each request: each costs a look at all that wait.
const GENERATIONS_SPARE: u64 = 16;
/// How many fit into quinn's numbers. In the last one what is raised waits for its turn, and late requests share.
const GENERATIONS_MAX: i32 = (1 << 16) - 2;

/// The place of one response.
#[derive(Debug)]
pub(crate) struct Place {
    stream: u64,
    order: AtomicI32,
    /// Its response is being written.
    is_writing: AtomicBool,
    /// The task that sends.
    waker: AtomicWaker,
}

impl Place {
    /// Where it is now, as quinn takes it; the task is woken when that changes.
    pub(crate) fn order(&self, waker: &Waker) -> i32 {
        self.waker.register(waker);
        self.now()
    }

    /// Its response is being written, or no longer.
    pub(crate) fn writes(&self, is_writing: bool) {
        self.is_writing.store(is_writing, Ordering::Relaxed);
    }

    /// Where it is now.
    pub(crate) fn now(&self) -> i32 {
        self.order.load(Ordering::Acquire)
    }
}

/// What is said of one response.
#[derive(Debug)]
struct Entry {
    /// By the client.
    asked: Priority,
    /// Whether a PRIORITY_UPDATE said it: the request's own field then says nothing any more.
    is_updated: bool,
    /// By the response itself, which counts more.
    answered: Priority,
    place: Arc<Place>,
}

/// All of a connection.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    /// The requests that are here, until their responses have left.
    entries: HashMap<u64, Entry>,
    /// What was said of requests that are not.
    held: HashMap<u64, Priority>,
    /// The next request that will come.
    next: u64,
    generation: i32,
    /// The first request of the generation.
    first: u64,
}

impl Schedule {
    /// A request is here.
    pub(crate) fn enter(&mut self, stream: u64) -> Arc<Place> {
        let held = self.held.remove(&stream);
        self.passed(stream);
        if stream.saturating_sub(self.first) / 4 > LATER_MAX {
            self.begin_generation(stream);
        }
        let (order, is_writing, waker) = (AtomicI32::new(0), AtomicBool::new(false), AtomicWaker::new());
        let place = Arc::new(Place { stream, order, is_writing, waker });
        let entry = Entry {
            asked: held.unwrap_or_default(),
            is_updated: held.is_some(),
            answered: Priority::default(),
            place: Arc::clone(&place),
        };
        self.put(&entry);
        self.entries.insert(stream, entry);
        place
    }

    /// A request came and is not taken.
    pub(crate) fn passed(&mut self, stream: u64) {
        self.next = self.next.max(stream.saturating_add(4));
        if !self.held.is_empty() {
            self.held.retain(|held, _| *held >= self.next);
        }
    }

    /// The request's own field says this.
    pub(crate) fn ask(&mut self, place: &Place, priority: Priority) {
        self.say(place, |entry| {
            if !entry.is_updated {
                entry.asked = priority;
            }
        });
    }

    /// The response's own field says this.
    pub(crate) fn answer(&mut self, place: &Place, priority: Priority) {
        self.say(place, |entry| entry.answered = priority);
    }

    /// A PRIORITY_UPDATE says this. True: places have changed.
    pub(crate) fn update(&mut self, stream: u64, priority: Priority) -> bool {
        if let Some(entry) = self.entries.get_mut(&stream) {
            let place = Arc::clone(&entry.place);
            let before = place.now();
            (entry.asked, entry.is_updated) = (priority, true);
            self.say(&place, |_| {});
            if place.now() > before {
                self.begin_generation(self.first);
            }
            return place.now() != before;
        }
        if stream >= self.next && (self.held.len() < HELD_MAX || self.held.contains_key(&stream)) {
            self.held.insert(stream, priority);
        }
        false
    }

    /// Whether none goes before it of the responses that are being written.
    pub(crate) fn is_foremost(&self, place: &Place) -> bool {
        let order = place.now();
        let goes_before = |other: &Place| other.is_writing.load(Ordering::Relaxed) && other.now() > order;
        !self.entries.values().any(|entry| goes_before(&entry.place))
    }

    /// Its response has left, or never will.
    pub(crate) fn leave(&mut self, place: &Place) {
        self.entries.remove(&place.stream);
    }

    fn say(&mut self, place: &Place, what: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.entries.get_mut(&place.stream) {
            what(entry);
            if let Some(entry) = self.entries.get(&place.stream) {
                self.put(entry);
            }
        }
    }

    /// Puts a response where it belongs.
    fn put(&self, entry: &Entry) {
        let later = entry.place.stream.saturating_sub(self.first) / 4;
        let rank = entry.answered.or(entry.asked).rank(later);
        // The control stream is at the very top.
        let order = i64::from(i32::MAX - RANKS) - i64::from(self.generation) * i64::from(RANKS) + i64::from(rank);
        let order = i32::try_from(order).unwrap_or(i32::MIN);
        if entry.place.order.swap(order, Ordering::AcqRel) != order {
            entry.place.waker.wake();
        }
    }

    fn begin_generation(&mut self, first: u64) {
        let spare = GENERATIONS_SPARE + self.next / 4;
        if self.generation < GENERATIONS_MAX && u64::from(self.generation.unsigned_abs()) < spare {
            self.generation += 1;
            self.first = first;
            self.entries.values().for_each(|entry| self.put(entry));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(urgency: u8) -> Priority {
        Priority { urgency: Some(urgency), incremental: None }
    }

    /// Where a response is if this is said of it, in the generation.
    fn at(generation: i32, priority: Priority, later: u64) -> i32 {
        i32::MAX - RANKS * (generation + 1) + priority.rank(later)
    }

    #[test]
    fn the_response_goes_before_an_update_and_that_before_the_request() {
        let mut schedule = Schedule::default();
        assert!(!schedule.update(4, said(1)));
        let [first, second] = [0, 4].map(|stream| schedule.enter(stream));
        for place in [&first, &second] {
            schedule.ask(place, said(6));
        }
        assert_eq!(first.now(), at(0, said(6), 0));
        assert_eq!(second.now(), at(0, said(1), 1), "it was spoken of before it was here");
        assert!(schedule.update(0, said(7)));
        assert_eq!(first.now(), at(0, said(7), 0));
        let turns = Priority { urgency: None, incremental: Some(true) };
        schedule.answer(&first, turns);
        assert_eq!(first.now(), at(0, turns.or(said(7)), 0));
        schedule.answer(&first, said(2));
        assert!(!schedule.update(0, said(0)));
        assert_eq!(first.now(), at(0, said(2), 0));
    }

    #[test]
    fn who_is_raised_goes_before_those_that_wait_since_all_begin_anew() {
        let mut schedule = Schedule::default();
        let places = [0, 4, 8].map(|stream| schedule.enter(stream));
        for place in &places {
            schedule.ask(place, said(3));
        }
        let before = places.iter().map(|place| place.now()).min().unwrap();
        assert!(schedule.update(8, said(1)));
        let after: Vec<_> = places.iter().map(|place| place.now()).collect();
        assert!(after.iter().all(|order| *order < before), "{after:?}");
        assert!(after[2] > after[0] && after[0] > after[1]);
    }

    #[test]
    fn generations_are_bounded_by_the_number_of_requests_and_of_all() {
        let mut schedule = Schedule::default();
        let place = schedule.enter(0);
        for _ in 0..1000 {
            schedule.update(0, said(7));
            schedule.update(0, said(0));
        }
        assert_eq!(schedule.generation, 17);
        schedule.next = u64::MAX;
        for _ in 0..70_000 {
            schedule.update(0, said(7));
            schedule.update(0, said(0));
        }
        assert_eq!((schedule.generation, place.now() > i32::MIN), (GENERATIONS_MAX, true));
    }

    #[test]
    fn requests_go_one_after_another_however_many_there_are() {
        let mut schedule = Schedule::default();
        let mut before = i32::MAX;
        for at in 0..3 * LATER_MAX {
            let place = schedule.enter(4 * at);
            schedule.ask(&place, said(3));
            assert!(place.now() < before, "{at}");
            before = place.now();
            schedule.leave(&place);
        }
    }

    #[test]
    fn what_is_said_of_requests_that_are_not_here_is_held_up_to_a_bound() {
        let mut schedule = Schedule::default();
        for stream in 0..1000 {
            assert!(!schedule.update(4 * stream, said(1)));
        }
        assert_eq!(schedule.held.len(), HELD_MAX);
        assert!(!schedule.update(0, said(2)));
        assert_eq!(schedule.enter(0).now(), at(0, said(2), 0), "what is held can be said anew");
        assert_eq!(schedule.held.len(), HELD_MAX - 1);
        let place = schedule.enter(4 * 40);
        assert_eq!(place.now(), at(0, said(1), 40));
        assert_eq!(schedule.held.len(), HELD_MAX - 41, "of what has passed nothing is held");
        schedule.leave(&place);
        assert!(!schedule.update(4 * 40, said(1)));
        assert_eq!((schedule.held.len(), schedule.entries.len()), (HELD_MAX - 41, 1), "nor of what is over");
    }
}
