//! The state of the origin: what is kept under the head `timestamp`, and what it means, built once for each change and
//! never changed after.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use eyot_bundle::control::Control;
use eyot_bundle::digest::Digest;
use eyot_bundle::fleet::{Denied as DeniedDigests, Node, Nodes};
use eyot_bundle::name::Name;
use eyot_bundle::sign::{self, PublicKey};
use eyot_bundle::trust::{AppTrust, TargetFile, Trust, app_role};
use eyot_bundle::verify;
use serde::{Deserialize, Serialize};

use crate::blobs::Blobs;
use crate::denied::Denied;

/// The head that holds the state.
pub(crate) const STATE_KEY: &str = "timestamp";
/// Metadata files that were replaced and can still be fetched, for nodes in the middle of a round.
const EARLIER_MAX: usize = 256;
/// A fleet document larger than this is refused, in bytes.
pub(crate) const FLEET_BYTES_MAX: u64 = 4 << 20;
/// The metadata files by the names of a ledger: `2.root.json`, `timestamp.json`, `app-shop.json`.
pub(crate) type Files = BTreeMap<String, Bytes>;

/// What is kept: which files the state is made of. Their bytes are blobs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    /// The version of the snapshot; 0: nothing was signed yet.
    pub(crate) seq: u64,
    /// The metadata files by the names of a ledger.
    pub(crate) files: BTreeMap<String, FileRef>,
    /// Files that were replaced, by their names on the wire, the newest last.
    pub(crate) earlier: Vec<(String, FileRef)>,
}

/// A metadata file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileRef {
    /// Its version.
    pub(crate) version: u64,
    /// The digest of its bytes.
    pub(crate) sha256: Digest,
    /// Their count.
    pub(crate) length: u64,
    /// The state it came with.
    pub(crate) seq: u64,
}

impl State {
    /// Puts a file in, and keeps the one it replaces for a while.
    pub(crate) fn put(&mut self, name: &str, version: u64, bytes: &[u8], seq: u64) {
        let file = FileRef { version, sha256: Digest::of(bytes), length: bytes.len() as u64, seq };
        if let Some(old) = self.files.insert(name.to_owned(), file)
            && name != "timestamp.json"
        {
            self.earlier.push((wire_name(name, old.version), old));
            let over = self.earlier.len().saturating_sub(EARLIER_MAX);
            self.earlier.drain(..over);
        }
    }
}

/// A file's name on the wire: `57.app-shop.json` for version 57 of `app-shop.json`.
pub(crate) fn wire_name(name: &str, version: u64) -> String {
    if name == "timestamp.json" || name.ends_with(".root.json") { name.to_owned() } else { format!("{version}.{name}") }
}

/// The role of a ledger's name: `app-shop` of `app-shop.json`, `root` of `7.root.json`.
pub(crate) fn role_of(name: &str) -> &str {
    let stem = name.strip_suffix(".json").unwrap_or(name);
    if stem.ends_with(".root") { "root" } else { stem }
}

/// What the state means.
pub(crate) struct View {
    /// The version of the head it was read from; `None`: there was none.
    pub(crate) version: Option<u64>,
    pub(crate) state: State,
    pub(crate) files: Files,
    pub(crate) trust: Trust,
    pub(crate) apps: BTreeMap<Name, AppView>,
    pub(crate) nodes: BTreeMap<Name, Node>,
    /// Nodes by the digest of their token.
    pub(crate) tokens: BTreeMap<Digest, Name>,
    /// Digests of bundles that must not run.
    pub(crate) denied: BTreeSet<Digest>,
    /// Who may sign requests, by TUF key id.
    pub(crate) keys: BTreeMap<String, Holder>,
    /// What can be fetched under `/v1/targets/`.
    pub(crate) targets: BTreeMap<String, TargetFile>,
}

/// One app.
pub(crate) struct AppView {
    pub(crate) trust: AppTrust,
    pub(crate) role_version: u64,
    pub(crate) control: Option<Control>,
}

