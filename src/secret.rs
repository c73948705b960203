//! `eyot secret`: seals the secrets of an app to the nodes of the fleet. What is sealed lies in the app's folder, in
//! `secrets/`, and may be kept with its source; what opens it on this machine lies in `.eyot/`, and may not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use age::secrecy::ExposeSecret as _;
use anyhow::{Context as _, bail};
use clap::Subcommand;
use eyot_bundle::digest::Digest;
use eyot_bundle::fleet::Nodes;
use eyot_bundle::name::Name;
use eyot_bundle::release::{Bundle, Secret};
use eyot_bundle::secret::{self, About, Identity, Recipient, VALUE_BYTES_MAX};
use eyot_bundle::verify::parts::secret_name;
use eyot_link::wire::Base64;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::keyfile::{self, Lock};
use crate::out::Out;
use crate::project::{Place, Project};
use crate::reach::Reach;
use crate::trusted;

/// A file of a sealed secret larger than this is refused, in bytes.
const FILE_BYTES_MAX: u64 = 2 << 20;

/// Seal the secrets of an app to the nodes of the fleet.
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:
  eyot secret set PAYMENT_KEY --key alice.key          asks for the value, without showing it
  eyot secret set PAYMENT_KEY --key alice.key < file   takes it from standard input, as it is
  eyot secret list --key alice.key                     which nodes can open which, and what to set anew
  eyot secret seal --key alice.key                     seals all of them again, to the nodes there are now

Name it in eyot.toml, `secrets = [\"PAYMENT_KEY\"]`, and publish: a node that cannot open it refuses the release."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

/// Which app, and where its fleet is.
#[derive(Debug, clap::Args)]
struct At {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    reach: Reach,
    /// The fleet's first root of trust; default: the one pinned in .eyot/root.json.
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show the secrets of the app, and which nodes can open them.
    List(At),
    /// Seal all secrets again, to the nodes that the fleet has now.
    Seal(At),
    /// Give a secret its value.
    Set {
        /// Its name: PAYMENT_KEY.
        name: String,
        #[command(flatten)]
        at: At,
    },
}

/// `secrets/<NAME>.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sealed {
    /// Counted up with each value.
    pub(crate) version: u64,
    /// The nodes that can open this value, or could at some time.
    nodes: BTreeMap<Name, Recipient>,
    /// The age file.
    pub(crate) sealed: Base64,
}

impl Sealed {
    /// A value sealed to one reader, of whom no fleet knows.
    pub(crate) fn to(about: About<'_>, value: &[u8], reader: &Recipient) -> anyhow::Result<Self> {
        let sealed = secret::seal(about, value, std::slice::from_ref(reader))?;
        Ok(Self { version: about.version, nodes: BTreeMap::new(), sealed: Base64(sealed) })
    }

    /// What a release says of it.
    pub(crate) fn named(&self) -> Secret {
        let bytes = &self.sealed.0;
        let sealed = Bundle { sha256: Digest::of(bytes), size: bytes.len() as u64 };
        Secret { sealed, version: self.version }
    }
}

pub(crate) async fn run(args: &Args, out: &Out) -> anyhow::Result<()> {
    let (Verb::List(at) | Verb::Seal(at) | Verb::Set { at, .. }) = &args.verb;
    let project = at.place.open()?;
    let shelf = Shelf { project: &project };
    let nodes = nodes(&project, at, *out).await?;
    match &args.verb {
        Verb::List(_) => list(&shelf, &nodes, *out),
        Verb::Seal(_) => seal_all(&shelf, &nodes, *out),
        Verb::Set { name, .. } => set(&shelf, name, &nodes, *out),
    }
}

/// The nodes of the fleet, as its operator signed them.
async fn nodes(project: &Project, at: &At, out: Out) -> anyhow::Result<Nodes> {
    let client = project.reach(&at.reach).client()?;
    trusted::nodes(&client, &project.folder, at.root.as_deref(), out).await
}

/// The secrets in an app's folder.
pub(crate) struct Shelf<'a> {
    pub(crate) project: &'a Project,
}

