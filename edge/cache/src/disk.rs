//! The disk tier: objects on a local file system, bounded in bytes. It loses them as it has to, and never gives another
//! byte than was stored: each part is checked when it is read. It outlives its process, however that ends.
//!
//! It knows nothing of HTTP, and nobody waits for it who answers: what the disk does not take is not stored, and what it
//! does not give is not found. `docs/decisions/0027-*.md` says why it is as it is.

mod barred;
mod file;
mod folder;
pub mod format;
mod health;
mod index;
mod keeper;
mod queue;
mod read;
mod recover;
mod shared;
mod table;
mod write;

use std::hash::{BuildHasher, Hasher};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::task::spawn_blocking;

use folder::{EPOCH_SHIFT, Epoch, Folder};
pub use format::{CHUNK, Id, META_BYTES_MAX};
use health::Health;
use index::Index;
use keeper::{Job, Keeper};
use read::Whose;
pub use read::{Damaged, Reader};
use shared::{Counts, Pin, Shared, count};
pub use write::Writer;

/// The least that a queue has, so that something fits.
const QUEUE_BYTES_MIN: usize = 1 << 20;

/// What a tier may take.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes of the disk, as the file system allocates them.
    pub bytes_max: u64,
    /// Objects; each takes about 60 bytes of memory.
    pub objects_max: usize,
    /// The body of one object.
    pub object_bytes_max: u64,
    /// Bytes in memory that wait to be written.
    pub queue_bytes_max: usize,
    /// Objects being written at the same time.
    pub writers_max: usize,
    /// Reads that may wait for the disk at the same time.
    pub reads_max: usize,
    /// How long the disk may take to find an object before it counts as not there.
    pub find_wait: Duration,
    /// How long the disk may take to give a chunk.
    pub read_wait: Duration,
    /// How long nothing is written after a first failure.
    pub retry: Duration,
}

impl Options {
    /// What goes with so many bytes of disk.
    pub fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            objects_max: usize::try_from(bytes_max / 4096).unwrap_or(usize::MAX).clamp(16, 2_000_000),
            object_bytes_max: bytes_max / 4,
            queue_bytes_max: 64 << 20,
            writers_max: 512,
            reads_max: 64,
            find_wait: Duration::from_millis(250),
            read_wait: Duration::from_secs(10),
            retry: Duration::from_secs(1),
        }
    }
}

/// The tier cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the cache's disk tier in {}", folder.display())]
pub struct OpenError {
    folder: PathBuf,
    #[source]
    source: std::io::Error,
}

/// What the tier holds, and what became of what it was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Objects that can be found.
    pub objects: usize,
    /// Bytes of the disk that are taken, also for what is being written and what is removed but still read.
    pub bytes: u64,
    /// Objects that answered.
    pub hits: u64,
    /// Objects that were not what was written.
    pub damaged: u64,
    /// Writes that the disk did not take.
    pub write_errors: u64,
    /// Objects that went to make room.
    pub evicted: u64,
    /// Objects that were not stored because the disk did not keep up, or failed lately.
    pub declined: u64,
    /// Reads that were given up because the disk took too long.
    pub slow: u64,
    /// Not all that an earlier process left is known yet.
    pub recovering: bool,
}

