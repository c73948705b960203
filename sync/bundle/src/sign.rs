//! Authoring trust: keys, and the exact signed bytes of each TUF role. The command makes the offline roles with it, the
//! origin the online ones. It keeps nothing and reads no clock: versions and expiries are arguments.

mod canonical;
mod key;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use sigstore_tuf::{Metadata, Targets};

pub use canonical::document;
pub use key::{Key, KeyError, PublicKey};

use crate::digest::Digest;
use crate::grant::{Grant, GrantState};
use crate::name::Name;
use crate::trust::{TargetFile, app_role};

/// The TUF specification this is written to.
const SPEC_VERSION: &str = "1.0.31";

/// Why metadata could not be written or read back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// A host is granted to two apps.
    #[error("the host `{host}` is granted to `{other}` already; one host, one app")]
    HostTaken {
        /// The host.
        host: String,
        /// Who has it.
        other: Name,
    },
    /// The bytes are no metadata of their kind.
    #[error("this is no metadata of its kind: {0}")]
    Read(String),
    /// The value has no canonical form.
    #[error("the value cannot be signed: {0}")]
    Value(String),
}

/// What every role has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The version, counted up from 1.
    pub version: u64,
    /// When it ceases to be believed for anything new.
    pub expires: jiff::Timestamp,
}

impl Header {
    fn object(self, kind: &str) -> Map<String, Value> {
        let mut signed = Map::new();
        signed.insert("_type".to_owned(), kind.into());
        signed.insert("spec_version".to_owned(), SPEC_VERSION.into());
        signed.insert("version".to_owned(), self.version.into());
        signed.insert("expires".to_owned(), whole_seconds(self.expires).into());
        signed
    }
}

/// TUF times have whole seconds.
fn whole_seconds(time: jiff::Timestamp) -> String {
    jiff::Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

/// Who holds a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holders {
    /// The keys.
    pub keys: Vec<PublicKey>,
    /// How many of them must sign.
    pub threshold: u32,
}

impl Holders {
    /// One key, which must sign.
    pub fn one(key: PublicKey) -> Self {
        Self { keys: vec![key], threshold: 1 }
    }

    fn object(&self) -> Map<String, Value> {
        let ids: Vec<String> = self.keys.iter().map(|key| key.id()).collect();
        Map::from_iter([("keyids".to_owned(), ids.into()), ("threshold".to_owned(), self.threshold.into())])
    }
}

fn keys_object<'a>(holders: impl Iterator<Item = &'a Holders>) -> Value {
    holders.flat_map(|holders| &holders.keys).map(|key| (key.id(), key.object())).collect::<Map<_, _>>().into()
}

/// Who holds the four roles of a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootRoles {
    /// The operator, offline.
    pub root: Holders,
    /// The origin.
    pub snapshot: Holders,
    /// The operator, offline.
    pub targets: Holders,
    /// The origin.
    pub timestamp: Holders,
}

/// A root, `<version>.root.json`. After the first, holders of the one before must sign too.
///
/// # Errors
/// [`SignError::Value`].
pub fn root(header: Header, roles: &RootRoles, signers: &[&Key]) -> Result<Vec<u8>, SignError> {
    let all = [
        ("root", &roles.root),
        ("snapshot", &roles.snapshot),
        ("targets", &roles.targets),
        ("timestamp", &roles.timestamp),
    ];
    let mut signed = header.object("root");
    signed.insert("consistent_snapshot".to_owned(), true.into());
    signed.insert("keys".to_owned(), keys_object(all.iter().map(|(_, holders)| *holders)));
    let roles: Map<_, _> = all.iter().map(|(name, holders)| ((*name).to_owned(), holders.object().into())).collect();
    signed.insert("roles".to_owned(), roles.into());
    envelope(signed, signers)
}

/// One role that the operator's `targets` hands on.
#[derive(Clone, Debug, PartialEq)]
pub struct Delegation {
    /// The role: `fleet`, `director`, `app-<name>`.
    pub role: String,
    /// Who holds it.
    pub holders: Holders,
    /// The target paths it may list; `*` does not cross a `/`.
    pub paths: Vec<String>,
    /// The grant of an app's role.
    pub grant: Option<Grant>,
}

impl Delegation {
    /// The role of an app's publishers, with its grant.
    pub fn app(app: &Name, holders: Holders, grant: Grant) -> Self {
        Self { role: app_role(app), holders, paths: vec![format!("releases/{app}/*")], grant: Some(grant) }
    }

