//! The operator's hand: signing `targets` and `fleet` anew from the keys folder, and bringing them to the origin.

use std::collections::BTreeMap;

use anyhow::Context as _;
use eyot_bundle::fleet::{Denied, Nodes};
use eyot_bundle::grant::Grant;
use eyot_bundle::name::Name;
use eyot_bundle::sign::{self, Delegation, Draft, Header, Key};
use eyot_bundle::trust::{TargetFile, app_of_role};
use eyot_link::wire::{Base64, OperatorUpload};
use jiff::{SignedDuration, Timestamp};

use crate::keyring::Keyring;
use crate::out::Out;
use crate::reach::Reach;

/// How long `targets` and `fleet` are believed.
const ROLE_DAYS: i64 = 180;

/// When something made now ends after `days`.
pub(crate) fn in_days(days: i64) -> Timestamp {
    Timestamp::now().saturating_add(SignedDuration::from_hours(24 * days)).unwrap_or(Timestamp::MAX)
}

/// What `targets` says now.
pub(crate) fn targets(ring: &Keyring) -> anyhow::Result<Draft> {
    sign::read(&ring.document("targets.json")?).with_context(|| ring.path("targets.json").display().to_string())
}

/// The grants in `targets` by app.
pub(crate) fn grants(draft: &Draft) -> BTreeMap<Name, (&Grant, &Delegation)> {
    let rows = draft.delegations.iter();
    rows.filter_map(|row| Some((app_of_role(&row.role)?, (row.grant.as_ref()?, row)))).collect()
}

/// Signs `targets` with these delegations and puts it into the folder.
pub(crate) fn sign_targets(ring: &Keyring, key: &Key, version: u64, delegations: &[Delegation]) -> anyhow::Result<()> {
    let header = Header { version, expires: in_days(ROLE_DAYS) };
    ring.put("targets.json", &sign::targets(header, delegations, &[key])?)
}

/// What the fleet's documents say now.
pub(crate) fn nodes(ring: &Keyring) -> anyhow::Result<Nodes> {
    serde_json::from_slice(&ring.document("nodes.json")?).with_context(|| ring.path("nodes.json").display().to_string())
}

/// Signs `fleet` over these nodes and what is denied already, and puts all of it into the folder.
pub(crate) fn sign_fleet(ring: &Keyring, key: &Key, version: u64, nodes: &Nodes) -> anyhow::Result<()> {
    let denied = match ring.path("denied.json").exists() {
        true => ring.document("denied.json")?,
        false => sign::document(&Denied::default())?,
    };
    let nodes = sign::document(nodes)?;
    let files = [TargetFile::new("fleet/nodes.json", &nodes), TargetFile::new("fleet/denied.json", &denied)];
    let header = Header { version, expires: in_days(ROLE_DAYS) };
    let fleet = sign::delegated(header, &files, &[key])?;
    ring.put("denied.json", &denied)?;
    ring.put("nodes.json", &nodes)?;
    ring.put("fleet.json", &fleet)
}

/// The version that the next `fleet` has.
pub(crate) fn next_fleet_version(ring: &Keyring) -> anyhow::Result<u64> {
    Ok(sign::read(&ring.document("fleet.json")?)?.version + 1)
}

/// All that the operator signed, as the origin takes it.
pub(crate) fn upload_of(ring: &Keyring) -> anyhow::Result<OperatorUpload> {
    let base64 = |name: &str| ring.document(name).map(Base64);
    let mut upload = OperatorUpload::default();
    for version in 2_u32.. {
        let name = format!("{version}.root.json");
        if !ring.path(&name).exists() {
            break;
        }
        upload.metadata.insert(name.clone(), base64(&name)?);
    }
    for name in ["targets.json", "fleet.json"] {
        upload.metadata.insert(name.to_owned(), base64(name)?);
    }
    for name in ["nodes.json", "denied.json"] {
        upload.targets.insert(format!("fleet/{name}"), base64(name)?);
    }
    Ok(upload)
}

/// Brings what was signed to the origin, where one is named. Gives the state that holds it.
pub(crate) async fn bring(ring: &Keyring, key: Key, reach: &Reach, out: Out) -> anyhow::Result<Option<u64>> {
    if reach.origin.is_none() {
        out.note("signed; the origin does not know yet: repeat with `--origin URL`, or run `eyot keys upload`");
        return Ok(None);
    }
    let mut reach = reach.clone();
    reach.ca.get_or_insert_with(|| ring.path("fleet-ca.pem"));
    let client = reach.client_as(key)?;
    let _progress = out.progress("bringing it to the origin");
    Ok(Some(client.upload(&upload_of(ring)?).await?.seq))
}
