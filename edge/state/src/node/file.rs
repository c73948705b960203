//! The file: what one transaction does to its tables, and what one reads. No queue, no thread, and `now` is an argument.
//!
//! A key of the tables is the name of the app behind its length, the name of the store behind its own, and the key: no app
//! can name another's, and the keys of a store lie side by side.

use std::fs::OpenOptions;
use std::ops::Bound::{Excluded, Unbounded};
use std::os::unix::fs::OpenOptionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

use bytes::Bytes;
use redb::{
    Database, ReadTransaction, ReadableDatabase as _, ReadableTable, StorageError, Table, TableDefinition,
    WriteTransaction,
};

use crate::ask::{Ask, Bound, Current, Given, PAGE_KEYS, Page, Said, Write, sum};
use crate::error::Error;

/// Values by key, each behind its [`Head`].
const VALUES: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("values");
/// The keys whose values end, by the time of that in milliseconds.
const EXPIRY: TableDefinition<'static, (u64, &[u8]), ()> = TableDefinition::new("expiry");
/// How many keys each store has, those included whose values have ended and are still here.
const KEYS: TableDefinition<'static, &[u8], u64> = TableDefinition::new("keys");
/// What each app holds, in bytes.
const BYTES: TableDefinition<'static, &str, u64> = TableDefinition::new("bytes");
/// `format`, and the last `revision` given.
const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
const FORMAT: u64 = 1;
/// The memory of the file's pages, in bytes.
const CACHE_BYTES: usize = 64 << 20;
/// What a key costs beside its bytes and those of its value.
const ENTRY_BYTES: usize = 64;
/// Values that have ended and are removed with each commit; when a bound is met.
const PURGED: usize = 1_024;
const PURGED_FOR_ROOM: usize = 16 << 10;
/// Keys that one page passes over because their values have ended.
const ENDED_PASSED_MAX: usize = 10_000;

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

/// What stands before each value: its revision, and when it ends (0: never).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    revision: u64,
    ends_ms: u64,
}

impl Head {
    const BYTES: usize = 16;

    /// The head of what a table holds, and the value.
    fn read(bytes: &[u8]) -> Result<(Self, &[u8]), StorageError> {
        let (head, value) = bytes.split_first_chunk::<16>().ok_or_else(torn)?;
        let (revision, ends) = head.split_first_chunk::<8>().ok_or_else(torn)?;
        let ends = ends.first_chunk::<8>().ok_or_else(torn)?;
        Ok((Self { revision: u64::from_be_bytes(*revision), ends_ms: u64::from_be_bytes(*ends) }, value))
    }

    fn is_over(self, now_ms: u64) -> bool {
        self.ends_ms != 0 && self.ends_ms <= now_ms
    }

    /// What a key with such a value costs.
    fn weight(self, at: &[u8], value_bytes: usize) -> u64 {
        let times = if self.ends_ms == 0 { 1 } else { 2 };
        (at.len() * times + value_bytes + Self::BYTES + ENTRY_BYTES) as u64
    }
}

fn torn() -> StorageError {
    StorageError::Corrupted("a value has no head".to_owned())
}

/// What all keys of a store begin with.
fn prefix(bound: &Bound) -> Vec<u8> {
    let mut prefix = Vec::with_capacity(96);
    for name in [&bound.app, &bound.store] {
        // A name has at most 40 bytes.
        prefix.push(u8::try_from(name.as_str().len()).unwrap_or(u8::MAX));
        prefix.extend_from_slice(name.as_str().as_bytes());
    }
    prefix
}

fn at(bound: &Bound, key: &str) -> Vec<u8> {
    let mut at = prefix(bound);
    at.extend_from_slice(key.as_bytes());
    at
}

/// The value of a key with its revision, unless it has ended.
fn find(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    at: &[u8],
    now_ms: u64,
) -> Result<Option<(u64, Bytes)>, StorageError> {
    let Some(found) = table.get(at)? else { return Ok(None) };
    let (head, value) = Head::read(found.value())?;
    Ok((!head.is_over(now_ms)).then(|| (head.revision, Bytes::copy_from_slice(value))))
}

struct Reading {
    read: ReadTransaction,
    now_ms: u64,
}

impl Reading {
    fn answer(&self, bound: &Bound, ask: &Ask) -> Result<Result<Said, Error>, redb::Error> {
        let table = self.read.open_table(VALUES)?;
        let find = |key: &str| find(&table, &at(bound, key), self.now_ms);
        Ok(match ask {
            Ask::Current(key) => Ok(Said::Current(match find(key)? {
                Some((revision, value)) => Current { value: Some(value), revision },
                None => Current::default(),
            })),
            Ask::Exists(key) => Ok(Said::Exists(find(key)?.is_some())),
            Ask::Get(keys) => {
                let mut given = Given::default();
                for key in keys {
                    if let Err(error) = given.add(find(key)?.map(|(_, value)| value)) {
                        return Ok(Err(error));
                    }
                }
                Ok(given.said())
            }
            Ask::Keys { cursor } => Ok(Said::Keys(self.page(&table, bound, cursor.as_deref())?)),
            Ask::Increment { .. } | Ask::Swap { .. } | Ask::Write(_) => Err(Error::unavailable("this writes")),
        })
    }

