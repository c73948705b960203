//! The snapshot: which app answers a host, and as which release. Immutable; a change replaces one app's entry and leaves
//! the others as they are.
//!
//! A request takes its app's entry once and keeps it to its end, so it lives in one release. It knows nothing of how a
//! release came here.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;
use eyot_bundle::host::HostPattern;
use eyot_bundle::name::Name;
use eyot_bundle::release::PathPattern;
use eyot_plan::fault::{Code, Fault};
use eyot_plan::routes::Table;
use http::Method;
use tokio::sync::watch;

use crate::entry::Entry;
use crate::telemetry::Text;

/// Generations of one app that may be alive at once; the streams of older ones are closed.
pub const GENERATIONS_MAX: usize = 4;

/// One app of this node.
#[derive(Clone)]
pub struct App {
    /// Its hosts, by its grant.
    pub hosts: Vec<HostPattern>,
    /// What it does.
    pub state: State,
}

/// What an app does.
#[derive(Clone)]
pub enum State {
    /// No release of it is ready here.
    NotReady,
    /// This answers.
    Serving(Arc<Entry>),
    /// Its operator suspended it.
    Suspended,
}

/// All apps, at one moment.
#[derive(Default)]
pub struct Snapshot {
    apps: BTreeMap<Name, App>,
    /// Which app a host belongs to.
    hosts: Table<Name>,
}

/// A fault, and whose it is as far as that is known.
pub struct Stray {
    /// The app's label; empty when the host is nobody's.
    pub app: Text,
    /// The fault.
    pub fault: Fault,
}

impl Snapshot {
    fn of(apps: BTreeMap<Name, App>) -> Self {
        let all = || PathPattern::Prefix(String::new());
        let hosts = apps.iter().flat_map(|(name, app)| app.hosts.iter().map(move |host| (host, name)));
        let hosts = hosts.map(|(host, name)| (host.clone(), all(), Vec::new(), name.clone())).collect();
        Self { apps, hosts }
    }

    /// What answers `host` (lower case, no port).
    ///
    /// # Errors
    /// `no_route` for nobody's host, `not_ready` or `suspended` for a known one.
    pub fn find(&self, host: &str) -> Result<&Arc<Entry>, Stray> {
        let nobody = |fault| Stray { app: Text::const_str(""), fault };
        let name = self.hosts.find(host, "/", &Method::GET).map_err(nobody)?;
        let code = match self.apps.get(name).map(|app| &app.state) {
            Some(State::Serving(entry)) => return Ok(entry),
            Some(State::Suspended) => Code::Suspended,
            Some(State::NotReady) | None => Code::NotReady,
        };
        Err(Stray { app: name.as_str().to_owned().into(), fault: code.into() })
    }

    /// Whether an app of this fleet was granted `host` by its name, and not only by being granted every host.
    pub fn names(&self, host: &str) -> bool {
        let app = self.hosts.find(host, "/", &Method::GET).ok().and_then(|name| self.apps.get(name));
        // The app that was found is the one with the nearest name.
        app.is_some_and(|app| app.hosts.iter().any(|it| *it != HostPattern::Any && it.matches(host)))
    }

    /// All apps by name.
    pub fn apps(&self) -> &BTreeMap<Name, App> {
        &self.apps
    }
}

/// The snapshot in use, and the one place that replaces it.
#[derive(Default)]
pub struct Snapshots {
    current: ArcSwap<Snapshot>,
    /// The entries that may still be alive, the oldest first. Whoever holds this lock is the one who swaps.
    generations: Mutex<HashMap<Name, Vec<Weak<Entry>>>>,
    /// Counts the swaps.
    swaps: watch::Sender<u64>,
}

impl Snapshots {
    /// The snapshot in use.
    pub fn load(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// The entry that answers `host`, without keeping the rest of the snapshot alive.
    ///
    /// # Errors
    /// As [`Snapshot::find`].
    pub fn find(&self, host: &str) -> Result<Arc<Entry>, Stray> {
        self.current.load().find(host).cloned()
    }

    /// As [`Snapshot::names`].
    pub fn names(&self, host: &str) -> bool {
        self.current.load().names(host)
    }

    /// Tells of each swap from now on.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.swaps.subscribe()
    }

    /// Puts `app` in the place of what had its name.
    pub fn put(&self, name: Name, app: App) {
        self.change(|apps| {
            apps.insert(name, app);
        });
    }

    /// Takes an app out: its hosts are nobody's.
    pub fn remove(&self, name: &Name) {
        self.change(|apps| {
            apps.remove(name);
        });
    }

    /// Changes any number of apps in one swap. An app whose `Serving` entry is the one it had stays untouched; what still
    /// streams from an app that no longer serves is closed.
    pub fn change(&self, change: impl FnOnce(&mut BTreeMap<Name, App>)) {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        let mut apps = self.current.load().apps.clone();
        change(&mut apps);
        for (name, app) in &apps {
            if let State::Serving(entry) = &app.state {
                note(generations.entry(name.clone()).or_default(), entry);
            }
        }
        let snapshot = Arc::new(Snapshot::of(apps));
        self.current.store(Arc::clone(&snapshot));
        self.swaps.send_modify(|swaps| *swaps = swaps.wrapping_add(1));
        generations.retain(|name, entries| {
            let serves = matches!(snapshot.apps.get(name), Some(App { state: State::Serving(_), .. }));
            retire(entries, if serves { GENERATIONS_MAX } else { 0 });
            !entries.is_empty()
        });
    }
}

/// Notes `entry` as the newest, unless it is that already. One that comes back after another becomes the newest again.
fn note(entries: &mut Vec<Weak<Entry>>, entry: &Arc<Entry>) {
    let this = Arc::downgrade(entry);
    if entries.last().is_some_and(|newest| newest.ptr_eq(&this)) {
        return;
    }
    entries.retain(|known| !known.ptr_eq(&this));
    entries.push(this);
    entry.reopen();
}

/// Forgets the entries that have ended and closes the oldest, until no more than `alive_max` are left.
fn retire(entries: &mut Vec<Weak<Entry>>, alive_max: usize) {
    entries.retain(|entry| entry.strong_count() > 0);
    while entries.len() > alive_max {
        if let Some(entry) = entries.remove(0).upgrade() {
            entry.close();
        }
    }
}

#[cfg(test)]
mod tests;