/// Who may sign requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) key: PublicKey,
    /// The apps it publishes.
    pub(crate) apps: BTreeSet<Name>,
    /// The apps it may purge, and nothing else of them.
    pub(crate) purges: BTreeSet<Name>,
    /// Whether it holds `root`, `targets` or `fleet`.
    pub(crate) operator: bool,
}

impl View {
    /// What `state` means. Its documents are read from `blobs`; its metadata files are `files`, believed by
    /// `trust` from `first_root` on.
    pub(crate) async fn of(
        version: Option<u64>,
        state: State,
        files: Files,
        trust: Trust,
        first_root: &[u8],
        blobs: &impl Blobs,
    ) -> Result<Self, Denied> {
        let mut apps = BTreeMap::new();
        for app in trust.apps() {
            let control = match &app.control {
                Some(file) => Some(verify::control(&document(blobs, file).await?, &app.app)?),
                None => None,
            };
            let name = format!("{}.json", app_role(&app.app));
            let role_version = state.files.get(&name).map_or(0, |file| file.version);
            apps.insert(app.app.clone(), AppView { trust: app, role_version, control });
        }
        let fleet = trust.fleet();
        let nodes: Nodes = fleet_document(blobs, fleet.nodes.as_ref()).await?;
        let denied: DeniedDigests = fleet_document(blobs, fleet.denied.as_ref()).await?;
        let living = nodes.nodes.iter().filter(|(_, node)| !node.revoked);
        let tokens = living.map(|(name, node)| (node.token_sha256, name.clone())).collect();
        let keys = holders(&files, first_root, &apps)?;
        let apps_targets = apps.values().flat_map(|app| app.trust.releases.values().chain(app.trust.control.as_ref()));
        let all = apps_targets.chain(fleet.nodes.as_ref()).chain(fleet.denied.as_ref());
        let targets = all.map(|file| (file.path.clone(), file.clone())).collect();
        let denied = denied.digests.into_iter().collect();
        Ok(Self { version, state, files, trust, apps, nodes: nodes.nodes, tokens, denied, keys, targets })
    }

    /// The number of the whole state.
    pub(crate) fn seq(&self) -> u64 {
        self.state.seq
    }

    /// Whether the newest root lets `key` hold `role`.
    pub(crate) fn holds(&self, role: &str, key: PublicKey, first_root: &[u8]) -> Result<bool, Denied> {
        Ok(root_keys(&self.files, first_root, &[role])?.contains(&key))
    }

    /// The metadata files that came after `seq`, by their names on the wire; the timestamp always.
    pub(crate) fn since(&self, seq: u64) -> impl Iterator<Item = (String, &Bytes)> {
        let newer = move |(name, file): &(&String, &FileRef)| file.seq > seq || *name == "timestamp.json";
        self.state
            .files
            .iter()
            .filter(newer)
            .filter_map(|(name, file)| self.files.get(name).map(|bytes| (wire_name(name, file.version), bytes)))
    }

    /// The metadata file of this name on the wire: the one in force, or where an earlier one lies.
    pub(crate) fn metadata(&self, wire: &str) -> Option<FileRef> {
        let (version, name) = match wire.split_once('.') {
            Some((version, rest)) if rest != "json" && !wire.ends_with(".root.json") => (version.parse().ok(), rest),
            _ => (None, wire),
        };
        let current =
            self.state.files.get(name).filter(|file| version.is_none_or(|version: u64| version == file.version));
        let exact = current.filter(|_| version.is_some() || name == "timestamp.json" || name.ends_with(".root.json"));
        exact
            .or_else(|| self.state.earlier.iter().rev().find(|(earlier, _)| earlier == wire).map(|(_, file)| file))
            .copied()
    }
}

/// The bytes of a document that a role lists.
pub(crate) async fn document(blobs: &impl Blobs, file: &TargetFile) -> Result<Bytes, Denied> {
    let missing = || Denied::Failed(format!("{} is listed, and its bytes are gone from the store", file.path));
    if file.length > FLEET_BYTES_MAX {
        return Err(Denied::Failed(format!("{} is too large", file.path)));
    }
    let bytes = blobs.get(file.sha256, 0..file.length).await?.ok_or_else(missing)?;
    file.check(&bytes)?;
    Ok(bytes)
}

