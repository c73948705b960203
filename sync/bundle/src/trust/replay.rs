//! Believing again what a ledger kept. Floors count even where the metadata has expired, so `now` is the Unix epoch.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sigstore_tuf::metadata::{Metadata, Role, Snapshot};

use super::{Kept, Trust, explain::explain, parse, role_of};
use crate::refusal::{Reason, Refusal};

/// Roots that a ledger's chain may have.
const ROOTS_MAX: usize = 4096;

impl Trust {
    /// What a ledger's `files` (its names to exact bytes) say, on top of `root`. A file that its pin has overtaken still
    /// counts as the last good one; one whose key has lost its role since falls out and is named by [`Self::refused`].
    /// Expired metadata is believed here: ask [`Self::expired`] before anything new starts. No signed time is: a ledger
    /// notes what was believed apart from its files ([`Self::raise_floors`]).
    ///
    /// # Errors
    /// If a file is not what was believed once: the ledger is damaged.
    pub fn replay(root: &[u8], files: impl Iterator<Item = (String, Vec<u8>)>) -> Result<Self, Refusal> {
        let files: BTreeMap<String, Vec<u8>> = files.collect();
        let mut trust = Self::new(root)?;
        for _ in 0..ROOTS_MAX {
            let Some(next) = files.get(&format!("{}.root.json", trust.root_version().saturating_add(1))) else { break };
            trust.take_root(next)?;
        }
        let newest = files.keys().filter_map(|file| file.strip_suffix(".root.json")?.parse::<u64>().ok()).max();
        if newest.is_some_and(|newest| newest > trust.root_version()) {
            return Err(Refusal::new(Reason::Parse, "the chain of roots has a gap"));
        }
        trust.replay_file("timestamp", &files, Self::replay_timestamp)?;
        trust.replay_file("snapshot", &files, Self::replay_snapshot)?;
        trust.replay_file("targets", &files, Self::replay_targets)?;
        let delegated = files.keys().map(|file| role_of(file)).filter(|role| !is_top_level(role));
        for role in delegated {
            trust.replay_file(role, &files, |trust, bytes| trust.replay_delegated(role, bytes))?;
        }
        trust.round = super::Round::default();
        Ok(trust)
    }

    /// Raises the floors to what a ledger noted apart from its files.
    pub fn raise_floors(&mut self, floors: &BTreeMap<String, u64>, time_floor: Timestamp) {
        floors.iter().for_each(|(role, version)| self.floors.raise(role, *version));
        self.floors.issued = self.floors.issued.max(Some(time_floor));
    }

    /// Believes the signed time of the timestamp that is believed, at most an hour beyond `clock`. For those who note no
    /// time apart from the files.
    pub fn raise_time(&mut self, clock: Timestamp) {
        if let Some(timestamp) = self.set.timestamp() {
            self.floors.raise_time(timestamp, clock);
        }
    }

    fn replay_file(
        &mut self,
        role: &str,
        files: &BTreeMap<String, Vec<u8>>,
        take: impl FnOnce(&mut Self, &[u8]) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let Some(bytes) = files.get(&format!("{role}.json")) else { return Ok(()) };
        match take(self, bytes) {
            Err(refusal) if refusal.reason == Reason::WrongKey => {
                self.refused.insert(role.to_owned(), refusal);
                Ok(())
            }
            other => other,
        }
    }

    fn replay_timestamp(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.take_timestamp(bytes, Timestamp::UNIX_EPOCH).map(drop)
    }

    fn replay_snapshot(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let metadata = Metadata::<Snapshot>::from_slice(bytes).map_err(|error| explain(&error, bytes, &[]))?;
        let pin = self.set.timestamp().and_then(|timestamp| timestamp.snapshot_meta()).map(|pin| pin.version);
        if pin == Some(metadata.signed().version) {
            return self.take_snapshot(bytes, Timestamp::UNIX_EPOCH).map(drop);
        }
        let root = self.set.root();
        let holders = root.role("snapshot").ok_or_else(|| Refusal::new(Reason::Parse, "root names no snapshot"))?;
        let verified = metadata.verify_threshold(&root.keys, holders, "snapshot");
        verified.map_err(|error| explain(&error, bytes, &holders.keyids))?;
        not_ahead("snapshot", metadata.signed().version, pin)?;
        self.floors.raise_snapshot(metadata.signed());
        Ok(())
    }

    fn replay_targets(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let metadata = parse(bytes)?;
        let pin = self.pin("targets").map(|pin| pin.version);
        if pin == Some(metadata.signed().version()) {
            return self.take_targets(bytes, Timestamp::UNIX_EPOCH).map(drop);
        }
        let root = self.set.root();
        let holders = root.role("targets").ok_or_else(|| Refusal::new(Reason::Parse, "root names no targets"))?;
        let verified = metadata.verify_threshold(&root.keys, holders, "targets");
        verified.map_err(|error| explain(&error, bytes, &holders.keyids))?;
        self.keep("targets", bytes, metadata, pin)
    }

    fn replay_delegated(&mut self, role: &str, bytes: &[u8]) -> Result<(), Refusal> {
        let metadata = parse(bytes)?;
        let (keys, holders) = self.delegation(role)?;
        let verified = metadata.verify_threshold(&keys, &holders, role);
        verified.map_err(|error| explain(&error, bytes, &holders.keyids))?;
        let pin = self.pin(role).map(|pin| pin.version);
        if self.set.targets_role("targets").is_some() && pin == Some(metadata.signed().version()) {
            return self.take_delegated(role, bytes, Timestamp::UNIX_EPOCH).map(drop);
        }
        self.keep(role, bytes, metadata, pin)
    }

    /// Keeps a role that its pin has overtaken.
    fn keep(
        &mut self,
        role: &str,
        bytes: &[u8],
        metadata: Metadata<sigstore_tuf::Targets>,
        pin: Option<u64>,
    ) -> Result<(), Refusal> {
        not_ahead(role, metadata.signed().version(), pin)?;
        self.roles.insert(role.to_owned(), Kept { bytes: bytes.to_vec(), metadata });
        Ok(())
    }
}

fn is_top_level(role: &str) -> bool {
    matches!(role, "root" | "snapshot" | "targets" | "timestamp")
}

/// A kept file is never newer than what pins it.
fn not_ahead(role: &str, version: u64, pin: Option<u64>) -> Result<(), Refusal> {
    match pin {
        Some(pin) if version > pin => {
            Err(Refusal::new(Reason::OlderThanFloor, format!("{role} {version} is newer than its pin {pin}")))
        }
        _ => Ok(()),
    }
}
