//! One store, opened: its bounds are checked here, once for all engines, and nothing waits longer than it may.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use crate::ask::{Ask, BATCH_BYTES_MAX, BATCH_KEYS_MAX, Bound, Current, KEY_BYTES_MAX, Page, Said, Write};
use crate::error::Error;
use crate::stores::Kept;

/// How long a store may take for anything that it is asked.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// One store of an app. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    bound: Arc<Bound>,
    kept: Kept,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("bound", &self.bound).finish_non_exhaustive()
    }
}

impl Store {
    pub(crate) fn new(bound: Bound, kept: Kept) -> Self {
        Self { bound: Arc::new(bound), kept }
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn get(&self, key: String) -> Result<Option<Bytes>, Error> {
        Ok(self.get_many(vec![key]).await?.pop().flatten())
    }

    /// The values of `keys`, in their order: at most 256, of 8 MiB together.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn get_many(&self, keys: Vec<String>) -> Result<Vec<Option<Bytes>>, Error> {
        checked_batch(keys.len())?;
        keys.iter().try_for_each(|key| checked_key(key))?;
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        match self.ask(Ask::Get(keys)).await? {
            Said::Values(values) => Ok(values),
            _ => Err(unexpected()),
        }
    }

    /// Whether `key` has a value.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn exists(&self, key: String) -> Result<bool, Error> {
        checked_key(&key)?;
        match self.ask(Ask::Exists(key)).await? {
            Said::Exists(exists) => Ok(exists),
            _ => Err(unexpected()),
        }
    }

    /// Some of the keys, in an order of the engine's own, from `cursor` on or from the first. A key that is there all
    /// the while is found.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn keys(&self, cursor: Option<String>) -> Result<Page, Error> {
        if cursor.as_ref().is_some_and(|cursor| cursor.len() > KEY_BYTES_MAX) {
            return Err(bad_cursor());
        }
        match self.ask(Ask::Keys { cursor }).await? {
            Said::Keys(page) => Ok(page),
            _ => Err(unexpected()),
        }
    }

    /// Sets the value of `key`.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn set(&self, key: String, value: Bytes) -> Result<(), Error> {
        self.write(vec![Write { key, value: Some(value) }]).await
    }

    /// Sets several values, at most 256, of 8 MiB together; of a key that comes twice, the last. Where it fails, some may
    /// be set.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn set_many(&self, pairs: Vec<(String, Bytes)>) -> Result<(), Error> {
        self.write(pairs.into_iter().map(|(key, value)| Write { key, value: Some(value) }).collect()).await
    }

    /// Deletes `key`; it need not be there.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn delete(&self, key: String) -> Result<(), Error> {
        self.write(vec![Write { key, value: None }]).await
    }

    /// Deletes several keys, at most 256. Where it fails, some may be deleted.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn delete_many(&self, keys: Vec<String>) -> Result<(), Error> {
        self.write(keys.into_iter().map(|key| Write { key, value: None }).collect()).await
    }

    /// Adds `delta` to the number that is the value of `key`, 0 where there is none, and gives the sum. The value is
    /// written in decimal digits.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn increment(&self, key: String, delta: i64) -> Result<i64, Error> {
        checked_key(&key)?;
        match self.ask(Ask::Increment { key, delta }).await? {
            Said::Sum(sum) => Ok(sum),
            _ => Err(unexpected()),
        }
    }

    /// The value of `key` with its revision.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn current(&self, key: String) -> Result<Current, Error> {
        checked_key(&key)?;
        match self.ask(Ask::Current(key)).await? {
            Said::Current(current) => Ok(current),
            _ => Err(unexpected()),
        }
    }

    /// Sets the value of `key` if its revision is still `revision`; 0: if it has none. `false`: it is another.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn swap(&self, key: String, revision: u64, value: Bytes) -> Result<bool, Error> {
        checked_key(&key)?;
        self.checked_value(&value)?;
        match self.ask(Ask::Swap { key, revision, value }).await? {
            Said::Swapped(swapped) => Ok(swapped),
            _ => Err(unexpected()),
        }
    }

    async fn write(&self, writes: Vec<Write>) -> Result<(), Error> {
        checked_batch(writes.len())?;
        for Write { key, value } in &writes {
            checked_key(key)?;
            value.as_ref().map_or(Ok(()), |value| self.checked_value(value))?;
        }
        let ask = Ask::Write(last_of_each(writes));
        if ask.bytes() > BATCH_BYTES_MAX {
            return Err(Error::refused(format!(
                "these values have more than {BATCH_BYTES_MAX} bytes; set fewer at once"
            )));
        }
        if ask == Ask::Write(Vec::new()) {
            return Ok(());
        }
        match self.ask(ask).await? {
            Said::Done => Ok(()),
            _ => Err(unexpected()),
        }
    }

    fn checked_value(&self, value: &Bytes) -> Result<(), Error> {
        let most = self.bound.spec.value_max_bytes;
        if value.len() as u64 > most {
            return Err(Error::refused(format!("a value of {} bytes; this store takes {most}", value.len())));
        }
        Ok(())
    }

    async fn ask(&self, ask: Ask) -> Result<Said, Error> {
        timeout(ANSWER_WITHIN, self.kept.ask(&self.bound, ask)).await.map_err(|_| Error::too_slow())?
    }
}

/// The last write of each key, in the order of these.
fn last_of_each(writes: Vec<Write>) -> Vec<Write> {
    let mut seen = HashSet::new();
    let mut last: Vec<_> = writes.into_iter().rev().filter(|write| seen.insert(write.key.clone())).collect();
    last.reverse();
    last
}

fn checked_key(key: &str) -> Result<(), Error> {
    match key.len() {
        1..=KEY_BYTES_MAX => Ok(()),
        0 => Err(Error::refused("a key has at least one byte")),
        bytes => Err(Error::refused(format!("a key of {bytes} bytes; at most {KEY_BYTES_MAX}"))),
    }
}

fn checked_batch(keys: usize) -> Result<(), Error> {
    match keys <= BATCH_KEYS_MAX {
        true => Ok(()),
        false => Err(Error::refused(format!("{keys} keys at once; at most {BATCH_KEYS_MAX}"))),
    }
}

/// For engines: a cursor that they did not make.
pub(crate) fn bad_cursor() -> Error {
    Error::refused("the cursor is none of this store")
}

fn unexpected() -> Error {
    Error::unavailable("it spoke of something else")
}
