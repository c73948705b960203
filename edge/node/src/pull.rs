//! Pulling: following what is signed, from any parent, for as long as the node lives. A stream of changes tells at once, a
//! jittered poll repairs what it missed; each app is prepared beside the others, so one that fails holds nobody up.
//!
//! It owns trust, ledger and activation, and is never waited for by a request.

mod anew;
mod hear;
mod jobs;
mod listen;
pub mod parent;
mod pause;
mod purge;
mod report;
mod round;
pub mod service;
mod tails;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use eyot_bundle::digest::Digest;
use eyot_bundle::name::Name;
use eyot_bundle::refusal::{Reason, Refusal};
use eyot_bundle::trust::Trust;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::acme::Answers;
use crate::activate::{Active, Apps, World, aborts};
use crate::ledger::serving::{self, Serving};
use crate::ledger::{AppRecord, Change, Files, Ledger, LedgerError};
use crate::purge::Purger;
use crate::shield::Shields;
use crate::stage::Stage;
use crate::stage::prepare::bundles;
use crate::status::{LedgerHealth, Status};
use crate::telemetry::Telemetry;
use jobs::Jobs;
use parent::Parent;

/// Orders that may wait.
const ORDERS_MAX: usize = 16;
/// How long nothing is due when nothing is.
const IDLE: Duration = Duration::from_secs(3600);

/// What a pull is made of.
pub struct Setup<P, A> {
    /// What stages releases; its parent is the one that is followed.
    pub stage: Arc<Stage<P>>,
    /// The snapshot that it changes.
    pub apps: Arc<A>,
    /// Where it says how things are.
    pub status: Arc<Status>,
    /// What counts.
    pub telemetry: Arc<Telemetry>,
    /// This node's id.
    pub node: Name,
    /// Its region.
    pub region: String,
    /// The folder of its state.
    pub state: PathBuf,
    /// The first trusted root, exact bytes.
    pub root: Vec<u8>,
    /// How often to ask when nothing was told, in milliseconds; jittered.
    pub poll_ms: u64,
    /// What answers the challenges that other nodes tell.
    pub answers: Answers,
    /// What purges.
    pub purger: Arc<Purger>,
    /// The nodes that this one asks, and that ask it.
    pub shields: Arc<Shields>,
}

/// Why a node cannot begin to pull.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The ledger is another process', or cannot be made.
    #[error(transparent)]
    Ledger(LedgerError),
    /// The configured root is no root.
    #[error("the trusted root: {0}")]
    Root(Refusal),
}

/// What an operator may ask of a running pull.
#[derive(Clone, Debug)]
pub struct Handle(mpsc::Sender<Order>);

enum Order {
    /// Let go of the ledger, and say so.
    Pause(oneshot::Sender<()>),
    Poll,
    ResetTrust,
    /// Take the ledger up again.
    Resume,
}

impl Handle {
    /// Asks the parents now.
    pub fn poll(&self) {
        let _ = self.0.try_send(Order::Poll);
    }

    /// Forgets the ledger and begins anew from the configured root. What answers goes on. Whether the order was taken.
    pub fn reset_trust(&self) -> bool {
        self.0.try_send(Order::ResetTrust).is_ok()
    }

    /// Lets go of the ledger: when this returns, another process can have it. What answers goes on.
    ///
    /// # Errors
    /// When the pull has ended.
    pub(crate) async fn pause(&self) -> io::Result<()> {
        let ended = || io::Error::other("the pull has ended");
        let (done, paused) = oneshot::channel();
        self.0.send(Order::Pause(done)).await.map_err(|_| ended())?;
        paused.await.map_err(|_| ended())
    }

    /// Takes the ledger up again, after a pause.
    pub(crate) fn resume(&self) {
        let orders = self.0.clone();
        // Those that wait before it are few, and the pull reads them all.
        tokio::spawn(async move { orders.send(Order::Resume).await });
    }
}

/// A pull that has taken up what was kept.
pub struct Pull<P, A> {
    setup: Setup<P, A>,
    trust: Trust,
    /// None: it is lost, and nothing new is taken.
    ledger: Option<Ledger>,
    files: Files,
    records: BTreeMap<Name, AppRecord>,
    denied: Arc<BTreeSet<Digest>>,
    /// Which document of the fleet's nodes is known.
    nodes: Option<Digest>,
    active: Active<A>,
    jobs: Jobs,
    orders: mpsc::Receiver<Order>,
    /// The version of the snapshot, for the stream of changes.
    seq: Arc<AtomicU64>,
    /// Whether a round has ended well since the start.
    asked: bool,
    /// Whether what is active has changed since the `serving` file was written.
    unwritten: bool,
    boot: String,
    /// Those who follow apps through the origin.
    tails: tails::Tails,
    /// Whether the parents are to hear how this node is before it is time.
    news: bool,
}

