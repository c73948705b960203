//! What writes, as one transaction changes the tables: bounds are kept here, and what is counted stays true.

use std::ops::Bound::{Excluded, Unbounded};

use redb::{ReadableTable as _, StorageError, Table, WriteTransaction};

use super::tables::{BYTES, EXPIRY, Head, KEYS, META, VALUES, at, find, owner, prefix};
use crate::ask::{Ask, Bound, Said, Write, sum};
use crate::error::Error;

/// Values that have ended and are removed when a bound is met.
const PURGED_FOR_ROOM: usize = 16 << 10;

/// A transaction that writes.
pub(super) struct Change<'t> {
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
    pub(super) fn begin(write: &'t WriteTransaction, now_ms: u64) -> Result<Self, redb::Error> {
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
    pub(super) fn end(self, write: &'t WriteTransaction) -> Result<bool, redb::Error> {
        write.open_table(META)?.insert("revision", self.revision)?;
        Ok(self.is_changed)
    }

    pub(super) fn answer(&mut self, bound: &Bound, ask: &Ask) -> Result<Result<Said, Error>, redb::Error> {
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
    pub(super) fn purge(&mut self, most: usize) -> Result<bool, redb::Error> {
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
