//! Certificates that were issued while the listeners run, each for one name.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::certificates::Entry;

/// By name, in lower case.
#[derive(Debug, Default)]
pub(crate) struct Issued(ArcSwap<BTreeMap<String, Arc<Entry>>>);

impl Issued {
    /// Takes one, in place of the one of this name.
    pub(crate) fn put(&self, name: &str, entry: Entry) {
        let (name, entry) = (name.to_ascii_lowercase(), Arc::new(entry));
        self.0.rcu(|map| {
            let mut map = BTreeMap::clone(map);
            map.insert(name.clone(), entry.clone());
            map
        });
    }

    /// The one of a name.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Entry>> {
        self.0.load().get(name).cloned()
    }

    /// All.
    pub(crate) fn all(&self) -> Vec<Arc<Entry>> {
        self.0.load().values().cloned().collect()
    }
}
