//! The client side of trust: TUF 1.0 over bytes that someone else fetched (theupdateframework.io, section 5). It asks
//! for files, takes their bytes and `now`, and says what may be believed; it knows no file, no socket and no clock.
//!
//! Beyond the workflow of the specification: one bad app role refuses that app only and its last good version stays;
//! version floors outlive a file that is missing; and an app's role may list nothing but that app's releases.

mod explain;
mod floors;
mod judge;
mod paths;
mod replay;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use sigstore_tuf::metadata::{Metadata, RoleKeys, Root, Targets};
use sigstore_tuf::{Error, TrustedMetadataSet};

use explain::explain;
use floors::Floors;
pub use judge::Judged;
pub use paths::{TargetFile, app_of_role, app_role};
pub use view::{AppTrust, FleetTrust};

use crate::refusal::{Reason, Refusal};

/// Roots that are followed in one round.
const ROOTS_PER_ROUND_MAX: u32 = 64;
/// A root, a `targets` or a delegated role of more bytes is not asked for.
const ROLE_BYTES_MAX: u64 = 4 << 20;
/// A timestamp of more bytes is not asked for.
const TIMESTAMP_BYTES_MAX: u64 = 16 << 10;

/// What a node believes, and what it wants to know next.
///
/// ```text
/// loop { trust.begin(); while let Some(want) = trust.wants().first() { feed(want, fetched bytes) or absent(want) } }
/// ```
pub struct Trust {
    set: TrustedMetadataSet,
    timestamp: Vec<u8>,
    snapshot: Vec<u8>,
    /// The last good version of `targets` and of each delegated role.
    roles: BTreeMap<String, Kept>,
    floors: Floors,
    round: Round,
    /// Why the newest version of a role is not believed.
    refused: BTreeMap<String, Refusal>,
}

/// A role that was verified, and the bytes it was read from.
struct Kept {
    bytes: Vec<u8>,
    metadata: Metadata<Targets>,
}

/// What one round of asking has come to.
#[derive(Default)]
struct Round {
    roots: u32,
    timestamp: bool,
    /// Files that were refused or absent; they are not asked for again in this round.
    tried: BTreeSet<String>,
}

/// A metadata file to fetch: `/v1/metadata/<file>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// Its name on the wire: `timestamp.json`, `7.root.json`, `57.app-shop.json`.
    pub file: String,
    /// It has at most so many bytes.
    pub bytes_max: u64,
    /// Whether a parent that does not have it is in order: the root after the newest.
    pub may_be_absent: bool,
}

/// What became of a file that was believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fed {
    /// Its name in a ledger: `7.root.json`, `timestamp.json`, `snapshot.json`, `<role>.json`.
    pub name: String,
    /// Whether a ledger must keep it, in one commit, before the next file is fed. Not so if it was known already.
    pub persist: bool,
}

impl Trust {
    /// Believes `root`, the first of its chain that this node was given.
    ///
    /// # Errors
    /// If it is no root, or not signed by its own holders.
    pub fn new(root: &[u8]) -> Result<Self, Refusal> {
        let set = TrustedMetadataSet::from_root(root)
            .map_err(|error| explain(&error, root, &root_holders(root).unwrap_or_default()))?;
        let mut floors = Floors::default();
        floors.raise("root", set.root().version);
        Ok(Self {
            set,
            timestamp: Vec::new(),
            snapshot: Vec::new(),
            roles: BTreeMap::new(),
            floors,
            round: Round::default(),
            refused: BTreeMap::new(),
        })
    }

    /// Begins a round: the next root and the timestamp are asked for again, and so is what was refused before.
    pub fn begin(&mut self) {
        self.round = Round::default();
    }

    /// What to fetch now, in this order. Empty: the round is over.
    pub fn wants(&self) -> Vec<Want> {
        let untried = |want: Want| (!self.round.tried.contains(&want.file)).then_some(want);
        let root = wanted(format!("{}.root.json", self.set.root().version.saturating_add(1)), ROLE_BYTES_MAX);
        if self.round.roots < ROOTS_PER_ROUND_MAX
            && let Some(root) = untried(Want { may_be_absent: true, ..root })
        {
            return vec![root];
        }
        if !self.round.timestamp
            && let Some(timestamp) = untried(wanted("timestamp.json".to_owned(), TIMESTAMP_BYTES_MAX))
        {
            return vec![timestamp];
        }
        let Some(pin) = self.set.timestamp().and_then(|timestamp| timestamp.snapshot_meta()) else { return Vec::new() };
        if self.set.snapshot().is_none_or(|snapshot| snapshot.version != pin.version) {
            return untried(pinned("snapshot", pin)).into_iter().collect();
        }
        let roles = if self.set.targets_role("targets").is_none() {
            vec!["targets".to_owned()]
        } else {
            self.delegated().into_iter().filter(|role| self.set.targets_role(role).is_none()).collect()
        };
        roles.iter().filter_map(|role| self.pin(role).map(|pin| pinned(role, pin))).filter_map(untried).collect()
    }

