//! Purges: a durable log of each app's newest, which nodes follow in their streams. What is told is on the disk before;
//! an app that purges too often purges all of itself instead, at most once a second.

mod log;
mod pace;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use eyot_bundle::digest::Digest;
use eyot_bundle::name::Name;
use eyot_bundle::release::Release;
use eyot_link::purge::{Kind, Logged, PurgeRequest, Purged, Since, Told};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::blobs::Blobs;
use crate::denied::Denied;
use crate::heads::Heads;
use crate::view::{View, document};
use log::{AppLog, Log};
use pace::Pace;

/// The head that says which log this is, and below which its numbers are.
const COUNTER: &str = "purges";
/// Numbers that are set aside at once: after a start those that were not given are passed over.
const ASIDE: u64 = 1_000;
/// Releases of which it is remembered whether their functions may purge.
const RELEASES_MAX: usize = 4_096;

/// The value of [`COUNTER`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Counter {
    log: String,
    until: u64,
}

/// The numbers that are there to be given.
#[derive(Debug)]
struct Numbers {
    last: u64,
    until: u64,
}

/// The purges of all apps. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Purges(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    log: RwLock<Log>,
    /// The last number, for those who wait for the next.
    last: watch::Sender<u64>,
    /// Whoever writes.
    writing: tokio::sync::Mutex<Numbers>,
    paces: Mutex<BTreeMap<Name, Arc<Pace>>>,
    /// Whether a function of a release may purge.
    releases: Mutex<BTreeMap<Digest, bool>>,
}

impl Purges {
    /// Takes up what was kept of these apps.
    pub(crate) async fn open(heads: &impl Heads, apps: impl IntoIterator<Item = &Name>) -> Result<Self, Denied> {
        let entry = heads.get(COUNTER).await?;
        let counter = match &entry {
            Some(entry) => parse(&entry.value)?,
            None => Counter { log: new_id()?, until: 0 },
        };
        if entry.is_none() {
            heads.swap(COUNTER, None, bytes(&counter)?).await?;
        }
        let mut log = Log { id: counter.log, n: counter.until, ..Log::default() };
        for app in apps {
            if let Some(entry) = heads.get(&key(app)).await? {
                log.put(app, &parse(&entry.value)?);
            }
        }
        Ok(Self(Arc::new(Inner {
            last: watch::Sender::new(log.n),
            log: RwLock::new(log),
            writing: tokio::sync::Mutex::new(Numbers { last: counter.until, until: counter.until }),
            paces: Mutex::default(),
            releases: Mutex::default(),
        })))
    }

    /// Purges, and tells all nodes. When this returns, a purge of this number or a later one is on the disk that does
    /// what was asked.
    pub(crate) async fn purge(&self, heads: &impl Heads, app: &Name, request: &PurgeRequest) -> Result<Purged, Denied> {
        let pace = Arc::clone(self.paces().entry(app.clone()).or_default());
        if pace.has_room() {
            let purge = self.append(heads, app, request).await?;
            return Ok(Purged { purge, widened: false });
        }
        let whole = PurgeRequest { kind: Kind::App, value: String::new(), soft: request.soft };
        let purge = pace.together(request.soft, || self.append(heads, app, &whole)).await?;
        Ok(Purged { purge, widened: true })
    }

    async fn append(&self, heads: &impl Heads, app: &Name, request: &PurgeRequest) -> Result<u64, Denied> {
        let mut numbers = self.0.writing.lock().await;
        // Given once, also when whoever asked is gone before the end.
        numbers.last += 1;
        let n = numbers.last;
        if n > numbers.until {
            let entry = heads.get(COUNTER).await?;
            let counter = Counter { log: self.log().id.clone(), until: n + ASIDE };
            heads.swap(COUNTER, entry.map(|entry| entry.version), bytes(&counter)?).await?;
            numbers.until = counter.until;
        }
        let PurgeRequest { kind, value, soft } = request.clone();
        let (key, entry) = (key(app), heads.get(&key(app)).await?);
        let mut kept: AppLog = entry.as_ref().map(|entry| parse(&entry.value)).transpose()?.unwrap_or_default();
        kept.push(Logged { n, app: app.clone(), kind, value, soft, missed: false });
        heads.swap(&key, entry.map(|entry| entry.version), bytes(&kept)?).await?;
        let mut log = self.0.log.write().unwrap_or_else(PoisonError::into_inner);
        log.put(app, &kept);
        log.n = n;
        drop(log);
        self.0.last.send_replace(n);
        Ok(n)
    }

    /// The last number.
    pub(crate) fn last(&self) -> u64 {
        *self.0.last.borrow()
    }

    /// Changes with each purge.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.0.last.subscribe()
    }

    /// What a node is told next that is at `since`; none: it was told all, also, if this is the `first` line, that.
    pub(crate) fn since(&self, since: Option<&Since>, first: bool) -> Option<Told> {
        let log = self.log();
        (first || log.is_behind(since)).then(|| log.since(since))
    }

    /// Whether a function of a release of `app` that may run now may purge.
    pub(crate) async fn functions_may(&self, blobs: &impl Blobs, view: &View, app: &Name) -> Result<bool, Denied> {
        let Some(known) = view.apps.get(app) else { return Ok(false) };
        for file in known.trust.releases.values() {
            let told = self.releases().get(&file.sha256).copied();
            let may = match told {
                Some(may) => may,
                None => {
                    let release: Result<Release, _> = serde_json::from_slice(&document(blobs, file).await?);
                    release.is_ok_and(|release| release.functions.values().any(|function| function.purge))
                }
            };
            let mut releases = self.releases();
            if releases.len() >= RELEASES_MAX {
                releases.clear();
            }
            releases.insert(file.sha256, may);
            if may {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn log(&self) -> RwLockReadGuard<'_, Log> {
        self.0.log.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn paces(&self) -> std::sync::MutexGuard<'_, BTreeMap<Name, Arc<Pace>>> {
        self.0.paces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn releases(&self) -> std::sync::MutexGuard<'_, BTreeMap<Digest, bool>> {
        self.0.releases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(app: &Name) -> String {
    format!("purge/{app}")
}

/// What a head says. One that cannot be read is not made anew: nodes would not learn that purges are gone.
fn parse<T: serde::de::DeserializeOwned>(value: &[u8]) -> Result<T, Denied> {
    serde_json::from_slice(value).map_err(|error| Denied::Failed(format!("the log of purges: {error}")))
}

fn bytes(value: &impl Serialize) -> Result<bytes::Bytes, Denied> {
    serde_json::to_vec(value).map(Into::into).map_err(|error| Denied::Failed(error.to_string()))
}

fn new_id() -> Result<String, Denied> {
    let mut id = [0; 16];
    aws_lc_rs::rand::fill(&mut id).map_err(|_| Denied::Failed("the system gives no random bytes".to_owned()))?;
    Ok(format!("{:032x}", u128::from_be_bytes(id)))
}

#[cfg(test)]
mod tests;
