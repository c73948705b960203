//! Telling a parent how this node is, and learning from the answer whether this disk is an old copy.

use std::time::Duration;

use eyot_link::error::Error;
use eyot_link::wire::{Report, ReportAnswer};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::parent::Parent;
use super::{Pull, jittered};
use crate::activate::Apps;

/// How often a report is made, in milliseconds; jittered.
const EVERY_MS: u64 = 5_000;
/// Reports come no nearer to each other, whatever the news.
const APART: Duration = Duration::from_millis(200);
/// A report that takes longer is given up.
const REPORT: Duration = Duration::from_secs(20);

/// Reports on their way.
pub(super) struct Reports {
    at: Instant,
    sender: mpsc::Sender<Result<ReportAnswer, Error>>,
    answers: mpsc::Receiver<Result<ReportAnswer, Error>>,
    waiting: bool,
    /// When the last was sent.
    sent: Option<Instant>,
}

/// What is next with reports.
pub(super) enum Next {
    /// A parent answered, or did not.
    Answer(Result<ReportAnswer, Error>),
    /// One is to be made.
    Due,
}

impl Reports {
    pub(super) fn new() -> Self {
        let (sender, answers) = mpsc::channel(1);
        Self { at: Instant::now(), sender, answers, waiting: false, sent: None }
    }

    /// What is next: a report to be made (only when `ready`, and none is on its way), or an answer. Safe to drop.
    pub(super) async fn next(&mut self, ready: bool) -> Next {
        let may_send = ready && !self.waiting;
        tokio::select! {
            () = tokio::time::sleep_until(self.at), if may_send => Next::Due,
            Some(answer) = self.answers.recv() => {
                self.waiting = false;
                Next::Answer(answer)
            }
        }
    }

    /// There is news: the next report need not wait for its time.
    pub(super) fn soon(&mut self) {
        let earliest = self.sent.map_or_else(Instant::now, |sent| sent + APART);
        self.at = self.at.min(earliest.max(Instant::now()));
    }

    pub(super) fn send<P: Parent>(&mut self, report: Report, parent: &P) {
        self.waiting = true;
        self.sent = Some(Instant::now());
        self.at = Instant::now() + jittered(EVERY_MS);
        let (parent, sender) = (parent.clone(), self.sender.clone());
        tokio::spawn(async move {
            let silent = || Error::Silent { url: "a parent".to_owned(), seconds: REPORT.as_secs() };
            let answer = tokio::time::timeout(REPORT, parent.report(&report)).await;
            let _ = sender.send(answer.unwrap_or_else(|_| Err(silent()))).await;
        });
    }
}

impl<P: Parent, A: Apps> Pull<P, A> {
    /// How this node is.
    pub(super) fn report(&self) -> Report {
        let vitals = self.setup.apps.vitals();
        let mut apps = self.setup.status.apps();
        for (app, windows) in vitals.windows {
            apps.entry(app).or_default().windows = windows;
        }
        let facts = self.setup.status.facts();
        Report {
            node: self.setup.node.clone(),
            region: self.setup.region.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boot: self.boot.clone(),
            seq: self.trust.seq(),
            purge: self.setup.purger.since().map_or(0, |since| since.n),
            ledger: facts.ledger.word().to_owned(),
            clock_ms_off: facts.clock_ms_off,
            apps,
            load: vitals.load,
            draining: vitals.draining,
        }
    }

    /// A parent that remembers more of this node than the node itself has met it before an old copy of its disk was
    /// put in place.
    pub(super) fn answered(&mut self, answer: Result<ReportAnswer, Error>) {
        match answer {
            // Who has seen nothing yet, or was reset, has no old disk.
            Ok(answer) if answer.seq > self.trust.seq() && self.trust.seq() > 0 && self.ledger.is_some() => {
                let (theirs, ours) = (answer.seq, self.trust.seq());
                self.lost(format!("a parent heard of seq {theirs} from this node, which is at {ours}: an old disk?"));
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "a report was not taken"),
        }
    }
}