impl<P: Parent, A: Apps> Pull<P, A> {
    /// Takes up what ledger or `serving` file kept: all that was active answers when this returns, with no parent asked.
    ///
    /// # Errors
    /// [`PullError`]; a ledger that is lost is none.
    pub fn start(setup: Setup<P, A>) -> Result<(Self, Handle), PullError> {
        let trust = Trust::new(&setup.root).map_err(PullError::Root)?;
        let (sender, orders) = mpsc::channel(ORDERS_MAX);
        let mut pull = Self {
            active: Active::new(Arc::clone(&setup.apps), Arc::clone(&setup.status)),
            trust,
            ledger: None,
            files: Files::new(),
            records: BTreeMap::new(),
            denied: Arc::default(),
            nodes: None,
            jobs: Jobs::default(),
            orders,
            seq: Arc::default(),
            asked: false,
            unwritten: false,
            boot: uuid::Uuid::now_v7().to_string(),
            tails: tails::Tails::default(),
            news: false,
            setup,
        };
        match pull.open() {
            Ok(()) => {}
            Err(LedgerError::Lost(why)) => pull.lost(why),
            Err(error) => return Err(PullError::Ledger(error)),
        }
        if !pull.records.is_empty() {
            pull.setup.apps.loaded();
        }
        Ok((pull, Handle(sender)))
    }

    /// Opens the ledger and believes what it kept.
    fn open(&mut self) -> Result<(), LedgerError> {
        // An open ledger is closed first: one process, one holder.
        self.ledger = None;
        let (ledger, files) = Ledger::open(&self.setup.state)?;
        let trust = Trust::replay(&self.setup.root, metadata(&files));
        let mut trust = trust.map_err(|refusal| LedgerError::Lost(refusal.to_string()))?;
        let state = ledger.state();
        if trust.root_version() < state.floors.get("root").copied().unwrap_or(0) {
            return Err(LedgerError::Lost("the chain of roots ends before the one that was seen".to_owned()));
        }
        trust.raise_floors(&state.floors, state.time_floor);
        (self.trust, self.files, self.records) = (trust, files, state.apps.clone());
        self.ledger = Some(ledger);
        self.health(LedgerHealth::Ok);
        self.count_aborts();
        self.settle();
        self.stand_in();
        Ok(())
    }

    /// Takes up who took the process down since it was last counted. A disk that takes no writes ends no start.
    fn count_aborts(&mut self) {
        let notes = aborts::notes(&self.setup.state);
        let mut apps: BTreeMap<Name, Option<AppRecord>> = BTreeMap::new();
        for ((app, release), times) in &notes {
            let Some(known) = self.records.get(app) else { continue };
            let record = apps.entry(app.clone()).or_default().get_or_insert_with(|| known.clone());
            record.aborted(*release, *times);
            tracing::error!(%app, release, times, "a release took the process down");
        }
        if let (false, Some(ledger)) = (apps.is_empty(), &mut self.ledger) {
            let committed = ledger.commit(&Change { apps: apps.clone(), ..Change::default() });
            self.records.extend(apps.into_iter().filter_map(|(app, record)| Some((app, record?))));
            if let Err(error) = committed {
                tracing::error!(%error, "aborts were not noted; they are counted again at the next start");
                return;
            }
        }
        if !notes.is_empty()
            && let Err(error) = aborts::forget(&self.setup.state)
        {
            // They would be counted twice, which sets aside too early, never too late.
            tracing::error!(%error, "the notes of aborts could not be forgotten");
        }
    }

    fn health(&self, health: LedgerHealth) {
        self.setup.telemetry.ledger_state(health.word());
        self.setup.status.facts().ledger = health;
    }

    /// The time: this node's clock, and no earlier than any that was signed.
    fn now(&self) -> Timestamp {
        Timestamp::now().max(self.trust.time_floor())
    }

    /// Lets every app stand as the world says now.
    fn settle(&mut self) {
        self.take_fleet();
        let world = World { trust: &self.trust, files: &self.files, records: &self.records, denied: &self.denied };
        for (app, release, refusal) in self.active.settle(&world) {
            self.refuse(&app, release, &refusal);
        }
        self.show();
    }

    /// Writes down what is believed for those who look.
    fn show(&self) {
        let seq = self.trust.seq();
        if self.seq.swap(seq, Ordering::Relaxed) != seq {
            self.setup.telemetry.snapshot(seq);
        }
        let expiries = self.trust.expiries();
        expiries.iter().for_each(|(role, at)| self.setup.telemetry.metadata_expiry(role, *at));
        let mut facts = self.setup.status.facts();
        (facts.seq, facts.roles, facts.expiries) = (seq, self.trust.refused(), expiries);
    }

