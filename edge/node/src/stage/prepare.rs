//! Preparing one app: from what is signed about it now to the release that should answer, made ready. It only reads;
//! who asked for it commits and swaps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use eyot_bundle::control::Control;
use eyot_bundle::digest::Digest;
use eyot_bundle::name::Name;
use eyot_bundle::refusal::{Reason, Refusal};
use eyot_bundle::release::Release;
use eyot_bundle::trust::{AppTrust, TargetFile};
use eyot_bundle::verify;
use eyot_plan::cohort::{self, Runs};
use jiff::Timestamp;

use super::Stage;
use crate::ledger::{AppRecord, Files};
use crate::pull::parent::Parent;

/// What is known of one app when the work begins.
#[derive(Clone)]
pub struct Job {
    /// What is signed about it.
    pub app: AppTrust,
    /// What the ledger notes of it.
    pub record: AppRecord,
    /// Its documents that are here: `releases/<app>/<n>.json`, `control/<app>.json`.
    pub known: Files,
    /// This node's id.
    pub node: Name,
    /// The time: no earlier than any that was signed.
    pub now: Timestamp,
    /// The time by this node's own clock. Bakes end by it alone: whoever signs times could skip them.
    pub clock: Timestamp,
    /// The role that has expired, if one has on which something new would rest.
    pub expired: Option<String>,
    /// The digests that the operator denied.
    pub denied: Arc<BTreeSet<Digest>>,
}

/// What should be, and is ready to be.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The release that should answer. `None`: what answers stays.
    pub release: Option<(Release, TargetFile)>,
    /// The documents that this rests on.
    pub documents: Files,
    /// What the ledger should note.
    pub record: AppRecord,
    /// The newest release that was made ready.
    pub staged: Option<u64>,
    /// Why the release that is rolled out is not ready, though another one may answer meanwhile.
    pub refused: Option<(u64, Refusal)>,
    /// When time alone changes this, in milliseconds from now.
    pub changes_ms: Option<u64>,
}

/// A refusal and the release it is about; 0: none could be read.
pub type Refused = (u64, Refusal);

impl<P: Parent> Stage<P> {
    /// Prepares an app.
    ///
    /// # Errors
    /// Why nothing of it can change now.
    pub async fn prepare(&self, job: Job) -> Result<Prepared, Refused> {
        let mut work = Work { stage: self, documents: Files::new(), job };
        work.prepare().await
    }
}

struct Work<'a, P> {
    stage: &'a Stage<P>,
    job: Job,
    documents: Files,
}

