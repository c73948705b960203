//! Which object goes when room is needed: S3-FIFO. What is new waits in a short queue, and only what was asked for there
//! comes into the long one, so that a scan passes through the short one and takes nothing with it. What was thrown out
//! lately and comes again goes to the long one at once.

use super::table::NONE;

/// How often an object counts as asked for, at most.
const ASKED_MAX: u8 = 3;
/// How many objects are looked at before one goes, asked for or not.
const LOOKS_MAX: usize = 128;

/// An object's place in its queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    newer: u32,
    older: u32,
    asked: u8,
    long: bool,
}

impl Link {
    pub(crate) const ALONE: Self = Self { newer: NONE, older: NONE, asked: 0, long: false };

    /// The next older object of the same queue.
    pub(crate) fn older(&self) -> u32 {
        self.older
    }

    pub(crate) fn ask(&mut self) {
        self.asked = (self.asked + 1).min(ASKED_MAX);
    }
}

/// What the queues are of.
pub(crate) trait Objects {
    fn link(&mut self, place: u32) -> &mut Link;
    fn hash(&self, place: u32) -> u64;
    fn bytes(&self, place: u32) -> u64;
    /// Whether there would be nothing won if it went.
    fn is_held(&self, place: u32) -> bool;
}

#[derive(Debug)]
struct Queue {
    newest: u32,
    oldest: u32,
    bytes: u64,
}

impl Queue {
    const EMPTY: Self = Self { newest: NONE, oldest: NONE, bytes: 0 };

    fn push(&mut self, objects: &mut impl Objects, place: u32) {
        self.bytes += objects.bytes(place);
        let link = objects.link(place);
        (link.newer, link.older) = (NONE, self.newest);
        match self.newest {
            NONE => self.oldest = place,
            newest => objects.link(newest).newer = place,
        }
        self.newest = place;
    }

    /// As the oldest.
    fn push_old(&mut self, objects: &mut impl Objects, place: u32) {
        self.bytes += objects.bytes(place);
        let link = objects.link(place);
        (link.newer, link.older) = (self.oldest, NONE);
        match self.oldest {
            NONE => self.newest = place,
            oldest => objects.link(oldest).older = place,
        }
        self.oldest = place;
    }

    fn take(&mut self, objects: &mut impl Objects, place: u32) {
        self.bytes -= objects.bytes(place);
        let Link { newer, older, .. } = *objects.link(place);
        match newer {
            NONE => self.newest = older,
            newer => objects.link(newer).older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => objects.link(older).newer = newer,
        }
    }
}

/// Both queues.
#[derive(Debug)]
pub(crate) struct Queues {
    short: Queue,
    long: Queue,
    gone: Gone,
}

impl Queues {
    /// For at most `places` objects.
    pub(crate) fn new(places: usize) -> Self {
        Self { short: Queue::EMPTY, long: Queue::EMPTY, gone: Gone::new(places) }
    }

    /// A new object.
    pub(crate) fn push(&mut self, objects: &mut impl Objects, place: u32) {
        let long = self.gone.had(objects.hash(place));
        objects.link(place).long = long;
        self.of(long).push(objects, place);
    }

    /// One that is older than all that are there.
    pub(crate) fn push_old(&mut self, objects: &mut impl Objects, place: u32) {
        objects.link(place).long = true;
        self.long.push_old(objects, place);
    }

    pub(crate) fn take(&mut self, objects: &mut impl Objects, place: u32) {
        let long = objects.link(place).long;
        self.of(long).take(objects, place);
    }

    /// An object takes another number of bytes.
    pub(crate) fn resize(&mut self, objects: &mut impl Objects, place: u32, bytes: u64) {
        let was = objects.bytes(place);
        let long = objects.link(place).long;
        let queue = self.of(long);
        queue.bytes = queue.bytes - was + bytes;
    }

    /// The newest object of each queue, if it has one.
    pub(crate) fn newest(&self) -> [u32; 2] {
        [self.long.newest, self.short.newest]
    }

    fn of(&mut self, long: bool) -> &mut Queue {
        if long { &mut self.long } else { &mut self.short }
    }

    /// The object that should go next. It stays where it is.
    pub(crate) fn victim(&mut self, objects: &mut impl Objects) -> Option<u32> {
        for look in 0..2 * LOOKS_MAX {
            // A tenth of all bytes is for what is new.
            let from_short = self.short.oldest != NONE
                && (self.long.oldest == NONE || self.short.bytes > (self.short.bytes + self.long.bytes) / 10);
            let place = self.of(!from_short).oldest;
            if place == NONE {
                return None;
            }
            let asked = objects.link(place).asked;
            let held = objects.is_held(place);
            if !held && (asked == 0 || look >= LOOKS_MAX) {
                if from_short {
                    self.gone.note(objects.hash(place));
                }
                return Some(place);
            }
            self.of(!from_short).take(objects, place);
            let link = objects.link(place);
            link.asked = if from_short { 0 } else { asked.saturating_sub(1) };
            link.long = true;
            self.long.push(objects, place);
        }
        None
    }
}

/// Hashes of what was thrown out of the short queue, each where the next one of its place takes it away.
#[derive(Debug)]
struct Gone(Vec<u32>);

impl Gone {
    fn new(places: usize) -> Self {
        Self(vec![0; places.next_power_of_two().clamp(64, 1 << 20)])
    }

    #[expect(clippy::cast_possible_truncation, reason = "both are parts of a hash")]
    fn place(&self, hash: u64) -> (usize, u32) {
        (hash as usize & (self.0.len() - 1), (hash >> 32) as u32 | 1)
    }

    fn note(&mut self, hash: u64) {
        let (at, mark) = self.place(hash);
        self.0[at] = mark;
    }

    fn had(&mut self, hash: u64) -> bool {
        let (at, mark) = self.place(hash);
        let had = self.0[at] == mark;
        if had {
            self.0[at] = 0;
        }
        had
    }
}
