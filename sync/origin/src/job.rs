//! The jobs that change the state, and how each is decided on a view: a publish, a rollout's change, an operator's
//! upload, a renewal of what expires.

use bytes::Bytes;
use eyot_bundle::control::State;
use eyot_bundle::digest::Digest;
use eyot_bundle::grant::GrantState;
use eyot_bundle::name::Name;
use eyot_bundle::refusal::Reason;
use eyot_bundle::release::{Bundle, RELEASE_BYTES_MAX, Release};
use eyot_bundle::trust::{TargetFile, app_role};
use eyot_bundle::{component, verify};
use eyot_link::wire::{OperatorUpload, Publish, RolloutRequest};
use http::StatusCode;
use jiff::Timestamp;

use crate::blobs::Blobs;
use crate::catalog::{Catalog, Change};
use crate::denied::Denied;
use crate::director;
use crate::heads::Heads;
use crate::view::{AppView, FLEET_BYTES_MAX, View, document};

/// How much of a blob is read at once, in bytes.
const READ_BYTES: u64 = 4 << 20;

/// A job.
#[derive(Clone, Debug)]
pub(crate) enum Job {
    /// The bakes that have passed, and what is due to be signed anew.
    Keep,
    /// A publisher's release.
    Publish { app: Name, publish: Publish },
    /// A change of a rollout.
    Rollout { app: Name, request: RolloutRequest, who: String },
    /// What the operator signed offline.
    Upload(OperatorUpload),
}

impl<H: Heads, B: Blobs> Catalog<H, B> {
    /// What a job changes in `view`; `None`: it is done already.
    pub(crate) async fn decide(&self, view: &View, job: &Job, now: Timestamp) -> Result<Option<Change>, Denied> {
        match job {
            Job::Keep => self.keep(view, now).await,
            Job::Publish { app, publish } => self.publish(view, app, publish, now).await,
            Job::Rollout { app, request, who } => self.rollout(view, app, *request, who, now).await.map(Some),
            Job::Upload(upload) => upload_change(view, upload),
        }
    }

    async fn publish(
        &self,
        view: &View,
        app: &Name,
        publish: &Publish,
        now: Timestamp,
    ) -> Result<Option<Change>, Denied> {
        let known = living(view, app)?;
        let name = format!("{}.json", app_role(app));
        let (role, bytes) = (Bytes::from(publish.role.0.clone()), Bytes::from(publish.release.0.clone()));
        if view.files.get(&name) == Some(&role) {
            // The same publish again, after its answer was lost.
            return Ok(None);
        }
        let judged = view.trust.judge(&app_role(app), &role, now)?;
        let (number, file) =
            newest(app, &judged.files).ok_or_else(|| Denied::refused(Reason::Parse, "the role lists no release"))?;
        newer(known, number)?;
        file.check(&bytes)?;
        if bytes.len() > RELEASE_BYTES_MAX {
            return Err(Denied::refused(Reason::OverQuota, format!("a release has at most {RELEASE_BYTES_MAX} bytes")));
        }
        let release = verify::release(&bytes, app, number, &known.trust.grant)?;
        only_known(known, &release, &judged.files)?;
        self.bundles(view, app, &release).await?;
        let control = director::published(known.control.as_ref(), &release, now);
        Ok(Some(Change {
            metadata: [(name, role)].into(),
            documents: vec![bytes],
            controls: vec![control],
            ..Change::default()
        }))
    }

