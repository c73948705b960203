//! The ids of requests: UUIDs of version 7 (RFC 9562, section 5.7). What is random in them is drawn for many at once: asking
//! the system for each costs as much as all else that is told of a request.

use std::cell::RefCell;
use std::time::SystemTime;

/// Random bytes of one id.
const BYTES: usize = 10;
/// Ids that are drawn at once.
const IDS: usize = 100;

/// Random bytes, and how many of them were used.
struct Drawn {
    bytes: [u8; BYTES * IDS],
    used: usize,
}

thread_local! {
    static DRAWN: RefCell<Drawn> = const { RefCell::new(Drawn { bytes: [0; BYTES * IDS], used: BYTES * IDS }) };
}

/// The id of a request that came `at` this time.
pub(super) fn next(at: SystemTime) -> String {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    let id = match draw() {
        Some(random) => uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid(),
        // It asks the system by itself, which waits until it can answer.
        None => uuid::Uuid::now_v7(),
    };
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    id.hyphenated().encode_lower(&mut text).to_owned()
}

/// Bytes that were never used. None: the system gives none.
fn draw() -> Option<[u8; BYTES]> {
    DRAWN.with_borrow_mut(|drawn| {
        if drawn.used == drawn.bytes.len() {
            aws_lc_rs::rand::fill(&mut drawn.bytes).ok()?;
            drawn.used = 0;
        }
        let random = drawn.bytes[drawn.used..].first_chunk().copied();
        drawn.used += BYTES;
        random
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use super::*;

    #[test]
    fn ids_are_uuids_of_their_time_and_no_two_are_the_same() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_000_000_123);
        let here: HashSet<_> = (0..3 * IDS).map(|_| next(at)).collect();
        let there = std::thread::spawn(move || (0..3 * IDS).map(|_| next(at)).collect::<HashSet<_>>());
        let all: HashSet<_> = here.union(&there.join().expect("no panic")).cloned().collect();
        assert_eq!(all.len(), 6 * IDS);
        for id in all {
            let id = uuid::Uuid::parse_str(&id).expect("a UUID");
            let (seconds, nanos) = id.get_timestamp().expect("it has a time").to_unix();
            assert_eq!((id.get_version_num(), seconds, nanos), (7, 1_795_000_000, 123_000_000));
        }
    }
}
