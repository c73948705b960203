//! What was replaced or removed before it was found again, so that it does not come back when it is.

use std::collections::HashSet;

use super::index::Record;

/// Of how many objects it is noted; with more, none comes back.
const BARRED_MAX: usize = 1 << 20;

/// What must not come back while it recovers, because it was replaced or removed before it was found.
#[derive(Debug, Default)]
pub(crate) struct Barred {
    ids: HashSet<u64>,
    primaries: HashSet<u64>,
    all: bool,
}

impl Barred {
    pub(crate) fn bar(&mut self, id: Option<u64>, primary: Option<u64>) {
        self.ids.extend(id);
        self.primaries.extend(primary);
        self.all |= self.ids.len() + self.primaries.len() > BARRED_MAX;
    }

    pub(crate) fn bar_all(&mut self) {
        self.all = true;
    }

    pub(crate) fn has(&self, record: &Record) -> bool {
        self.all || self.ids.contains(&record.id) || self.primaries.contains(&record.primary)
    }
}
