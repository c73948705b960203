//! What is believed, for those who act on it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sigstore_tuf::metadata::{DelegatedRole, Role, Targets};

use super::explain::explain;
use super::paths::{TargetFile, app_of_role, reachable, release_number};
use super::{Kept, Trust};
use crate::grant::Grant;
use crate::name::Name;
use crate::refusal::{Reason, Refusal};
use crate::sign::PublicKey;

/// One app as the metadata has it.
#[derive(Clone, Debug, PartialEq)]
pub struct AppTrust {
    /// The app.
    pub app: Name,
    /// What the operator granted it.
    pub grant: Grant,
    /// The keys of its publishers, by TUF id.
    pub keys: BTreeMap<String, PublicKey>,
    /// The version of the role that is believed; 0: none.
    pub version: u64,
    /// Its releases by number, from the last good version of its role.
    pub releases: BTreeMap<u64, TargetFile>,
    /// Where its rollout stands.
    pub control: Option<TargetFile>,
    /// Why the newest version of its role is not believed.
    pub refused: Option<Refusal>,
}

/// The fleet documents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetTrust {
    /// `fleet/nodes.json`.
    pub nodes: Option<TargetFile>,
    /// `fleet/denied.json`.
    pub denied: Option<TargetFile>,
}

impl Trust {
    /// The number of the whole state: the version of the snapshot that is believed; 0: none.
    pub fn seq(&self) -> u64 {
        self.set.snapshot().map_or(0, |snapshot| snapshot.version)
    }

    /// The version of the root that is believed.
    pub fn root_version(&self) -> u64 {
        self.set.root().version
    }

    /// The version of `targets` or of a delegated role that is believed.
    pub fn version(&self, role: &str) -> Option<u64> {
        self.roles.get(role).map(|kept| kept.metadata.signed().version)
    }

    /// The apps that were granted, in the order of the operator's `targets`. One whose grant does not parse is not
    /// among them: see [`Self::refused`].
    pub fn apps(&self) -> Vec<AppTrust> {
        let mut controls = self.files("director");
        let apps = self.delegations().iter().filter_map(|delegated| {
            let app = app_of_role(&delegated.name)?;
            let control = controls.remove(&format!("control/{app}.json"));
            self.app(app, delegated, control)
        });
        apps.collect()
    }

    fn app(&self, app: Name, delegated: &DelegatedRole, control: Option<TargetFile>) -> Option<AppTrust> {
        let grant = grant(delegated).ok()?;
        let known = self.targets().and_then(|targets| targets.delegations.as_ref());
        let key = |id: &String| Some((id.clone(), PublicKey::of(known?.keys.get(id)?)?));
        let held = self.holds(&delegated.name);
        let pinned = self.pin(&delegated.name).is_some();
        let files = held.as_ref().map(|_| self.files(&delegated.name)).unwrap_or_default();
        let releases = files.into_iter().filter_map(|(path, file)| Some((release_number(&app, &path)?, file)));
        Some(AppTrust {
            grant,
            keys: delegated.keyids.iter().filter_map(key).collect(),
            version: held.as_ref().map_or(0, |role| role.version),
            releases: releases.collect(),
            control,
            // Granted, and nothing published yet: nothing is wrong.
            refused: self.refused.get(&delegated.name).cloned().or(held.err().filter(|_| pinned)),
            app,
        })
    }

    /// The exact bytes of the version of `role` that is believed.
    pub fn bytes(&self, role: &str) -> Option<&[u8]> {
        self.roles.get(role).map(|kept| kept.bytes.as_slice())
    }

    /// The fleet documents that are listed.
    pub fn fleet(&self) -> FleetTrust {
        let mut files = self.files("fleet");
        FleetTrust { nodes: files.remove("fleet/nodes.json"), denied: files.remove("fleet/denied.json") }
    }

    /// Roles whose newest version is not believed, and why; grants that do not parse among them.
    pub fn refused(&self) -> BTreeMap<String, Refusal> {
        let grants = self.delegations().iter().filter(|delegated| app_of_role(&delegated.name).is_some());
        let mut refused: BTreeMap<_, _> =
            grants.filter_map(|delegated| Some((delegated.name.clone(), grant(delegated).err()?))).collect();
        refused.extend(self.refused.clone());
        refused
    }

    /// When each role that is believed expires.
    pub fn expiries(&self) -> Vec<(String, Timestamp)> {
        let mut expiries = vec![("root".to_owned(), self.set.root().expires)];
        expiries.extend(self.set.timestamp().map(|timestamp| ("timestamp".to_owned(), timestamp.expires)));
        expiries.extend(self.set.snapshot().map(|snapshot| ("snapshot".to_owned(), snapshot.expires)));
        expiries.extend(self.roles.iter().map(|(role, kept)| (role.clone(), kept.metadata.signed().expires())));
        expiries
    }

    /// The roles that have expired. While `root`, `timestamp`, `snapshot`, `targets` or an app's own role is among
    /// them, nothing new of that app may start; what runs goes on.
    pub fn expired(&self, now: Timestamp) -> Vec<(String, Timestamp)> {
        let now = now.max(self.time_floor());
        self.expiries().into_iter().filter(|(_, expires)| *expires < now).collect()
    }

    /// The lowest version of each role that may still be believed.
    pub fn floors(&self) -> &BTreeMap<String, u64> {
        &self.floors.versions
    }

    /// The latest signed time that is believed: it is at least so late, whatever the clock says.
    pub fn time_floor(&self) -> Timestamp {
        self.floors.issued.unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// The roles that are followed and pinned: `fleet`, `director` and those of apps.
    pub(super) fn delegated(&self) -> Vec<String> {
        let followed = |role: &str| matches!(role, "director" | "fleet") || app_of_role(role).is_some();
        let names = self.delegations().iter().map(|delegated| delegated.name.clone());
        names.filter(|role| followed(role) && self.pin(role).is_some()).collect()
    }

    fn delegations(&self) -> &[DelegatedRole] {
        let delegations = self.targets().and_then(|targets| targets.delegations.as_ref());
        delegations.map_or(&[], |delegations| &delegations.roles)
    }

    /// The last good version of a delegated role, if who signed it still holds the role.
    fn holds(&self, role: &str) -> Result<&Targets, Refusal> {
        let missing = || Refusal::new(Reason::MissingBlob, format!("no version of {role} has come yet"));
        let Kept { bytes, metadata } = self.roles.get(role).ok_or_else(missing)?;
        if self.set.targets_role(role).is_none() {
            let (keys, holders) = self.delegation(role)?;
            let verified = metadata.verify_threshold(&keys, &holders, role);
            verified.map_err(|error| explain(&error, bytes, &holders.keyids))?;
        }
        Ok(metadata.signed())
    }

    fn files(&self, role: &str) -> BTreeMap<String, TargetFile> {
        let Ok(targets) = self.holds(role) else { return BTreeMap::new() };
        let lists = |other: &str, path: &str| self.holds(other).is_ok_and(|other| other.targets.contains_key(path));
        reachable(role, targets, self.delegations(), lists)
    }
}

/// The grant in a delegation.
pub(super) fn grant(delegated: &DelegatedRole) -> Result<Grant, Refusal> {
    let name = &delegated.name;
    let Some(grant) = delegated.extra.get("x-eyot") else {
        return Err(Refusal::new(Reason::Parse, format!("the delegation of {name} carries no grant")));
    };
    let grant = serde_json::from_value(grant.clone());
    grant.map_err(|error| Refusal::new(Reason::Parse, format!("the grant of {name} is no grant: {error}")))
}
