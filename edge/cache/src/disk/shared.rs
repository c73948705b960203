//! What all parts of the tier share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};

use tokio::sync::{Notify, Semaphore};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Options;
use super::folder::Folder;
use super::format::Id;
use super::health::Health;
use super::index::{Gone, Index};
use super::keeper::Job;

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) hits: AtomicU64,
    pub(crate) damaged: AtomicU64,
    pub(crate) write_errors: AtomicU64,
    pub(crate) evicted: AtomicU64,
    pub(crate) declined: AtomicU64,
    pub(crate) slow: AtomicU64,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) folder: Folder,
    pub(crate) options: Options,
    pub(crate) index: Mutex<Index>,
    pub(crate) health: Health,
    pub(crate) counts: Counts,
    /// The number of the next file; drawn, and raised when all is cleared, with the index locked.
    pub(crate) serial: AtomicU64,
    /// A random number: what was written in an earlier life has other sums, and nobody outside can choose hashes.
    pub(crate) life: u64,
    /// Nothing is begun any more.
    pub(crate) closed: AtomicBool,
    /// Room in the queue of the keeper, in KiB.
    pub(crate) queue: Arc<Semaphore>,
    /// Told whenever something was written.
    pub(crate) drained: Notify,
    /// Reads that may wait for the disk at the same time.
    pub(crate) reads: Arc<Semaphore>,
    pub(crate) writers: AtomicUsize,
    pub(crate) jobs: mpsc::Sender<Job>,
}

impl Shared {
    pub(crate) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn hash(&self, id: &Id) -> u64 {
        xxh3_64_with_seed(id, self.life)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Whether half of the queue is empty: as much as all writers together can bring at once.
    pub(crate) fn has_room(&self) -> bool {
        self.queue.available_permits() >= self.options.queue_bytes_max / 1024 / 2
    }

    /// Has files unlinked that are in the index no more.
    pub(crate) fn unlink(&self, gone: Vec<Gone>) {
        if !gone.is_empty() {
            let _ = self.jobs.send(Job::Unlink { gone, said: None });
        }
    }

    /// An object is not what was written, or not there.
    pub(crate) fn damaged(&self, id: u64, serial: u64) {
        let gone = self.index().remove_file(id, serial);
        if let Some(gone) = gone {
            count(&self.counts.damaged);
            tracing::warn!(serial, "an object of the cache's disk tier is damaged, and removed");
            self.unlink(vec![gone]);
        }
    }
}

/// A file that is counted as long as somebody has it open.
#[derive(Debug)]
pub(crate) struct Pin {
    pub(crate) shared: Arc<Shared>,
    /// The hash of the object's id.
    pub(crate) id: u64,
    pub(crate) serial: u64,
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.shared.index().unpin(self.serial);
    }
}
