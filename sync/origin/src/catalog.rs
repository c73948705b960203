//! The catalog: the signed state and its one way to change. A change is decided on a view, signed, checked as a node
//! would check it, its bytes are stored, and then the head `timestamp` is swapped, which commits it. Whoever loses the
//! swap decides again on the newer view.
//!
//! Nothing is served that did not pass [`judge`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use eyot_bundle::control::Control;
use eyot_bundle::refusal::{Reason, Refusal};
use eyot_bundle::sign::{self, Pin};
use eyot_bundle::trust::{TargetFile, Trust, app_of_role};
use eyot_bundle::verify;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::blobs::Blobs;
use crate::config::Quotas;
use crate::denied::Denied;
use crate::heads::{Entry, Heads};
use crate::job::Job;
use crate::signer::Signer;
use crate::view::{Files, STATE_KEY, State, View, role_of, wire_name};

/// How often a change is decided again after another writer was first.
const TRIES_MAX: usize = 16;
/// A metadata file in the store larger than this is damage, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The catalog of one origin. Others may work on the same heads and blobs.
pub struct Catalog<H, B> {
    pub(crate) heads: H,
    pub(crate) blobs: B,
    pub(crate) quotas: Quotas,
    signer: Signer,
    /// The first trusted root.
    root: Bytes,
    view: watch::Sender<Arc<View>>,
    /// One writer at a time here; other origins are met at the swap.
    pub(crate) writing: tokio::sync::Mutex<()>,
}

/// What a job changes.
#[derive(Default)]
pub(crate) struct Change {
    /// Metadata that others signed, by the names of a ledger.
    pub(crate) metadata: Files,
    /// Documents that the metadata lists.
    pub(crate) documents: Vec<Bytes>,
    /// Controls, each in place of its app's last one.
    pub(crate) controls: Vec<Control>,
    /// Whether `director` is signed anew even without a new control.
    pub(crate) renew_director: bool,
    /// Whether `snapshot` is signed anew even without a new role.
    pub(crate) renew_snapshot: bool,
}

/// A change that is signed and stored nowhere yet.
struct Candidate {
    state: State,
    files: Files,
    documents: Vec<Bytes>,
    /// The roles that must be believed.
    changed: BTreeSet<String>,
}

impl<H: Heads, B: Blobs> Catalog<H, B> {
    /// The catalog of what `heads` and `blobs` hold, checked anew from `root` on.
    ///
    /// # Errors
    /// If what is there does not verify: restore the state from a backup, or give the right root.
    pub async fn open(heads: H, blobs: B, signer: Signer, root: Bytes, quotas: Quotas) -> Result<Self, Denied> {
        let entry = heads.get(STATE_KEY).await?;
        let view = read(entry, &blobs, &root).await?;
        for (role, key) in signer.by_root() {
            if !view.holds(role, key, &root)? {
                tracing::warn!(role, key = key.id(), "the root does not name this origin's key: nothing can be signed");
            }
        }
        let view = watch::Sender::new(Arc::new(view));
        Ok(Self { heads, blobs, quotas, signer, root, view, writing: tokio::sync::Mutex::default() })
    }

    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    pub(crate) fn views(&self) -> watch::Receiver<Arc<View>> {
        self.view.subscribe()
    }

    pub(crate) fn signer(&self) -> &Signer {
        &self.signer
    }

    /// Reads what other origins committed. The same head twice changes nothing.
    ///
    /// # Errors
    /// If it does not verify; what was in force stays so.
    pub async fn reload(&self) -> Result<(), Denied> {
        let entry = self.heads.get(STATE_KEY).await?;
        if entry.as_ref().map(|entry| entry.version) == self.view().version {
            return Ok(());
        }
        let view = read(entry, &self.blobs, &self.root).await?;
        self.show(Arc::new(view));
        Ok(())
    }

    /// Shows a view, unless a later one is shown already.
    fn show(&self, view: Arc<View>) {
        self.view.send_if_modified(|shown| {
            let later = view.version > shown.version;
            if later {
                *shown = view;
            }
            later
        });
    }

    /// Does a job: decides, signs, checks, stores, swaps. Gives the view that holds it.
    pub(crate) async fn run(&self, job: &Job, now: Timestamp) -> Result<Arc<View>, Denied> {
        let _one = self.writing.lock().await;
        for _ in 0..TRIES_MAX {
            let view = self.view();
            // What is signed never goes back in time, whatever this machine's clock says.
            let now = now.max(view.trust.time_floor());
            let Some(change) = self.decide(&view, job, now).await? else { return Ok(view) };
            match self.commit(&view, change, now).await {
                Ok(view) => return Ok(view),
                Err(Denied::Moved) => self.reload().await?,
                Err(denied) => return Err(denied),
            }
        }
        Err(Denied::Moved)
    }

