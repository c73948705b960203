//! `eyot.toml`: an app as its developer writes it (`docs/formats.md`, section 1), and how it becomes a release. It reads
//! a text and is given what was built; it opens no file and runs nothing.

mod read;

use std::collections::{BTreeMap, BTreeSet};

use crate::component::ComponentFacts;
use crate::digest::Digest;
use crate::host::HostPattern;
use crate::name::Name;
use crate::refusal::{Reason, Refusal};
use crate::release::upstream::{ClientCertificate, Upstream};
use crate::release::{
    Bundle, FORMAT, Files, Function, Limits, Queue, Release, Reuse, Rollout, Route, Schedule, Secret, Store,
};
use crate::text::{self, Problems};

/// An app as its developer wrote it, with every reference in it resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// The app.
    pub app: Name,
    /// Its hosts.
    pub hosts: Vec<HostPattern>,
    /// How it is published; never goes into the release.
    pub publish: Publish,
    /// Its functions by name.
    pub functions: BTreeMap<Name, FunctionSource>,
    /// Its upstreams by name.
    pub upstreams: BTreeMap<Name, UpstreamSource>,
    /// Its folders of files by name.
    pub files: BTreeMap<Name, FilesSource>,
    /// Its stores by name.
    pub stores: BTreeMap<Name, Store>,
    /// What is called at set times.
    pub schedules: Vec<Schedule>,
    /// What is called for each message.
    pub queues: Vec<Queue>,
    /// Its routes, as they were written.
    pub routes: Vec<Route>,
    /// How a release is rolled out: to all nodes at once.
    pub rollout: Rollout,
}

/// How an app is published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publish {
    /// The origin's URL.
    pub origin: Option<String>,
    /// The file with the fleet's CA in PEM, relative to the manifest.
    pub ca: Option<String>,
}

/// A function: where its source is, and what it may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionSource {
    /// Its folder, relative to the manifest.
    pub path: String,
    /// The command that builds it, run by the shell in `path`; none: it is built already.
    pub build: Option<String>,
    /// The component, relative to `path`.
    pub wasm: String,
    /// What one call may spend.
    pub limits: Limits,
    /// What it may fetch, each as `scheme://host:port` or `*`.
    pub egress: Vec<String>,
    /// Its environment.
    pub env: BTreeMap<String, String>,
    /// What `wasi:config` tells it.
    pub config: BTreeMap<String, String>,
    /// The names of its secrets.
    pub secrets: Vec<String>,
    /// The stores it may open, by the name it opens.
    pub stores: BTreeMap<String, Name>,
    /// The functions it may call.
    pub calls: Vec<Name>,
    /// How often one instance of it is used.
    pub reuse: Reuse,
    /// Whether it may purge what the cache keeps of its app.
    pub purge: bool,
}

impl FunctionSource {
    /// What the component asks for and will find empty, in words for its author. It runs all the same: it may know what to
    /// do without.
    pub fn unbound(&self, facts: &ComponentFacts) -> Vec<&'static str> {
        let asks = |interface: &str| facts.imports.iter().any(|import| import.starts_with(interface));
        let rows = [
            ("wasi:keyvalue/store@", self.stores.is_empty(), "opens stores, and its `stores` binds none"),
            ("wasi:config/", self.config.is_empty(), "reads its configuration, and has no `config`"),
            ("eyot:edge/secrets@", self.secrets.is_empty(), "asks for secrets, and its `secrets` names none"),
        ];
        rows.into_iter().filter(|(interface, empty, _)| *empty && asks(interface)).map(|(.., words)| words).collect()
    }
}

/// A folder of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesSource {
    /// The folder, relative to the manifest.
    pub path: String,
    /// What answers for a folder.
    pub index: String,
    /// What answers, with 404, where there is no file.
    pub not_found: Option<String>,
    /// What answers, with 200, where there is no file.
    pub fallback: Option<String>,
}

/// An upstream, before its files were read.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamSource {
    /// The upstream; its `tls.ca` and `tls.client` are still absent.
    pub upstream: Upstream,
    /// The file with the CA to trust in PEM, relative to the manifest.
    pub ca: Option<String>,
    /// Who the node says it is.
    pub client: Option<ClientSource>,
}

/// Who the node says it is, before the file was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSource {
    /// The file with the certificate in PEM, and those between it and its authority, relative to the manifest.
    pub certificate: String,
    /// The name of the secret that is its key.
    pub key: String,
}

/// A function's component, built and looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// The digest of its bytes.
    pub sha256: Digest,
    /// Their count.
    pub size: u64,
    /// What it says of itself.
    pub facts: ComponentFacts,
}

/// What was made of a manifest's sources: a release names it.
#[derive(Clone, Debug, Default)]
pub struct Made {
    /// The functions by name.
    pub functions: BTreeMap<Name, Built>,
    /// The files with certificates, as they were read, by [`Manifest::pem_files`].
    pub pems: BTreeMap<String, String>,
    /// The folders of files by name, packed.
    pub files: BTreeMap<Name, Bundle>,
    /// The secrets by name, sealed, by [`Manifest::secrets`].
    pub secrets: BTreeMap<String, Secret>,
}

