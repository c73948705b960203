//! Places by their hash: a table that never grows and never stops to tidy up, so that nobody waits for it.

/// No place.
pub(crate) const NONE: u32 = u32::MAX;

/// Open addressing with linear probing; what is taken out leaves no mark behind. A place is a number of the caller's,
/// who also keeps its hash.
#[derive(Debug)]
pub(crate) struct Table {
    /// One more than the place, 0 where there is none: memory that nobody touched is not there.
    slots: Vec<u32>,
    mask: usize,
}

impl Table {
    /// For at most `places` places.
    pub(crate) fn new(places: usize) -> Self {
        let slots = (places + places / 3 + 2).next_power_of_two();
        Self { slots: vec![0; slots], mask: slots - 1 }
    }

    /// The slot that `hash` belongs in, if nobody is there.
    #[expect(clippy::cast_possible_truncation, reason = "a hash is cut to the table's size anyway")]
    fn home(&self, hash: u64) -> usize {
        hash as usize & self.mask
    }

    /// The slot of the place with this hash for which `is` holds.
    fn slot(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<usize> {
        let mut at = self.home(hash);
        while self.slots[at] != 0 {
            if is(self.slots[at] - 1) {
                return Some(at);
            }
            at = (at + 1) & self.mask;
        }
        None
    }

    /// The place with this hash for which `is` holds.
    pub(crate) fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        self.slot(hash, is).map(|at| self.slots[at] - 1)
    }

    /// Puts in a place that is not there.
    pub(crate) fn put(&mut self, hash: u64, place: u32) {
        let mut at = self.home(hash);
        while self.slots[at] != 0 {
            at = (at + 1) & self.mask;
        }
        self.slots[at] = place + 1;
    }

    /// Another place instead of one with the same hash.
    pub(crate) fn swap(&mut self, hash: u64, old: u32, new: u32) {
        if let Some(at) = self.slot(hash, |place| place == old) {
            self.slots[at] = new + 1;
        }
    }

    /// Takes a place out, and moves those up that stood behind it only because of it.
    pub(crate) fn take(&mut self, hash: u64, place: u32, hash_of: impl Fn(u32) -> u64) {
        let Some(mut hole) = self.slot(hash, |it| it == place) else { return };
        let mut at = hole;
        loop {
            at = (at + 1) & self.mask;
            if self.slots[at] == 0 {
                break;
            }
            let home = self.home(hash_of(self.slots[at] - 1));
            // It may move if its home is not between the hole and where it is.
            if at.wrapping_sub(home) & self.mask >= at.wrapping_sub(hole) & self.mask {
                self.slots[hole] = self.slots[at];
                hole = at;
            }
        }
        self.slots[hole] = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_table_is_a_map_however_the_hashes_collide(asks in prop::collection::vec((0..20_u32, any::<bool>()), 0..200)) {
            // Few hashes for many places, at the end of the table, so that it goes around.
            let hash = |place: u32| u64::from(place % 4) + 30;
            let (mut table, mut model) = (Table::new(20), BTreeMap::new());
            for (place, put) in asks {
                if put && model.insert(place, ()).is_none() {
                    table.put(hash(place), place);
                } else if !put {
                    model.remove(&place);
                    table.take(hash(place), place, hash);
                }
                for place in 0..20 {
                    let found = table.find(hash(place), |it| it == place);
                    prop_assert_eq!(found.is_some(), model.contains_key(&place));
                }
            }
        }
    }
}
