//! Activating: what of the signed world answers on this node. An app's entry is built aside, the ledger committed, and
//! then one swap makes it the one that answers; an app that may not run any more is taken out the same way.

pub mod aborts;
mod node;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use eyot_bundle::digest::Digest;
use eyot_bundle::grant::{Grant, GrantState};
use eyot_bundle::name::Name;
use eyot_bundle::refusal::{Reason, Refusal};
use eyot_bundle::release::Release;
use eyot_bundle::trust::{AppTrust, Trust, app_role};
use eyot_bundle::verify;
use eyot_link::wire::{Load, Window};

use crate::ledger::{AppRecord, Files};
use crate::stage::prepare::denied;
use crate::status::Status;
use crate::tap::Following;

/// What the snapshot of a node offers to those who change it.
pub trait Apps: Send + Sync + 'static {
    /// One app as it answers.
    type Entry: Send;

    /// Builds an entry aside.
    ///
    /// # Errors
    /// A refusal, if the release was not verified.
    fn build(&self, release: &Release, grant: &Grant) -> Result<Self::Entry, Refusal>;

    /// Makes the hosts of `grant` answer as `standing` says, in one swap.
    fn put(&self, app: &Name, grant: &Grant, standing: Standing<Self::Entry>);

    /// A release of the app was not taken.
    fn refused(&self, app: &Name, release: u64, refusal: &Refusal) {
        let _ = (app, release, refusal);
    }

    /// What is told of the app from now on; `None`: too many follow already.
    fn follow(&self, app: &Name) -> Option<Following> {
        let _ = app;
        None
    }

    /// Makes the app's hosts nobody's.
    fn remove(&self, app: &Name);

    /// All that was active is in place again, or the first round is over.
    fn loaded(&self);

    /// How the node is, for the report.
    fn vitals(&self) -> Vitals;
}

/// How an app stands.
pub enum Standing<E> {
    /// No release of it is ready here.
    NotReady,
    /// This answers.
    Serving(E),
    /// Its operator suspended it.
    Suspended,
}

/// How a node is, apart from its releases.
#[derive(Clone, Debug, Default)]
pub struct Vitals {
    /// How full it is.
    pub load: Load,
    /// Whether it is on its way out.
    pub draining: bool,
    /// What was counted of each app since the last time this was asked.
    pub windows: BTreeMap<Name, Vec<Window>>,
}

/// What answers now, and on what it rests.
pub struct Active<A> {
    apps: Arc<A>,
    status: Arc<Status>,
    live: BTreeMap<Name, Live>,
    /// The code of what answers.
    code: BTreeMap<Name, Vec<Digest>>,
}

/// One app that is in the snapshot.
#[derive(PartialEq)]
struct Live {
    grant: Grant,
    /// The number and document that answer.
    release: Option<(u64, Digest)>,
    /// Root and `targets` under which the signature was last checked.
    authority: (u64, Option<u64>),
    /// The digests that were denied then.
    denied: Arc<BTreeSet<Digest>>,
}

/// What all decisions rest on.
pub struct World<'a> {
    /// What is believed.
    pub trust: &'a Trust,
    /// The documents that are here.
    pub files: &'a Files,
    /// What is noted of each app.
    pub records: &'a BTreeMap<Name, AppRecord>,
    /// The digests that the operator denied.
    pub denied: &'a Arc<BTreeSet<Digest>>,
}

impl<A: Apps> Active<A> {
    /// Nothing answers yet.
    pub fn new(apps: Arc<A>, status: Arc<Status>) -> Self {
        Self { apps, status, live: BTreeMap::new(), code: BTreeMap::new() }
    }

    /// The node's snapshot.
    pub fn apps(&self) -> &Arc<A> {
        &self.apps
    }

    /// The release and document of `app` that answer.
    pub fn release(&self, app: &Name) -> Option<(u64, Digest)> {
        self.live.get(app).and_then(|live| live.release)
    }

    /// The apps of which some function's compiled code is not there any more.
    pub fn without_code(&self, has: impl Fn(Digest) -> bool) -> Vec<Name> {
        let lacking = self.code.iter().filter(|(_, code)| !code.iter().all(|digest| has(*digest)));
        lacking.map(|(app, _)| app.clone()).collect()
    }

    /// Makes every app answer as the world says: what is active goes on if all it rests on still holds, what was
    /// suspended or removed ends. What did not change is not touched.
    pub fn settle(&mut self, world: &World<'_>) -> Vec<(Name, u64, Refusal)> {
        let apps = world.trust.apps();
        let mut stopped = Vec::new();
        for app in &apps {
            if let Err((number, refusal)) = self.settle_app(world, app) {
                stopped.push((app.app.clone(), number, refusal));
            }
        }
        let known: BTreeSet<_> = apps.iter().map(|app| &app.app).collect();
        let refused = world.trust.refused();
        // A grant that does not parse ends nothing; one that is not there any more does.
        let ended = |app: &Name| !known.contains(app) && !refused.contains_key(&app_role(app));
        let settled = world.trust.version("targets").is_some();
        let gone: Vec<_> = self.live.keys().filter(|app| settled && ended(app)).cloned().collect();
        for app in gone {
            self.remove(&app);
        }
        stopped
    }

