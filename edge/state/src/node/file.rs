//! The file: what one transaction does to its tables, and what one reads. No queue, no thread, and `now` is an argument.

mod change;
mod read;
mod tables;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

use redb::{Database, ReadableDatabase as _, ReadableTable as _};

use crate::ask::{Ask, Bound, Said};
use crate::error::Error;
use change::Change;
use read::Reading;
use tables::{BYTES, EXPIRY, FORMAT, KEYS, META, VALUES};

/// The memory of the file's pages, in bytes.
const CACHE_BYTES: usize = 64 << 20;
/// Values that have ended and are removed with each commit.
const PURGED: usize = 1_024;

/// The file, open or not.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    database: RwLock<Option<Database>>,
}

impl File {
    /// Opens the file, which is made when it is not there.
    pub(super) fn open(path: PathBuf) -> Result<Self, String> {
        let database = open(&path)?;
        Ok(Self { path, database: RwLock::new(Some(database)) })
    }

    /// Waits for what reads it, and lets go of the file.
    pub(super) fn close(&self) {
        let _ = catch_unwind(AssertUnwindSafe(|| {
            drop(self.database.write().unwrap_or_else(PoisonError::into_inner).take())
        }));
    }

    /// After a failure, which the file may have to be opened again to forget.
    pub(super) fn reopen(&self) -> Result<(), String> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        drop(database.take());
        *database = Some(open(&self.path)?);
        Ok(())
    }

    /// Answers what only reads; none: it is not open.
    pub(super) fn read(&self, bound: &Bound, ask: &Ask, now_ms: u64) -> Option<Result<Said, Error>> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref()?;
        let read = || Reading { read: database.begin_read()?, now_ms }.answer(bound, ask);
        Some(unwound(read).unwrap_or_else(|error| {
            tracing::error!(%error, "a store could not be read");
            Err(Error::unavailable("its file could not be read"))
        }))
    }

    /// Does all that is asked in one transaction, durable when this returns: what each is told, in their order.
    pub(super) fn write<'a>(
        &self,
        asks: impl Iterator<Item = (&'a Bound, &'a Ask)>,
        now_ms: u64,
    ) -> Result<Vec<Result<Said, Error>>, String> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or_else(|| "it is not open".to_owned())?;
        unwound(|| {
            let mut write = database.begin_write()?;
            // Two phases, and the allocator's state with each: after a crash it is open at once, whatever its size, and
            // nothing that an app wrote is taken for a commit.
            write.set_quick_repair(true);
            let (said, is_changed) = {
                let mut change = Change::begin(&write, now_ms)?;
                change.purge(PURGED)?;
                let said = asks.map(|(bound, ask)| change.answer(bound, ask)).collect::<Result<Vec<_>, _>>()?;
                (said, change.end(&write)?)
            };
            if is_changed {
                write.commit()?
            } else {
                write.abort()?
            }
            Ok(said)
        })
    }

    /// When the next value ends.
    pub(super) fn next_end_ms(&self) -> Option<u64> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref()?;
        unwound(|| {
            let read = database.begin_read()?;
            let table = read.open_table(EXPIRY)?;
            let first = table.first()?.map(|(key, _)| key.value().0);
            Ok(first)
        })
        .ok()
        .flatten()
    }
}

fn open(path: &PathBuf) -> Result<Database, String> {
    let made = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    made.and_then(|file| file.sync_all()).map_err(|error| error.to_string())?;
    if let Some(folder) = path.parent() {
        std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| error.to_string())?;
    }
    unwound(|| {
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(path)?;
        let write = database.begin_write()?;
        let format = {
            write.open_table(VALUES)?;
            write.open_table(EXPIRY)?;
            write.open_table(KEYS)?;
            write.open_table(BYTES)?;
            let mut meta = write.open_table(META)?;
            let format = meta.get("format")?.map(|format| format.value());
            meta.insert("format", format.unwrap_or(FORMAT))?;
            format
        };
        if format.is_none() {
            write.commit()?
        } else {
            write.abort()?
        }
        Ok((database, format.unwrap_or(FORMAT)))
    })
    .and_then(|(database, format)| match format {
        FORMAT => Ok(database),
        other => Err(format!("it is of format {other}, and this program knows {FORMAT}")),
    })
}

/// What `act` gives; a file that was changed on disk can make the library panic.
fn unwound<T>(act: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, String> {
    let acted = catch_unwind(AssertUnwindSafe(act)).map_err(|_| "its library panicked over it".to_owned())?;
    acted.map_err(|error| error.to_string())
}
