//! Purges on this node: those that its parents tell, those that an operator asks for here, and those of functions, which
//! hold here at once and are sent on. What was purged is judged by `eyot_cache::purges`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use eyot_bundle::name::Name;
use eyot_cache::purges::{EVERY_APP, Hash, How, Position, Purge, Purges, What};
use eyot_link::client::Client;
use eyot_link::purge::{Kind, Logged, PurgeRequest, Since, Told};
use eyot_plan::request;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::snapshot::Snapshots;
use crate::telemetry::{Source, Telemetry};

/// Purges of the functions of one app that may come at once on this node.
const BURST: u32 = 100;
/// Purges of the functions of one app a second on this node, for long.
const PER_SECOND: u32 = 10;
/// Purges of functions that are on their way to a parent at once.
const ON_THEIR_WAY_MAX: usize = 64;
/// How long a parent may take to note one.
const NOTED_WITHIN: Duration = Duration::from_secs(10);
/// Purges of this node that it was not told of by its parent yet, of which it knows that they are its own.
const OWN_MAX: usize = 4_096;

/// Apps whose purges on this node alone are remembered each for itself.
const ALONE_MAX: usize = 10_000;

/// The purges of a node.
pub struct Purger {
    /// What kept answers are judged by.
    pub purges: Arc<Purges>,
    telemetry: Arc<Telemetry>,
    /// Where the journal is; none: nothing is kept on disk.
    folder: Option<PathBuf>,
    parents: OnceLock<Client>,
    /// By whose routes URLs are told apart.
    snapshots: Arc<Snapshots>,
    sending: Semaphore,
    paces: Mutex<BTreeMap<Name, (f64, Instant)>>,
    /// The numbers of those that functions asked for here: they need not be done again.
    own: Mutex<BTreeSet<u64>>,
    /// When each app was purged here last without its parent having told it: other nodes may not know it.
    alone: Mutex<BTreeMap<Name, u64>>,
    /// The same for all apps.
    all_alone_ms: AtomicU64,
}

