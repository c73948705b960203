//! `eyot keys init`: every key and first document of a fleet, one holder each.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, bail};
use eyot_bundle::digest::Digest;
use eyot_bundle::fleet::{Node, Nodes};
use eyot_bundle::name::Name;
use eyot_bundle::sign::{self, Delegation, Header, Holders, Key, RootRoles};
use serde_json::json;

use super::certificates::{Authority, Pair};
use super::{Folder, lock};
use crate::keyfile::{self, Lock};
use crate::keyring::Keyring;
use crate::operator;
use crate::out::Out;

/// How long the root is believed.
const ROOT_DAYS: i64 = 365;

/// Make all keys of a new fleet, each role held by one key (a threshold of 1).
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    folder: Folder,
    /// The fleet's name.
    #[arg(long, default_value = "example")]
    fleet: Name,
    /// A host or address of the origin, for its certificate; may stand several times.
    #[arg(long = "origin-name", value_name = "HOST", default_values = ["localhost", "127.0.0.1", "::1"])]
    origin_names: Vec<String>,
    /// A node of the fleet and its region; may stand several times.
    #[arg(long = "node", value_name = "ID=REGION", value_parser = node)]
    nodes: Vec<(Name, String)>,
    /// Leave all private keys unencrypted.
    #[arg(long)]
    plain: bool,
}

/// A new fleet.
#[derive(Clone, Debug)]
pub(crate) struct NewFleet {
    /// Its name.
    pub(crate) fleet: Name,
    /// The origin's hosts and addresses.
    pub(crate) origin_names: Vec<String>,
    /// Its nodes, with their regions.
    pub(crate) nodes: Vec<(Name, String)>,
}

fn node(text: &str) -> Result<(Name, String), String> {
    let (id, region) = text.split_once('=').ok_or("write ID=REGION, as `fra-1=eu-fra`")?;
    let id = id.parse().map_err(|error: eyot_bundle::name::NameError| error.to_string())?;
    if region.is_empty() { Err("the region is empty".to_owned()) } else { Ok((id, region.to_owned())) }
}

pub(crate) fn run(args: &Args, out: Out) -> anyhow::Result<()> {
    let ring = args.folder.ring();
    refuse_existing(&ring)?;
    let lock = lock(args.plain, out)?;
    let fleet =
        NewFleet { fleet: args.fleet.clone(), origin_names: args.origin_names.clone(), nodes: args.nodes.clone() };
    make(&ring, &fleet, &lock, out)?;
    say(&ring, &fleet, out);
    Ok(())
}

fn refuse_existing(ring: &Keyring) -> anyhow::Result<()> {
    if ring.path("root.json").exists() {
        bail!("{} holds a fleet's keys already; name another folder with `--keys`", ring.folder().display());
    }
    Ok(())
}

/// Makes the fleet's keys and first documents in the folder.
pub(crate) fn make(ring: &Keyring, fleet: &NewFleet, lock: &Lock, out: Out) -> anyhow::Result<Authority> {
    refuse_existing(ring)?;
    for folder in ["", "origin", "nodes"] {
        let path = ring.path(folder);
        fs::create_dir_all(&path).with_context(|| format!("the folder {}", path.display()))?;
        private(&path)?;
    }
    let progress = out.progress("making keys");
    let offline = |name: &str| new_key(ring, name, lock);
    let (root, targets, fleet_key, publisher) =
        (offline("root")?, offline("targets")?, offline("fleet")?, offline("publisher")?);
    // The origin signs with these day and night: it gets them as credentials of its service.
    let online = |name: &str| new_key(ring, &format!("origin/{name}"), &Lock::Plain);
    let (timestamp, snapshot, director) = (online("timestamp")?, online("snapshot")?, online("director")?);
    ring.put("publisher.pub", format!("{}\n", publisher.public().to_hex()).as_bytes())?;

    progress.now("making certificates");
    let authority = Authority::new(&fleet.fleet)?;
    keyfile::write_new(&ring.path("ca.key"), &authority.key(), lock)?;
    ring.put("fleet-ca.pem", authority.pem.as_bytes())?;
    let Pair { pem, key } = authority.server(&fleet.origin_names)?;
    ring.put("origin/origin.pem", pem.as_bytes())?;
    keyfile::write_new(&ring.path("origin/origin.key"), &key, &Lock::Plain)?;

    progress.now("signing");
    let one = |key: &Key| Holders::one(key.public());
    let roles =
        RootRoles { root: one(&root), snapshot: one(&snapshot), targets: one(&targets), timestamp: one(&timestamp) };
    let header = Header { version: 1, expires: operator::in_days(ROOT_DAYS) };
    let signed_root = sign::root(header, &roles, &[&root])?;
    let delegations = [Delegation::fleet(one(&fleet_key)), Delegation::director(one(&director))];
    operator::sign_targets(ring, &targets, 1, &delegations)?;
    let mut nodes = Nodes { nodes: BTreeMap::new() };
    for (id, region) in &fleet.nodes {
        nodes.nodes.insert(id.clone(), new_node(ring, id, region, BTreeMap::new())?);
    }
    operator::sign_fleet(ring, &fleet_key, 1, &nodes)?;
    // Last: a folder with a root is complete.
    ring.put("1.root.json", &signed_root)?;
    ring.put("root.json", &signed_root)?;
    Ok(authority)
}

/// A new signing key in the folder.
fn new_key(ring: &Keyring, name: &str, lock: &Lock) -> anyhow::Result<Key> {
    let key = Key::generate()?;
    keyfile::write_new(&ring.path(&format!("{name}.key")), &key.to_pem()?, lock)?;
    Ok(key)
}

/// A node as the fleet document has it, with a new token in the folder.
pub(crate) fn new_node(
    ring: &Keyring,
    id: &Name,
    region: &str,
    labels: BTreeMap<String, String>,
) -> anyhow::Result<Node> {
    let token = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
    keyfile::write_new(&ring.path(&format!("nodes/{id}.token")), &token, &Lock::Plain)?;
    Ok(Node {
        region: region.to_owned(),
        token_sha256: Digest::of(token.as_bytes()),
        labels,
        identity: None,
        shield: None,
        revoked: false,
    })
}

/// Only its owner may enter.
fn private(folder: &std::path::Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
        .with_context(|| format!("the folder {}", folder.display()))
}

fn say(ring: &Keyring, fleet: &NewFleet, out: Out) {
    let folder = ring.folder().display();
    out.warn("each role has ONE key: lose it and the fleet cannot change; leak it and another may. See docs/keys.md.");
    out.say(format!("{folder}/root.key targets.key fleet.key ca.key   keep them off line"));
    out.say(format!("{folder}/publisher.key                           publishes; grant it an app with `eyot app add`"));
    out.say(format!("{folder}/origin/                                 for the origin's machine"));
    out.say(format!("{folder}/root.json fleet-ca.pem                  for every node, with its nodes/<id>.token"));
    out.say(format!("next: eyot app add shop --host shop.example.com --key {folder}/publisher.pub --keys {folder}"));
    let nodes: Vec<_> = fleet.nodes.iter().map(|(id, _)| id.to_string()).collect();
    out.result(&json!({"keys": ring.folder(), "fleet": fleet.fleet, "nodes": nodes}));
}
