//! What the ledger notes beside the files: one JSON document under a MAC of this node's key.

use std::collections::BTreeMap;

use aws_lc_rs::hmac;
use eyot_bundle::digest::Digest;
use eyot_bundle::name::Name;
use eyot_bundle::refusal::{Reason, Refusal};
use eyot_bundle::sign::document;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Change;

/// A release that took the process down so often is set aside on this node.
const ABORTS_MAX: u32 = 2;
/// First sights of releases that are kept of one app.
const SEEN_MAX: usize = 64;

/// The document `state`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Counted up with each commit, from 1.
    pub commit: u64,
    /// The digest of each file.
    pub files: BTreeMap<String, Digest>,
    /// The lowest version of each role that may still be believed.
    pub floors: BTreeMap<String, u64>,
    /// The latest signed time.
    pub time_floor: Timestamp,
    /// The version of the snapshot.
    pub seq: u64,
    /// The last purge that was done.
    pub purge: u64,
    /// The apps.
    pub apps: BTreeMap<Name, AppRecord>,
}

/// What is noted of an app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AppRecord {
    /// The release that answers.
    pub active: Option<u64>,
    /// The one before.
    pub previous: Option<u64>,
    /// Nothing below this number may run again.
    pub min_release: u64,
    /// When this node first saw a release.
    pub seen: BTreeMap<u64, Timestamp>,
    /// How often a release took the process down with it.
    pub failed: BTreeMap<u64, u32>,
}

impl AppRecord {
    /// When this node first saw `release`; it is `now` if it had not.
    pub fn see(&mut self, release: u64, now: Timestamp) -> Timestamp {
        let seen = *self.seen.entry(release).or_insert(now);
        while self.seen.len() > SEEN_MAX {
            self.seen.pop_first();
        }
        seen
    }

    /// Notes that `release` took the process down so many times more. One that is set aside now gives way to the one
    /// before it, if there is one.
    pub fn aborted(&mut self, release: u64, times: u32) {
        let failed = self.failed.entry(release).or_default();
        *failed = failed.saturating_add(times);
        while self.failed.len() > SEEN_MAX {
            self.failed.pop_first();
        }
        let set_aside = self.active.is_some_and(|active| active == release && self.allow(active).is_err());
        if let (true, Some(previous)) = (set_aside, self.previous.filter(|previous| self.allow(*previous).is_ok())) {
            self.previous = self.active.replace(previous);
        }
    }

    /// Whether this node may run `release`.
    ///
    /// # Errors
    /// `older_than_floor` below `min_release`, `probe_failed` for one that is set aside.
    pub fn allow(&self, release: u64) -> Result<(), Refusal> {
        if release < self.min_release {
            let detail = format!("release {release} is below {}, the least that may run", self.min_release);
            return Err(Refusal::new(Reason::OlderThanFloor, detail));
        }
        if self.failed.get(&release).is_some_and(|aborts| *aborts >= ABORTS_MAX) {
            let detail = format!("release {release} took the process down {ABORTS_MAX} times and is set aside");
            return Err(Refusal::new(Reason::ProbeFailed, detail));
        }
        Ok(())
    }

    /// Makes `release` the one that answers.
    pub fn activate(&mut self, release: u64) {
        if self.active != Some(release) {
            self.previous = self.active.replace(release);
        }
    }
}

impl State {
    /// The state of a ledger that has just been made.
    pub(super) fn first() -> Self {
        Self {
            commit: 1,
            files: BTreeMap::new(),
            floors: BTreeMap::new(),
            time_floor: Timestamp::UNIX_EPOCH,
            seq: 0,
            purge: 0,
            apps: BTreeMap::new(),
        }
    }

    /// The state once `change` is made.
    pub(super) fn after(&self, change: &Change) -> Self {
        let mut next = self.clone();
        next.commit += 1;
        next.files.retain(|name, _| !change.remove.contains(name));
        next.files.extend(change.put.iter().map(|(name, bytes)| (name.clone(), Digest::of(bytes))));
        if let Some(floors) = &change.floors {
            next.floors.clone_from(&floors.versions);
            (next.time_floor, next.seq) = (floors.time, floors.seq);
        }
        for (app, record) in &change.apps {
            match record {
                Some(record) => drop(next.apps.insert(app.clone(), record.clone())),
                None => drop(next.apps.remove(app)),
            }
        }
        next
    }

    /// Its bytes and their MAC.
    pub(super) fn write(&self, key: &hmac::Key) -> (Vec<u8>, Digest) {
        let bytes = document(self).expect("texts, numbers and maps by text are JSON");
        let mac = mac(key, &[b"state\0", &bytes]);
        (bytes, mac)
    }

    /// The state that has these bytes.
    pub(super) fn read(key: &hmac::Key, bytes: &[u8], expected: &[u8]) -> Result<Self, String> {
        if mac(key, &[b"state\0", bytes]).as_bytes() != expected {
            return Err("its state was changed".to_owned());
        }
        serde_json::from_slice(bytes).map_err(|error| format!("its state is of another version: {error}"))
    }
}

/// The MAC over `parts`, one after the other.
pub(super) fn mac(key: &hmac::Key, parts: &[&[u8]]) -> Digest {
    let mut context = hmac::Context::with_key(key);
    parts.iter().for_each(|part| context.update(part));
    let mut out = [0; 32];
    out.copy_from_slice(context.sign().as_ref());
    Digest::from_bytes(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_first_sights_and_of_aborts_only_those_of_the_newest_64_releases_are_kept() {
        let mut record = AppRecord::default();
        for release in 1..=100 {
            let at = Timestamp::from_second(i64::try_from(release).expect("small")).expect("a time");
            assert_eq!(record.see(release, at), at);
            record.aborted(release, 1);
        }
        assert_eq!(record.see(50, Timestamp::MAX), Timestamp::from_second(50).expect("a time"), "it was seen");
        let newest: Vec<u64> = (37..=100).collect();
        assert_eq!(record.seen.keys().copied().collect::<Vec<_>>(), newest);
        assert_eq!(record.failed.keys().copied().collect::<Vec<_>>(), newest);
    }
}
