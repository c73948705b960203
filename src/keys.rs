//! `eyot keys`: making a fleet's keys, and looking at them.

pub(crate) mod certificates;
pub(crate) mod init;
mod show;

use std::path::PathBuf;

use clap::Subcommand;
use eyot_bundle::sign::Key;
use serde_json::json;

use crate::keyfile::{self, Lock};
use crate::keyring::Keyring;
use crate::operator;
use crate::out::Out;
use crate::reach::Reach;

/// Make and show the keys of a fleet.
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:
  eyot keys init --keys keys --fleet example --origin-name origin.example.net --node fra-1=eu-fra
  eyot keys new alice.key                  a publisher's key; hand out alice.pub
  eyot keys show --keys keys
  eyot keys upload --keys keys --origin https://origin.example.net:7443"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Init(init::Args),
    New(New),
    Show(show::Args),
    Upload(Upload),
}

/// The keys folder.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Folder {
    /// The operator's keys folder.
    #[arg(long, env = "EYOT_KEYS", default_value = "keys", value_name = "FOLDER")]
    pub(crate) keys: PathBuf,
}

impl Folder {
    /// The keys in it.
    pub(crate) fn ring(&self) -> Keyring {
        Keyring::new(&self.keys)
    }
}

/// Make one publisher's key, with its public half beside it.
#[derive(Debug, clap::Args)]
struct New {
    /// The file for the private key, such as alice.key.
    file: PathBuf,
    /// Leave it unencrypted.
    #[arg(long)]
    plain: bool,
}

/// Bring all that the operator signed to the origin.
#[derive(Debug, clap::Args)]
struct Upload {
    #[command(flatten)]
    folder: Folder,
    #[command(flatten)]
    reach: Reach,
}

pub(crate) async fn run(args: Args, out: &Out) -> anyhow::Result<()> {
    match args.verb {
        Verb::Init(args) => init::run(&args, *out),
        Verb::New(args) => new(&args, *out),
        Verb::Show(args) => show::run(&args, *out),
        Verb::Upload(args) => upload(&args, *out).await,
    }
}

/// How new secrets are kept: by a passphrase, or plain with a warning.
pub(crate) fn lock(plain: bool, out: Out) -> anyhow::Result<Lock> {
    if plain {
        out.warn("THESE PRIVATE KEYS ARE NOT ENCRYPTED. Whoever reads the files holds the fleet. For trying out only.");
        return Ok(Lock::Plain);
    }
    keyfile::new_passphrase().map(Lock::Passphrase)
}

fn new(args: &New, out: Out) -> anyhow::Result<()> {
    let key = Key::generate()?;
    let public = args.file.with_extension("pub");
    keyfile::write_new(&args.file, &key.to_pem()?, &lock(args.plain, out)?)?;
    std::fs::write(&public, format!("{}\n", key.public().to_hex()))?;
    out.say(format!("{}  the private key; give it to no one", args.file.display()));
    out.say(format!("{}  the public key, for the operator's `eyot app add --key`", public.display()));
    out.result(&json!({"key": args.file, "public": public, "id": key.id()}));
    Ok(())
}

async fn upload(args: &Upload, out: Out) -> anyhow::Result<()> {
    let ring = args.folder.ring();
    anyhow::ensure!(args.reach.origin.is_some(), "no origin is named; say `--origin URL`");
    let key = match &args.reach.key {
        Some(_) => args.reach.key()?,
        None => ring.key("targets")?,
    };
    let seq = operator::bring(&ring, key, &args.reach, out).await?;
    out.say(format!("the origin holds it as state {}", seq.unwrap_or_default()));
    out.result(&json!({"seq": seq}));
    Ok(())
}
