//! `eyot publish`: builds an app, makes a release of it, signs it, and brings it to the origin.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use eyot_bundle::manifest::{Built, Edition, Made};
use eyot_bundle::name::Name;
use eyot_bundle::release::Release;
use eyot_bundle::sign::{self, Header, Key};
use eyot_bundle::trust::{AppTrust, TargetFile};
use eyot_bundle::verify;
use eyot_link::client::Client;
use eyot_link::wire::{Base64, Publish, Published};
use jiff::Timestamp;
use serde_json::json;

use crate::files::Packed;
use crate::operator::in_days;
use crate::out::Out;
use crate::project::{Component, Place, Project};
use crate::reach::Reach;
use crate::secret::{Sealed, Shelf};
use crate::trusted;

/// How long a publisher's role is believed.
const ROLE_DAYS: i64 = 365;
/// A release names so many of those before it, to go back to.
const PREVIOUS_KEPT: usize = 5;

/// Build an app, sign a release of it and bring it to the origin.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  eyot publish --key alice.key                        origin and CA from eyot.toml
  eyot publish --app shop/ --origin https://origin.example.net:7443 --ca fleet-ca.pem --key alice.key
  EYOT_PASSPHRASE=… eyot publish --json               in a pipeline")]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    reach: Reach,
    /// The fleet's first root of trust; default: the one pinned in .eyot/root.json.
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// Do not run the build steps; publish what is there.
    #[arg(long)]
    no_build: bool,
}

/// What was published.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// The app.
    pub(crate) app: Name,
    /// The release's number and the state that holds it.
    pub(crate) published: Published,
    /// The functions whose component was sent, and the folders of files.
    pub(crate) sent: Vec<Name>,
    /// The functions whose component the origin had already.
    pub(crate) there: Vec<Name>,
}

pub(crate) async fn run(args: Args, out: &Out) -> anyhow::Result<()> {
    let project = args.place.open()?;
    let reach = project.reach(&args.reach);
    let key = reach.key()?;
    let client = reach.client()?;
    let parts = Parts::of(&project, args.no_build, *out).await?;
    let outcome = publish(&project, &parts, &client, &key, args.root.as_deref(), *out).await?;
    let Outcome { app, published, sent, there } = outcome;
    let names = |names: &[Name]| names.iter().map(Name::as_str).collect::<Vec<_>>().join(", ");
    out.say(format!("{app} release {} is published (state {})", published.number, published.seq));
    if !sent.is_empty() {
        out.say(format!("  sent: {}", names(&sent)));
    }
    if !there.is_empty() {
        out.say(format!("  already there: {}", names(&there)));
    }
    out.result(&json!({"app": app, "number": published.number, "seq": published.seq, "sent": sent, "there": there}));
    Ok(())
}

/// What a release is made of, beside what the manifest says and the folders of files.
pub(crate) struct Parts {
    /// The components of its functions.
    pub(crate) components: BTreeMap<Name, Component>,
    /// Its secrets, sealed.
    pub(crate) secrets: BTreeMap<String, Sealed>,
}

impl Parts {
    /// Builds the functions, unless `no_build`; the secrets are those of the app's folder.
    pub(crate) async fn of(project: &Project, no_build: bool, out: Out) -> anyhow::Result<Self> {
        let components = project.build(no_build, out).await?;
        Ok(Self { components, secrets: Shelf { project }.all()? })
    }
}

/// Publishes the app in `project`.
pub(crate) async fn publish(
    project: &Project,
    parts: &Parts,
    client: &Client,
    key: &Key,
    root: Option<&std::path::Path>,
    out: Out,
) -> anyhow::Result<Outcome> {
    let app = &project.manifest.app;
    let Parts { components, secrets } = parts;
    let progress = out.progress("asking the origin");
    let trusted = trusted::app(client, &project.folder, root, app, out).await?;
    anyhow::ensure!(
        trusted.keys.contains_key(&key.id()),
        "this key ({}) is not among the publishers of `{app}`; the operator adds it with `eyot app add --replace`",
        key.id()
    );
    let folders = project.folders(out)?;
    let release = release(project, &trusted, parts, &folders)?;
    let (mut sent, mut there) = (Vec::new(), Vec::new());
    for (name, component) in components {
        progress.now(format!("sending {name} ({} bytes)", component.built.size));
        if client.has_blob(component.built.sha256).await? {
            there.push(name.clone());
        } else {
            client.put_blob(component.bytes.clone()).await?;
            sent.push(name.clone());
        }
    }
    for (name, folder) in folders {
        progress.now(format!("sending {name} ({} files, {} bytes)", folder.count, folder.bundle.size));
        if client.has_blob(folder.bundle.sha256).await? {
            there.push(name);
        } else {
            client.put_blob(folder.bytes).await?;
            sent.push(name);
        }
    }
    for (name, sealed) in secrets {
        progress.now(format!("sending the secret {name}, sealed"));
        if !client.has_blob(sealed.named().sealed.sha256).await? {
            client.put_blob(sealed.sealed.0.clone().into()).await?;
        }
    }
    progress.now(format!("publishing release {}", release.number));
    let document = sign::document(&release)?;
    let role = role(&trusted, &release, &document, key)?;
    let publish = Publish { role: Base64(role), release: Base64(document) };
    let published = client.publish(app, &publish).await?;
    Ok(Outcome { app: app.clone(), published, sent, there })
}

