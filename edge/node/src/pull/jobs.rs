//! Apps that are being prepared: one at a time of each, all beside each other, a newer word in place of an older one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use eyot_bundle::digest::Digest;
use eyot_bundle::grant::GrantState;
use eyot_bundle::name::Name;
use eyot_bundle::trust::{AppTrust, app_role};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::Pull;
use super::parent::Parent;
use crate::activate::{Apps, World, held};
use crate::ledger::{AppRecord, Change};
use crate::stage::prepare::{Job, Prepared, Refused, documents_of};

/// The first pause after a refusal, in milliseconds; doubled with each.
const PAUSE_MS: u64 = 2_000;
/// The longest pause, in milliseconds.
const PAUSE_MS_MAX: u64 = 600_000;

/// The work in hand, and when there is more.
#[derive(Default)]
pub(super) struct Jobs {
    running: JoinSet<Done>,
    plans: BTreeMap<Name, Plan>,
    counted: u64,
}

/// One app's work.
struct Plan {
    basis: Basis,
    /// What runs now.
    running: Option<(u64, AbortHandle)>,
    /// When it is to be done again.
    due: Option<Instant>,
    failures: u32,
}

/// What a preparation rests on: if it changes, the work is done anew.
#[derive(Clone, PartialEq)]
struct Basis {
    app: AppTrust,
    expired: Option<String>,
    denied: Arc<BTreeSet<Digest>>,
}

/// A preparation that has ended.
pub(super) struct Done {
    app: Name,
    id: u64,
    result: Result<Prepared, Refused>,
}

