//! The embedded store beneath the ledger: two tables, and nothing but two-phase commits.
//!
//! A file that was changed on disk can make the store panic; what touches it for the first time runs in `catch_unwind`,
//! and each failure is an error here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use eyot_bundle::digest::Digest;
use redb::{Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use super::{Change, Files, LedgerError};

const METADATA: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("metadata");
const STATE: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("state");
/// The store's own memory, in bytes.
const CACHE_BYTES: usize = 4 << 20;

pub(super) struct Store {
    database: Database,
}

impl Store {
    /// Makes a store that holds a state and no files, durable when this returns.
    pub(super) fn create(path: &Path, state: &[u8], mac: &Digest) -> Result<(), String> {
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(path).map_err(text)?;
        let store = Self { database };
        store.commit(&Change::default(), state, mac)
    }

    /// Opens a store, and checks all of it.
    pub(super) fn open(path: &Path) -> Result<Self, LedgerError> {
        let open = || {
            let mut database = Database::builder().set_cache_size(CACHE_BYTES).open(path)?;
            let whole = database.check_integrity()?;
            Ok::<_, DatabaseError>((database, whole))
        };
        match unwound(open) {
            Ok(Ok((database, true))) => Ok(Self { database }),
            Ok(Ok((_, false))) => Err(LedgerError::Lost("it is torn".to_owned())),
            Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => Err(LedgerError::Busy(path.to_owned())),
            Ok(Err(error)) => Err(LedgerError::Lost(error.to_string())),
            Err(error) => Err(LedgerError::Lost(error)),
        }
    }

    /// The state's bytes and their MAC.
    pub(super) fn state(&self) -> Result<(Vec<u8>, Vec<u8>), String> {
        unwound(|| {
            let read = self.database.begin_read().map_err(text)?;
            let table = read.open_table(STATE).map_err(text)?;
            let get = |name: &str| {
                let value = table.get(name).map_err(text)?;
                value.map(|value| value.value().to_vec()).ok_or_else(|| format!("it has no {name}"))
            };
            Ok((get("state")?, get("mac")?))
        })?
    }

    /// All files.
    pub(super) fn files(&self) -> Result<Files, String> {
        unwound(|| {
            let read = self.database.begin_read().map_err(text)?;
            let table = read.open_table(METADATA).map_err(text)?;
            let mut files = Files::new();
            for entry in table.iter().map_err(text)? {
                let (name, bytes) = entry.map_err(text)?;
                files.insert(name.value().to_owned(), bytes.value().to_vec());
            }
            Ok(files)
        })?
    }

    /// Makes a change durable, and the state that follows from it.
    pub(super) fn commit(&self, change: &Change, state: &[u8], mac: &Digest) -> Result<(), String> {
        unwound(|| {
            let mut write = self.database.begin_write().map_err(text)?;
            // One phase can silently give an older commit after a bit flip (measured: 127 of 1,500 places).
            write.set_two_phase_commit(true);
            {
                let mut table = write.open_table(METADATA).map_err(text)?;
                for name in &change.remove {
                    table.remove(name.as_str()).map_err(text)?;
                }
                for (name, bytes) in &change.put {
                    table.insert(name.as_str(), bytes.as_slice()).map_err(text)?;
                }
                let mut table = write.open_table(STATE).map_err(text)?;
                table.insert("state", state).map_err(text)?;
                table.insert("mac", mac.as_bytes().as_slice()).map_err(text)?;
            }
            write.commit().map_err(text)
        })?
    }
}

/// What `act` gives, or that it panicked.
fn unwound<T>(act: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(act)).map_err(|_| "the store panicked over it".to_owned())
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