/// The next release, checked against the grant before anything is sent.
fn release(
    project: &Project,
    trusted: &AppTrust,
    parts: &Parts,
    folders: &BTreeMap<Name, Packed>,
) -> anyhow::Result<Release> {
    let number = trusted.releases.keys().next_back().map_or(1, |last| last + 1);
    let previous: Vec<u64> = trusted.releases.keys().rev().take(PREVIOUS_KEPT).copied().collect();
    let edition = Edition {
        number,
        min_release: previous.last().copied().unwrap_or(number),
        previous,
        created: Timestamp::from_second(Timestamp::now().as_second())?,
    };
    let functions: BTreeMap<Name, Built> =
        parts.components.iter().map(|(name, component)| (name.clone(), component.built.clone())).collect();
    let secrets = parts.secrets.iter().map(|(name, sealed)| (name.clone(), sealed.named())).collect();
    let files = folders.iter().map(|(name, folder)| (name.clone(), folder.bundle)).collect();
    let made = Made { functions, pems: project.pems()?, files, secrets };
    let release = project.manifest.release(edition, &made)?;
    verify::check(&release, &trusted.app, number, &trusted.grant).context("the operator's grant does not hold this")?;
    Ok(release)
}

/// The app's role: this release and those it may go back to, nothing else.
fn role(trusted: &AppTrust, release: &Release, document: &[u8], key: &Key) -> anyhow::Result<Vec<u8>> {
    let path = format!("releases/{}/{}.json", release.app, release.number);
    let kept = trusted.releases.iter().filter(|(number, _)| release.previous.contains(number));
    let mut files: Vec<TargetFile> = kept.map(|(_, file)| file.clone()).collect();
    files.push(TargetFile::new(path, document));
    let header = Header { version: trusted.version + 1, expires: in_days(ROLE_DAYS) };
    Ok(sign::delegated(header, &files, &[key])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_lists_the_new_release_and_those_it_goes_back_to_and_no_other() {
        let key = Key::generate().unwrap();
        let file = |number: u64| TargetFile::new(format!("releases/shop/{number}.json"), &number.to_le_bytes());
        let trusted = AppTrust {
            app: "shop".parse().unwrap(),
            grant: serde_json::from_value(json!({"state": "active", "hosts": ["shop.example.com"]})).unwrap(),
            keys: BTreeMap::from([(key.id(), key.public())]),
            version: 7,
            releases: (1..=7).map(|number| (number, file(number))).collect(),
            control: None,
            refused: None,
        };
        let source = "app = \"shop\"\nhosts = [\"shop.example.com\"]\n[[routes]]\nhost = \"shop.example.com\"\npath = \"/*\"\nrespond = { status = 200 }\n";
        let manifest = eyot_bundle::manifest::Manifest::parse("eyot.toml", source).unwrap();
        let project = Project { folder: PathBuf::from("."), manifest, keeps_names: false };
        let parts = Parts { components: BTreeMap::new(), secrets: BTreeMap::new() };
        let release = super::release(&project, &trusted, &parts, &BTreeMap::new()).unwrap();
        assert_eq!((release.number, release.min_release), (8, 3));
        assert_eq!(release.previous, [7, 6, 5, 4, 3]);
        let role = sign::read(&role(&trusted, &release, b"document", &key).unwrap()).unwrap();
        assert_eq!(role.version, 8);
        let mut listed: Vec<_> = role.files.iter().map(|file| file.path.clone()).collect();
        listed.sort();
        assert_eq!(listed, (3..=8).map(|number| format!("releases/shop/{number}.json")).collect::<Vec<_>>());
    }
}
