//! `eyot fleet`: the operator names nodes and puts them out; and everyone sees what nodes report.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::bail;
use clap::Subcommand;
use eyot_bundle::name::Name;
use eyot_bundle::secret::Recipient;
use serde_json::json;

use crate::keys::{Folder, init};
use crate::operator;
use crate::out::Out;
use crate::reach::Reach;

/// Name the nodes of the fleet, put them out, and see what they report.
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:
  eyot fleet add-node fra-1 --region eu-fra --label role=edge --origin https://origin.example.net:7443
  eyot fleet set-identity fra-1 age1…           as `eyot node identity` shows it there
  eyot fleet set-shield fra-1 192.0.2.7:443     other nodes ask it in the place of upstreams with `shield = \"eu-fra\"`
  eyot fleet revoke-node fra-1
  eyot fleet status --origin https://origin.example.net:7443 --ca fleet-ca.pem --key alice.key"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    AddNode(AddNode),
    RevokeNode(RevokeNode),
    SetIdentity(SetIdentity),
    SetShield(SetShield),
    Status(Status),
}

/// Name a new node, and make the token it joins with.
#[derive(Debug, clap::Args)]
struct AddNode {
    /// Its id.
    id: Name,
    /// Its region.
    #[arg(long)]
    region: String,
    /// The public half of its identity, age1…; it can be set later.
    #[arg(long, value_name = "RECIPIENT")]
    identity: Option<Recipient>,
    /// Where other nodes reach its listener with TLS, to have it ask upstreams for them; it can be set later.
    #[arg(long, value_name = "ADDRESS:PORT")]
    shield: Option<SocketAddr>,
    /// A label, as role=edge; may stand several times.
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    #[command(flatten)]
    at: At,
}

/// Put a node out of the fleet: the origin does not talk to it any more.
#[derive(Debug, clap::Args)]
struct RevokeNode {
    /// Its id.
    id: Name,
    #[command(flatten)]
    at: At,
}

/// Say what a node's secrets are sealed to: what `eyot node identity` showed there.
#[derive(Debug, clap::Args)]
struct SetIdentity {
    /// Its id.
    id: Name,
    /// The public half of its identity: age1….
    identity: Recipient,
    #[command(flatten)]
    at: At,
}

/// Say where other nodes reach a node, to have it ask upstreams for them; or that they do not.
#[derive(Debug, clap::Args)]
struct SetShield {
    /// Its id.
    id: Name,
    /// The address and port of its listener with TLS; none: other nodes do not ask it.
    address: Option<SocketAddr>,
    #[command(flatten)]
    at: At,
}

/// Show what each node reports.
#[derive(Debug, clap::Args)]
struct Status {
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, clap::Args)]
struct At {
    #[command(flatten)]
    folder: Folder,
    /// The origin to bring it to; none: it is signed only.
    #[arg(long, env = "EYOT_ORIGIN", value_name = "URL")]
    origin: Option<String>,
    /// The fleet's CA in PEM; default: fleet-ca.pem of the keys folder.
    #[arg(long, env = "EYOT_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
}