    /// Takes the bytes of a wanted file. `now` is the caller's own clock, which also bounds what signed time is believed.
    ///
    /// # Errors
    /// The reason why it is not believed. What was believed before stays; the file is asked for again in the next round.
    pub fn feed(&mut self, file: &str, bytes: &[u8], now: Timestamp) -> Result<Fed, Refusal> {
        let Some(want) = self.wants().into_iter().find(|want| want.file == file) else {
            return Err(Refusal::new(Reason::Parse, format!("{file} was not asked for")));
        };
        let role = role_of(file);
        let (clock, now) = (now, now.max(self.time_floor()));
        let fed = if bytes.len() as u64 > want.bytes_max {
            Err(Refusal::new(Reason::Parse, format!("{file} is larger than the {} bytes it may have", want.bytes_max)))
        } else {
            self.take(role, bytes, now)
        };
        match fed {
            Ok(persist) => {
                if role == "timestamp" && persist {
                    self.raise_time(clock);
                }
                self.refused.remove(role);
                let name = if role == "root" { file.to_owned() } else { format!("{role}.json") };
                Ok(Fed { name, persist })
            }
            Err(refusal) => {
                self.round.tried.insert(file.to_owned());
                self.refused.insert(role.to_owned(), refusal.clone());
                Err(refusal)
            }
        }
    }

    /// Says that the parent does not have a wanted file.
    pub fn absent(&mut self, file: &str) {
        let Some(want) = self.wants().into_iter().find(|want| want.file == file) else { return };
        self.round.tried.insert(want.file);
        if !want.may_be_absent {
            let refusal = Refusal::new(Reason::MissingBlob, format!("no parent has {file}"));
            self.refused.insert(role_of(file).to_owned(), refusal);
        }
    }

    fn take(&mut self, role: &str, bytes: &[u8], now: Timestamp) -> Result<bool, Refusal> {
        match role {
            "root" => self.take_root(bytes),
            "timestamp" => self.take_timestamp(bytes, now),
            "snapshot" => self.take_snapshot(bytes, now),
            "targets" => self.take_targets(bytes, now),
            role => self.take_delegated(role, bytes, now),
        }
    }

    fn take_root(&mut self, bytes: &[u8]) -> Result<bool, Refusal> {
        let keys = |root: &Root, role: &str| root.role(role).map(|keys| (keys.keyids.clone(), keys.threshold));
        let online = |root: &Root| (keys(root, "timestamp"), keys(root, "snapshot"));
        let before = online(self.set.root());
        let holders = self.holders_by_root("root");
        self.set.update_root(bytes).map_err(|error| explain(&error, bytes, &holders))?;
        self.round.roots += 1;
        self.floors.raise("root", self.set.root().version);
        if online(self.set.root()) == before {
            self.refeed();
        } else {
            // Section 5.3.11: with a new online key, what the old one said of versions is forgotten.
            self.floors.forget();
            self.timestamp.clear();
            self.snapshot.clear();
        }
        Ok(true)
    }

    fn take_timestamp(&mut self, bytes: &[u8], now: Timestamp) -> Result<bool, Refusal> {
        self.floors.allow_timestamp(bytes)?;
        let holders = self.holders_by_root("timestamp");
        match self.set.update_timestamp(bytes, now) {
            Ok(()) => {}
            Err(Error::EqualVersion { .. }) => {
                self.round.timestamp = true;
                return Ok(false);
            }
            Err(error) => return Err(explain(&error, bytes, &holders)),
        }
        self.round.timestamp = true;
        self.timestamp = bytes.to_vec();
        if let Some(timestamp) = self.set.timestamp() {
            self.floors.raise_timestamp(timestamp);
        }
        Ok(true)
    }

    fn take_snapshot(&mut self, bytes: &[u8], now: Timestamp) -> Result<bool, Refusal> {
        self.floors.allow_snapshot(bytes)?;
        let holders = self.holders_by_root("snapshot");
        self.set.update_snapshot(bytes, now).map_err(|error| explain(&error, bytes, &holders))?;
        self.snapshot = bytes.to_vec();
        if let Some(snapshot) = self.set.snapshot() {
            self.floors.raise_snapshot(snapshot);
        }
        self.refeed_roles();
        Ok(true)
    }

    fn take_targets(&mut self, bytes: &[u8], now: Timestamp) -> Result<bool, Refusal> {
        let metadata = parse(bytes)?;
        paths::sound_delegations(metadata.signed())?;
        let holders = self.holders_by_root("targets");
        self.set.update_targets(bytes, now).map_err(|error| explain(&error, bytes, &holders))?;
        self.roles.insert("targets".to_owned(), Kept { bytes: bytes.to_vec(), metadata });
        self.refeed_roles();
        Ok(true)
    }