    /// The role of the origin, which signs controls.
    pub fn director(holders: Holders) -> Self {
        Self { role: "director".to_owned(), holders, paths: vec!["control/*".to_owned()], grant: None }
    }

    /// The role of the operator, which signs the fleet documents.
    pub fn fleet(holders: Holders) -> Self {
        Self { role: "fleet".to_owned(), holders, paths: vec!["fleet/*".to_owned()], grant: None }
    }

    fn object(&self) -> Result<Value, SignError> {
        let mut role = self.holders.object();
        role.insert("name".to_owned(), self.role.as_str().into());
        role.insert("terminating".to_owned(), true.into());
        role.insert("paths".to_owned(), self.paths.clone().into());
        if let Some(grant) = &self.grant {
            let grant = serde_json::to_value(grant).map_err(|error| SignError::Value(error.to_string()))?;
            role.insert("x-eyot".to_owned(), grant);
        }
        Ok(role.into())
    }
}

/// Adds `delegation`, or puts it in place of the one for the same role.
///
/// # Errors
/// [`SignError::HostTaken`] if its grant has a host of another app that was not removed.
pub fn delegate(delegations: &mut Vec<Delegation>, delegation: Delegation) -> Result<(), SignError> {
    let living = |grant: &Grant| grant.state != GrantState::Removed;
    if let Some(grant) = delegation.grant.as_ref().filter(|grant| living(grant)) {
        for other in delegations.iter().filter(|other| other.role != delegation.role) {
            let Some(app) = crate::trust::app_of_role(&other.role) else { continue };
            let theirs = other.grant.as_ref().filter(|grant| living(grant)).map_or(&[][..], |grant| &grant.hosts);
            if let Some(host) = grant.hosts.iter().find(|host| theirs.iter().any(|their| their.overlaps(host))) {
                return Err(SignError::HostTaken { host: host.to_string(), other: app });
            }
        }
    }
    match delegations.iter_mut().find(|other| other.role == delegation.role) {
        Some(place) => *place = delegation,
        None => delegations.push(delegation),
    }
    Ok(())
}

/// The operator's `targets`: nothing but delegations.
///
/// # Errors
/// [`SignError::Value`].
pub fn targets(header: Header, delegations: &[Delegation], signers: &[&Key]) -> Result<Vec<u8>, SignError> {
    let roles = delegations.iter().map(Delegation::object).collect::<Result<Vec<_>, _>>()?;
    let mut signed = header.object("targets");
    signed.insert("targets".to_owned(), Map::new().into());
    let keys = keys_object(delegations.iter().map(|delegation| &delegation.holders));
    signed.insert("delegations".to_owned(), json!({"keys": keys, "roles": roles}));
    envelope(signed, signers)
}

/// A delegated role: `fleet`, `director` or `app-<name>`.
///
/// # Errors
/// [`SignError::Value`].
pub fn delegated(header: Header, files: &[TargetFile], signers: &[&Key]) -> Result<Vec<u8>, SignError> {
    let files: Map<_, _> = files
        .iter()
        .map(|file| (file.path.clone(), json!({"length": file.length, "hashes": {"sha256": file.sha256}})))
        .collect();
    let mut signed = header.object("targets");
    signed.insert("targets".to_owned(), files.into());
    envelope(signed, signers)
}

/// What a role above says about a metadata file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Its version.
    pub version: u64,
    /// The count of its bytes.
    pub length: u64,
    /// Their digest.
    pub sha256: Digest,
}

impl Pin {
    /// The pin of `bytes`, which are of `version`.
    pub fn of(version: u64, bytes: &[u8]) -> Self {
        Self { version, length: bytes.len() as u64, sha256: Digest::of(bytes) }
    }

    fn object(&self) -> Value {
        json!({"version": self.version, "length": self.length, "hashes": {"sha256": self.sha256}})
    }
}

/// The snapshot: the pin of each `targets` role by its name. A role that was in it must stay in it.
///
/// # Errors
/// [`SignError::Value`].
pub fn snapshot(header: Header, roles: &BTreeMap<String, Pin>, signers: &[&Key]) -> Result<Vec<u8>, SignError> {
    let meta: Map<_, _> = roles.iter().map(|(role, pin)| (format!("{role}.json"), pin.object())).collect();
    let mut signed = header.object("snapshot");
    signed.insert("meta".to_owned(), meta.into());
    envelope(signed, signers)
}

