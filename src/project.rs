//! An app's folder: its manifest, and building its functions.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use eyot_bundle::component::{self, COMPONENT_BYTES_MAX};
use eyot_bundle::digest::Digest;
use eyot_bundle::manifest::{Built, FunctionSource, Manifest};
use eyot_bundle::name::Name;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use crate::out::{Out, Progress};
use crate::reach::Reach;

/// The last output of a build that failed, in bytes.
const BUILD_LOG_BYTES_MAX: usize = 64 << 10;

/// What Rust builds components for.
const RUST_TARGET: &str = "wasm32-wasip2";

/// An app's folder, with its manifest read.
#[derive(Debug)]
pub(crate) struct Project {
    /// The folder.
    pub(crate) folder: PathBuf,
    /// The manifest.
    pub(crate) manifest: Manifest,
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
        let folder = file.parent().unwrap_or(Path::new(".")).to_owned();
        Ok(Project { folder, manifest })
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

    /// The CA files of the upstreams, read.
    pub(crate) fn cas(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let read = |file: &str| {
            let path = self.folder.join(file);
            let text = fs::read_to_string(&path).with_context(|| format!("an upstream's CA {}", path.display()))?;
            Ok((file.to_owned(), text))
        };
        self.manifest.ca_files().map(read).collect()
    }

    /// Builds each function (unless `skip_build`), and looks at its component.
    pub(crate) async fn build(&self, skip_build: bool, out: Out) -> anyhow::Result<BTreeMap<Name, Component>> {
        let mut components = BTreeMap::new();
        for (name, source) in &self.manifest.functions {
            let folder = self.folder.join(&source.path);
            if let Some(command) = source.build.as_deref().filter(|_| !skip_build) {
                let progress = out.progress(format!("building {name}: {command}"));
                if command.contains(RUST_TARGET) {
                    ensure_target(&folder, &progress).await?;
                    progress.now(format!("building {name}: {command}"));
                }
                run_build(name, command, &folder).await?;
            }
            let component = component(name, source, &folder)?;
            components.insert(name.clone(), component);
        }
        Ok(components)
    }
}

fn component(name: &Name, source: &FunctionSource, folder: &Path) -> anyhow::Result<Component> {
    let file = folder.join(&source.wasm);
    let mut bytes = Vec::new();
    let context = || format!("function `{name}`: {} (its `wasm`); does its `build` make it?", file.display());
    let opened = fs::File::open(&file).with_context(context)?;
    opened.take(COMPONENT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).with_context(context)?;
    let facts = component::inspect(&bytes).with_context(|| format!("function `{name}`: {}", file.display()))?;
    let built = Built { sha256: Digest::of(&bytes), size: bytes.len() as u64, facts };
    Ok(Component { built, bytes: bytes.into() })
}

/// Runs a build step. What it says is shown only if it fails.
async fn run_build(name: &Name, command: &str, folder: &Path) -> anyhow::Result<()> {
    let mut child = Command::new("/bin/sh")
        .args(["-c", &format!("exec 2>&1; {command}")])
        .current_dir(folder)
        // `wasm` names its place below the function's folder, wherever cargo puts what else is built here.
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("CARGO_BUILD_TARGET_DIR")
        .env_remove("CARGO_BUILD_TARGET")
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("function `{name}`: its build in {}", folder.display()))?;
    let mut log = Vec::new();
    if let Some(mut stdout) = child.stdout.take() {
        let mut piece = vec![0; 8 << 10];
        while let Ok(read @ 1..) = stdout.read(&mut piece).await {
            log.extend_from_slice(piece.get(..read).unwrap_or_default());
            let over = log.len().saturating_sub(BUILD_LOG_BYTES_MAX);
            log.drain(..over);
        }
    }
    let status = child.wait().await?;
    if !status.success() {
        bail!("function `{name}`: `{command}` ended with {status}:\n{}", String::from_utf8_lossy(&log).trim_end());
    }
    Ok(())
}

/// Sees to it that Rust can build components, where rustup governs it.
async fn ensure_target(folder: &Path, progress: &Progress) -> anyhow::Result<()> {
    let rustup = |args: &'static [&'static str]| Command::new("rustup").args(args).current_dir(folder).output();
    // Without rustup the toolchain is the system's; whether it has the target, the build itself will say.
    let Ok(installed) = rustup(&["target", "list", "--installed"]).await else { return Ok(()) };
    if String::from_utf8_lossy(&installed.stdout).lines().any(|line| line.trim() == RUST_TARGET) {
        return Ok(());
    }
    progress.now(format!("adding the Rust target {RUST_TARGET}"));
    let added = rustup(&["target", "add", RUST_TARGET]).await?;
    if !added.status.success() {
        let said = String::from_utf8_lossy(&added.stderr);
        bail!(
            "the Rust target {RUST_TARGET} is missing, and `rustup target add {RUST_TARGET}` failed:\n{}",
            said.trim_end()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_what_a_failed_build_says_the_last_64_kib_are_shown() {
        let folder = tempfile::tempdir().expect("a folder");
        let name = "cart".parse().expect("a name");
        let command = "echo first; head -c 200000 /dev/zero | tr '\\0' x; echo; echo last >&2; exit 3";
        let error = run_build(&name, command, folder.path()).await.expect_err("it fails").to_string();
        let (head, log) = error.split_once('\n').expect("a log");
        assert!(head.ends_with("ended with exit status: 3:"), "{head}");
        assert!(log.ends_with("x\nlast") && !log.contains("first"), "its end");
        // Without the newline at its end.
        assert_eq!(log.len(), BUILD_LOG_BYTES_MAX - 1);
        assert_eq!(BUILD_LOG_BYTES_MAX, 64 << 10);
        run_build(&name, "head -c 200000 /dev/zero", folder.path()).await.expect("a good build may say anything");
    }
}