    /// Checks the blobs a release names: uploaded by this very app, of the size it says, not denied; and that components
    /// say what the release says of them.
    async fn bundles(&self, view: &View, app: &Name, release: &Release) -> Result<(), Denied> {
        let uploads = self.uploads(app).await?;
        for (what, Bundle { sha256, size }) in release.named_bundles() {
            if view.denied.contains(&sha256) {
                let detail = format!("the bundle of {what}, {sha256}, is denied by the operator");
                return Err(Denied::refused(Reason::Incompatible, detail));
            }
            let stored = if uploads.holds(sha256) { self.blobs.size(sha256).await? } else { None };
            match stored {
                None => {
                    let detail = format!("the bundle of {what}, {sha256}, was not uploaded by this app");
                    return Err(Denied::refused(Reason::MissingBlob, detail));
                }
                Some(stored) if stored != size => {
                    let detail = format!("the bundle of {what} has {stored} bytes, the release says {size}");
                    return Err(Denied::refused(Reason::DigestMismatch, detail));
                }
                Some(_) => {}
            }
        }
        for (name, function) in &release.functions {
            let bytes = self.whole(function.bundle.sha256, function.bundle.size).await?;
            let facts = tokio::task::spawn_blocking(move || component::inspect(&bytes)).await;
            let facts = facts.map_err(|error| Denied::Failed(error.to_string()))??;
            if facts.world != function.world || facts.imports != function.imports {
                let detail = format!("the release says another world or other imports of `{name}` than it has");
                return Err(Denied::refused(Reason::Parse, detail));
            }
        }
        Ok(())
    }

    async fn whole(&self, digest: Digest, size: u64) -> Result<Vec<u8>, Denied> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < size {
            let at = bytes.len() as u64;
            let piece = self.blobs.get(digest, at..size.min(at + READ_BYTES)).await?;
            bytes.extend_from_slice(&piece.ok_or_else(|| Denied::Failed(format!("blob {digest} is gone")))?);
        }
        Ok(bytes)
    }

    async fn rollout(
        &self,
        view: &View,
        app: &Name,
        request: RolloutRequest,
        who: &str,
        now: Timestamp,
    ) -> Result<Change, Denied> {
        let known = living(view, app)?;
        let control = known.control.as_ref().ok_or_else(|| Denied::not_found(format!("`{app}` has no release yet")))?;
        let release = self.release(known, control.release).await?;
        let listed: Vec<u64> = known.trust.releases.keys().copied().collect();
        let control = director::act(control, &release, &listed, request, who, now)?;
        Ok(Change { controls: vec![control], ..Change::default() })
    }

    /// A release that the app's role lists, within its grant as it is now.
    pub(crate) async fn release(&self, app: &AppView, number: u64) -> Result<Release, Denied> {
        let release = self.listed(app, number).await?;
        verify::check(&release, &app.trust.app, number, &app.trust.grant)?;
        Ok(release)
    }

    /// A release that the app's role lists. It was checked when it was published; its grant may be another by now.
    pub(crate) async fn listed(&self, app: &AppView, number: u64) -> Result<Release, Denied> {
        let file = app.trust.releases.get(&number);
        let file = file.ok_or_else(|| Denied::not_found(format!("release {number} is not listed")))?;
        let bytes = document(&self.blobs, file).await?;
        serde_json::from_slice(&bytes).map_err(|error| Denied::Failed(format!("{}: {error}", file.path)))
    }

    /// Whether [`Job::Keep`] may have something to do. Cheap: it is asked every second.
    pub(crate) fn is_due(&self, view: &View, now: Timestamp) -> bool {
        let running = |app: &AppView| app.control.as_ref().is_some_and(|control| control.state == State::Running);
        view.seq() > 0 && (view.apps.values().any(running) || self.renewal(view, now).is_some())
    }

    /// What is due to be signed anew.
    fn renewal(&self, view: &View, now: Timestamp) -> Option<Change> {
        let mut change = Change::default();
        let mut due = self.signer().timestamp_due(view.trust.time_floor(), now);
        for (role, expires) in view.trust.expiries() {
            let renew = match role.as_str() {
                "director" => &mut change.renew_director,
                "snapshot" => &mut change.renew_snapshot,
                _ => continue,
            };
            *renew = self.signer().role_due(&role, expires, now);
            due |= *renew;
        }
        due.then_some(change)
    }

    async fn keep(&self, view: &View, now: Timestamp) -> Result<Option<Change>, Denied> {
        if view.seq() == 0 {
            return Ok(None);
        }
        let mut controls = Vec::new();
        for app in view.apps.values() {
            let running = app.control.as_ref().filter(|control| control.state == State::Running);
            let Some(control) = running else { continue };
            // A release whose grant was narrowed since stands where it stands.
            if let Ok(release) = self.release(app, control.release).await {
                controls.extend(director::baked(control, &release, now));
            }
        }
        let renewal = self.renewal(view, now);
        if renewal.is_none() && controls.is_empty() {
            return Ok(None);
        }
        Ok(Some(Change { controls, ..renewal.unwrap_or_default() }))
    }
}

