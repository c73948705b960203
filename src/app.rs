//! `eyot app`: the operator grants apps their hosts and ceilings, suspends and removes them. It signs `targets`.

use std::path::Path;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use eyot_bundle::grant::{Ceilings, Grant, GrantState, Keys, PrivateNet, Share, own_engine};
use eyot_bundle::host::HostPattern;
use eyot_bundle::name::Name;
use eyot_bundle::release::Engine;
use eyot_bundle::sign::{self, Delegation, Holders, PublicKey};
use eyot_bundle::text::{duration_us, size_bytes};
use serde_json::{Map, json};

use crate::keyring::Keyring;
use crate::keys::Folder;
use crate::operator;
use crate::out::Out;
use crate::reach::Reach;

/// Grant apps their hosts, suspend and remove them (operator).
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:
  eyot app add shop --host shop.example.com --host '*.shop.example.com' --key alice.pub
  eyot app add shop --replace --host shop.example.com --key alice.pub --cpu 200ms --private 10.1.0.0/16=443
  eyot app add shop --replace --host shop.example.com --key alice.pub --purge-key cms.pub
  eyot app suspend shop --origin https://origin.example.net:7443
  eyot app list"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Grant an app its hosts, to the publishers whose keys are named.
    Add(Box<Add>),
    /// Show what is granted.
    List(List),
    /// End an app for good; its name stays taken.
    Remove(Change),
    /// Let a suspended app answer again.
    Resume(Change),
    /// Let the hosts of an app answer 503 `suspended`.
    Suspend(Change),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Add {
    /// The app.
    app: Name,
    /// A host: `shop.example.com`, or `*.shop.example.com` for all names below; may stand several times.
    #[arg(long = "host", required = true)]
    hosts: Vec<HostPattern>,
    /// A publisher's public key: 64 hexadecimal digits, or a file with them; may stand several times.
    #[arg(long = "key", required = true, value_name = "PUBLIC-KEY")]
    publishers: Vec<String>,
    /// How many publishers must sign a release.
    #[arg(long, default_value_t = 1)]
    threshold: u32,
    /// The most CPU a call may ask for, as 200ms; default: the node's ceiling.
    #[arg(long, value_parser = us, value_name = "TIME")]
    cpu: Option<u64>,
    /// The most memory a call may ask for, as 256MiB.
    #[arg(long, value_parser = bytes, value_name = "SIZE")]
    memory: Option<u64>,
    /// The most outbound requests a call may ask for.
    #[arg(long, value_name = "COUNT")]
    subrequests: Option<u32>,
    /// A private network the app may reach, with its ports: `10.1.0.0/16=443,8443`; may stand several times.
    #[arg(long = "private", value_parser = private, value_name = "NET[=PORTS]")]
    egress_private: Vec<PrivateNet>,
    /// Its part of each node's CPU and memory, in percent.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=100), value_name = "PERCENT")]
    share: Option<u8>,
    /// An engine that its stores and queues may use beside the node's own; may stand several times.
    #[arg(long = "engine", value_parser = engine, value_name = "nats|redis")]
    engines: Vec<Engine>,
    /// A public key that may purge what caches keep of the app, and nothing else; may stand several times.
    #[arg(long = "purge-key", value_name = "PUBLIC-KEY")]
    purgers: Vec<String>,
    /// Put this grant in place of the one the app has.
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    at: At,
}

#[derive(Debug, clap::Args)]
struct Change {
    /// The app.
    app: Name,
    #[command(flatten)]
    at: At,
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    folder: Folder,
}

/// Where the keys are, and the origin to tell.
#[derive(Debug, clap::Args)]
struct At {
    #[command(flatten)]
    folder: Folder,
    /// The origin to bring it to; none: it is signed only.
    #[arg(long, env = "EYOT_ORIGIN", value_name = "URL")]
    origin: Option<String>,
    /// The fleet's CA in PEM; default: fleet-ca.pem of the keys folder.
    #[arg(long, env = "EYOT_CA", value_name = "FILE")]
    ca: Option<std::path::PathBuf>,
}

impl At {
    fn reach(&self) -> Reach {
        Reach { origin: self.origin.clone(), ca: self.ca.clone(), key: None }
    }
}

fn us(text: &str) -> Result<u64, &'static str> {
    duration_us(text).ok_or("write a whole number and its unit, as 200ms")
}

fn bytes(text: &str) -> Result<u64, &'static str> {
    size_bytes(text).ok_or("write a whole number and its unit, as 256MiB")
}

fn engine(text: &str) -> Result<Engine, &'static str> {
    let known = [Engine::Nats, Engine::Node, Engine::Redis];
    known.into_iter().find(|engine| engine.label() == text).ok_or("write nats or redis")
}

fn private(text: &str) -> Result<PrivateNet, String> {
    let (net, ports) = text.split_once('=').unwrap_or((text, ""));
    let net = net.parse().map_err(|_| format!("`{net}` is no network; write 10.1.0.0/16"))?;
    let port = |port: &str| port.parse().map_err(|_| format!("`{port}` is no port"));
    let ports = ports.split(',').filter(|port| !port.is_empty()).map(port).collect::<Result<_, _>>()?;
    Ok(PrivateNet { net, ports })
}