impl Shelf<'_> {
    fn file(&self, name: &str) -> PathBuf {
        self.project.folder.join("secrets").join(format!("{name}.json"))
    }

    /// The secret `name`, if it was ever set.
    pub(crate) fn read(&self, name: &str) -> anyhow::Result<Option<Sealed>> {
        let file = self.file(name);
        let context = || format!("the sealed secret {}", file.display());
        let opened = match fs::File::open(&file) {
            Ok(opened) => opened,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(context),
        };
        let mut bytes = Vec::new();
        opened.take(FILE_BYTES_MAX).read_to_end(&mut bytes).with_context(context)?;
        serde_json::from_slice(&bytes).map(Some).with_context(context)
    }

    /// All that the manifest names, as they are.
    pub(crate) fn all(&self) -> anyhow::Result<BTreeMap<String, Sealed>> {
        let names = self.project.manifest.secrets().into_iter().map(str::to_owned).collect::<BTreeSet<_>>();
        let read = |name: String| match self.read(&name)? {
            Some(sealed) => Ok((name, sealed)),
            None => bail!("the secret `{name}` has no value; give it one with `eyot secret set {name}`"),
        };
        names.into_iter().map(read).collect()
    }

    fn write(&self, name: &str, sealed: &Sealed) -> anyhow::Result<()> {
        let file = self.file(name);
        let part = file.with_extension("part");
        let text = serde_json::to_string_pretty(sealed)? + "\n";
        let write = || {
            fs::create_dir_all(file.parent().unwrap_or(Path::new(".")))?;
            fs::write(&part, text)?;
            fs::rename(&part, &file)
        };
        write().with_context(|| format!("the sealed secret {}", file.display()))
    }

    /// What opens secrets on this machine; made if it is not there.
    fn own(&self) -> anyhow::Result<Identity> {
        let folder = self.project.folder.join(".eyot");
        let file = folder.join("secrets.key");
        if !file.exists() {
            fs::create_dir_all(&folder).with_context(|| format!("the folder {}", folder.display()))?;
            keyfile::write_new(&file, Identity::generate().to_text().expose_secret(), &Lock::Plain)?;
        }
        keyfile::read(&file)?.parse().with_context(|| format!("{}", file.display()))
    }

    fn about<'a>(&'a self, name: &'a str, version: u64) -> About<'a> {
        About { app: &self.project.manifest.app, name, version }
    }
}

/// The nodes that secrets are sealed to now, by name; and those that have no identity to seal to.
fn readers(nodes: &Nodes) -> (BTreeMap<Name, Recipient>, Vec<String>) {
    let there = nodes.nodes.iter().filter(|(_, node)| !node.revoked);
    let without = there.clone().filter(|(_, node)| node.identity.is_none()).map(|(id, _)| id.to_string()).collect();
    let with = there.filter_map(|(id, node)| Some((id.clone(), node.identity.clone()?))).collect();
    (with, without)
}

fn seal(shelf: &Shelf<'_>, name: &str, version: u64, value: &[u8], nodes: &Nodes) -> anyhow::Result<Sealed> {
    let (nodes, _) = readers(nodes);
    anyhow::ensure!(
        !nodes.is_empty(),
        "no node of the fleet has an identity; on each node `eyot node identity` shows it, and the operator puts it into \
         the fleet with `eyot fleet set-identity`"
    );
    let own = shelf.own()?.recipient();
    let to: Vec<Recipient> = nodes.values().cloned().chain([own]).collect();
    let sealed = secret::seal(shelf.about(name, version), value, &to)?;
    Ok(Sealed { version, nodes, sealed: Base64(sealed) })
}

fn set(shelf: &Shelf<'_>, name: &str, nodes: &Nodes, out: Out) -> anyhow::Result<()> {
    secret_name(name).map_err(anyhow::Error::msg)?;
    let version = shelf.read(name)?.map_or(1, |before| before.version + 1);
    let value = value(name)?;
    let sealed = seal(shelf, name, version, value.expose_secret(), nodes)?;
    shelf.write(name, &sealed)?;
    let (count, without) = (sealed.nodes.len(), readers(nodes).1);
    out.say(format!("{name} version {version} is sealed to {count} nodes in {}", shelf.file(name).display()));
    if !without.is_empty() {
        out.warn(format!("{} cannot open it: no identity of theirs is in the fleet", without.join(", ")));
    }
    if !shelf.project.manifest.secrets().contains(name) {
        out.note(format!("no function names it yet: write `secrets = [\"{name}\"]` into eyot.toml"));
    }
    out.result(&json!({"secret": name, "version": version, "nodes": sealed.nodes.keys().collect::<Vec<_>>(), "without": without}));
    Ok(())
}

