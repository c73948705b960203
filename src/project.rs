//! An app's folder: its manifest, and building its functions.

mod encode;
mod step;
mod tools;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use eyot_bundle::component::{self, COMPONENT_BYTES_MAX};
use eyot_bundle::digest::Digest;
use eyot_bundle::manifest::{Built, FunctionSource, Manifest};
use eyot_bundle::name::Name;

use crate::files::{self, Packed};
use crate::out::{Out, Progress};
use crate::reach::Reach;

/// An app's folder, with its manifest read.
#[derive(Debug)]
pub(crate) struct Project {
    /// The folder.
    pub(crate) folder: PathBuf,
    /// The manifest.
    pub(crate) manifest: Manifest,
    /// Whether components keep the names of their functions, so that traces have them: on this machine, not on a fleet.
    pub(crate) keeps_names: bool,
}

/// A function that was built: what the release says of it, and its bytes.
#[derive(Clone, Debug)]
pub(crate) struct Component {
    /// What the release says.
    pub(crate) built: Built,
    /// The component.
    pub(crate) bytes: Bytes,
}

/// Where the app is.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Place {
    /// The app's folder, or its eyot.toml.
    #[arg(long, default_value = ".", value_name = "PATH")]
    pub(crate) app: PathBuf,
}

impl Place {
    /// Reads the manifest.
    pub(crate) fn open(&self) -> anyhow::Result<Project> {
        let file = if self.app.is_dir() { self.app.join("eyot.toml") } else { self.app.clone() };
        let source = fs::read_to_string(&file)
            .with_context(|| format!("{}: no app is here; say `--app FOLDER`, where eyot.toml is", file.display()))?;
        let manifest = Manifest::parse(&file.display().to_string(), &source)?;
        // Without a `.` in it, so that paths below it can be compared, whichever way the app was named.
        let folder =
            std::path::absolute(file.parent().unwrap_or(Path::new("."))).with_context(|| file.display().to_string())?;
        Ok(Project { folder, manifest, keeps_names: false })
    }
}

impl Project {
    /// What was typed, and where it says nothing, what the manifest says.
    pub(crate) fn reach(&self, typed: &Reach) -> Reach {
        let publish = &self.manifest.publish;
        Reach {
            origin: typed.origin.clone().or_else(|| publish.origin.clone()),
            ca: typed.ca.clone().or_else(|| publish.ca.as_ref().map(|ca| self.folder.join(ca))),
            key: typed.key.clone(),
        }
    }

    /// The files with certificates of the upstreams, read.
    pub(crate) fn pems(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let read = |file: &str| {
            let path = self.folder.join(file);
            let text =
                fs::read_to_string(&path).with_context(|| format!("an upstream's certificates {}", path.display()))?;
            Ok((file.to_owned(), text))
        };
        self.manifest.pem_files().map(read).collect()
    }

    /// The folders of files, packed.
    pub(crate) fn folders(&self, out: Out) -> anyhow::Result<BTreeMap<Name, Packed>> {
        let pack = |(name, source)| {
            let _progress = out.progress(format!("packing the files of {name}"));
            Ok((Name::clone(name), files::pack(name, source, &self.folder)?))
        };
        self.manifest.files.iter().map(pack).collect()
    }

    /// Builds each function (unless `skip_build`), and looks at its component.
    pub(crate) async fn build(&self, skip_build: bool, out: Out) -> anyhow::Result<BTreeMap<Name, Component>> {
        self.build_those(|_| !skip_build, out).await
    }

    /// Builds these functions, and looks at the components of all.
    pub(crate) async fn build_only(
        &self,
        functions: &BTreeSet<Name>,
        out: Out,
    ) -> anyhow::Result<BTreeMap<Name, Component>> {
        self.build_those(|name| functions.contains(name), out).await
    }

    async fn build_those(
        &self,
        is_wanted: impl Fn(&Name) -> bool,
        out: Out,
    ) -> anyhow::Result<BTreeMap<Name, Component>> {
        // All of them first: one may be what another builds.
        for (name, source) in &self.manifest.functions {
            if let Some(command) = source.build.as_deref().filter(|_| is_wanted(name)) {
                let progress = out.progress(format!("building {name}"));
                build(name, command, &self.folder.join(&source.path), &progress).await?;
            }
        }
        let mut components = BTreeMap::new();
        for (name, source) in &self.manifest.functions {
            let folder = self.folder.join(&source.path);
            let component = component(name, source, &folder, self.keeps_names)?;
            for words in source.unbound(&component.built.facts) {
                out.note(format!("function `{name}` {words}"));
            }
            components.insert(name.clone(), component);
        }
        Ok(components)
    }
}

/// Runs the build step of a function, after a look at what it needs.
async fn build(name: &Name, command: &str, folder: &Path, progress: &Progress) -> anyhow::Result<()> {
    let tools = tools::ready(command, folder, progress).await.with_context(|| format!("function `{name}`"))?;
    progress.now(format!("building {name}: {command}"));
    let ended = step::run(command, folder, &tools).await.with_context(|| format!("function `{name}`"))?;
    if !ended.status.success() {
        let advice = tools::advice(ended.status.code(), &ended.log);
        bail!("function `{name}`: `{command}` ended with {}:\n{}{advice}", ended.status, ended.log);
    }
    Ok(())
}

/// Reads what was built, and makes of it what is published.
fn component(name: &Name, source: &FunctionSource, folder: &Path, keeps_names: bool) -> anyhow::Result<Component> {
    let file = folder.join(&source.wasm);
    let mut bytes = Vec::new();
    let context = || format!("function `{name}`: {} (its `wasm`); does its `build` make it?", file.display());
    let opened = fs::File::open(&file).with_context(context)?;
    opened.take(COMPONENT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).with_context(context)?;
    let about = || format!("function `{name}`: {}", file.display());
    // What came from elsewhere is published byte for byte.
    if source.build.is_some() && bytes.len() <= COMPONENT_BYTES_MAX {
        bytes = encode::component(bytes).with_context(about)?;
        if !keeps_names {
            bytes = encode::stripped(bytes);
        }
    }
    let facts = component::inspect(&bytes).with_context(about)?;
    let built = Built { sha256: Digest::of(&bytes), size: bytes.len() as u64, facts };
    Ok(Component { built, bytes: bytes.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_build_that_fails_says_how_and_one_that_does_not_may_say_anything() {
        let folder = tempfile::tempdir().expect("a folder");
        let name = "cart".parse().expect("a name");
        let progress = Out::new(true).progress("");
        let run = |command: &'static str| build(&name, command, folder.path(), &progress);
        let error = run("echo why >&2; exit 3").await.expect_err("it fails").to_string();
        let (head, log) = error.split_once('\n').expect("a log");
        assert!(head.contains("`cart`") && head.ends_with("ended with exit status: 3:"), "{head}");
        assert_eq!(log, "why");
        let error = run("eyot-no-such-program").await.expect_err("there is none").to_string();
        assert!(error.contains("not found") && error.contains("a program is missing"), "{error}");
        run("head -c 200000 /dev/zero").await.expect("a good build may say anything");
    }
}