    async fn commit(&self, base: &View, change: Change, now: Timestamp) -> Result<Arc<View>, Denied> {
        let candidate = self.sign(base, change, now)?;
        let trust = judge(&self.root, &base.files, &candidate, now)?;
        for bytes in candidate.documents.iter().chain(candidate.new_files(base)) {
            self.blobs.put(bytes.clone()).await?;
        }
        let Candidate { state, files, .. } = candidate;
        let value = serde_json::to_vec(&state).map_err(|error| Denied::Failed(error.to_string()))?;
        let mut view = View::of(None, state, files, trust, &self.root, &self.blobs).await?;
        view.version = Some(self.heads.swap(STATE_KEY, base.version, value.into()).await?);
        let view = Arc::new(view);
        self.show(Arc::clone(&view));
        Ok(view)
    }

    /// Signs what follows from a change: `director`, `snapshot`, `timestamp`.
    fn sign(&self, base: &View, change: Change, now: Timestamp) -> Result<Candidate, Denied> {
        let failed = |error: sign::SignError| Denied::Failed(error.to_string());
        let mut draft = Draft::begin(base, &self.root)?;
        let roles = !change.metadata.is_empty() || !change.controls.is_empty() || change.renew_director;
        for (name, bytes) in change.metadata {
            draft.put(&name, version_of(&name, &bytes)?, bytes);
        }
        draft.candidate.documents = change.documents;
        if !change.controls.is_empty() || change.renew_director {
            let controls = draft.controls(base, &change.controls)?;
            let version = draft.next("director.json");
            let director = self.signer.director(version, &controls, now).map_err(failed)?;
            draft.put("director.json", version, director.into());
        }
        if roles || change.renew_snapshot || base.seq() == 0 {
            let version = draft.seq;
            let snapshot = self.signer.snapshot(version, &draft.pins(), now).map_err(failed)?;
            draft.put("snapshot.json", version, snapshot.into());
            draft.candidate.state.seq = version;
        }
        let snapshot = draft.pin("snapshot.json").ok_or_else(|| Denied::Failed("no snapshot was signed".to_owned()))?;
        let version = draft.next("timestamp.json");
        let timestamp = self.signer.timestamp(version, snapshot, now).map_err(failed)?;
        draft.put("timestamp.json", version, timestamp.into());
        Ok(draft.candidate)
    }
}

/// A candidate being made.
struct Draft {
    candidate: Candidate,
    /// The number of the state it makes, if it makes a new one.
    seq: u64,
}

impl Draft {
    fn begin(base: &View, root: &Bytes) -> Result<Self, Denied> {
        let candidate = Candidate {
            state: base.state.clone(),
            files: base.files.clone(),
            documents: Vec::new(),
            changed: BTreeSet::new(),
        };
        let mut draft = Self { candidate, seq: base.seq() + 1 };
        if base.files.is_empty() {
            let version = Trust::new(root)?.root_version();
            draft.put(&format!("{version}.root.json"), version, root.clone());
        }
        Ok(draft)
    }

    fn put(&mut self, name: &str, version: u64, bytes: Bytes) {
        self.candidate.state.put(name, version, &bytes, self.seq);
        self.candidate.files.insert(name.to_owned(), bytes);
        self.candidate.changed.insert(role_of(name).to_owned());
    }

    /// The version after the present one.
    fn next(&self, name: &str) -> u64 {
        self.candidate.state.files.get(name).map_or(0, |file| file.version) + 1
    }

    fn pin(&self, name: &str) -> Option<Pin> {
        let file = self.candidate.state.files.get(name)?;
        Some(Pin { version: file.version, length: file.length, sha256: file.sha256 })
    }

    /// The pins of all roles below the snapshot.
    fn pins(&self) -> BTreeMap<String, Pin> {
        let below = self.candidate.state.files.keys().filter(|name| {
            !matches!(name.as_str(), "timestamp.json" | "snapshot.json") && !name.ends_with(".root.json")
        });
        below.filter_map(|name| Some((role_of(name).to_owned(), self.pin(name)?))).collect()
    }

    /// The controls of all apps, the new ones in their place.
    fn controls(&mut self, base: &View, new: &[Control]) -> Result<Vec<TargetFile>, Denied> {
        let kept = base.apps.values().filter_map(|app| app.trust.control.clone());
        let mut controls: BTreeMap<String, TargetFile> = kept.map(|file| (file.path.clone(), file)).collect();
        for control in new {
            let bytes = sign::document(control).map_err(|error| Denied::Failed(error.to_string()))?;
            verify::control(&bytes, &control.app)?;
            let file = TargetFile::new(format!("control/{}.json", control.app), &bytes);
            controls.insert(file.path.clone(), file);
            self.candidate.documents.push(bytes.into());
        }
        Ok(controls.into_values().collect())
    }
}

