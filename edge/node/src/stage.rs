//! Staging: making a release ready without anyone noticing. Its blobs are fetched, checked and stored durably, each
//! component is compiled in a child process and started once; only then may it be activated.

pub mod prepare;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use eyot_bundle::digest::Digest;
use eyot_bundle::refusal::{Reason, Refusal};
use eyot_bundle::release::{Bundle, BundleOf, Release};
use eyot_guest::Runtime;
use eyot_link::error::Error;

use crate::blobs::Blobs;
use crate::compile::Compilers;
use crate::files::Folder;
use crate::pull::parent::Parent;
use crate::secrets::Vault;
use crate::telemetry::Telemetry;

/// What makes releases ready.
pub struct Stage<P> {
    /// Where blobs come from.
    pub parent: P,
    /// Where they are kept.
    pub blobs: Blobs,
    /// What compiles them.
    pub compilers: Compilers,
    /// What starts them.
    pub runtime: Runtime,
    /// What opens secrets.
    pub vault: Vault,
    /// What counts.
    pub telemetry: Arc<Telemetry>,
    /// One at a time works on a digest; the others find its work done.
    flights: Flights,
}

/// One lock a digest, while somebody works on it.
#[derive(Default)]
struct Flights(Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>);

impl Flights {
    fn of(&self, digest: Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        flights.retain(|_, flight| Arc::strong_count(flight) > 1);
        Arc::clone(flights.entry(digest).or_default())
    }
}

impl<P: Parent> Stage<P> {
    /// What makes releases ready with blobs of `parent`.
    pub fn new(
        parent: P,
        blobs: Blobs,
        compilers: Compilers,
        runtime: Runtime,
        vault: Vault,
        telemetry: Arc<Telemetry>,
    ) -> Self {
        Self { parent, blobs, compilers, runtime, vault, telemetry, flights: Flights::default() }
    }

    /// Makes every blob of `release` ready. What is ready already costs nothing.
    ///
    /// # Errors
    /// `missing_blob`, `digest_mismatch`, `disk_full`, `compile_failed`, `probe_failed`.
    pub async fn ready(&self, release: &Release) -> Result<(), Refusal> {
        for (what, bundle) in release.named_bundles() {
            let ready = match what {
                BundleOf::Function(_) => self.function(bundle).await,
                BundleOf::Files(_) | BundleOf::Secret(_) => self.blob(bundle).await,
            };
            ready.map_err(|refusal| Refusal::new(refusal.reason, format!("{what}: {}", refusal.detail)))?;
        }
        // A folder that is none is found before it is asked to answer, and read by whom it holds up least.
        for (name, files) in &release.files {
            let (blob, files) = (self.blobs.path(files.bundle.sha256), files.clone());
            let opened = tokio::task::spawn_blocking(move || Folder::open(&blob, &files).map(drop)).await;
            let opened = opened.unwrap_or_else(|error| Err(Refusal::new(Reason::Parse, error.to_string())));
            opened.map_err(|it| Refusal::new(it.reason, format!("files `{name}`: {}", it.detail)))?;
        }
        // A release whose secrets do not open here is found before it is asked to answer.
        self.vault.open(release)?;
        self.vault.client_keys(release).map(drop)
    }

    /// Sees to it that a blob is here that is not code.
    async fn blob(&self, bundle: Bundle) -> Result<(), Refusal> {
        let flight = self.flights.of(bundle.sha256);
        let _alone = flight.lock().await;
        self.fetch(bundle).await
    }

    async fn function(&self, bundle: Bundle) -> Result<(), Refusal> {
        let flight = self.flights.of(bundle.sha256);
        let _alone = flight.lock().await;
        if !self.runtime.artefacts().has(bundle.sha256) {
            self.fetch(bundle).await?;
            return self.compile(bundle).await;
        }
        if self.blobs.has(bundle.sha256, bundle.size) {
            return Ok(());
        }
        // The artefact alone would do, but it may be lost at any time.
        self.fetch(bundle).await
    }

    /// Compiles a bundle that is here and has no code of this build.
    ///
    /// # Errors
    /// As [`Stage::ready`].
    pub async fn warm(&self, bundle: Bundle) -> Result<(), Refusal> {
        if self.runtime.artefacts().has(bundle.sha256) { Ok(()) } else { self.function(bundle).await }
    }

    async fn fetch(&self, bundle: Bundle) -> Result<(), Refusal> {
        let Bundle { sha256, size } = bundle;
        if self.blobs.has(sha256, size) && self.blobs.sound(sha256, size) {
            return Ok(());
        }
        self.blobs.room_for(size)?;
        let part = self.blobs.part(sha256);
        self.parent.blob(sha256, size, &part).await.map_err(|error| refusal(&error, &format!("blob {sha256}")))?;
        self.blobs.keep(sha256, size)
    }

    /// Compiles a component and starts it once. The artefact is kept only then: one that is found has passed.
    async fn compile(&self, bundle: Bundle) -> Result<(), Refusal> {
        // Not beside the artefacts: nodes of one machine may share those.
        let out = Aside(self.blobs.out(bundle.sha256));
        let began = Instant::now();
        self.compilers.compile(&self.blobs.path(bundle.sha256), &out.0).await?;
        self.telemetry.compiled(began.elapsed());
        let probed = self.runtime.probe(bundle.sha256, &out.0).await;
        probed.map_err(|error| Refusal::new(Reason::ProbeFailed, told(&error)))?;
        self.seal(bundle.sha256, &out.0)
    }

    /// Takes what the compiler wrote in under this node's MAC.
    fn seal(&self, wasm: Digest, out: &Path) -> Result<(), Refusal> {
        let failed = |reason| move |error: String| Refusal::new(reason, error);
        let artefact = std::fs::read(out).map_err(|error| failed(Reason::CompileFailed)(error.to_string()))?;
        let stored = self.runtime.artefacts().store(wasm, &artefact);
        stored.map_err(|error| failed(Reason::DiskFull)(told(&error)))
    }
}

/// A file that is gone when this is.
struct Aside(PathBuf);

impl Drop for Aside {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// An error with its causes.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// What a failed fetch of `what` means for the release that needs it.
fn refusal(error: &Error, what: &str) -> Refusal {
    let reason = match error {
        Error::Digest { .. } | Error::TooLarge { .. } => Reason::DigestMismatch,
        Error::Disk { .. } => Reason::DiskFull,
        _ => Reason::MissingBlob,
    };
    Refusal::new(reason, format!("{what}: {error}"))
}
