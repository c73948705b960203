//! Judging a role that no snapshot pins yet: what an origin asks before it takes one in.

use jiff::Timestamp;
use sigstore_tuf::Error;
use sigstore_tuf::metadata::{Metadata, Role, Root, Targets};

use super::explain::explain;
use super::paths::{TargetFile, only_its_own, sound_delegations};
use super::{Trust, parse};
use crate::refusal::{Reason, Refusal};

/// A role that would be believed if a snapshot pinned it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Its version.
    pub version: u64,
    /// The files it lists.
    pub files: Vec<TargetFile>,
}

impl Trust {
    /// Judges a new version of `role`: `root`, `targets`, or one that the `targets` believed here hand on.
    ///
    /// # Errors
    /// Why it must not be taken in: signature, key, version, expiry, or what it lists.
    pub fn judge(&self, role: &str, bytes: &[u8], now: Timestamp) -> Result<Judged, Refusal> {
        let now = now.max(self.time_floor());
        if role == "root" {
            return self.judge_root(bytes, now);
        }
        if matches!(role, "snapshot" | "timestamp") {
            return Err(Refusal::new(Reason::WrongKey, format!("{role} is made by the origin itself")));
        }
        let metadata = parse(bytes)?;
        self.judge_signature(role, bytes, &metadata)?;
        let signed = metadata.signed();
        match role {
            "targets" => sound_delegations(signed)?,
            role => only_its_own(role, signed)?,
        }
        self.judge_version(role, signed.version())?;
        fresh(role, signed, now)?;
        judged(signed)
    }

    /// The files that a version of `role` from before lists, if who signed it still holds the role today: what is active
    /// may go on resting on it. Its version and its expiry do not matter for that.
    ///
    /// # Errors
    /// `wrong_key` if the key has lost the role; `signature`, `parse` if the bytes were changed.
    pub fn held(&self, role: &str, bytes: &[u8]) -> Result<Judged, Refusal> {
        let metadata = parse(bytes)?;
        self.judge_signature(role, bytes, &metadata)?;
        only_its_own(role, metadata.signed())?;
        judged(metadata.signed())
    }

    fn judge_root(&self, bytes: &[u8], now: Timestamp) -> Result<Judged, Refusal> {
        let mut set = self.set.clone();
        set.update_root(bytes).map_err(|error| explain(&error, bytes, &self.holders_by_root("root")))?;
        fresh::<Root>("root", set.root(), now)?;
        Ok(Judged { version: set.root().version, files: Vec::new() })
    }

    fn judge_signature(&self, role: &str, bytes: &[u8], metadata: &Metadata<Targets>) -> Result<(), Refusal> {
        let root = self.set.root();
        let (keys, holders) = match root.role(role) {
            Some(holders) if role == "targets" => (root.keys.clone(), holders.clone()),
            _ => self.delegation(role)?,
        };
        let verified = metadata.verify_threshold(&keys, &holders, role);
        verified.map_err(|error| explain(&error, bytes, &holders.keyids))
    }

    fn judge_version(&self, role: &str, version: u64) -> Result<(), Refusal> {
        let floor = self.floors().get(role).copied().unwrap_or(0);
        if version > floor {
            return Ok(());
        }
        Err(Refusal::new(Reason::OlderThanFloor, format!("{role} {version} does not come after {floor}")))
    }
}

fn judged(signed: &Targets) -> Result<Judged, Refusal> {
    let file = |(path, file): (&String, &sigstore_tuf::TargetFile)| {
        TargetFile::of(path, file).ok_or_else(|| Refusal::new(Reason::Parse, format!("{path} has no sha256")))
    };
    Ok(Judged { version: signed.version(), files: signed.targets.iter().map(file).collect::<Result<_, _>>()? })
}

fn fresh<T: Role>(role: &str, signed: &T, now: Timestamp) -> Result<(), Refusal> {
    if !signed.is_expired(now) {
        return Ok(());
    }
    let error = Error::Expired { role: role.to_owned(), expires: signed.expires() };
    Err(explain(&error, &[], &[]))
}