impl Jobs {
    /// The next that ends. Waits for ever when there is none; safe to drop.
    pub(super) async fn next(&mut self) -> Option<Done> {
        loop {
            match self.running.join_next().await {
                Some(Ok(done)) => return Some(done),
                // Aborted for a newer word, or it panicked: its plan is due again then.
                Some(Err(error)) if error.is_panic() => {
                    let now = Instant::now();
                    self.plans.values_mut().filter(|plan| plan.is_finished()).for_each(|plan| plan.retry(now));
                }
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// When the earliest plan is to be done again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.plans.values().filter(|plan| plan.running.is_none()).filter_map(|plan| plan.due).min()
    }

    /// Makes an app due, unless it is being prepared or waits after a failure.
    pub(super) fn again(&mut self, app: &Name) {
        if let Some(plan) = self.plans.get_mut(app).filter(|plan| plan.running.is_none() && plan.failures == 0) {
            plan.due = Some(Instant::now());
        }
    }

    /// Whether nothing is being prepared.
    pub(super) fn is_idle(&self) -> bool {
        self.plans.values().all(|plan| plan.running.is_none())
    }

    /// Drops the work of all other apps.
    fn keep(&mut self, keep: impl Fn(&Name) -> bool) {
        self.plans.retain(|app, plan| {
            let kept = keep(app);
            if let (false, Some((_, running))) = (kept, &plan.running) {
                running.abort();
            }
            kept
        });
    }

    /// Drops all work.
    pub(super) fn stop(&mut self) {
        self.running.abort_all();
        self.plans.clear();
    }
}

impl Plan {
    fn is_finished(&self) -> bool {
        self.running.as_ref().is_some_and(|(_, task)| task.is_finished())
    }

    fn retry(&mut self, now: Instant) {
        let pause_ms = PAUSE_MS.saturating_mul(1 << self.failures.min(16)).min(PAUSE_MS_MAX);
        self.failures = self.failures.saturating_add(1);
        self.running = None;
        self.due = Some(now + Duration::from_millis(pause_ms));
    }
}

impl<P: Parent, A: Apps> Pull<P, A> {
    /// Prepares every app whose word has changed, or whose time has come.
    pub(super) fn schedule(&mut self) {
        if self.ledger.is_none() {
            return;
        }
        let now = self.now();
        let expired: BTreeSet<String> = self.trust.expired(now).into_iter().map(|(role, _)| role).collect();
        let apps = self.trust.apps();
        let known: BTreeSet<_> = apps.iter().map(|app| &app.app).collect();
        self.jobs.keep(|app| known.contains(app));
        for app in apps {
            if let Some(refusal) = &app.refused {
                self.refuse(&app.app, 0, refusal);
            }
            // Without a role that is believed there is nothing to prepare; why is told already.
            let unlisted = app.refused.is_some() && app.releases.is_empty();
            if app.grant.state != GrantState::Active || unlisted {
                self.jobs.keep(|other| *other != app.app);
                continue;
            }
            let role = app_role(&app.app);
            let rests_on = ["root", "timestamp", "snapshot", "targets", "director", &role];
            let expired = rests_on.iter().find(|role| expired.contains(**role)).map(|role| (*role).to_owned());
            self.schedule_app(Basis { app, expired, denied: Arc::clone(&self.denied) }, now);
        }
    }

    fn schedule_app(&mut self, basis: Basis, now: jiff::Timestamp) {
        let name = basis.app.app.clone();
        let failures = match self.jobs.plans.get(&name) {
            Some(plan) if plan.basis == basis => {
                let is_due = plan.running.is_none() && plan.due.is_some_and(|due| due <= Instant::now());
                if !is_due {
                    return;
                }
                plan.failures
            }
            Some(Plan { running: Some((_, running)), .. }) => {
                running.abort();
                0
            }
            _ => 0,
        };
        let job = Job {
            app: basis.app.clone(),
            record: self.records.get(&name).cloned().unwrap_or_default(),
            known: documents_of(&name, &self.files),
            node: self.setup.node.clone(),
            now,
            clock: jiff::Timestamp::now(),
            expired: basis.expired.clone(),
            denied: Arc::clone(&basis.denied),
        };
        self.jobs.counted += 1;
        let (id, stage, app) = (self.jobs.counted, Arc::clone(&self.setup.stage), name.clone());
        let running = self.jobs.running.spawn(async move { Done { app, id, result: stage.prepare(job).await } });
        self.jobs.plans.insert(name, Plan { basis, running: Some((id, running)), due: None, failures });
    }

    /// Takes what a preparation came to.
    pub(super) fn finish(&mut self, done: Done) {
        let Done { app: name, id, result } = done;
        let Some(plan) = self.jobs.plans.get_mut(&name) else { return };
        if plan.running.as_ref().is_none_or(|(running, _)| *running != id) {
            return;
        }
        plan.running = None;
        let trusted = plan.basis.app.clone();
        let ended = match result {
            Ok(prepared) => {
                let changes_ms = prepared.changes_ms;
                let (staged, refused) = (prepared.staged, prepared.refused.clone());
                self.apply(&trusted, prepared).map(|()| (changes_ms, staged, refused))
            }
            Err(refused) => Err(refused),
        };
        let (refused, changes_ms) = match ended {
            Ok((changes_ms, staged, refused)) => {
                let mut facts = self.setup.status.facts();
                let status = facts.apps.entry(name.clone()).or_default();
                status.staged = staged.or(status.staged);
                if refused.is_none() && trusted.refused.is_none() {
                    status.refused = None;
                }
                (refused, changes_ms)
            }
            Err(refused) => (Some(refused), None),
        };
        // Why the role is not believed is the better reason, where both are.
        if let Some((release, refusal)) = refused.as_ref().filter(|_| trusted.refused.is_none()) {
            self.refuse(&name, *release, refusal);
        }
        let Some(plan) = self.jobs.plans.get_mut(&name) else { return };
        if refused.is_some() {
            plan.retry(Instant::now());
        } else {
            plan.failures = 0;
        }
        if let Some(changes_ms) = changes_ms {
            let step = Instant::now() + Duration::from_millis(changes_ms);
            plan.due = Some(plan.due.map_or(step, |due| due.min(step)));
        }
    }

    /// Builds aside, commits, swaps once.
    fn apply(&mut self, app: &AppTrust, prepared: Prepared) -> Result<(), Refused> {
        let name = &app.app;
        let Prepared { release, documents, mut record, .. } = prepared;
        let entry = match &release {
            Some((release, file)) if self.active.release(name) != Some((release.number, file.sha256)) => {
                let entry = self.setup.apps.build(release, &app.grant);
                Some(entry.map_err(|refusal| (release.number, refusal))?)
            }
            _ => None,
        };
        let number = release.as_ref().map_or(0, |(release, _)| release.number);
        if let Some((release, _)) = &release {
            record.activate(release.number);
        }
        let change = self.change(app, documents, record, release.is_some());
        if let Some(change) = change {
            self.commit(change).map_err(|refusal| (number, refusal))?;
            self.unwritten = true;
        }
        if let (Some((release, file)), Some(entry)) = (&release, entry) {
            let world = World { trust: &self.trust, files: &self.files, records: &self.records, denied: &self.denied };
            self.active.activate(&world, app, (release, file.sha256), entry);
            tracing::info!(app = %name, release = number, seq = self.trust.seq(), "a release is active");
        }
        Ok(())
    }

    /// What the ledger has to learn, if it is anything.
    fn change(
        &self,
        app: &AppTrust,
        documents: crate::ledger::Files,
        record: AppRecord,
        activates: bool,
    ) -> Option<Change> {
        let name = &app.app;
        let path = |number: u64| format!("releases/{name}/{number}.json");
        let kept: BTreeSet<_> = [record.active, record.previous].into_iter().flatten().map(path).collect();
        let known = documents_of(name, &self.files);
        let mut change = Change::default();
        if !documents.is_empty() {
            let stale = known.keys().filter(|file| !documents.contains_key(*file) && !kept.contains(*file));
            change.remove = stale.cloned().collect();
        }
        let news = documents.into_iter().filter(|(file, bytes)| known.get(file) != Some(bytes));
        change.put = news.collect();
        if activates
            && let Some(role) = self.trust.bytes(&app_role(name))
            && self.files.get(&held(name)).map(Vec::as_slice) != Some(role)
        {
            change.put.insert(held(name), role.to_vec());
        }
        if self.records.get(name) != Some(&record) {
            change.apps.insert(name.clone(), Some(record));
        }
        let same = change.put.is_empty() && change.remove.is_empty() && change.apps.is_empty();
        (!same).then_some(change)
    }
}
