//! Following the parents' log of purges, which comes with the stream of changes. Who listens does at once what is told: it
//! waits for no round of the pull.

use std::sync::Arc;

use eyot_link::purge::Told;

use crate::purge::Purger;

/// Where this node is with one stream.
pub(super) struct Purging {
    purger: Arc<Purger>,
    /// Whether all that the parent had to tell when the stream opened is done.
    located: bool,
    /// What the disk did not take: it holds, and is noted later.
    unnoted: Option<Told>,
}

impl Purging {
    /// A stream has just been opened: how far its parent is, is not known.
    pub(super) fn new(purger: &Arc<Purger>) -> Self {
        Self { purger: Arc::clone(purger), located: false, unnoted: None }
    }

    /// Does what the parent told.
    pub(super) fn told(&mut self, told: Told) {
        self.located |= !told.more;
        self.unnoted = None;
        if let Err(error) = self.purger.told(&told) {
            tracing::error!(%error, n = told.n, "purges hold, and are not noted on the disk");
            self.unnoted = Some(told);
        }
    }

    /// The parent was heard: if it had told all before, nothing was purged until now that is not known here.
    pub(super) fn heard(&mut self) {
        if let Some(told) = self.unnoted.take() {
            self.told(Told { purges: Vec::new(), missed: false, ..told });
        }
        if self.located {
            self.purger.heard();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::purge::now_ms;
    use crate::telemetry::Telemetry;

    fn told(n: u64, more: bool) -> Told {
        Told { purges: Vec::new(), log: "7".to_owned(), n, missed: false, more }
    }

    #[test]
    fn a_node_lags_until_its_parent_has_told_all_that_it_had_when_the_stream_opened() {
        let purger = Arc::new(Purger::new(Some(60_000), None, Arc::new(Telemetry::new()), Arc::default()));
        let lags = || purger.purges.lagging(now_ms());
        let mut stream = Purging::new(&purger);
        stream.heard();
        assert!(lags(), "a beat says nothing of purges");
        stream.told(told(128, true));
        stream.heard();
        assert!(lags(), "there is more");
        stream.told(told(200, false));
        stream.heard();
        assert!(!lags());
        assert_eq!(purger.since().map(|since| since.n), Some(200));
    }

    #[test]
    fn what_the_disk_did_not_take_is_noted_when_it_does() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = folder.path().join("purged");
        let purger = Arc::new(Purger::new(None, Some(journal.clone()), Arc::new(Telemetry::new()), Arc::default()));
        assert!(purger.take_up().is_ok());
        let mut stream = Purging::new(&purger);
        stream.told(told(1, false));
        // A file that is written anew has no folder to be in; one of many marks is.
        std::fs::remove_dir_all(&journal).expect("ours");
        let many: Vec<_> =
            (0..6_000).map(|n| format!(r#"{{"n":2,"app":"shop","kind":"key","value":"{n}"}}"#)).collect::<Vec<_>>();
        let purges = serde_json::from_str(&format!("[{}]", many.join(","))).expect("purges");
        stream.told(Told { purges, ..told(2, false) });
        stream.told(told(3, false));
        assert_eq!(purger.since().map(|since| since.n), Some(2), "the third finds no folder");
        std::fs::create_dir(&journal).expect("a disk");
        stream.heard();
        assert_eq!(purger.since().map(|since| since.n), Some(3));
        purger.purges.let_go();
        let next = Purger::new(None, Some(journal), Arc::new(Telemetry::new()), Arc::default());
        assert_eq!(next.take_up().expect("a journal"), None);
        assert_eq!((next.purges.marks(), next.since().map(|since| since.n)), (6_000, Some(3)));
    }
}
