//! The ledger: what this node must never forget, in one embedded store with one durable commit per change
//! (`docs/formats.md`, section 6). Beside it a witness of the last commit, so that an older copy is noticed, and the
//! `serving` file, so that the node answers even when the ledger is torn.
//!
//! It keeps exact bytes and floors and knows what they are called, not what they mean: that is `eyot_bundle::trust`.

pub mod durable;
pub mod serving;
mod state;
mod store;
#[cfg(test)]
mod tests;
mod witness;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;
use eyot_bundle::digest::Digest;
use eyot_bundle::name::Name;
use jiff::Timestamp;

pub use state::{AppRecord, State};
use store::Store;

use crate::config::secret::own_key;

const STORE: &str = "ledger.redb";
const WITNESS: &str = "ledger.witness";
const KEY: &str = "node.mac";

/// Exact bytes by their name: `timestamp.json`, `7.root.json`, `releases/shop/417.json`, `held/app-shop.json`.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Why there is no ledger, or why it did not take a change.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another process has it.
    #[error("another process has the ledger in {0}; end that one first")]
    Busy(PathBuf),
    /// It could not be written.
    #[error("the ledger could not be written: {0}")]
    Write(String),
    /// It is torn, changed, older than its witness, or gone: no floor is known.
    #[error("the ledger is lost: {0}")]
    Lost(String),
}

/// One change, made durable as a whole or not at all.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Files to keep, in place of those of the same name.
    pub put: Files,
    /// Files to forget.
    pub remove: BTreeSet<String>,
    /// The floors as they are now.
    pub floors: Option<Floors>,
    /// What is now noted of these apps; `None`: nothing any more.
    pub apps: BTreeMap<Name, Option<AppRecord>>,
}

/// What trust must not fall below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Floors {
    /// Versions by role.
    pub versions: BTreeMap<String, u64>,
    /// The latest signed time.
    pub time: Timestamp,
    /// The version of the snapshot.
    pub seq: u64,
}

/// The open ledger of one node. One process has it at a time.
pub struct Ledger {
    folder: PathBuf,
    key: hmac::Key,
    store: Store,
    state: State,
}

impl Ledger {
    /// Opens the ledger in `folder`, or makes one where there never was one, and all the files it keeps.
    ///
    /// # Errors
    /// [`LedgerError::Lost`] if anything about it is not as it was left; [`LedgerError::Busy`].
    pub fn open(folder: &Path) -> Result<(Self, Files), LedgerError> {
        let path = folder.join(STORE);
        let witness = witness::read(&folder.join(WITNESS)).map_err(lost("its witness"))?;
        let ledger = if path.exists() {
            Self::open_known(folder, &path, witness.as_deref())?
        } else if witness.is_some() || serving::path(folder).exists() {
            return Err(LedgerError::Lost(format!("{} is gone", path.display())));
        } else {
            Self::make(folder, &path)?
        };
        let files = ledger.store.files().map_err(LedgerError::Lost)?;
        let digests: BTreeMap<_, _> = files.iter().map(|(name, bytes)| (name.clone(), Digest::of(bytes))).collect();
        if digests != ledger.state.files {
            return Err(LedgerError::Lost("a file in it is not the one that was put there".to_owned()));
        }
        Ok((ledger, files))
    }

    fn open_known(folder: &Path, path: &Path, witness: Option<&[u8]>) -> Result<Self, LedgerError> {
        if !folder.join(KEY).exists() {
            return Err(LedgerError::Lost(format!("its key {KEY} is gone")));
        }
        let key = key(folder)?;
        let store = Store::open(path)?;
        let (bytes, mac) = store.state().map_err(LedgerError::Lost)?;
        let state = State::read(&key, &bytes, &mac).map_err(LedgerError::Lost)?;
        match witness {
            Some(witness) => witness::check(&key, witness, &state, &bytes).map_err(LedgerError::Lost)?,
            // Between its first commit and the first witness.
            None if state.commit == 1 => witness::write(folder, &key, &state, &bytes).map_err(write)?,
            None => return Err(LedgerError::Lost(format!("its witness {WITNESS} is gone"))),
        }
        Ok(Self { folder: folder.to_owned(), key, store, state })
    }

    /// Makes a ledger beside its place and moves it there whole, so that one that is torn was never a new one.
    fn make(folder: &Path, path: &Path) -> Result<Self, LedgerError> {
        let key = key(folder)?;
        let aside = folder.join("ledger.redb.new");
        let _ = std::fs::remove_file(&aside);
        let state = State::first();
        let (bytes, mac) = state.write(&key);
        Store::create(&aside, &bytes, &mac).map_err(LedgerError::Write)?;
        std::fs::rename(&aside, path).and_then(|()| durable::sync_folder(folder)).map_err(write)?;
        witness::write(folder, &key, &state, &bytes).map_err(write)?;
        Ok(Self { folder: folder.to_owned(), key, store: Store::open(path)?, state })
    }

    /// What is noted beside the files.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Makes `change` durable, and its witness.
    ///
    /// # Errors
    /// [`LedgerError::Write`]: whether it was made is then known only after the ledger was opened anew.
    pub fn commit(&mut self, change: &Change) -> Result<(), LedgerError> {
        let state = self.state.after(change);
        let (bytes, mac) = state.write(&self.key);
        self.store.commit(change, &bytes, &mac).map_err(LedgerError::Write)?;
        witness::write(&self.folder, &self.key, &state, &bytes).map_err(write)?;
        self.state = state;
        Ok(())
    }

    /// Forgets the ledger in `folder`, its witness and its key, and makes a new one: the operator starts this node's trust
    /// anew. What was there is kept under another name for one more time. The `serving` file is no floor, and stays.
    ///
    /// # Errors
    /// If a file could not be moved, or no ledger be made.
    pub fn reset(folder: &Path) -> Result<Self, LedgerError> {
        for name in [STORE, WITNESS, KEY] {
            match std::fs::rename(folder.join(name), folder.join(format!("{name}.lost"))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(write(error)),
                _ => {}
            }
        }
        durable::sync_folder(folder).map_err(write)?;
        Self::make(folder, &folder.join(STORE))
    }
}

fn key(folder: &Path) -> Result<hmac::Key, LedgerError> {
    let key = own_key(&folder.join(KEY)).map_err(|error| LedgerError::Lost(error.to_string()))?;
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &key))
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn write(error: io::Error) -> LedgerError {
    LedgerError::Write(error.to_string())
}

fn lost(what: &'static str) -> impl Fn(io::Error) -> LedgerError {
    move |error| LedgerError::Lost(format!("{what}: {error}"))
}