/// A disk tier. It is closed when the last of its clones is dropped.
#[derive(Clone, Debug)]
pub struct Disk(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Of the last clear, or of the opening; the floor only counts once it was cleared.
    epoch: Mutex<Epoch>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Inner {
    fn stop(&self) {
        self.shared.closed.store(true, Ordering::Relaxed);
        let _ = self.shared.jobs.send(Job::Stop);
    }
}

impl Disk {
    /// Takes the folder, which nobody else may have, and makes it if it is not there. What is in it is looked at in the
    /// background, and is found as far as that has come.
    ///
    /// # Errors
    /// It cannot be made or written to, another process has it, or it holds what is not of a cache.
    pub async fn open(folder: PathBuf, options: Options) -> Result<Self, OpenError> {
        let path = folder.clone();
        let opened = spawn_blocking(move || Self::begin(&path, options)).await;
        opened.map_err(std::io::Error::other).flatten().map_err(|source| OpenError { folder, source })
    }

    fn begin(path: &Path, mut options: Options) -> std::io::Result<Self> {
        options.queue_bytes_max = options.queue_bytes_max.max(QUEUE_BYTES_MIN);
        // So that those who wait for half of the queue cannot overfill it together.
        options.writers_max = options.writers_max.min(options.queue_bytes_max / 2 / (CHUNK + 1024));
        let (folder, lock, epoch) = Folder::open(path)?;
        let (jobs, asked) = mpsc::channel();
        let shared = Arc::new(Shared {
            folder,
            options,
            index: Mutex::new(Index::new(options.bytes_max, options.objects_max)),
            health: Health::new(options.retry),
            counts: Counts::default(),
            serial: AtomicU64::new(epoch.now << EPOCH_SHIFT),
            life: std::hash::RandomState::new().build_hasher().finish(),
            closed: AtomicBool::new(false),
            queue: Arc::new(Semaphore::new(options.queue_bytes_max / 1024)),
            drained: Notify::new(),
            reads: Arc::new(Semaphore::new(options.reads_max)),
            writers: AtomicUsize::new(0),
            jobs,
        });
        let lock = Arc::new(lock);
        let keeper = Keeper::new(Arc::clone(&shared), Arc::clone(&lock));
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let keeps = thread("cache-disk").spawn(move || keeper.run(&asked))?;
        let inner = Inner { shared, threads: Mutex::new(vec![keeps]), epoch: Mutex::new(epoch) };
        let shared = Arc::clone(&inner.shared);
        let recovers = thread("cache-recover").spawn(move || recover::run(&shared, epoch, lock))?;
        inner.threads.lock().unwrap_or_else(PoisonError::into_inner).push(recovers);
        Ok(Self(Arc::new(inner)))
    }

    /// Begins to write an object that shares `primary` with its variants and replaces the one that is called `id`. Its
    /// `meta` may be another in the end; where that is no longer than this one, reading takes one step less.
    /// Nothing: the disk does not take it now.
    pub fn begin_write(&self, primary: Id, id: Id, meta: &[u8]) -> Option<Writer> {
        Writer::begin(&self.0.shared, primary, id, meta.len())
    }

    /// Whether there may be an object with this primary id: without it, `find` finds none.
    pub fn has(&self, primary: &Id) -> bool {
        let shared = &self.0.shared;
        shared.index().has_primary(shared.hash(primary))
    }

    /// The objects with this primary id, each to be read as it now is.
    pub async fn find(&self, primary: &Id) -> Vec<Reader> {
        let found = self.0.shared.index().read_primary(self.0.shared.hash(primary));
        if found.is_empty() {
            return Vec::new();
        }
        let pins = found.into_iter().map(|found| self.pin(found)).collect();
        read::open(&self.0.shared, pins, Whose::Primary(*primary)).await
    }

    /// The object of this id.
    pub async fn read(&self, id: &Id) -> Option<Reader> {
        let found = self.0.shared.index().read(self.0.shared.hash(id))?;
        read::open(&self.0.shared, vec![self.pin(found)], Whose::Id(*id)).await.pop()
    }

    fn pin(&self, (id, serial): (u64, u64)) -> Pin {
        Pin { shared: Arc::clone(&self.0.shared), id, serial }
    }

    /// Gives an object another meta, whole or not at all. False: it has the one that it had, or is not there.
    pub fn remeta(&self, id: Id, meta: Bytes) -> impl Future<Output = bool> + Send + use<> {
        let shared = &self.0.shared;
        let (said, hears) = oneshot::channel();
        let kib = u32::try_from(meta.len() / 1024 + 1).unwrap_or(u32::MAX);
        let permit = Arc::clone(&shared.queue).try_acquire_many_owned(kib).ok();
        let permit = permit.filter(|_| meta.len() <= META_BYTES_MAX);
        let sent = permit.is_some_and(|permit| shared.jobs.send(Job::Remeta { id, meta, said, permit }).is_ok());
        if !sent {
            count(&shared.counts.declined);
        }
        async move { sent && hears.await.unwrap_or(false) }
    }

    /// Removes an object: at once from what can be found; from the disk when the answer comes, which is whether it is.
    pub fn remove(&self, id: &Id) -> impl Future<Output = bool> + Send + 'static {
        let gone = self.0.shared.index().remove(self.0.shared.hash(id));
        self.unlink(gone.into_iter().collect())
    }

    /// Removes an object if this is still its file, as `remove` does, and waits for nothing.
    pub fn remove_file(&self, id: &Id, file: u64) {
        let gone = self.0.shared.index().remove_file(self.0.shared.hash(id), file);
        self.0.shared.unlink(gone.into_iter().collect());
    }

    /// Whether this is still the file of the object, so that it was neither replaced nor removed.
    pub fn has_file(&self, id: &Id, file: u64) -> bool {
        self.0.shared.index().file(self.0.shared.hash(id)).is_some_and(|(serial, _)| serial == file)
    }

    /// The most that a body may have.
    pub fn object_bytes_max(&self) -> u64 {
        self.0.shared.options.object_bytes_max.min(format::BODY_BYTES_MAX)
    }

    /// Removes all objects with this primary id, as `remove` does.
    pub fn remove_primary(&self, primary: &Id) -> impl Future<Output = bool> + Send + 'static {
        let gone = self.0.shared.index().remove_primary(self.0.shared.hash(primary));
        self.unlink(gone)
    }

    fn unlink(&self, gone: Vec<index::Gone>) -> impl Future<Output = bool> + Send + 'static {
        let (said, hears) = oneshot::channel();
        let sent = self.0.shared.jobs.send(Job::Unlink { gone, said: Some(said) }).is_ok();
        async move { sent && hears.await.unwrap_or(false) }
    }

    /// Removes all objects, and what is being written: at once from what can be found; for good, also if the process
    /// then dies, when the answer comes, which is whether it is. The files go after that.
    pub fn clear(&self) -> impl Future<Output = bool> + Send + 'static {
        let (said, hears) = oneshot::channel();
        let mut last = self.0.epoch.lock().unwrap_or_else(PoisonError::into_inner);
        let mut index = self.0.shared.index();
        let epoch = Epoch { now: last.now + 1, floor: last.now + 1 };
        *last = epoch;
        let gone = Box::new(index.clear());
        self.0.shared.serial.store(epoch.now << EPOCH_SHIFT, Ordering::Relaxed);
        let sent = self.0.shared.jobs.send(Job::Clear { gone, epoch, said }).is_ok();
        drop(index);
        async move { sent && hears.await.unwrap_or(false) }
    }

    /// Lets go of the folder, so that another process may have it: nothing is found and nothing stored any more. What
    /// is being read can be read on.
    pub async fn close(&self) {
        self.0.stop();
        let threads = std::mem::take(&mut *self.0.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let _ = spawn_blocking(move || threads.into_iter().try_for_each(JoinHandle::join)).await;
        drop(self.0.shared.index().clear());
    }

    /// What it holds.
    pub fn stats(&self) -> Stats {
        let (index, counts) = (self.0.shared.index(), &self.0.shared.counts);
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            objects: index.objects(),
            bytes: index.bytes(),
            hits: read(&counts.hits),
            damaged: read(&counts.damaged),
            write_errors: read(&counts.write_errors),
            evicted: read(&counts.evicted),
            declined: read(&counts.declined),
            slow: read(&counts.slow),
            recovering: index.is_recovering(),
        }
    }
}
