//! The rooms of all apps of a node.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::balance::{self, Claim};
use crate::room::{Common, Room, Stats};

/// The rooms of all apps.
#[derive(Debug)]
pub struct Rooms {
    memory_bytes: u64,
    common: Arc<Common>,
    all: Mutex<HashMap<Box<str>, Shared>>,
}

/// A room and what it has at most.
#[derive(Debug)]
struct Shared {
    room: Arc<Room>,
    share_bytes: u64,
}

impl Rooms {
    /// Rooms that have `memory_bytes` together.
    pub fn new(memory_bytes: u64, common: Common) -> Self {
        Self { memory_bytes, common: Arc::new(common), all: Mutex::default() }
    }

    /// What all rooms have in common.
    pub fn common(&self) -> &Common {
        &self.common
    }

    /// The room of `app`, from now on of at most this share of the memory, from 0 to 1. What it keeps stays. A new one has
    /// what no other has, or half of what the largest has, until all are balanced.
    pub fn of(&self, app: &str, share: f64) -> Arc<Room> {
        let mut all = self.all();
        let share_bytes = part_of(self.memory_bytes, share);
        if let Some(shared) = all.get_mut(app) {
            shared.share_bytes = share_bytes;
            if shared.room.capacity() > share_bytes {
                shared.room.resize(share_bytes);
            }
            return Arc::clone(&shared.room);
        }
        let taken: u64 = all.values().map(|shared| shared.room.capacity()).sum();
        let mut bytes = balance::units(self.memory_bytes.saturating_sub(taken)).min(share_bytes);
        if let Some(largest) = all.values().map(|shared| &shared.room).max_by_key(|room| room.capacity()) {
            let half = balance::units(largest.capacity() / 2).min(share_bytes);
            if bytes < half {
                largest.resize(largest.capacity() - half);
                bytes = half;
            }
        }
        let room = Arc::new(Room::new(app, share_bytes, Arc::clone(&self.common)));
        room.resize(bytes);
        all.insert(app.into(), Shared { room: Arc::clone(&room), share_bytes });
        room
    }

    /// Divides the memory anew, by what each room holds and whether it was asked since the last time. To be called each
    /// second.
    pub fn balance(&self) {
        let all = self.all();
        let claim = |Shared { room, share_bytes }: &Shared| {
            let is_active = room.take_asks() > 0;
            Claim { share_bytes: *share_bytes, held_bytes: room.stats().bytes, is_active }
        };
        let claims: Vec<_> = all.values().map(claim).collect();
        let given = balance::divide(self.memory_bytes, &claims);
        let pairs = || all.values().map(|shared| &shared.room).zip(&given);
        // First those that have less then, so that all together never have more than there is.
        pairs().filter(|(room, bytes)| room.capacity() > **bytes).for_each(|(room, bytes)| room.resize(*bytes));
        pairs().for_each(|(room, bytes)| room.resize(*bytes));
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Box<str>, Shared>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The room of `app`, if it has one.
    pub fn room(&self, app: &str) -> Option<Arc<Room>> {
        self.all().get(app).map(|shared| Arc::clone(&shared.room))
    }

    /// What each room has.
    pub fn stats(&self) -> Vec<(String, Stats)> {
        self.all().iter().map(|(app, shared)| (app.to_string(), shared.room.stats())).collect()
    }
}

/// `part` of `whole`, for a part from 0 to 1; never so little that nothing fits.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
fn part_of(whole: u64, part: f64) -> u64 {
    balance::units(((whole as f64 * part.clamp(0.0, 1.0)) as u64).max(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::purges::Purges;

    fn rooms(memory_bytes: u64) -> Rooms {
        Rooms::new(memory_bytes, Common::new(Arc::new(Purges::in_memory(None, 0))))
    }

    fn capacities(rooms: &Rooms) -> u64 {
        rooms.all().values().map(|shared| shared.room.capacity()).sum()
    }

    #[test]
    fn thousands_of_rooms_together_have_no_more_than_the_memory_at_any_time() {
        let rooms = rooms(100 << 20);
        for number in 0..3000 {
            rooms.of(&number.to_string(), 0.5);
            assert!(number % 100 > 0 || capacities(&rooms) <= 100 << 20);
        }
        for _ in 0..2 {
            rooms.balance();
            let all = rooms.all();
            let least = all.values().map(|shared| shared.room.capacity()).min();
            assert!(least.is_some_and(|least| least >= 16 << 10), "each has some: {least:?}");
            drop(all);
            assert!(capacities(&rooms) <= 100 << 20);
        }
    }

    #[test]
    fn a_room_alone_has_its_share_and_gives_way_to_the_next() {
        let rooms = rooms(64 << 20);
        let first = rooms.of("a", 1.0);
        assert_eq!(first.capacity(), 64 << 20);
        let second = rooms.of("b", 0.25);
        assert_eq!((first.capacity(), second.capacity()), (48 << 20, 16 << 20));
        assert_eq!(rooms.of("a", 0.5).capacity(), 32 << 20);
        rooms.balance();
        assert_eq!((first.capacity(), second.capacity()), (32 << 20, 16 << 20));
    }
}
