//! Heads in one redb file, for one origin. Every swap is a two-phase commit: a torn file gives an error, never an older
//! value.

use std::path::Path;
use std::sync::Arc;

use ::redb::{Database, Durability, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use bytes::Bytes;
use tokio::sync::watch;

use super::{Entry, Heads, HeadsError};

/// Key to version and value.
const HEADS: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("heads");
/// Key to holder and the end of its lease, in milliseconds since 1970.
const LEASES: TableDefinition<'_, &str, (&str, u64)> = TableDefinition::new("leases");

/// A store of heads in one file. Cheap to clone.
#[derive(Clone)]
pub struct RedbHeads {
    database: Arc<Database>,
    swaps: Arc<watch::Sender<u64>>,
}

impl std::fmt::Debug for RedbHeads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RedbHeads")
    }
}

impl RedbHeads {
    /// Opens the file, or makes it. One process at a time can.
    ///
    /// # Errors
    /// [`HeadsError::Failed`]: it is open elsewhere, or torn; then restore it from a backup.
    pub fn open(path: &Path) -> Result<Self, HeadsError> {
        // A torn file can make redb panic: that is an answer about the file, not the end of the process.
        let opened = std::panic::catch_unwind(|| -> Result<Database, HeadsError> {
            let mut database = Database::create(path).map_err(failed)?;
            if database.check_integrity().map_err(failed)? { Ok(database) } else { Err(failed("it is damaged")) }
        });
        let at = |cause: String| HeadsError::Failed(format!("{}: {cause}", path.display()));
        let database = match opened {
            Ok(Ok(database)) => database,
            Ok(Err(error)) => return Err(at(error.to_string())),
            Err(_) => return Err(at("it is damaged: restore it from a backup".to_owned())),
        };
        let heads = Self { database: Arc::new(database), swaps: Arc::new(watch::Sender::new(0)) };
        heads.make_tables()?;
        Ok(heads)
    }

    fn make_tables(&self) -> Result<(), HeadsError> {
        let transaction = self.write()?;
        transaction.open_table(HEADS).map_err(failed)?;
        transaction.open_table(LEASES).map_err(failed)?;
        transaction.commit().map_err(failed)
    }

    fn write(&self) -> Result<::redb::WriteTransaction, HeadsError> {
        let mut transaction = self.database.begin_write().map_err(failed)?;
        transaction.set_durability(Durability::Immediate).map_err(failed)?;
        transaction.set_two_phase_commit(true);
        Ok(transaction)
    }

    fn read_now(&self, key: &str) -> Result<Option<Entry>, HeadsError> {
        let transaction = self.database.begin_read().map_err(failed)?;
        let table = transaction.open_table(HEADS).map_err(failed)?;
        let found = table.get(key).map_err(failed)?;
        Ok(found.map(|guard| {
            let (version, value) = guard.value();
            Entry { version, value: Bytes::copy_from_slice(value) }
        }))
    }

    fn swap_now(&self, key: &str, was: Option<u64>, value: &[u8]) -> Result<u64, HeadsError> {
        let transaction = self.write()?;
        let version = {
            let mut table = transaction.open_table(HEADS).map_err(failed)?;
            let is = table.get(key).map_err(failed)?.map(|guard| guard.value().0);
            if is != was {
                return Err(HeadsError::Moved { key: key.to_owned() });
            }
            let version = is.unwrap_or(0) + 1;
            table.insert(key, (version, value)).map_err(failed)?;
            version
        };
        transaction.commit().map_err(failed)?;
        self.swaps.send_modify(|swaps| *swaps = swaps.wrapping_add(1));
        Ok(version)
    }

    fn lease_now(&self, key: &str, holder: &str, ttl_ms: u64) -> Result<bool, HeadsError> {
        let now_ms = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0);
        let transaction = self.write()?;
        {
            let mut table = transaction.open_table(LEASES).map_err(failed)?;
            let taken = table.get(key).map_err(failed)?.is_some_and(|guard| {
                let (by, until_ms) = guard.value();
                by != holder && until_ms > now_ms
            });
            if taken {
                return Ok(false);
            }
            table.insert(key, (holder, now_ms.saturating_add(ttl_ms))).map_err(failed)?;
        }
        transaction.commit().map_err(failed)?;
        Ok(true)
    }
}