impl<P: Parent> Work<'_, P> {
    async fn prepare(&mut self) -> Result<Prepared, Refused> {
        let Some(control) = self.control().await.map_err(|refusal| (0, refusal))? else {
            return Ok(self.nothing());
        };
        let newest = control.release;
        let about = |refusal| (newest, refusal);
        let (release, file) = self.release(newest).await.map_err(about)?;
        let mut record = self.job.record.clone();
        record.min_release = record.min_release.max(release.min_release);
        let seen = record.see(newest, self.job.now);
        let standing = cohort::runs(&release, &control, self.job.node.as_str(), seen, self.job.clock).map_err(about)?;
        let ready = self.allow_and_stage(&record, &release).await;
        let staged = ready.is_ok().then_some(newest);
        let runs = match standing.runs {
            Runs::Held => None,
            Runs::Release(number) if number == newest => {
                ready.clone().map_err(about)?;
                Some((release, file))
            }
            Runs::Release(number) => Some(self.base(number, &record).await.map_err(|refusal| (number, refusal))?),
        };
        Ok(Prepared {
            release: runs,
            documents: std::mem::take(&mut self.documents),
            record,
            staged,
            refused: ready.err().map(about),
            changes_ms: standing.changes_ms,
        })
    }

    /// Where nothing was rolled out yet, nothing changes.
    fn nothing(&mut self) -> Prepared {
        Prepared {
            release: None,
            documents: Files::new(),
            record: self.job.record.clone(),
            staged: None,
            refused: None,
            changes_ms: None,
        }
    }

    async fn base(&mut self, number: u64, record: &AppRecord) -> Result<(Release, TargetFile), Refusal> {
        let (release, file) = self.release(number).await?;
        self.allowed(record, &release)?;
        self.stage.ready(&release).await?;
        Ok((release, file))
    }

    async fn allow_and_stage(&self, record: &AppRecord, release: &Release) -> Result<(), Refusal> {
        self.allowed(record, release)?;
        let new = self.job.record.active.is_none_or(|active| release.number > active);
        match &self.job.expired {
            // What runs goes on, and going back needs no fresh word; only what is new does.
            Some(role) if new => Err(Refusal::new(Reason::Expired, format!("{role} has expired; nothing new starts"))),
            _ => self.stage.ready(release).await,
        }
    }

    /// Whether this node may run `release` at all.
    fn allowed(&self, record: &AppRecord, release: &Release) -> Result<(), Refusal> {
        record.allow(release.number)?;
        denied(release, &self.job.denied)
    }

    async fn control(&mut self) -> Result<Option<Control>, Refusal> {
        let Some(file) = self.job.app.control.clone() else { return Ok(None) };
        let bytes = self.document(&file).await?;
        verify::control(&bytes, &self.job.app.app).map(Some)
    }

    async fn release(&mut self, number: u64) -> Result<(Release, TargetFile), Refusal> {
        let Some(file) = self.job.app.releases.get(&number).cloned() else {
            let detail = format!("release {number} is not listed by its publisher");
            return Err(Refusal::new(Reason::MissingBlob, detail));
        };
        let bytes = self.document(&file).await?;
        let release = verify::release(&bytes, &self.job.app.app, number, &self.job.app.grant)?;
        Ok((release, file))
    }

    /// A listed document: the one that is here if it is the same, else a parent's.
    async fn document(&mut self, file: &TargetFile) -> Result<Vec<u8>, Refusal> {
        let known = self.job.known.get(&file.path).filter(|bytes| file.check(bytes).is_ok());
        let bytes = match known {
            Some(bytes) => bytes.clone(),
            None => self.stage.fetch_document(file).await?,
        };
        self.documents.insert(file.path.clone(), bytes.clone());
        Ok(bytes)
    }
}

impl<P: Parent> Stage<P> {
    /// A listed document from a parent, checked.
    ///
    /// # Errors
    /// `missing_blob`, `digest_mismatch`, `parse` if it is longer than any such document.
    pub async fn fetch_document(&self, file: &TargetFile) -> Result<Vec<u8>, Refusal> {
        let most = eyot_bundle::release::RELEASE_BYTES_MAX;
        let Some(length) = usize::try_from(file.length).ok().filter(|length| *length <= most) else {
            return Err(Refusal::new(Reason::Parse, format!("{}: more than {most} bytes", file.path)));
        };
        let bytes = self.parent.target(&file.path, file.sha256, length).await;
        let bytes = bytes.map_err(|error| super::refusal(&error, &file.path))?.to_vec();
        file.check(&bytes)?;
        Ok(bytes)
    }
}

/// Refuses a release with a bundle that the operator denied.
///
/// # Errors
/// `incompatible`.
pub fn denied(release: &Release, denied: &BTreeSet<Digest>) -> Result<(), Refusal> {
    let found = release.named_bundles().find(|(_, bundle)| denied.contains(&bundle.sha256));
    match found {
        Some((what, bundle)) => {
            let detail = format!("{what}: the operator denied {}", bundle.sha256);
            Err(Refusal::new(Reason::Incompatible, detail))
        }
        None => Ok(()),
    }
}

/// The digests of the bundles of all releases among `documents`.
pub fn bundles(documents: &Files) -> BTreeSet<Digest> {
    let releases = documents.iter().filter(|(name, _)| name.starts_with("releases/"));
    let parsed = releases.filter_map(|(_, bytes)| serde_json::from_slice::<Release>(bytes).ok());
    parsed.flat_map(|release| release.bundles().map(|bundle| bundle.sha256).collect::<Vec<_>>()).collect()
}

/// The documents of `app` among `files`.
pub fn documents_of(app: &Name, files: &Files) -> Files {
    let (releases, control) = (format!("releases/{app}/"), format!("control/{app}.json"));
    let own = files.iter().filter(|(name, _)| name.starts_with(&releases) || **name == control);
    own.map(|(name, bytes)| (name.clone(), bytes.clone())).collect::<BTreeMap<_, _>>()
}