/// The value: typed without being shown, or all of standard input.
fn value(name: &str) -> anyhow::Result<age::secrecy::SecretSlice<u8>> {
    if std::io::stdin().is_terminal() {
        let typed = keyfile::ask(&format!("The value of {name}: "))?;
        return Ok(typed.expose_secret().as_bytes().to_vec().into());
    }
    // All its room at once: a vector that grows leaves what it held behind.
    let mut bytes = Vec::with_capacity(VALUE_BYTES_MAX + 2);
    std::io::stdin().lock().take(VALUE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).context("standard input")?;
    Ok(bytes.into())
}

/// Seals every secret again that this machine can open.
fn seal_all(shelf: &Shelf<'_>, nodes: &Nodes, out: Out) -> anyhow::Result<()> {
    let own = shelf.own()?;
    let mut rows = Vec::new();
    for (name, before) in shelf.all()? {
        let value = secret::open(shelf.about(&name, before.version), &before.sealed.0, &own);
        let value = value.map_err(|_| {
            anyhow::anyhow!("{name} was sealed on another machine; set its value again: `eyot secret set {name}`")
        })?;
        let mut sealed = seal(shelf, &name, before.version, value.expose(), nodes)?;
        let readers = sealed.nodes.len();
        // Whoever could open this very value stays written down until it has another one.
        for (id, recipient) in before.nodes {
            sealed.nodes.entry(id).or_insert(recipient);
        }
        shelf.write(&name, &sealed)?;
        out.say(format!("{name} version {} is sealed to {readers} nodes", sealed.version));
        let leaked = gone(&sealed, nodes);
        if !leaked.is_empty() {
            out.warn(rotate(&name, &leaked));
        }
        rows.push(json!({"secret": name, "version": sealed.version, "rotate": !leaked.is_empty(), "known_to": leaked}));
    }
    out.note("publish for it to take effect");
    out.result(&json!({"secrets": rows}));
    Ok(())
}

fn rotate(name: &str, gone: &[String]) -> String {
    format!(
        "{name} is known to {}, which was put out: take a new value at its issuer, then `eyot secret set {name}`",
        gone.join(", ")
    )
}

/// Those that could open this value, and were put out or have another identity since.
fn gone(sealed: &Sealed, nodes: &Nodes) -> Vec<String> {
    let (now, _) = readers(nodes);
    sealed
        .nodes
        .iter()
        .filter(|(id, recipient)| now.get(*id) != Some(recipient))
        .map(|(id, _)| id.to_string())
        .collect()
}

fn list(shelf: &Shelf<'_>, nodes: &Nodes, out: Out) -> anyhow::Result<()> {
    let (now, _) = readers(nodes);
    let mut rows = Vec::new();
    for name in shelf.project.manifest.secrets() {
        let Some(sealed) = shelf.read(name)? else {
            out.say(format!("{name}  has no value; `eyot secret set {name}`"));
            rows.push(json!({"secret": name, "version": null}));
            continue;
        };
        let open = |(id, recipient): &(&Name, &Recipient)| now.get(*id) == Some(*recipient);
        let can: Vec<_> = sealed.nodes.iter().filter(open).map(|(id, _)| id.to_string()).collect();
        let cannot = nodes.nodes.iter().filter(|(id, node)| !node.revoked && !can.contains(&id.to_string()));
        let cannot: Vec<_> = cannot.map(|(id, _)| id.to_string()).collect();
        let leaked = gone(&sealed, nodes);
        out.say(format!("{name}  version {}  opens on {} nodes", sealed.version, can.len()));
        if !cannot.is_empty() {
            out.say(format!("    not on {}: `eyot secret seal`, then publish", cannot.join(", ")));
        }
        if !leaked.is_empty() {
            out.say(format!("    {}", rotate(name, &leaked)));
        }
        rows.push(
            json!({"secret": name, "version": sealed.version, "nodes": can, "without": cannot, "known_to": leaked}),
        );
    }
    out.result(&json!({"secrets": rows}));
    Ok(())
}