    /// The keys behind `after`.
    fn page(
        &self,
        table: &impl ReadableTable<&'static [u8], &'static [u8]>,
        bound: &Bound,
        after: Option<&str>,
    ) -> Result<Page, StorageError> {
        let prefix = prefix(bound);
        // No byte of UTF-8 is 0xff.
        let (first, last) = (at(bound, after.unwrap_or_default()), [prefix.as_slice(), &[0xff]].concat());
        let mut page = Page::default();
        let mut passed = 0;
        for entry in table.range::<&[u8]>((Excluded(first.as_slice()), Excluded(last.as_slice())))? {
            let (key, value) = entry?;
            let key = String::from_utf8_lossy(&key.value()[prefix.len()..]).into_owned();
            match Head::read(value.value())?.0.is_over(self.now_ms) {
                true => passed += 1,
                false => page.keys.push(key.clone()),
            }
            if page.keys.len() == PAGE_KEYS || passed == ENDED_PASSED_MAX {
                page.cursor = Some(key);
                break;
            }
        }
        Ok(page)
    }
}

/// A transaction that writes.
struct Change<'t> {
    now_ms: u64,
    values: Table<'t, &'static [u8], &'static [u8]>,
    expiry: Table<'t, (u64, &'static [u8]), ()>,
    keys: Table<'t, &'static [u8], u64>,
    bytes: Table<'t, &'static str, u64>,
    revision: u64,
    is_changed: bool,
}