impl Candidate {
    /// The files that are not in `base`.
    fn new_files<'a>(&'a self, base: &'a View) -> impl Iterator<Item = &'a Bytes> {
        self.files.iter().filter(|(name, bytes)| base.files.get(*name) != Some(bytes)).map(|(_, bytes)| bytes)
    }
}

/// The version of a metadata file.
fn version_of(name: &str, bytes: &[u8]) -> Result<u64, Denied> {
    if let Some(version) = name.strip_suffix(".root.json") {
        return version.parse().map_err(|_| Denied::malformed(format!("`{name}` is no name of a root")));
    }
    sign::read(bytes).map(|draft| draft.version).map_err(|error| Denied::refused(Reason::Parse, error.to_string()))
}

/// Follows the step from `base` to `candidate` as a node would. Every changed role must be believed; one that was not
/// changed and has expired in the meantime stops only its own app.
fn judge(root: &[u8], base: &Files, candidate: &Candidate, now: Timestamp) -> Result<Trust, Refusal> {
    let mut trust = Trust::replay(root, base.iter().map(|(name, bytes)| (name.clone(), bytes.to_vec())))?;
    let versions = &candidate.state.files;
    let by_wire: BTreeMap<String, (&str, &Bytes)> = candidate
        .files
        .iter()
        .filter_map(|(name, bytes)| Some((wire_name(name, versions.get(name)?.version), (role_of(name), bytes))))
        .collect();
    // A root is asked for after the one that is trusted already, so the first is never asked for.
    let first = |name: &str| base.is_empty() && role_of(name) == "root";
    let mut unasked: BTreeSet<&str> =
        candidate.files.keys().filter(|name| !first(name)).map(|name| role_of(name)).collect();
    unasked.retain(|role| candidate.changed.contains(*role));
    trust.begin();
    while let Some(want) = trust.wants().into_iter().next() {
        let Some((role, bytes)) = by_wire.get(&want.file) else {
            trust.absent(&want.file);
            continue;
        };
        match trust.feed(&want.file, bytes, now) {
            Err(refusal) if candidate.changed.contains(*role) => return Err(refusal),
            _ => drop(unasked.remove(role)),
        }
    }
    if let Some(role) = unasked.first() {
        let detail = match *role {
            "root" => "a root must come with all that lie between it and the last".to_owned(),
            role => format!("the operator's targets hand on no role `{role}`, so no node would ask for it"),
        };
        return Err(Refusal::new(Reason::WrongKey, detail));
    }
    let mut refused = trust.refused();
    if let Some((_, refusal)) = refused.iter().find(|(role, _)| candidate.changed.contains(*role)) {
        return Err(refusal.clone());
    }
    if trust.seq() != candidate.state.seq {
        let other = refused.pop_first().map(|(_, refusal)| refusal);
        return Err(other.unwrap_or_else(|| Refusal::new(Reason::Parse, "the new state is not believed")));
    }
    Ok(trust)
}

/// Reads the state of a head, and checks all of it anew.
async fn read(entry: Option<Entry>, blobs: &impl Blobs, root: &Bytes) -> Result<View, Denied> {
    let Some(entry) = entry else {
        return View::of(None, State::default(), Files::new(), Trust::new(root)?, root, blobs).await;
    };
    let damaged = |what: String| Denied::Failed(format!("{what}: restore heads and blobs from one backup"));
    let state: State =
        serde_json::from_slice(&entry.value).map_err(|error| damaged(format!("the head of the state: {error}")))?;
    let mut files = Files::new();
    for (name, file) in &state.files {
        let missing = || damaged(format!("the bytes of {name}, {}, are gone", file.sha256));
        let bytes = blobs.get(file.sha256, 0..file.length.min(FILE_BYTES_MAX)).await?.ok_or_else(missing)?;
        files.insert(name.clone(), bytes);
    }
    let mut trust = Trust::replay(root, files.iter().map(|(name, bytes)| (name.clone(), bytes.to_vec())))?;
    trust.raise_time(Timestamp::now());
    // A replay passes over what another key signed; a state in which such a thing stands is not this operator's.
    let app_role = |role: &str| app_of_role(role).is_some();
    if let Some((role, refusal)) = trust.refused().into_iter().find(|(role, _)| !app_role(role)) {
        return Err(damaged(format!("{role} does not verify from the root of the configuration on: {refusal}")));
    }
    if trust.seq() != state.seq {
        return Err(damaged(format!("the snapshot is {}, the head says {}", trust.seq(), state.seq)));
    }
    View::of(Some(entry.version), state, files, trust, root, blobs).await
}
