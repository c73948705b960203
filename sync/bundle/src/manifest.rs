//! `eyot.toml`: an app as its developer writes it (`docs/formats.md`, section 1), and how it becomes a release. It reads
//! a text and is given what was built; it opens no file and runs nothing.

mod read;

use std::collections::BTreeMap;

use crate::component::ComponentFacts;
use crate::digest::Digest;
use crate::host::HostPattern;
use crate::name::Name;
use crate::refusal::{Reason, Refusal};
use crate::release::{Bundle, FORMAT, Function, Limits, Release, Rollout, Route, Upstream, UpstreamTls};
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
}

/// An upstream, before the file with its CA was read.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamSource {
    /// The upstream; its `tls.ca` is still absent.
    pub upstream: Upstream,
    /// The file with the CA to trust in PEM, relative to the manifest.
    pub ca: Option<String>,
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

    /// The files with CAs that [`Manifest::release`] needs, relative to the manifest.
    pub fn ca_files(&self) -> impl Iterator<Item = &str> {
        self.upstreams.values().filter_map(|source| source.ca.as_deref())
    }

    /// The release that this manifest makes, of the functions as `built` and of the CA files as they were read (`cas`,
    /// by [`Manifest::ca_files`]). Check it by [`crate::verify::check`] before it is signed.
    ///
    /// # Errors
    /// `missing_blob` where a function or a CA was not given.
    pub fn release(
        &self,
        edition: Edition,
        built: &BTreeMap<Name, Built>,
        cas: &BTreeMap<String, String>,
    ) -> Result<Release, Refusal> {
        let functions = self.functions.iter().map(|(name, source)| match built.get(name) {
            Some(built) => Ok((name.clone(), source.function(built))),
            None => Err(Refusal::new(Reason::MissingBlob, format!("function `{name}` was not built"))),
        });
        let upstreams = self.upstreams.iter().map(|(name, source)| Ok((name.clone(), source.upstream(cas)?)));
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
            files: Default::default(),
            stores: Default::default(),
            schedules: Vec::new(),
            queues: Vec::new(),
            routes: self.routes.clone(),
            rollout: Rollout { salt: format!("{}/{}", self.app, edition.number), ..self.rollout.clone() },
        })
    }
}

impl FunctionSource {
    fn function(&self, built: &Built) -> Function {
        Function {
            bundle: Bundle { sha256: built.sha256, size: built.size },
            world: built.facts.world.clone(),
            imports: built.facts.imports.clone(),
            limits: self.limits,
            egress: self.egress.clone(),
            env: self.env.clone(),
            config: Default::default(),
            secrets: Default::default(),
            stores: Default::default(),
            calls: Vec::new(),
            reuse: Default::default(),
            purge: false,
        }
    }
}

impl UpstreamSource {
    fn upstream(&self, cas: &BTreeMap<String, String>) -> Result<Upstream, Refusal> {
        let mut upstream = self.upstream.clone();
        if let Some(file) = &self.ca {
            let missing = || Refusal::new(Reason::MissingBlob, format!("the CA file `{file}` was not read"));
            let ca = cas.get(file).ok_or_else(missing)?.clone();
            upstream.tls.get_or_insert(UpstreamTls { name: None, ca: None }).ca = Some(ca);
        }
        Ok(upstream)
    }
}

#[cfg(test)]
mod tests;