/// The timestamp: the snapshot that is current, and the signed time of saying so.
///
/// # Errors
/// [`SignError::Value`].
pub fn timestamp(
    header: Header,
    issued: jiff::Timestamp,
    snapshot: Pin,
    signers: &[&Key],
) -> Result<Vec<u8>, SignError> {
    let mut signed = header.object("timestamp");
    signed.insert("meta".to_owned(), json!({"snapshot.json": snapshot.object()}));
    signed.insert("issued".to_owned(), issued.to_string().into());
    envelope(signed, signers)
}

fn envelope(signed: Map<String, Value>, signers: &[&Key]) -> Result<Vec<u8>, SignError> {
    let signed = Value::Object(signed);
    let bytes = canonical::covered(&signed)?;
    let signatures: Vec<Value> = signers.iter().map(|key| signature(key, &bytes)).collect();
    document(&json!({"signatures": signatures, "signed": signed}))
}

fn signature(key: &Key, covered: &[u8]) -> Value {
    use std::fmt::Write;
    let sig = key.sign(covered).iter().fold(String::with_capacity(128), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    json!({"keyid": key.id(), "sig": sig})
}

/// Adds the signature of `key` to metadata that others signed, in place of an earlier one of the same key. Checks none.
///
/// # Errors
/// [`SignError::Read`] if `bytes` are no metadata.
pub fn countersign(bytes: &[u8], key: &Key) -> Result<Vec<u8>, SignError> {
    let read = |what: &str| SignError::Read(what.to_owned());
    let mut metadata: Value = serde_json::from_slice(bytes).map_err(|error| SignError::Read(error.to_string()))?;
    let covered = canonical::covered(metadata.get("signed").ok_or_else(|| read("it has no `signed`"))?)?;
    let signatures = metadata.get_mut("signatures").and_then(Value::as_array_mut);
    let signatures = signatures.ok_or_else(|| read("it has no `signatures`"))?;
    let id = key.id();
    signatures.retain(|signature| signature.get("keyid").and_then(Value::as_str) != Some(&id));
    signatures.push(signature(key, &covered));
    document(&metadata)
}

/// What stands in a `targets` role, read back for the next version of it. Not verified: that is [`crate::trust`].
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// Its version.
    pub version: u64,
    /// When it expires.
    pub expires: jiff::Timestamp,
    /// The files it lists.
    pub files: Vec<TargetFile>,
    /// The roles it hands on.
    pub delegations: Vec<Delegation>,
}

/// Reads back `targets` or a delegated role.
///
/// # Errors
/// [`SignError::Read`] if it is none, or holds what this build would lose in writing it again.
pub fn read(bytes: &[u8]) -> Result<Draft, SignError> {
    let metadata = Metadata::<Targets>::from_slice(bytes).map_err(|error| SignError::Read(error.to_string()))?;
    let signed = metadata.into_signed();
    let files = signed.targets.iter().map(|(path, file)| {
        TargetFile::of(path, file).ok_or_else(|| SignError::Read(format!("`{path}` has no sha256")))
    });
    let delegations = signed.delegations.iter().flat_map(|delegations| {
        delegations.roles.iter().map(|role| {
            let key = |id| delegations.keys.get(id).and_then(PublicKey::of);
            let keys = role.keyids.iter().map(key).collect::<Option<Vec<_>>>();
            let keys = keys.ok_or_else(|| SignError::Read(format!("`{}` has a key that is not Ed25519", role.name)))?;
            let threshold = u32::try_from(role.threshold).map_err(|error| SignError::Read(error.to_string()))?;
            let grant = role.extra.get("x-eyot").cloned().map(serde_json::from_value).transpose();
            let grant = grant.map_err(|error| SignError::Read(format!("`{}`: {error}", role.name)))?;
            let holders = Holders { keys, threshold };
            Ok(Delegation { role: role.name.clone(), holders, paths: role.paths.clone().unwrap_or_default(), grant })
        })
    });
    Ok(Draft {
        version: signed.version,
        expires: signed.expires,
        files: files.collect::<Result<_, SignError>>()?,
        delegations: delegations.collect::<Result<_, SignError>>()?,
    })
}
