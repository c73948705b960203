//! The tables, and how their keys and values are laid out.
//!
//! A key of the tables is the name of the app behind its length, the name of the store behind its own, and the key: no app
//! can name another's, and the keys of a store lie side by side.

use bytes::Bytes;
use redb::{ReadableTable, StorageError, TableDefinition};

use crate::ask::Bound;

/// Values by key, each behind its [`Head`].
pub(super) const VALUES: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("values");
/// The keys whose values end, by the time of that in milliseconds.
pub(super) const EXPIRY: TableDefinition<'static, (u64, &[u8]), ()> = TableDefinition::new("expiry");
/// How many keys each store has, those included whose values have ended and are still here.
pub(super) const KEYS: TableDefinition<'static, &[u8], u64> = TableDefinition::new("keys");
/// What each app holds, in bytes.
pub(super) const BYTES: TableDefinition<'static, &str, u64> = TableDefinition::new("bytes");
/// `format`, and the last `revision` given.
pub(super) const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
pub(super) const FORMAT: u64 = 1;
/// What a key costs beside its bytes and those of its value.
const ENTRY_BYTES: usize = 64;

/// What stands before each value: its revision, and when it ends (0: never).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) revision: u64,
    pub(super) ends_ms: u64,
}

impl Head {
    pub(super) const BYTES: usize = 16;

    /// The head of what a table holds, and the value.
    pub(super) fn read(bytes: &[u8]) -> Result<(Self, &[u8]), StorageError> {
        let (head, value) = bytes.split_first_chunk::<16>().ok_or_else(torn)?;
        let (revision, ends) = head.split_first_chunk::<8>().ok_or_else(torn)?;
        let ends = ends.first_chunk::<8>().ok_or_else(torn)?;
        Ok((Self { revision: u64::from_be_bytes(*revision), ends_ms: u64::from_be_bytes(*ends) }, value))
    }

    pub(super) fn is_over(self, now_ms: u64) -> bool {
        self.ends_ms != 0 && self.ends_ms <= now_ms
    }

    /// What a key with such a value costs.
    pub(super) fn weight(self, at: &[u8], value_bytes: usize) -> u64 {
        let times = if self.ends_ms == 0 { 1 } else { 2 };
        (at.len() * times + value_bytes + Self::BYTES + ENTRY_BYTES) as u64
    }
}

fn torn() -> StorageError {
    StorageError::Corrupted("a value has no head".to_owned())
}

/// What all keys of a store begin with.
pub(super) fn prefix(bound: &Bound) -> Vec<u8> {
    let mut prefix = Vec::with_capacity(96);
    for name in [&bound.app, &bound.store] {
        // A name has at most 40 bytes.
        prefix.push(u8::try_from(name.as_str().len()).unwrap_or(u8::MAX));
        prefix.extend_from_slice(name.as_str().as_bytes());
    }
    prefix
}

pub(super) fn at(bound: &Bound, key: &str) -> Vec<u8> {
    let mut at = prefix(bound);
    at.extend_from_slice(key.as_bytes());
    at
}

/// The prefix of the store that a key is of, and its app.
pub(super) fn owner(at: &[u8]) -> Option<(&[u8], &str)> {
    let app_bytes = usize::from(*at.first()?);
    let app = std::str::from_utf8(at.get(1..=app_bytes)?).ok()?;
    let store_bytes = usize::from(*at.get(1 + app_bytes)?);
    Some((at.get(..2 + app_bytes + store_bytes)?, app))
}

/// The value of a key with its revision, unless it has ended.
pub(super) fn find(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    at: &[u8],
    now_ms: u64,
) -> Result<Option<(u64, Bytes)>, StorageError> {
    let Some(found) = table.get(at)? else { return Ok(None) };
    let (head, value) = Head::read(found.value())?;
    Ok((!head.is_over(now_ms)).then(|| (head.revision, Bytes::copy_from_slice(value))))
}
