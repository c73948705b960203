//! Version floors: what is never believed again. They outlive the file they came from, so a file that is missing or does
//! not match its pin leaves no gap for an older one.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use sigstore_tuf::metadata::{Metadata, Snapshot};

use super::explain::explain;
use crate::refusal::{Reason, Refusal};

/// A signed time counts at most so far beyond the clock of who takes it: one that is wrong, or signed by a thief of the
/// online key, must not make everything expire that others signed.
const AHEAD_MAX: SignedDuration = SignedDuration::from_hours(1);

/// The lowest version of each role that may still be believed, and the latest signed time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Floors {
    pub(super) versions: BTreeMap<String, u64>,
    pub(super) issued: Option<Timestamp>,
}

impl Floors {
    pub(super) fn raise(&mut self, role: &str, version: u64) {
        let floor = self.versions.entry(role.to_owned()).or_default();
        *floor = version.max(*floor);
    }

    pub(super) fn raise_timestamp(&mut self, timestamp: &sigstore_tuf::Timestamp) {
        self.raise("timestamp", timestamp.version);
        if let Some(pin) = timestamp.snapshot_meta() {
            self.raise("snapshot", pin.version);
        }
    }

    /// Believes the signed time of a timestamp, as far as the clock of who takes it bears it out.
    pub(super) fn raise_time(&mut self, timestamp: &sigstore_tuf::Timestamp, clock: Timestamp) {
        let latest = clock.checked_add(AHEAD_MAX).unwrap_or(Timestamp::MAX);
        self.issued = self.issued.max(issued(timestamp).map(|issued| issued.min(latest)));
    }

    pub(super) fn raise_snapshot(&mut self, snapshot: &Snapshot) {
        self.raise("snapshot", snapshot.version);
        for (file, pin) in &snapshot.meta {
            // A snapshot has no say over the roles above it.
            match file.strip_suffix(".json") {
                Some("root" | "snapshot" | "timestamp") | None => {}
                Some(role) => self.raise(role, pin.version),
            }
        }
    }

    /// Forgets all but the root's.
    pub(super) fn forget(&mut self) {
        self.versions.retain(|role, _| role == "root");
        self.issued = None;
    }

    fn allow(&self, role: &str, version: u64) -> Result<(), Refusal> {
        match self.versions.get(role) {
            Some(floor) if version < *floor => Err(Refusal::new(
                Reason::OlderThanFloor,
                format!("{role} {version} is older than {floor}, which was seen before"),
            )),
            _ => Ok(()),
        }
    }

    /// Refuses a timestamp below a floor. Its signature is checked elsewhere.
    pub(super) fn allow_timestamp(&self, bytes: &[u8]) -> Result<(), Refusal> {
        let timestamp = Metadata::<sigstore_tuf::Timestamp>::from_slice(bytes);
        let timestamp = timestamp.map_err(|error| explain(&error, bytes, &[]))?.into_signed();
        self.allow("timestamp", timestamp.version)?;
        if let Some(pin) = timestamp.snapshot_meta() {
            self.allow("snapshot", pin.version)?;
        }
        match issued(&timestamp) {
            Some(issued) if issued > timestamp.expires => {
                Err(Refusal::new(Reason::Parse, format!("timestamp was issued at {issued}, after its end")))
            }
            Some(issued) if self.issued.is_some_and(|floor| issued < floor) => {
                Err(Refusal::new(Reason::OlderThanFloor, format!("timestamp was issued at {issued}, before the last")))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a snapshot that takes a role back, or leaves one out. Its signature is checked elsewhere.
    pub(super) fn allow_snapshot(&self, bytes: &[u8]) -> Result<(), Refusal> {
        let snapshot = Metadata::<Snapshot>::from_slice(bytes);
        let snapshot = snapshot.map_err(|error| explain(&error, bytes, &[]))?.into_signed();
        for role in self.versions.keys().filter(|role| !matches!(role.as_str(), "root" | "timestamp" | "snapshot")) {
            let Some(pin) = snapshot.meta.get(&format!("{role}.json")) else {
                let detail = format!("snapshot {} leaves out {role}, which was in it before", snapshot.version);
                return Err(Refusal::new(Reason::OlderThanFloor, detail));
            };
            self.allow(role, pin.version)?;
        }
        Ok(())
    }
}

/// The signed time of a timestamp.
fn issued(timestamp: &sigstore_tuf::Timestamp) -> Option<Timestamp> {
    timestamp.extra.get("issued")?.as_str()?.parse().ok()
}
