//! What only reads, as one transaction sees the tables.

use std::ops::Bound::Excluded;

use redb::{ReadTransaction, ReadableTable, StorageError};

use super::tables::{Head, VALUES, at, find, prefix};
use crate::ask::{Ask, Bound, Current, Given, PAGE_KEYS, Page, Said};
use crate::error::Error;

/// Keys that one page passes over because their values have ended.
const ENDED_PASSED_MAX: usize = 10_000;

/// A transaction that reads.
pub(super) struct Reading {
    pub(super) read: ReadTransaction,
    pub(super) now_ms: u64,
}

impl Reading {
    pub(super) fn answer(&self, bound: &Bound, ask: &Ask) -> Result<Result<Said, Error>, redb::Error> {
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