fn failed(error: impl std::fmt::Display) -> HeadsError {
    HeadsError::Failed(error.to_string())
}

/// Runs what waits for the disk apart from the threads that answer.
async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HeadsError> + Send + 'static,
) -> Result<T, HeadsError> {
    tokio::task::spawn_blocking(work).await.map_err(failed)?
}

impl Heads for RedbHeads {
    async fn get(&self, key: &str) -> Result<Option<Entry>, HeadsError> {
        let (heads, key) = (self.clone(), key.to_owned());
        apart(move || heads.read_now(&key)).await
    }

    async fn swap(&self, key: &str, was: Option<u64>, value: Bytes) -> Result<u64, HeadsError> {
        let (heads, key) = (self.clone(), key.to_owned());
        apart(move || heads.swap_now(&key, was, &value)).await
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.swaps.subscribe()
    }

    async fn lease(&self, key: &str, holder: &str, ttl_ms: u64) -> Result<bool, HeadsError> {
        let (heads, key, holder) = (self.clone(), key.to_owned(), holder.to_owned());
        apart(move || heads.lease_now(&key, &holder, ttl_ms)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, RedbHeads) {
        let folder = tempfile::tempdir().expect("a folder");
        let heads = RedbHeads::open(&folder.path().join("heads.redb")).expect("a new file");
        (folder, heads)
    }

    #[tokio::test]
    async fn a_swap_needs_the_version_that_was_seen_and_outlives_the_process() {
        let (folder, heads) = store();
        assert_eq!(heads.get("a").await.expect("a read"), None);
        assert_eq!(heads.swap("a", None, "1".into()).await.expect("a swap"), 1);
        for stale in [None, Some(2), Some(0)] {
            assert!(matches!(heads.swap("a", stale, "x".into()).await, Err(HeadsError::Moved { .. })), "{stale:?}");
        }
        assert_eq!(heads.swap("a", Some(1), "2".into()).await.expect("a swap"), 2);
        drop(heads);
        let heads = RedbHeads::open(&folder.path().join("heads.redb")).expect("the file");
        assert_eq!(heads.get("a").await.expect("a read"), Some(Entry { version: 2, value: "2".into() }));
    }

    #[tokio::test]
    async fn of_many_racing_writers_none_loses_an_update() {
        let (_folder, heads) = store();
        let add = |heads: RedbHeads| async move {
            loop {
                let entry = heads.get("sum").await.expect("a read");
                let sum = entry.as_ref().map_or(0, |entry| entry.value.len());
                let swapped = heads.swap("sum", entry.map(|entry| entry.version), vec![b'x'; sum + 1].into()).await;
                match swapped {
                    Ok(_) => return,
                    Err(HeadsError::Moved { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        };
        let writers: Vec<_> = (0..8).map(|_| tokio::spawn(add(heads.clone()))).collect();
        for writer in writers {
            writer.await.expect("a writer");
        }
        assert_eq!(heads.get("sum").await.expect("a read").expect("a sum").value.len(), 8);
        assert_eq!(*heads.watch().borrow(), 8);
    }

    #[tokio::test]
    async fn a_lease_has_one_holder_until_its_end() {
        let (_folder, heads) = store();
        assert!(heads.lease("signer", "one", 60_000).await.expect("a lease"));
        assert!(heads.lease("signer", "one", 0).await.expect("a lease"));
        assert!(heads.lease("signer", "two", 60_000).await.expect("a lease"));
        assert!(!heads.lease("signer", "one", 60_000).await.expect("a lease"));
    }

    #[test]
    fn a_torn_file_is_an_error_and_no_panic() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("heads.redb");
        std::fs::write(&path, b"redb, but not really").expect("a file");
        assert!(matches!(RedbHeads::open(&path), Err(HeadsError::Failed(_))));
    }
}