    fn refuse(&self, app: &Name, release: u64, refusal: &Refusal) {
        if self.setup.status.refuse(app, release, refusal) {
            self.setup.telemetry.refusal(app, refusal.reason);
            let reason = refusal.reason.code();
            tracing::warn!(%app, release, reason, detail = refusal.detail, "a release is refused");
            self.setup.apps.refused(app, release, refusal);
        }
    }

    /// Makes a change durable and part of what is here. A ledger that does not take it is opened anew.
    fn commit(&mut self, change: Change) -> Result<(), Refusal> {
        let Some(ledger) = &mut self.ledger else {
            return Err(Refusal::new(Reason::FloorLost, "the ledger is lost"));
        };
        if let Err(error) = ledger.commit(&change) {
            let refusal = Refusal::new(Reason::DiskFull, error.to_string());
            tracing::error!(%error, "the ledger took no change");
            if let Err(error) = self.open() {
                self.lost(error.to_string());
            }
            return Err(refusal);
        }
        self.files.retain(|name, _| !change.remove.contains(name));
        self.files.extend(change.put);
        for (app, record) in change.apps {
            match record {
                Some(record) => drop(self.records.insert(app, record)),
                None => drop(self.records.remove(&app)),
            }
        }
        Ok(())
    }

    /// Follows what is signed until `shutdown` resolves. What is being asked or prepared then is left where it is: what
    /// is committed stays, and the rest is asked for again.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        tokio::select! {
            () = shutdown => {}
            () = self.follow() => {}
        }
        self.jobs.stop();
        self.tidy();
    }

    async fn follow(&mut self) {
        let mut changes = self.listen();
        let mut reports = report::Reports::new();
        let mut poll_at = Instant::now();
        // What is active may have lost its compiled code; for that no parent is needed.
        self.schedule();
        loop {
            let due = self.jobs.due().unwrap_or_else(|| Instant::now() + IDLE);
            tokio::select! {
                () = tokio::time::sleep_until(poll_at) => {
                    self.round(BTreeMap::new()).await;
                    poll_at = Instant::now() + jittered(self.setup.poll_ms);
                }
                Some(heard) = changes.recv() => {
                    self.hear(heard).await;
                    if std::mem::take(&mut self.news) {
                        reports.soon();
                    }
                }
                Some(order) = self.orders.recv() => {
                    match order {
                        Order::Pause(done) => {
                            self.paused(done).await;
                            changes = self.listen();
                            reports = report::Reports::new();
                        }
                        Order::Poll | Order::Resume => {}
                        Order::ResetTrust => {
                            self.reset();
                            // An answer that is still on its way is about what was forgotten.
                            reports = report::Reports::new();
                        }
                    }
                    poll_at = Instant::now();
                }
                Some(done) = self.jobs.next() => self.finish(done),
                () = tokio::time::sleep_until(due) => self.schedule(),
                next = reports.next(self.asked || self.ledger.is_none()) => match next {
                    report::Next::Answer(answer) => self.answered(answer),
                    report::Next::Due => reports.send(self.report(), &self.setup.stage.parent),
                },
            }
            self.tidy();
        }
    }

    /// Once nothing is being prepared: the node is ready, what is active is written beside the ledger, and what nobody
    /// needs is swept.
    fn tidy(&mut self) {
        if !self.jobs.is_idle() {
            return;
        }
        if self.asked {
            self.setup.apps.loaded();
        }
        if !self.unwritten {
            return;
        }
        self.unwritten = false;
        let active = |(app, record): (&Name, &AppRecord)| Some((app.clone(), record.active?));
        let apps = self.records.iter().filter_map(active).collect();
        let written = Serving { accepted: self.now(), apps, files: self.files.clone() };
        if let Err(error) = serving::write(&self.setup.state, &written) {
            tracing::warn!(%error, "the serving file could not be written");
        }
        self.setup.stage.blobs.sweep(&bundles(&self.files));
    }
}

/// The files of a ledger that are metadata.
fn metadata(files: &Files) -> impl Iterator<Item = (String, Vec<u8>)> {
    files.iter().filter(|(name, _)| !name.contains('/')).map(|(name, bytes)| (name.clone(), bytes.clone()))
}

/// Half to one and a half times `ms`.
fn jittered(ms: u64) -> Duration {
    let mut random = [0; 2];
    let _ = aws_lc_rs::rand::fill(&mut random);
    let part = u64::from(u16::from_be_bytes(random));
    Duration::from_millis(ms / 2 + ms.saturating_mul(part) / 65_536)
}
