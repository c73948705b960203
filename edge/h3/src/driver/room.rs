//! How much of the responses may wait in quinn without having left. What waits there goes before whatever comes later and
//! is more urgent, because there is room for only so much; so a long response has little there beyond what the network
//! takes at once, and a shorter one finds room.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::schedule::Place;
use super::shared::{Shared, lock};
use crate::transport::SEND_WINDOW_BYTES;

/// A response that is no longer, and the beginning of one, may wait whatever others have there.
const SHORT_BYTES: u64 = 256 << 10;
/// What longer ones leave to those.
const LONG_BYTES_MAX: u64 = SEND_WINDOW_BYTES - SHORT_BYTES;
/// What longer ones may have there beyond what may be on its way: the foremost, and those behind it.
const FOREMOST_BYTES: u64 = 256 << 10;
const BEHIND_BYTES: u64 = 128 << 10;

/// Room is given in steps: it follows what may be on its way, which changes with every acknowledgement.
const STEP_BYTES: u64 = 64 << 10;

/// The room that one connection has in quinn.
#[derive(Debug)]
pub(crate) struct Room {
    /// As quinn was told last.
    told_bytes: AtomicU64,
    /// Held while it is told.
    telling: Mutex<()>,
}

impl Default for Room {
    fn default() -> Self {
        Self { told_bytes: AtomicU64::new(SEND_WINDOW_BYTES), telling: Mutex::new(()) }
    }
}

/// Sets the room for what this response writes next, after which quinn has taken so much of it.
pub(super) fn make(shared: &Shared, place: &Place, bytes: u64) {
    let room = if bytes <= SHORT_BYTES {
        SEND_WINDOW_BYTES
    } else {
        place.writes(true);
        let is_foremost = lock(&shared.schedule).is_foremost(place);
        long(shared.quinn.stats().path.cwnd, is_foremost)
    };
    let Room { told_bytes, telling } = &shared.room;
    if told_bytes.load(Ordering::Relaxed) != room {
        let _telling = lock(telling);
        shared.quinn.set_send_window(room);
        told_bytes.store(room, Ordering::Relaxed);
    }
}

/// The room for long responses, where so much may be on its way.
fn long(on_its_way: u64, is_foremost: bool) -> u64 {
    let beyond = if is_foremost { FOREMOST_BYTES } else { BEHIND_BYTES };
    let step = on_its_way.min(SEND_WINDOW_BYTES) / STEP_BYTES * STEP_BYTES;
    (step + beyond).min(LONG_BYTES_MAX - FOREMOST_BYTES + beyond)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_long_leaves_room_for_what_is_short_and_the_foremost_has_more_than_who_is_behind() {
        for (on_its_way, foremost, behind) in [
            (0, 256 << 10, 128 << 10),
            (12_000, 256 << 10, 128 << 10),
            (1 << 20, (1 << 20) + (256 << 10), (1 << 20) + (128 << 10)),
            (u64::MAX, SEND_WINDOW_BYTES - (256 << 10), SEND_WINDOW_BYTES - (384 << 10)),
        ] {
            assert_eq!((long(on_its_way, true), long(on_its_way, false)), (foremost, behind), "{on_its_way}");
        }
    }
}
