//! The rooms of all apps of a node.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::room::{Common, Room, Stats};

/// The rooms of all apps.
#[derive(Debug)]
pub struct Rooms {
    memory_bytes: u64,
    common: Arc<Common>,
    all: Mutex<HashMap<Box<str>, Arc<Room>>>,
}

impl Rooms {
    /// Rooms that have `memory_bytes` together, as long as their shares are no more than one.
    pub fn new(memory_bytes: u64, common: Common) -> Self {
        Self { memory_bytes, common: Arc::new(common), all: Mutex::default() }
    }

    /// What all rooms have in common.
    pub fn common(&self) -> &Common {
        &self.common
    }

    /// The room of `app`, from now on of this share of the memory, from 0 to 1. What it keeps stays.
    pub fn of(&self, app: &str, share: f64) -> Arc<Room> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = part_of(self.memory_bytes, share);
        if let Some(room) = all.get(app) {
            room.resize(bytes);
            return Arc::clone(room);
        }
        let room = Arc::new(Room::new(app, bytes, Arc::clone(&self.common)));
        all.insert(app.into(), Arc::clone(&room));
        room
    }

    /// The room of `app`, if it has one.
    pub fn room(&self, app: &str) -> Option<Arc<Room>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).get(app).cloned()
    }

    /// What each room has.
    pub fn stats(&self) -> Vec<(String, Stats)> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(app, room)| (app.to_string(), room.stats())).collect()
    }
}

/// `part` of `whole`, for a part from 0 to 1; never so little that nothing fits.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
fn part_of(whole: u64, part: f64) -> u64 {
    ((whole as f64 * part.clamp(0.0, 1.0)) as u64).max(1 << 20)
}