/// What a release says about itself among its like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edition {
    /// Its number.
    pub number: u64,
    /// The releases that control may go back to.
    pub previous: Vec<u64>,
    /// Nothing below this number may run again.
    pub min_release: u64,
    /// When it is made.
    pub created: jiff::Timestamp,
}

impl Manifest {
    /// Reads the manifest `source`, called `file` in problems.
    ///
    /// # Errors
    /// Everything that is wrong with it, by line.
    pub fn parse(file: &str, source: &str) -> Result<Self, Problems> {
        text::read(file, source, read::manifest)
    }

    /// The files with certificates that [`Manifest::release`] needs, relative to the manifest.
    pub fn pem_files(&self) -> impl Iterator<Item = &str> {
        self.upstreams.values().flat_map(|source| {
            let client = source.client.as_ref().map(|client| client.certificate.as_str());
            source.ca.as_deref().into_iter().chain(client)
        })
    }

    /// The names of the secrets that [`Manifest::release`] needs.
    pub fn secrets(&self) -> BTreeSet<&str> {
        let keys =
            self.upstreams.values().filter_map(|source| source.client.as_ref()).map(|client| client.key.as_str());
        self.functions.values().flat_map(|source| source.secrets.iter().map(String::as_str)).chain(keys).collect()
    }

    /// The release that this manifest makes of what was `made`. Check it by [`crate::verify::check`] before it is signed.
    ///
    /// # Errors
    /// `missing_blob` where something was not made.
    pub fn release(&self, edition: Edition, made: &Made) -> Result<Release, Refusal> {
        let missing = |text: String| Refusal::new(Reason::MissingBlob, text);
        let functions = self.functions.iter().map(|(name, source)| {
            let built = made.functions.get(name).ok_or_else(|| missing(format!("function `{name}` was not built")))?;
            Ok((name.clone(), source.function(built, &made.secrets)?))
        });
        let upstreams = self.upstreams.iter().map(|(name, source)| Ok((name.clone(), source.upstream(made)?)));
        let files = self.files.iter().map(|(name, source)| {
            let bundle = made.files.get(name).ok_or_else(|| missing(format!("files `{name}` were not packed")))?;
            Ok((name.clone(), source.files(*bundle)))
        });
        Ok(Release {
            format: FORMAT,
            app: self.app.clone(),
            number: edition.number,
            created: edition.created,
            previous: edition.previous,
            min_release: edition.min_release,
            hosts: self.hosts.clone(),
            functions: functions.collect::<Result<_, _>>()?,
            upstreams: upstreams.collect::<Result<_, _>>()?,
            files: files.collect::<Result<_, _>>()?,
            stores: self.stores.clone(),
            schedules: self.schedules.clone(),
            queues: self.queues.clone(),
            routes: self.routes.clone(),
            rollout: Rollout { salt: format!("{}/{}", self.app, edition.number), ..self.rollout.clone() },
        })
    }
}

impl FunctionSource {
    fn function(&self, built: &Built, sealed: &BTreeMap<String, Secret>) -> Result<Function, Refusal> {
        let secrets = self.secrets.iter().map(|name| Ok((name.clone(), *sealed.get(name).ok_or_else(|| unset(name))?)));
        Ok(Function {
            bundle: Bundle { sha256: built.sha256, size: built.size },
            world: built.facts.world.clone(),
            imports: built.facts.imports.clone(),
            limits: self.limits,
            egress: self.egress.clone(),
            env: self.env.clone(),
            config: self.config.clone(),
            secrets: secrets.collect::<Result<_, _>>()?,
            stores: self.stores.clone(),
            calls: self.calls.clone(),
            reuse: self.reuse,
            purge: self.purge,
        })
    }
}

impl FilesSource {
    fn files(&self, bundle: Bundle) -> Files {
        let Self { path: _, index, not_found, fallback } = self.clone();
        Files { bundle, index: Some(index), not_found, fallback }
    }
}

impl UpstreamSource {
    fn upstream(&self, made: &Made) -> Result<Upstream, Refusal> {
        let mut upstream = self.upstream.clone();
        let pem = |file: &String| {
            let missing = || Refusal::new(Reason::MissingBlob, format!("the file `{file}` was not read"));
            made.pems.get(file).cloned().ok_or_else(missing)
        };
        if let Some(file) = &self.ca {
            upstream.tls.get_or_insert_default().ca = Some(pem(file)?);
        }
        if let Some(ClientSource { certificate, key: secret }) = &self.client {
            let key = *made.secrets.get(secret).ok_or_else(|| unset(secret))?;
            let client = ClientCertificate { chain: pem(certificate)?, secret: secret.clone(), key };
            upstream.tls.get_or_insert_default().client = Some(client);
        }
        Ok(upstream)
    }
}

fn unset(secret: &str) -> Refusal {
    Refusal::new(Reason::MissingBlob, format!("the secret `{secret}` was not set"))
}

#[cfg(test)]
mod tests;