async fn fleet_document<T: Default + serde::de::DeserializeOwned>(
    blobs: &impl Blobs,
    file: Option<&TargetFile>,
) -> Result<T, Denied> {
    let Some(file) = file else { return Ok(T::default()) };
    let bytes = document(blobs, file).await?;
    serde_json::from_slice(&bytes).map_err(|error| Denied::malformed(format!("{}: {error}", file.path)))
}

/// Who may sign requests: the publishers of each app, and the operator's keys.
fn holders(
    files: &Files,
    first_root: &[u8],
    apps: &BTreeMap<Name, AppView>,
) -> Result<BTreeMap<String, Holder>, Denied> {
    let mut holders: BTreeMap<String, Holder> = BTreeMap::new();
    let empty = |key| Holder { key, apps: BTreeSet::new(), purges: BTreeSet::new(), operator: false };
    for (name, app) in apps {
        for (id, key) in &app.trust.keys {
            holders.entry(id.clone()).or_insert_with(|| empty(*key)).apps.insert(name.clone());
        }
        for key in &app.trust.grant.keys.purge {
            holders.entry(key.id()).or_insert_with(|| empty(*key)).purges.insert(name.clone());
        }
    }
    let mut operators = root_keys(files, first_root, &["root", "targets"])?;
    if let Some(targets) = files.get("targets.json") {
        let draft = sign::read(targets).map_err(|error| Denied::Failed(error.to_string()))?;
        let fleet = draft.delegations.into_iter().filter(|delegation| delegation.role == "fleet");
        operators.extend(fleet.flat_map(|delegation| delegation.holders.keys));
    }
    for key in operators {
        holders.entry(key.id()).or_insert_with(|| empty(key)).operator = true;
    }
    Ok(holders)
}

/// The keys of these roles in the newest root, which was verified; before there is a state, in the first.
fn root_keys(files: &Files, first_root: &[u8], roles: &[&str]) -> Result<Vec<PublicKey>, Denied> {
    #[derive(Deserialize)]
    struct Envelope {
        signed: Root,
    }
    #[derive(Deserialize)]
    struct Root {
        keys: BTreeMap<String, KeyObject>,
        roles: BTreeMap<String, Role>,
    }
    #[derive(Deserialize)]
    struct KeyObject {
        keytype: String,
        keyval: KeyValue,
    }
    #[derive(Deserialize)]
    struct KeyValue {
        public: String,
    }
    #[derive(Deserialize)]
    struct Role {
        keyids: Vec<String>,
    }
    let version = |name: &String| name.strip_suffix(".root.json")?.parse::<u64>().ok();
    let newest =
        files.iter().filter_map(|(name, bytes)| Some((version(name)?, bytes))).max_by_key(|(version, _)| *version);
    let newest = newest.map_or(first_root, |(_, bytes)| bytes);
    let root: Envelope = serde_json::from_slice(newest).map_err(|error| Denied::Failed(error.to_string()))?;
    let ids = roles.iter().filter_map(|role| root.signed.roles.get(*role)).flat_map(|role| &role.keyids);
    let keys = ids.filter_map(|id| root.signed.keys.get(id)).filter(|key| key.keytype == "ed25519");
    Ok(keys.filter_map(|key| PublicKey::from_hex(&key.keyval.public)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_was_replaced_the_newest_files_are_kept_and_no_timestamp() {
        let mut state = State::default();
        for version in 1..=300 {
            state.put("app-shop.json", version, b"{}", version);
            state.put("timestamp.json", version, b"{}", version);
        }
        let kept: Vec<_> = state.earlier.iter().map(|(name, _)| name.clone()).collect();
        let newest: Vec<_> = (300 - 256..300).map(|version| format!("{version}.app-shop.json")).collect();
        assert_eq!(kept, newest);
    }
}
