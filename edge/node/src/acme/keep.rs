//! Keeping a certificate for each name: taken from the fleet, or ordered when it is this node's turn, in good time before
//! the old one ends. A failure changes nothing that is served.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use eyot_bundle::name::Name;
use eyot_front::Certificates;
use eyot_link::acme::SealedCertificate;
use eyot_link::client::Client;
use eyot_link::wire::Base64;
use instant_acme::Account;
use jiff::{SignedDuration, Timestamp};

use super::answers::Answers;
use super::facts::{Fact, Facts};
use super::held::Held;
use super::http::Http;
use super::order::{self, OrderError};
use super::seal::Seal;
use super::store::{Store, directory_of};
use super::when::{Life, Window};
use crate::config::Acme;

/// An order that takes longer is given up; two of them are within the lease of the origin.
const ORDER: Duration = Duration::from_secs(240);
/// How long the origin may take for one answer.
const ASK: Duration = Duration::from_secs(30);
/// How long to wait when it is another node's turn: without a certificate, and with one.
const TURN: [SignedDuration; 2] = [SignedDuration::from_secs(5), SignedDuration::from_secs(60)];
/// How often the authority is asked when it wants a certificate renewed, at most and at least.
const WINDOW: [SignedDuration; 2] = [SignedDuration::from_secs(60), SignedDuration::from_hours(24)];
/// The clock is looked at this often, because it may be set.
const LOOK: Duration = Duration::from_secs(60);

/// What keeps the certificates of one node.
pub(super) struct Keeper {
    pub(super) config: Acme,
    pub(super) node: Name,
    pub(super) store: Store,
    pub(super) certificates: Arc<Certificates>,
    pub(super) answers: Answers,
    pub(super) facts: Facts,
    pub(super) http: Http,
    pub(super) seal: Option<Seal>,
    pub(super) origin: Client,
    /// Made or read when it is first needed.
    pub(super) account: Option<Account>,
    pub(super) names: BTreeMap<String, Kept>,
}

/// One name.
#[derive(Debug)]
pub(super) struct Kept {
    held: Option<Held>,
    /// When its authority wants it renewed, and when to ask for that again.
    window: Option<Window>,
    ask_at: Timestamp,
    failures: u32,
    error: Option<String>,
    waiting: bool,
    /// When something is to be done next.
    next: Timestamp,
}

/// Why a name's certificate was not renewed.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    /// It could not be kept.
    #[error("the certificate cannot be kept: {0}; make room in the state folder, or let this user write there")]
    Disk(#[from] io::Error),
    /// It is of no use.
    #[error("the authority gave what is of no use: {0}")]
    Front(#[from] eyot_front::Error),
    /// The order failed.
    #[error("{error}; to do: {advice}", error = .0, advice = .0.advice())]
    Order(#[from] OrderError),
    /// The origin says whose turn it is.
    #[error(
        "the origin does not say whether it is this node's turn: {0}; it is ordered without asking when little is left"
    )]
    Origin(String),
    /// The order took too long.
    #[error("the authority took longer than {} s; it is tried again", ORDER.as_secs())]
    Slow,
}

/// What became of a name.
enum Renewed {
    Done,
    /// Another node orders now.
    NotOurTurn,
}