/// Why a purge of a function was not done everywhere.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unsent {
    #[error("functions of this app purge too often")]
    TooOften,
    #[error("it is no URL that can be asked for: {0}")]
    NoUrl(&'static str),
    #[error("it holds on this node; the journal does not take it")]
    Disk(#[source] io::Error),
    #[error("it holds on this node; no parent noted it: {0}")]
    Parent(String),
}

impl Purger {
    /// Nothing was purged yet, and no journal is open.
    pub(crate) fn new(
        lag_max_ms: Option<u64>,
        folder: Option<PathBuf>,
        telemetry: Arc<Telemetry>,
        snapshots: Arc<Snapshots>,
    ) -> Self {
        Self {
            purges: Arc::new(Purges::in_memory(lag_max_ms, now_ms())),
            telemetry,
            folder,
            parents: OnceLock::new(),
            snapshots,
            sending: Semaphore::new(ON_THEIR_WAY_MAX),
            paces: Mutex::default(),
            own: Mutex::default(),
            alone: Mutex::default(),
            all_alone_ms: AtomicU64::new(0),
        }
    }

    /// When `app` was purged here last of what other nodes may not know to be purged, in milliseconds since 1970; 0: never,
    /// as far as this process knows.
    pub(crate) fn alone_ms(&self, app: &Name) -> u64 {
        let alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
        alone.get(app).copied().unwrap_or(0).max(self.all_alone_ms.load(Ordering::Acquire))
    }

    /// `app` is purged here, and other nodes may not know it: noted before it is done.
    fn is_alone(&self, app: &Name) {
        let mut alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
        if alone.len() >= ALONE_MAX && !alone.contains_key(app) {
            alone.clear();
            self.all_alone_ms.store(now_ms(), Ordering::Release);
        }
        alone.insert(app.clone(), now_ms());
    }

    /// Takes up the journal, when no other process has it. What is told is why all that is kept on disk is to go.
    ///
    /// # Errors
    /// What the system said; nothing may be kept on disk then.
    pub fn take_up(&self) -> io::Result<Option<String>> {
        let Some(folder) = &self.folder else { return Ok(None) };
        std::fs::create_dir_all(folder)?;
        self.purges.take_up(folder, now_ms())
    }

    /// Whom functions' purges are sent to.
    pub(crate) fn send_to(&self, parents: Client) {
        let _ = self.parents.set(parents);
    }

    /// How far this node is with its parents' log.
    pub(crate) fn since(&self) -> Option<Since> {
        self.purges.position().map(|at| Since { log: format!("{:032x}", at.log), n: at.n })
    }

    /// What is shown of the pull, with how far this node is with purges.
    pub(crate) fn shown(&self, mut view: serde_json::Value) -> serde_json::Value {
        view["purge"] = self.since().map_or(0, |since| since.n).into();
        view["purge_lagging"] = self.purges.lagging(now_ms()).into();
        view
    }

    /// Does what a parent told.
    ///
    /// # Errors
    /// What the disk said, or that no log is named so. What is told holds, but is not noted as done.
    pub(crate) fn told(&self, told: &Told) -> io::Result<()> {
        let log = u128::from_str_radix(&told.log, 16).map_err(|_| io::Error::other("a log has no such name"))?;
        let doubt = Purge { what: What::App, how: How::Doubt };
        let mut purges: Vec<(&str, Purge)> = told.missed.then_some((EVERY_APP, doubt)).into_iter().collect();
        for logged in &told.purges {
            // What a function asked for here held here before its parent heard of it.
            if self.own().remove(&logged.n) {
                continue;
            }
            purges.extend(self.of(logged).into_iter().map(|purge| (logged.app.as_str(), purge)));
            self.telemetry.purged(&logged.app, Source::Parent);
        }
        let done = self.purges.apply(&purges, Some(Position { log, n: told.n }));
        done.inspect_err(|_| self.all_alone_ms.store(now_ms(), Ordering::Release))?;
        self.telemetry.purge_position(told.n);
        Ok(())
    }

    /// A parent was heard, and all it had told before is done.
    pub(crate) fn heard(&self) {
        self.purges.heard(now_ms());
    }

    /// Purges on this node alone.
    ///
    /// # Errors
    /// What is wrong with the URL, or what the disk said; then it holds until this process ends.
    pub(crate) fn here(&self, app: &Name, request: &PurgeRequest) -> Result<(), Unsent> {
        self.telemetry.purged(app, Source::Operator);
        let purges: Vec<_> = self.asked(app, request)?.into_iter().map(|purge| (app.as_str(), purge)).collect();
        self.is_alone(app);
        self.purges.apply(&purges, None).map_err(Unsent::Disk)
    }

    /// Purges for a function of `app`: here, then everywhere.
    ///
    /// # Errors
    /// Why it was not done, or not everywhere.
    pub(crate) async fn everywhere(self: &Arc<Self>, app: &Name, request: PurgeRequest) -> Result<(), Unsent> {
        let asked = self.asked(app, &request)?;
        if !self.has_room(app) {
            return Err(Unsent::TooOften);
        }
        let _sending = self.sending.try_acquire().map_err(|_| Unsent::TooOften)?;
        self.telemetry.purged(app, Source::Function);
        self.is_alone(app);
        let (purges, name) = (Arc::clone(&self.purges), app.clone());
        // It waits for the disk.
        let here = tokio::task::spawn_blocking(move || {
            let asked: Vec<_> = asked.into_iter().map(|purge| (name.as_str(), purge)).collect();
            purges.apply(&asked, None)
        });
        here.await.map_err(io::Error::other).and_then(|done| done).map_err(Unsent::Disk)?;
        let parents = self.parents.get().ok_or_else(|| Unsent::Parent("there is none".to_owned()))?;
        let sent = tokio::time::timeout(NOTED_WITHIN, parents.purge(app, &request)).await;
        let late = || Unsent::Parent(format!("no answer within {} s", NOTED_WITHIN.as_secs()));
        let done = sent.map_err(|_| late())?.map_err(|error| Unsent::Parent(error.to_string()))?;
        if !done.widened {
            let mut own = self.own();
            own.insert(done.purge);
            while own.len() > OWN_MAX {
                own.pop_first();
            }
        }
        Ok(())
    }

    fn has_room(&self, app: &Name) -> bool {
        let mut paces = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let (left, at) = paces.entry(app.clone()).or_insert((f64::from(BURST), now));
        let gained = now.duration_since(*at).as_secs_f64() * f64::from(PER_SECOND);
        (*left, *at) = ((*left + gained).min(f64::from(BURST)), now);
        let has_room = *left >= 1.0;
        if has_room {
            *left -= 1.0;
        }
        has_room
    }

    /// What somebody asked for here.
    fn asked(&self, app: &Name, request: &PurgeRequest) -> Result<Vec<Purge>, Unsent> {
        let how = if request.soft { How::Soft } else { How::Hard };
        let all = match request.kind {
            Kind::App => vec![What::App],
            Kind::Key => vec![What::Named(Hash::key(app.as_str(), &request.value))],
            Kind::Url => self.url(app, &request.value).map_err(Unsent::NoUrl)?,
        };
        Ok(all.into_iter().map(|what| Purge { what, how }).collect())
    }

    /// What the log says. A URL that no request can ask for names nothing, and nothing of it is kept.
    fn of(&self, logged: &Logged) -> Vec<Purge> {
        let app = logged.app.as_str();
        let all = match logged.kind {
            Kind::App => vec![What::App],
            Kind::Key => vec![What::Named(Hash::key(app, &logged.value))],
            Kind::Url => self.url(&logged.app, &logged.value).unwrap_or_default(),
        };
        let how = match logged {
            Logged { missed: true, .. } => How::Doubt,
            Logged { soft: true, .. } => How::Soft,
            _ => How::Hard,
        };
        all.into_iter().map(|what| Purge { what, how }).collect()
    }

    /// What a URL that somebody wrote names: itself, as a request asks for it, and what its route takes for the same.
    ///
    /// # Errors
    /// What is wrong with it.
    fn url(&self, app: &Name, url: &str) -> Result<Vec<What>, &'static str> {
        let url = url.parse().map_err(|_| "it is no URL")?;
        let url = request::url(&url)?;
        let mut all = vec![What::Named(Hash::url(app.as_str(), &url))];
        let entry = self.snapshots.find(url.host().unwrap_or_default()).ok().filter(|entry| entry.app == *app);
        let route = entry.as_ref().and_then(|it| it.find(url.host()?, url.path(), &http::Method::GET).ok());
        if let Some(caching) = route.and_then(|route| route.cache.as_ref()) {
            let named = What::Named(caching.site().named(&url));
            all.extend(Some(named).filter(|named| !all.contains(named)));
        }
        Ok(all)
    }

    fn own(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Milliseconds since 1970, by this node's clock.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