    fn take_delegated(&mut self, role: &str, bytes: &[u8], now: Timestamp) -> Result<bool, Refusal> {
        let metadata = parse(bytes)?;
        let (_, holders) = self.delegation(role)?;
        let own = paths::only_its_own(role, metadata.signed());
        // What lists more than its own never gets into the set; a wrong digest or signature is still said first.
        let mut aside = own.is_err().then(|| self.set.clone());
        aside
            .as_mut()
            .unwrap_or(&mut self.set)
            .update_delegated_targets(bytes, role, "targets", now)
            .map_err(|error| explain(&error, bytes, &holders.keyids))?;
        own?;
        self.roles.insert(role.to_owned(), Kept { bytes: bytes.to_vec(), metadata });
        Ok(true)
    }

    /// Feeds what was believed to a set whose root is new. What no longer verifies falls out.
    fn refeed(&mut self) {
        let _ = self.set.update_timestamp(&self.timestamp, Timestamp::UNIX_EPOCH);
        let _ = self.set.update_snapshot(&self.snapshot, Timestamp::UNIX_EPOCH);
        self.refeed_roles();
    }

    /// Feeds the roles whose pin is unchanged to a set whose snapshot or `targets` is new. They were fresh when they
    /// came; whether they still are is asked before an activation ([`Self::expired`]).
    fn refeed_roles(&mut self) {
        let epoch = Timestamp::UNIX_EPOCH;
        if self.set.targets_role("targets").is_none()
            && let Some(kept) = self.roles.get("targets")
        {
            let _ = self.set.update_targets(&kept.bytes, epoch);
        }
        for (role, kept) in self.roles.iter().filter(|(role, _)| *role != "targets") {
            if self.set.targets_role("targets").is_some() && self.set.targets_role(role).is_none() {
                let _ = self.set.update_delegated_targets(&kept.bytes, role, "targets", epoch);
            }
        }
    }

    fn holders_by_root(&self, role: &str) -> Vec<String> {
        self.set.root().role(role).map(|keys| keys.keyids.clone()).unwrap_or_default()
    }

    fn pin(&self, role: &str) -> Option<&sigstore_tuf::MetaFile> {
        self.set.snapshot()?.meta.get(&format!("{role}.json"))
    }

    /// Who holds `role`, by the `targets` that is believed.
    fn delegation(&self, role: &str) -> Result<(BTreeMap<String, sigstore_tuf::Key>, RoleKeys), Refusal> {
        let delegations = self.targets().and_then(|targets| targets.delegations.as_ref());
        let found = delegations.and_then(|delegations| {
            let delegated = delegations.roles.iter().find(|delegated| delegated.name == role)?;
            let key = |id: &String| Some((id.clone(), delegations.keys.get(id)?.clone()));
            Some((delegated.keyids.iter().filter_map(key).collect(), delegated.role_keys()))
        });
        found.ok_or_else(|| Refusal::new(Reason::WrongKey, format!("the operator's targets hand on no role {role}")))
    }

    /// The `targets` that is believed: the pinned one, or the last good one while its signature still holds.
    fn targets(&self) -> Option<&Targets> {
        if let Some(targets) = self.set.targets_role("targets") {
            return Some(targets);
        }
        let kept = &self.roles.get("targets")?.metadata;
        let root = self.set.root();
        kept.verify_threshold(&root.keys, root.role("targets")?, "targets").ok().map(|()| kept.signed())
    }
}

fn wanted(file: String, bytes_max: u64) -> Want {
    Want { file, bytes_max, may_be_absent: false }
}

fn pinned(role: &str, pin: &sigstore_tuf::MetaFile) -> Want {
    wanted(format!("{}.{role}.json", pin.version), pin.length.unwrap_or(ROLE_BYTES_MAX).min(ROLE_BYTES_MAX))
}

/// `app-shop` of `57.app-shop.json` and of `app-shop.json`.
fn role_of(file: &str) -> &str {
    let name = file.strip_suffix(".json").unwrap_or(file);
    match name.split_once('.') {
        Some((version, role)) if version.bytes().all(|byte| byte.is_ascii_digit()) => role,
        _ => name,
    }
}

fn parse(bytes: &[u8]) -> Result<Metadata<Targets>, Refusal> {
    Metadata::from_slice(bytes).map_err(|error| explain(&error, bytes, &[]))
}

fn root_holders(bytes: &[u8]) -> Option<Vec<String>> {
    let root = Metadata::<Root>::from_slice(bytes).ok()?;
    root.signed().role("root").map(|keys| keys.keyids.clone())
}