impl Keeper {
    /// Takes up what is kept. When this returns, it serves.
    pub(super) fn load(&mut self) {
        let now = Timestamp::now();
        for name in self.config.names.clone() {
            let held = self.stored(&name);
            let held = held.map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => {}
                _ => tracing::warn!(name, %error, "the certificate that is kept is of no use; one is ordered"),
            });
            let kept = Kept {
                held: held.ok(),
                window: None,
                ask_at: now,
                failures: 0,
                error: None,
                waiting: false,
                next: now,
            };
            self.facts.set(&name, kept.fact());
            self.names.insert(name, kept);
        }
    }

    fn stored(&self, name: &str) -> io::Result<Held> {
        let (directory, pem) = self.store.certificate(name)?;
        let held = Held::of(&pem, directory, &self.node).map_err(io::Error::other)?;
        self.certificates.install(name, &self.store.file(name)).map_err(io::Error::other)?;
        Ok(held)
    }

    /// Keeps the certificates for as long as it is polled.
    pub(super) async fn run(mut self) {
        loop {
            let due = self.names.iter().min_by_key(|(_, kept)| kept.next).map(|(name, kept)| (name.clone(), kept.next));
            let Some((name, at)) = due else { return };
            let wait = Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default();
            if wait.is_zero() {
                self.tend(&name).await;
            } else {
                tokio::time::sleep(wait.min(LOOK)).await;
            }
        }
    }

    /// Does what is due for a name, and says when there is more to do.
    async fn tend(&mut self, name: &str) {
        let Some(mut kept) = self.names.remove(name) else { return };
        self.ask_window(&mut kept).await;
        if kept.renew_at(&self.config.directory) <= Timestamp::now() {
            let renewed = self.renew(name, &mut kept).await;
            self.note(name, &mut kept, renewed);
        } else {
            kept.next = kept.renew_at(&self.config.directory).min(kept.ask_at);
        }
        self.facts.set(name, kept.fact());
        self.names.insert(name.to_owned(), kept);
    }

    fn note(&self, name: &str, kept: &mut Kept, renewed: Result<Renewed, KeepError>) {
        let now = Timestamp::now();
        kept.waiting = false;
        match renewed {
            Ok(Renewed::Done) => {
                (kept.failures, kept.error, kept.window, kept.ask_at) = (0, None, None, now);
                // Never at once again: what was just taken may be due already.
                kept.next = now + TURN[0];
                tracing::info!(name, expires = ?kept.held.as_ref().map(|held| held.life.ends), "a certificate is in use");
            }
            Ok(Renewed::NotOurTurn) => {
                kept.waiting = true;
                kept.next = now + TURN[usize::from(!kept.is_urgent(now))];
            }
            Err(error) => {
                kept.failures = kept.failures.saturating_add(1);
                let life = kept.held.as_ref().map(|held| held.life);
                kept.next = now + Life::pause(life, kept.failures, now, dice());
                let later = self.http.later().and_then(|at| Timestamp::try_from(at).ok());
                kept.next = later.map_or(kept.next, |later| later.max(kept.next));
                let expires = kept.held.as_ref().map(|held| held.life.ends.to_string());
                tracing::error!(name, %error, expires, next = %kept.next, "no certificate; what is in use stays in use");
                kept.error = Some(error.to_string());
            }
        }
    }

    /// Asks the authority when it wants the certificate renewed, when it is time to. What it does not say is no error.
    async fn ask_window(&mut self, kept: &mut Kept) {
        let now = Timestamp::now();
        let Some(held) = kept.held.as_ref().filter(|_| kept.ask_at <= now) else { return };
        kept.ask_at = now + WINDOW[1];
        let Some(id) = held.id.clone().filter(|_| held.directory == self.config.directory) else { return };
        let Ok(account) = self.account().await else { return };
        match account.renewal_info(&id).await {
            Ok((info, again)) => {
                let at = |time: i64| Timestamp::from_second(time).unwrap_or(Timestamp::MAX);
                let window = info.suggested_window;
                kept.window =
                    Some(Window { start: at(window.start.unix_timestamp()), end: at(window.end.unix_timestamp()) });
                let again = SignedDuration::try_from(again).unwrap_or(WINDOW[1]);
                kept.ask_at = now + again.clamp(WINDOW[0], WINDOW[1]);
            }
            Err(error) => tracing::debug!(%error, "the authority does not say when it wants renewals"),
        }
    }

    async fn renew(&mut self, name: &str, kept: &mut Kept) -> Result<Renewed, KeepError> {
        if self.take_from_fleet(name, kept).await? {
            return Ok(Renewed::Done);
        }
        let turn = match tokio::time::timeout(ASK, self.origin.acme_lease(true)).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer in {} s", ASK.as_secs())),
        };
        match turn {
            Ok(true) => {}
            Ok(false) => return Ok(Renewed::NotOurTurn),
            Err(error) if !kept.is_urgent(Timestamp::now()) => return Err(KeepError::Origin(error)),
            Err(error) => tracing::warn!(name, error, "ordered without asking whose turn it is"),
        }
        let done = self.renew_in_turn(name, kept).await;
        if let Ok(Err(error)) = tokio::time::timeout(ASK, self.origin.acme_lease(false)).await {
            tracing::debug!(%error, "the turn ends by itself in ten minutes");
        }
        done.map(|()| Renewed::Done)
    }

    async fn renew_in_turn(&mut self, name: &str, kept: &mut Kept) -> Result<(), KeepError> {
        // Whoever had the turn before may have done it.
        if self.take_from_fleet(name, kept).await? {
            return Ok(());
        }
        let ordered = match self.order(name, kept).await {
            // An authority may forget accounts; the next is made and used at once.
            Err(KeepError::Order(error)) if error.kind() == Some("accountDoesNotExist") => self.order(name, kept).await,
            ordered => ordered,
        };
        let pem = ordered?;
        self.take(name, kept, &pem)?;
        self.give_to_fleet(name).await;
        Ok(())
    }

    /// Orders a certificate. After a failure nothing is remembered of the authority that it may have changed.
    async fn order(&mut self, name: &str, kept: &Kept) -> Result<String, KeepError> {
        let ordered = tokio::time::timeout(ORDER, self.try_order(name, kept)).await;
        ordered.unwrap_or(Err(KeepError::Slow)).inspect_err(|error| self.forget(error))
    }

    async fn try_order(&mut self, name: &str, kept: &Kept) -> Result<String, KeepError> {
        let account = self.account().await?;
        let held = kept.held.as_ref().filter(|held| held.directory == self.config.directory);
        let replaces = held.and_then(|held| held.id.clone());
        let (kinds, tries) = (&self.config.challenges, kept.failures);
        Ok(order::order(&account, name, kinds, tries, replaces, &self.answers).await?)
    }

    async fn account(&mut self) -> Result<Account, OrderError> {
        if let Some(account) = &self.account {
            return Ok(account.clone());
        }
        let made = tokio::time::timeout(ORDER, order::account(&self.config, &self.store, &self.http)).await;
        let account = made.unwrap_or(Err(OrderError::Authority(instant_acme::Error::Timeout(None))))?;
        self.account = Some(account.clone());
        Ok(account)
    }

    /// After a failure the directory is read again; and an account that the authority does not know is forgotten.
    fn forget(&mut self, error: &KeepError) {
        self.account = None;
        if let KeepError::Order(error) = error
            && error.kind() == Some("accountDoesNotExist")
            && let Err(error) = self.store.forget_account(&self.config.directory)
        {
            tracing::warn!(%error, "the account that the authority does not know could not be forgotten");
        }
    }

    /// Takes a certificate into use, and keeps it.
    fn take(&self, name: &str, kept: &mut Kept, pem: &str) -> Result<(), KeepError> {
        let directory = self.config.directory.clone();
        let held = Held::of(pem, directory, &self.node).map_err(io::Error::other)?;
        let file = self.store.put_next(name, &held.directory, pem)?;
        self.certificates.install(name, &file)?;
        kept.held = Some(held);
        self.store.keep_next(name)?;
        Ok(())
    }

    /// Takes the fleet's certificate for a name, if it is newer than what is here and not due itself.
    async fn take_from_fleet(&self, name: &str, kept: &mut Kept) -> Result<bool, KeepError> {
        let Some(seal) = &self.seal else { return Ok(false) };
        let Ok(Ok(Some(found))) = tokio::time::timeout(ASK, self.origin.acme_certificate(name)).await else {
            return Ok(false);
        };
        let Some(pem) = seal.open(&about(name), &found.sealed.0).and_then(|pem| String::from_utf8(pem).ok()) else {
            tracing::warn!(name, "the fleet's certificate was not sealed with this node's `share`; it is not taken");
            return Ok(false);
        };
        let directory = directory_of(&pem).to_owned();
        let Ok(held) = Held::of(&pem, directory, &self.node) else { return Ok(false) };
        let newer = kept
            .held
            .as_ref()
            .is_none_or(|ours| ours.directory != self.config.directory || ours.life.ends < held.life.ends);
        if !newer || held.directory != self.config.directory || held.life.renew_at(None, held.dice) <= Timestamp::now()
        {
            return Ok(false);
        }
        self.take(name, kept, &pem)?;
        Ok(true)
    }

    /// Gives this node's certificate for a name to the fleet. That it is not taken is no error: each orders its own then.
    async fn give_to_fleet(&self, name: &str) {
        let Some(seal) = &self.seal else { return };
        let (Ok((_, pem)), about) = (self.store.certificate(name), about(name)) else { return };
        let Ok(sealed) = seal.seal(&about, pem.as_bytes()) else { return };
        let give = async {
            let version = self.origin.acme_certificate(name).await?.map_or(0, |found| found.version);
            let certificate = SealedCertificate { version, sealed: Base64(sealed) };
            self.origin.put_acme_certificate(name, &certificate).await
        };
        match tokio::time::timeout(ASK, give).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(name, %error, "the certificate did not reach the fleet"),
            Err(_) => tracing::warn!(name, "the certificate did not reach the fleet: the origin is silent"),
        }
    }
}

impl Kept {
    /// When it is renewed: at once without a certificate, or with one of another directory.
    fn renew_at(&self, directory: &str) -> Timestamp {
        match &self.held {
            Some(held) if held.directory == directory => held.life.renew_at(self.window, held.dice),
            _ => Timestamp::MIN,
        }
    }

    fn is_urgent(&self, now: Timestamp) -> bool {
        self.held.as_ref().is_none_or(|held| held.life.is_urgent(now))
    }

    fn fact(&self) -> Fact {
        Fact {
            expires: self.held.as_ref().map(|held| held.life.ends),
            next: Some(self.next),
            failures: self.failures,
            error: self.error.clone(),
            waiting: self.waiting,
        }
    }
}

/// What a certificate is sealed as.
fn about(name: &str) -> String {
    format!("certificate {name}")
}

/// A number that nobody knows before.
fn dice() -> u64 {
    let mut random = [0; 8];
    let _ = aws_lc_rs::rand::fill(&mut random);
    u64::from_ne_bytes(random)
}