    fn settle_app(&mut self, world: &World<'_>, app: &AppTrust) -> Result<(), (u64, Refusal)> {
        let name = &app.app;
        let authority = (world.trust.root_version(), world.trust.version("targets"));
        self.note(name, app.grant.state);
        match app.grant.state {
            GrantState::Removed => {
                self.remove(name);
                return Ok(());
            }
            GrantState::Suspended => {
                self.put(name, Live::without(&app.grant, authority, world), Standing::Suspended);
                return Ok(());
            }
            GrantState::Active => {}
        }
        let Some(number) = world.records.get(name).and_then(|record| record.active) else {
            self.put(name, Live::without(&app.grant, authority, world), Standing::NotReady);
            return Ok(());
        };
        let path = format!("releases/{name}/{number}.json");
        let release = world.files.get(&path).map(|bytes| (number, Digest::of(bytes)));
        let live = Live { release, ..Live::without(&app.grant, authority, world) };
        if self.live.get(name) == Some(&live) {
            return Ok(());
        }
        let entry = rests(world, app, number, &path)
            .and_then(|release| self.apps.build(&release, &app.grant).map(|entry| (entry, code(&release))));
        match entry {
            Ok((entry, code)) => {
                self.put_anew(name, live, Standing::Serving(entry));
                self.code.insert(name.clone(), code);
                Ok(())
            }
            Err(refusal) => {
                self.put(name, Live::without(&app.grant, authority, world), Standing::NotReady);
                Err((number, refusal))
            }
        }
    }

    /// Puts an entry of `release`, whose document has this digest, that was built aside and committed.
    pub fn activate(
        &mut self,
        world: &World<'_>,
        app: &AppTrust,
        (release, digest): (&Release, Digest),
        entry: A::Entry,
    ) {
        let authority = (world.trust.root_version(), world.trust.version("targets"));
        let live = Live { release: Some((release.number, digest)), ..Live::without(&app.grant, authority, world) };
        self.note(&app.app, app.grant.state);
        self.put_anew(&app.app, live, Standing::Serving(entry));
        self.code.insert(app.app.clone(), code(release));
    }

    fn note(&self, app: &Name, state: GrantState) {
        let word = match state {
            GrantState::Active => "active",
            GrantState::Removed => "removed",
            GrantState::Suspended => "suspended",
        };
        self.status.facts().apps.entry(app.clone()).or_default().granted = word;
    }

    fn put(&mut self, app: &Name, live: Live, standing: Standing<A::Entry>) {
        if self.live.get(app) != Some(&live) {
            self.put_anew(app, live, standing);
        }
    }

    fn put_anew(&mut self, app: &Name, live: Live, standing: Standing<A::Entry>) {
        self.status.facts().apps.entry(app.clone()).or_default().active = live.release.map(|(number, _)| number);
        self.apps.put(app, &live.grant, standing);
        self.code.remove(app);
        self.live.insert(app.clone(), live);
    }

    fn remove(&mut self, app: &Name) {
        self.code.remove(app);
        if self.live.remove(app).is_some() {
            self.apps.remove(app);
            self.status.facts().apps.entry(app.clone()).or_default().active = None;
        }
    }
}

impl Live {
    fn without(grant: &Grant, authority: (u64, Option<u64>), world: &World<'_>) -> Self {
        Self { grant: grant.clone(), release: None, authority, denied: Arc::clone(world.denied) }
    }
}

/// The code of all functions of a release.
fn code(release: &Release) -> Vec<Digest> {
    release.functions.values().map(|function| function.bundle.sha256).collect()
}

/// The name under which the role that lists an app's active release is kept.
pub fn held(app: &Name) -> String {
    format!("held/{}.json", app_role(app))
}

/// The active release of an app, if it still rests on what is believed: its publisher's key holds the role, its document
/// is the listed one and within the grant, and none of its bundles is denied.
fn rests(world: &World<'_>, app: &AppTrust, number: u64, path: &str) -> Result<Release, Refusal> {
    let missing = |what: String| Refusal::new(Reason::MissingBlob, what);
    let bytes = world.files.get(path).ok_or_else(|| missing(format!("{path} is not here")))?;
    let held = held(&app.app);
    let role = world.files.get(&held).ok_or_else(|| missing(format!("{held} is not here")))?;
    let judged = world.trust.held(&app_role(&app.app), role)?;
    let file = judged.files.iter().find(|file| file.path == path);
    file.ok_or_else(|| missing(format!("{held} does not list {path}")))?.check(bytes)?;
    let release = verify::release(bytes, &app.app, number, &app.grant)?;
    denied(&release, world.denied)?;
    world.records.get(&app.app).map_or(Ok(()), |record| record.allow(number))?;
    Ok(release)
}