/// The app, if its grant lets it act.
fn living<'a>(view: &'a View, app: &Name) -> Result<&'a AppView, Denied> {
    let known = view.apps.get(app).ok_or_else(|| Denied::not_found(format!("no app `{app}` was granted")))?;
    let stopped = |code, detail| Err(Denied::request(StatusCode::FORBIDDEN, code, detail));
    match known.trust.grant.state {
        GrantState::Active => Ok(known),
        GrantState::Removed => stopped("removed", format!("`{app}` was ended by its operator")),
        GrantState::Suspended => stopped("suspended", format!("`{app}` is suspended by its operator")),
    }
}

/// The release with the highest number among a role's files.
fn newest<'a>(app: &Name, files: &'a [TargetFile]) -> Option<(u64, &'a TargetFile)> {
    let prefix = format!("releases/{app}/");
    let number = |file: &TargetFile| file.path.strip_prefix(&prefix)?.strip_suffix(".json")?.parse::<u64>().ok();
    files.iter().filter_map(|file| Some((number(file)?, file))).max_by_key(|(number, _)| *number)
}

/// A release's number is above all that were published.
fn newer(app: &AppView, number: u64) -> Result<(), Denied> {
    let rolled_out = app.control.as_ref().map_or(0, |control| control.release);
    let floor = app.trust.releases.keys().next_back().copied().unwrap_or(0).max(rolled_out);
    if number > floor {
        return Ok(());
    }
    let detail = format!("release {number} does not come after {floor}: publish {} or higher", floor + 1);
    Err(Denied::refused(Reason::OlderThanFloor, detail))
}

/// Beside the new release a role lists only what the new one names in `previous`, unchanged; and all of that.
fn only_known(app: &AppView, release: &Release, files: &[TargetFile]) -> Result<(), Denied> {
    let path = |number: &u64| format!("releases/{}/{number}.json", release.app);
    for number in &release.previous {
        let known = app.trust.releases.get(number);
        let listed = files.iter().find(|file| file.path == path(number));
        if known.is_none() || known != listed {
            let detail = format!("`previous` names release {number}, which the role does not list as it was published");
            return Err(Denied::refused(Reason::Parse, detail));
        }
    }
    if files.len() != release.previous.len() + 1 {
        let detail = "the role lists more than the new release and those in its `previous`";
        return Err(Denied::refused(Reason::Parse, detail));
    }
    Ok(())
}

/// What an operator's upload changes. Its signatures are judged with the whole, before anything is kept.
fn upload_change(view: &View, upload: &OperatorUpload) -> Result<Option<Change>, Denied> {
    let mut change = Change::default();
    for (name, bytes) in &upload.metadata {
        let role_is_theirs = matches!(name.as_str(), "targets.json" | "fleet.json") || is_root(name);
        if !role_is_theirs {
            let detail = format!("`{name}` is none of `<version>.root.json`, `targets.json`, `fleet.json`");
            return Err(Denied::malformed(detail));
        }
        let bytes = Bytes::from(bytes.0.clone());
        if view.files.get(name) != Some(&bytes) {
            change.metadata.insert(name.clone(), bytes);
        }
    }
    for (path, bytes) in &upload.targets {
        let is_fleet = matches!(path.as_str(), "fleet/nodes.json" | "fleet/denied.json");
        if !is_fleet || bytes.0.len() as u64 > FLEET_BYTES_MAX {
            return Err(Denied::malformed(format!("`{path}` is no fleet document, or too large")));
        }
        change.documents.push(bytes.0.clone().into());
    }
    if change.metadata.is_empty() {
        return Ok(None);
    }
    if view.seq() == 0 && !change.metadata.contains_key("targets.json") {
        return Err(Denied::malformed("the first upload must bring `targets.json`"));
    }
    Ok(Some(change))
}

fn is_root(name: &str) -> bool {
    let version = name.strip_suffix(".root.json");
    version.is_some_and(|version| version.parse::<u64>().is_ok_and(|number| number.to_string() == version))
}