fn label(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(crate) async fn run(args: Args, out: &Out) -> anyhow::Result<()> {
    match args.verb {
        Verb::AddNode(args) => add(args, *out).await,
        Verb::RevokeNode(args) => revoke(&args, *out).await,
        Verb::SetIdentity(args) => set_identity(args, *out).await,
        Verb::SetShield(args) => set_shield(args, *out).await,
        Verb::Status(args) => status(&args.reach, *out).await,
    }
}

async fn add(args: AddNode, out: Out) -> anyhow::Result<()> {
    let ring = args.at.folder.ring();
    let mut nodes = operator::nodes(&ring)?;
    if nodes.nodes.contains_key(&args.id) {
        bail!("`{}` is a node of this fleet already", args.id);
    }
    let labels: BTreeMap<_, _> = args.labels.into_iter().collect();
    let mut node = init::new_node(&ring, &args.id, &args.region, labels)?;
    (node.identity, node.shield) = (args.identity, args.shield);
    nodes.nodes.insert(args.id.clone(), node);
    let seq = sign(&ring, &nodes, &args.at, out).await?;
    let token = ring.path(&format!("nodes/{}.token", args.id));
    out.say(format!("{} in {}; its token: {}", args.id, args.region, token.display()));
    out.result(&json!({"node": args.id, "region": args.region, "token": token, "seq": seq}));
    Ok(())
}

async fn revoke(args: &RevokeNode, out: Out) -> anyhow::Result<()> {
    let ring = args.at.folder.ring();
    let mut nodes = operator::nodes(&ring)?;
    let Some(node) = nodes.nodes.get_mut(&args.id) else { bail!("there is no node `{}`", args.id) };
    node.revoked = true;
    let seq = sign(&ring, &nodes, &args.at, out).await?;
    out.say(format!("{} is put out", args.id));
    out.note("secrets that were sealed to it: each app's publishers see them with `eyot secret list`");
    out.result(&json!({"node": args.id, "revoked": true, "seq": seq}));
    Ok(())
}

async fn set_identity(args: SetIdentity, out: Out) -> anyhow::Result<()> {
    let ring = args.at.folder.ring();
    let mut nodes = operator::nodes(&ring)?;
    let Some(node) = nodes.nodes.get_mut(&args.id) else { bail!("there is no node `{}`", args.id) };
    node.identity = Some(args.identity.clone());
    let seq = sign(&ring, &nodes, &args.at, out).await?;
    out.say(format!("secrets are sealed to {} as {}", args.id, args.identity));
    out.note("publishers seal theirs again: `eyot secret seal`, then `eyot publish`");
    out.result(&json!({"node": args.id, "identity": args.identity, "seq": seq}));
    Ok(())
}

async fn set_shield(args: SetShield, out: Out) -> anyhow::Result<()> {
    let ring = args.at.folder.ring();
    let mut nodes = operator::nodes(&ring)?;
    let Some(node) = nodes.nodes.get_mut(&args.id) else { bail!("there is no node `{}`", args.id) };
    node.shield = args.address;
    let (region, has_identity) = (node.region.clone(), node.identity.is_some());
    let seq = sign(&ring, &nodes, &args.at, out).await?;
    match args.address {
        Some(at) => {
            out.say(format!("{} asks upstreams with `shield = \"{region}\"` for other nodes, at {at}", args.id))
        }
        None => out.say(format!("{} asks upstreams for itself alone", args.id)),
    }
    if args.address.is_some() && !has_identity {
        out.warn(format!("nodes cannot prove themselves to it before `eyot fleet set-identity {}`", args.id));
    }
    out.result(&json!({"node": args.id, "shield": args.address, "seq": seq}));
    Ok(())
}

async fn sign(
    ring: &crate::keyring::Keyring,
    nodes: &eyot_bundle::fleet::Nodes,
    at: &At,
    out: Out,
) -> anyhow::Result<Option<u64>> {
    let key = ring.key("fleet")?;
    operator::sign_fleet(ring, &key, operator::next_fleet_version(ring)?, nodes)?;
    let reach = Reach { origin: at.origin.clone(), ca: at.ca.clone(), key: None };
    operator::bring(ring, key, &reach, out).await
}

async fn status(reach: &Reach, out: Out) -> anyhow::Result<()> {
    let fleet = reach.client()?.fleet().await?;
    out.say(format!("state {}", fleet.seq));
    for (id, node) in &fleet.nodes {
        let word = match (node.revoked, node.watching) {
            (true, _) => "revoked",
            (false, true) => "connected",
            (false, false) => "away",
        };
        let at = node.report.as_ref().map_or("no report".to_owned(), |report| format!("at state {}", report.seq));
        out.say(format!("{id}  {}  {word}  {at}", node.region));
        for (app, row) in node.report.iter().flat_map(|report| &report.apps) {
            let active = row.active.map_or("nothing".to_owned(), |release| format!("release {release}"));
            out.say(format!("    {app}  runs {active}"));
            if let Some(refused) = &row.refused {
                let code = refused.reason.code();
                out.say(format!("    {app}  refused release {}: {code}: {}", refused.release, refused.detail));
            }
        }
    }
    out.result(&serde_json::to_value(&fleet)?);
    Ok(())
}