pub(crate) async fn run(args: Args, out: &Out) -> anyhow::Result<()> {
    match args.verb {
        Verb::Add(args) => add(&args, *out).await,
        Verb::List(args) => list(&args.folder.ring(), *out),
        Verb::Remove(args) => change(&args, GrantState::Removed, *out).await,
        Verb::Resume(args) => change(&args, GrantState::Active, *out).await,
        Verb::Suspend(args) => change(&args, GrantState::Suspended, *out).await,
    }
}

/// The node's own, and those that were named.
fn engines(named: &[Engine]) -> Vec<Engine> {
    let mut engines = own_engine();
    engines.extend(named);
    engines.sort_unstable();
    engines.dedup();
    engines
}

async fn add(args: &Add, out: Out) -> anyhow::Result<()> {
    let keys = args.publishers.iter().map(|text| public_key(text)).collect::<anyhow::Result<Vec<_>>>()?;
    let purge = args.purgers.iter().map(|text| public_key(text)).collect::<anyhow::Result<Vec<_>>>()?;
    if args.threshold == 0 || args.threshold as usize > keys.len() {
        bail!("--threshold {} is not 1 to {}, the number of keys", args.threshold, keys.len());
    }
    let mut share = Share::default();
    if let Some(percent) = args.share {
        (share.cpu, share.memory) = (f64::from(percent) / 100.0, f64::from(percent) / 100.0);
    }
    let grant = Grant {
        state: GrantState::Active,
        hosts: args.hosts.clone(),
        limits: Ceilings { cpu_us: args.cpu, wall_ms: None, memory_bytes: args.memory, subrequests: args.subrequests },
        share,
        egress_private: args.egress_private.clone(),
        stores: engines(&args.engines),
        placement: "*".to_owned(),
        keys: Keys { purge },
    };
    let ring = args.at.folder.ring();
    let draft = operator::targets(&ring)?;
    if operator::grants(&draft).contains_key(args.app.as_str()) && !args.replace {
        bail!("`{}` has a grant; say `--replace` to put this one in its place", args.app);
    }
    let delegation = Delegation::app(&args.app, Holders { keys, threshold: args.threshold }, grant);
    let seq = sign(&ring, delegation, &args.at.reach(), out).await?;
    let hosts: Vec<_> = args.hosts.iter().map(ToString::to_string).collect();
    out.say(format!("{} may answer {}", args.app, hosts.join(", ")));
    out.result(&json!({"app": args.app, "hosts": hosts, "seq": seq}));
    Ok(())
}

async fn change(args: &Change, state: GrantState, out: Out) -> anyhow::Result<()> {
    let ring = args.at.folder.ring();
    let draft = operator::targets(&ring)?;
    let grants = operator::grants(&draft);
    let Some((grant, delegation)) = grants.get(args.app.as_str()) else {
        bail!("no app `{}` is granted here; see `eyot app list`", args.app);
    };
    if grant.state == GrantState::Removed {
        bail!("`{}` was removed; a removed app does not come back", args.app);
    }
    let grant = Grant { state, ..(*grant).clone() };
    let delegation = Delegation { grant: Some(grant), ..(*delegation).clone() };
    let seq = sign(&ring, delegation, &args.at.reach(), out).await?;
    let word = serde_json::to_value(state)?;
    out.say(format!("{} is {}", args.app, word.as_str().unwrap_or_default()));
    out.result(&json!({"app": args.app, "state": word, "seq": seq}));
    Ok(())
}

/// Signs `targets` with this delegation in it, and brings it to the origin.
pub(crate) async fn sign(
    ring: &Keyring,
    delegation: Delegation,
    reach: &Reach,
    out: Out,
) -> anyhow::Result<Option<u64>> {
    let mut draft = operator::targets(ring)?;
    sign::delegate(&mut draft.delegations, delegation)?;
    let key = ring.key("targets")?;
    operator::sign_targets(ring, &key, draft.version + 1, &draft.delegations)?;
    operator::bring(ring, key, reach, out).await
}

fn public_key(text: &str) -> anyhow::Result<PublicKey> {
    if let Some(key) = PublicKey::from_hex(text) {
        return Ok(key);
    }
    let file = Path::new(text);
    let read = std::fs::read_to_string(file)
        .with_context(|| format!("`{text}` is neither 64 hexadecimal digits nor a file with them"))?;
    PublicKey::from_hex(read.trim()).with_context(|| format!("{text} holds no public key: 64 hexadecimal digits"))
}

fn list(ring: &Keyring, out: Out) -> anyhow::Result<()> {
    let draft = operator::targets(ring)?;
    let mut rows = Map::new();
    for (app, (grant, delegation)) in operator::grants(&draft) {
        let hosts: Vec<_> = grant.hosts.iter().map(ToString::to_string).collect();
        let keys: Vec<_> = delegation.holders.keys.iter().map(|key| key.id()).collect();
        let state = serde_json::to_value(grant.state)?;
        out.say(format!("{app}  {}  {}", state.as_str().unwrap_or_default(), hosts.join(" ")));
        rows.insert(app.to_string(), json!({"state": state, "hosts": hosts, "keys": keys, "grant": grant}));
    }
    out.result(&json!({"apps": rows}));
    Ok(())
}