/// By how much keys and bytes of a store become more.
#[derive(Clone, Copy, Debug, Default)]
struct More {
    keys: i64,
    bytes: i64,
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl<'t> Change<'t> {
    fn begin(write: &'t WriteTransaction, now_ms: u64) -> Result<Self, redb::Error> {
        let revision = write.open_table(META)?.get("revision")?.map_or(0, |revision| revision.value());
        Ok(Self {
            now_ms,
            values: write.open_table(VALUES)?,
            expiry: write.open_table(EXPIRY)?,
            keys: write.open_table(KEYS)?,
            bytes: write.open_table(BYTES)?,
            revision,
            is_changed: false,
        })
    }

    /// Whether there is anything to commit.
    fn end(self, write: &'t WriteTransaction) -> Result<bool, redb::Error> {
        write.open_table(META)?.insert("revision", self.revision)?;
        Ok(self.is_changed)
    }

    fn answer(&mut self, bound: &Bound, ask: &Ask) -> Result<Result<Said, Error>, redb::Error> {
        match ask {
            Ask::Increment { key, delta } => {
                let old = find(&self.values, &at(bound, key), self.now_ms)?;
                match sum(old.as_ref().map(|(_, value)| &value[..]), *delta) {
                    Ok(sum) => {
                        let write = Write { key: key.clone(), value: Some(sum.to_string().into()) };
                        Ok(self.put(bound, &[write])?.map(|()| Said::Sum(sum)))
                    }
                    Err(error) => Ok(Err(error)),
                }
            }
            Ask::Swap { key, revision, value } => {
                let old = find(&self.values, &at(bound, key), self.now_ms)?;
                if old.map_or(0, |(revision, _)| revision) != *revision {
                    return Ok(Ok(Said::Swapped(false)));
                }
                let write = Write { key: key.clone(), value: Some(value.clone()) };
                Ok(self.put(bound, &[write])?.map(|()| Said::Swapped(true)))
            }
            Ask::Write(writes) => Ok(self.put(bound, writes)?.map(|()| Said::Done)),
            Ask::Current(_) | Ask::Exists(_) | Ask::Get(_) | Ask::Keys { .. } => {
                Ok(Err(Error::unavailable("this only reads")))
            }
        }
    }

    /// All of these, or none.
    fn put(&mut self, bound: &Bound, writes: &[Write]) -> Result<Result<(), Error>, redb::Error> {
        let mut more = self.more(bound, writes)?;
        let mut room = self.room(bound, more)?;
        if room.is_err() && self.purge(PURGED_FOR_ROOM)? {
            more = self.more(bound, writes)?;
            room = self.room(bound, more)?;
        }
        if room.is_err() {
            return Ok(room);
        }
        for write in writes {
            let at = at(bound, &write.key);
            self.forget(&at)?;
            match &write.value {
                Some(value) => self.insert(bound, &at, value)?,
                None => drop(self.values.remove(at.as_slice())?),
            }
        }
        self.count(&prefix(bound), bound.app.as_str(), more)?;
        self.is_changed = true;
        Ok(Ok(()))
    }

    /// What these would add.
    fn more(&self, bound: &Bound, writes: &[Write]) -> Result<More, StorageError> {
        let mut more = More::default();
        for write in writes {
            let at = at(bound, &write.key);
            if let Some(old) = self.values.get(at.as_slice())? {
                let (head, value) = Head::read(old.value())?;
                more.keys -= 1;
                more.bytes -= signed(head.weight(&at, value.len()));
            }
            if let Some(value) = &write.value {
                more.keys += 1;
                more.bytes += signed(self.head(bound).weight(&at, value.len()));
            }
        }
        Ok(more)
    }

    /// Whether that much more is within the bounds of store and app. What is not more always is.
    fn room(&self, bound: &Bound, more: More) -> Result<Result<(), Error>, StorageError> {
        let keys = self.keys.get(prefix(bound).as_slice())?.map_or(0, |keys| keys.value());
        let bytes = self.bytes.get(bound.app.as_str())?.map_or(0, |bytes| bytes.value());
        let (keys_max, bytes_max) = (bound.spec.keys_max, bound.disk_bytes_max);
        Ok(if more.keys > 0 && keys.saturating_add_signed(more.keys) > keys_max {
            Err(Error::too_many_keys(keys_max))
        } else if more.bytes > 0 && bytes.saturating_add_signed(more.bytes) > bytes_max {
            Err(Error::refused(format!("the stores of this app hold the {bytes_max} bytes that it may keep on a node")))
        } else {
            Ok(())
        })
    }

    /// The head of the next value.
    fn head(&self, bound: &Bound) -> Head {
        let ends = |ttl: u64| self.now_ms.saturating_add(ttl).max(1);
        Head { revision: self.revision.saturating_add(1), ends_ms: bound.spec.ttl_ms.map_or(0, ends) }
    }

    fn insert(&mut self, bound: &Bound, at: &[u8], value: &[u8]) -> Result<(), StorageError> {
        let head = self.head(bound);
        self.revision = head.revision;
        let mut room = self.values.insert_reserve(at, Head::BYTES + value.len())?;
        let bytes = room.as_mut();
        bytes[..8].copy_from_slice(&head.revision.to_be_bytes());
        bytes[8..Head::BYTES].copy_from_slice(&head.ends_ms.to_be_bytes());
        bytes[Head::BYTES..].copy_from_slice(value);
        drop(room);
        if head.ends_ms != 0 {
            self.expiry.insert((head.ends_ms, at), ())?;
        }
        Ok(())
    }

    /// Takes the end of what is there out of the table of ends.
    fn forget(&mut self, at: &[u8]) -> Result<(), StorageError> {
        let ends = match self.values.get(at)? {
            Some(old) => Head::read(old.value())?.0.ends_ms,
            None => 0,
        };
        if ends != 0 {
            self.expiry.remove((ends, at))?;
        }
        Ok(())
    }

    fn count(&mut self, prefix: &[u8], app: &str, more: More) -> Result<(), StorageError> {
        let keys = self.keys.get(prefix)?.map_or(0, |keys| keys.value());
        self.keys.insert(prefix, keys.saturating_add_signed(more.keys))?;
        let bytes = self.bytes.get(app)?.map_or(0, |bytes| bytes.value());
        self.bytes.insert(app, bytes.saturating_add_signed(more.bytes))?;
        Ok(())
    }

    /// Removes values that have ended, at most so many; whether there were any.
    fn purge(&mut self, most: usize) -> Result<bool, redb::Error> {
        let mut due = Vec::new();
        for entry in self.expiry.range((Unbounded, Excluded((self.now_ms.saturating_add(1), &[][..]))))?.take(most) {
            let key = entry?.0;
            let (ends_ms, at) = key.value();
            due.push((ends_ms, at.to_vec()));
        }
        for (ends_ms, at) in &due {
            self.expiry.remove((*ends_ms, at.as_slice()))?;
            let weight = match self.values.remove(at.as_slice())? {
                Some(old) => {
                    let (head, value) = Head::read(old.value())?;
                    signed(head.weight(at, value.len()))
                }
                None => continue,
            };
            if let Some((prefix, app)) = owner(at) {
                self.count(prefix, app, More { keys: -1, bytes: -weight })?;
            }
        }
        self.is_changed |= !due.is_empty();
        Ok(!due.is_empty())
    }
}

/// The prefix of the store that a key is of, and its app.
fn owner(at: &[u8]) -> Option<(&[u8], &str)> {
    let app_bytes = usize::from(*at.first()?);
    let app = std::str::from_utf8(at.get(1..=app_bytes)?).ok()?;
    let store_bytes = usize::from(*at.get(1 + app_bytes)?);
    Some((at.get(..2 + app_bytes + store_bytes)?, app))
}
