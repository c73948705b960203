//! The one thread that writes: all that changes the disk goes through it, in the order in which it was asked. So what was
//! removed after it was replaced is gone whichever file it was in, and the bound of bytes holds before each write.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::file::{Target, Whole};
use super::folder::{Access, Epoch, Lock};
use super::format::{Head, Id, Loaded};
use super::health::is_full;
use super::index::{Gone, Record, Room, cost};
use super::read::Waits;
use super::shared::{Shared, count};
use super::write::Draft;

/// How many files are unlinked between two jobs while there are many to unlink.
const UNLINKS: usize = 16;
/// How many files that could not be unlinked are remembered.
const STUCK_MAX: usize = 1 << 16;

type Said = oneshot::Sender<bool>;

/// What the keeper is asked for.
pub(crate) enum Job {
    Chunk {
        draft: Arc<Draft>,
        number: u64,
        chunk: Bytes,
        permit: OwnedSemaphorePermit,
    },
    /// What was taken out of the index, all of it, and the epoch from which on files count.
    Clear {
        gone: Box<dyn Iterator<Item = Gone> + Send>,
        epoch: Epoch,
        said: Said,
    },
    /// Nothing becomes of what was begun.
    Drop {
        serial: u64,
    },
    Finish {
        draft: Arc<Draft>,
        rest: Bytes,
        meta: Bytes,
        body_bytes: u64,
        said: Said,
        permit: OwnedSemaphorePermit,
    },
    Remeta {
        id: Id,
        meta: Bytes,
        said: Said,
        permit: OwnedSemaphorePermit,
    },
    Stop,
    Unlink {
        gone: Vec<Gone>,
        said: Option<Said>,
    },
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Job")
    }
}

/// Why something was not written.
enum Failure {
    /// The disk does not.
    Disk(io::Error),
    /// It has no place: all that is there is in use, or it is not wanted any more.
    Room,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

pub(crate) struct Keeper {
    shared: Arc<Shared>,
    /// Let go of when nothing is written any more.
    _lock: Arc<Lock>,
    files: HashMap<u64, Target>,
    /// What a clear left to unlink.
    cleared: Vec<Box<dyn Iterator<Item = Gone> + Send>>,
    /// What could not be unlinked.
    stuck: Vec<Gone>,
    /// What could not be said durably yet, without which nothing new may be written.
    owed: Option<Epoch>,
}

impl Keeper {
    pub(crate) fn new(shared: Arc<Shared>, lock: Arc<Lock>) -> Self {
        Self { shared, _lock: lock, files: HashMap::new(), cleared: Vec::new(), stuck: Vec::new(), owed: None }
    }

    /// Works until it is told to stop.
    pub(crate) fn run(mut self, jobs: &mpsc::Receiver<Job>) {
        loop {
            let job = if self.cleared.is_empty() { jobs.recv().ok() } else { jobs.try_recv().ok() };
            match job {
                Some(Job::Stop) => break,
                Some(job) => self.work(job),
                None if self.cleared.is_empty() => break,
                None => {}
            }
            if self.shared.has_room() {
                self.shared.drained.notify_waiters();
            }
            self.unlink_cleared();
        }
        self.shared.drained.notify_waiters();
        for (serial, target) in self.files.drain() {
            drop(target);
            let _ = self.shared.folder.unlink(serial);
        }
    }

    fn work(&mut self, job: Job) {
        match job {
            Job::Chunk { draft, number, chunk, permit } => {
                if !draft.is_dead() && (number == 0 || self.files.contains_key(&draft.serial)) {
                    let wrote = self.chunk(&draft, number, &chunk);
                    self.judge(&draft, wrote);
                }
                drop(permit);
            }
            Job::Clear { gone, epoch, said } => {
                self.owed = Some(epoch);
                self.cleared.push(gone);
                let _ = said.send(self.settle().is_ok());
            }
            Job::Drop { serial } => self.forget(serial),
            Job::Finish { draft, rest, meta, body_bytes, said, permit } => {
                let whole = Whole { rest: &rest, meta: &meta, body_bytes };
                let wrote = self.finish(&draft, &whole);
                let _ = said.send(self.judge(&draft, wrote));
                drop(permit);
            }
            Job::Remeta { id, meta, said, permit } => {
                let wrote = self.remeta(&id, &meta);
                let _ = said.send(self.note(wrote));
                drop(permit);
            }
            Job::Stop => {}
            Job::Unlink { gone, said } => {
                let mut all = true;
                for gone in gone {
                    all &= self.unlink(gone).is_ok();
                }
                said.map(|said| said.send(all));
            }
        }
    }

    /// Says how a write went; where it went wrong, nothing is left of the object.
    fn judge(&mut self, draft: &Draft, wrote: Result<(), Failure>) -> bool {
        let good = self.note(wrote);
        if !good {
            draft.give_up();
            self.forget(draft.serial);
        }
        good
    }

    fn note(&mut self, wrote: Result<(), Failure>) -> bool {
        match wrote {
            Ok(()) => self.shared.health.wrote(),
            Err(Failure::Disk(error)) => {
                count(&self.shared.counts.write_errors);
                self.shared.health.failed(&error);
                if is_full(&error) {
                    self.shed();
                }
                return false;
            }
            Err(Failure::Room) => return false,
        }
        true
    }

    /// Others fill the disk too: what the tier has is then more than it can have.
    fn shed(&mut self) {
        let target = self.shared.index().bytes() / 16 * 15;
        loop {
            let mut index = self.shared.index();
            let gone = if index.bytes() > target { index.evict() } else { None };
            drop(index);
            let Some(gone) = gone else { return };
            count(&self.shared.counts.evicted);
            let _ = self.unlink(gone);
        }
    }

    /// Counts so many bytes more; what has to go for them is gone then.
    fn grant(&mut self, bytes: u64) -> Result<(), Failure> {
        loop {
            let room = self.shared.index().room(bytes);
            match room {
                Room::Granted => return Ok(()),
                Room::None => return Err(Failure::Room),
                Room::After(gone) => {
                    count(&self.shared.counts.evicted);
                    self.unlink(gone)?;
                }
            }
        }
    }

    /// The file of a draft, with room for `end` bytes.
    fn target(&mut self, draft: &Draft, end: u64) -> Result<&mut Target, Failure> {
        if self.shared.health.is_paused() {
            return Err(Failure::Room);
        }
        let granted = self.files.get(&draft.serial).map_or(0, |target| target.granted);
        let more = cost(end).saturating_sub(granted);
        self.grant(more)?;
        if let Some(target) = self.files.get_mut(&draft.serial) {
            target.granted += more;
        } else {
            match self.settle().and_then(|()| self.shared.folder.create(draft.serial)) {
                Ok(file) => drop(self.files.insert(draft.serial, Target { file, chunks: 0, granted: more })),
                Err(error) => {
                    self.shared.index().spare(more);
                    return Err(error.into());
                }
            }
        }
        self.files.get_mut(&draft.serial).ok_or(Failure::Room)
    }

    fn chunk(&mut self, draft: &Draft, number: u64, chunk: &[u8]) -> Result<(), Failure> {
        let life = self.shared.life;
        let target = self.target(draft, Target::end_of(draft, number + 1))?;
        Ok(target.chunk(draft, life, number, chunk)?)
    }

    fn finish(&mut self, draft: &Draft, whole: &Whole<'_>) -> Result<(), Failure> {
        let shared = Arc::clone(&self.shared);
        if draft.is_dead() || whole.misses(self.files.get(&draft.serial)) {
            return Err(Failure::Room);
        }
        let head = whole.head(draft, shared.life);
        let target = self.target(draft, head.end())?;
        target.finish(&head, whole)?;
        let bytes = cost(head.end());
        let record =
            Record { primary: shared.hash(&head.primary), id: shared.hash(&head.id), serial: head.serial, bytes };
        let Some(target) = self.files.remove(&draft.serial) else { return Err(Failure::Room) };
        let mut index = shared.index();
        let (put, gone) = if index.clears == draft.clears && !shared.is_closed() {
            index.put(record, target.granted)
        } else {
            index.spare(target.granted);
            (false, Vec::new())
        };
        drop(index);
        for gone in gone {
            let _ = self.unlink(gone);
        }
        if !put {
            shared.folder.unlink(draft.serial)?;
            return Err(Failure::Room);
        }
        Ok(())
    }

    fn remeta(&mut self, id: &Id, meta: &[u8]) -> Result<(), Failure> {
        let shared = Arc::clone(&self.shared);
        let hash = shared.hash(id);
        let Some((serial, counted)) = shared.index().file(hash) else { return Err(Failure::Room) };
        if shared.health.is_paused() {
            return Err(Failure::Room);
        }
        let file = match shared.folder.open_file(serial, Access::Write) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(self.lost(hash, serial)),
            Err(error) => return Err(error.into()),
        };
        let head = match Loaded::load(&Waits(&file), serial)? {
            Some(loaded) if loaded.head.id == *id => loaded.head,
            Some(_) => return Err(Failure::Room),
            None => return Err(self.lost(hash, serial)),
        };
        let next = head.with_meta(meta);
        let end = next.end().max(head.end());
        let granted = cost(end).saturating_sub(counted);
        self.grant(granted)?;
        let wrote = super::file::remeta(&file, &next, meta, end);
        let bytes = if wrote.is_ok() { cost(end) } else { counted + granted };
        shared.index().resize(hash, serial, bytes, granted);
        self.is_there(hash, serial, wrote)
    }

    fn lost(&self, hash: u64, serial: u64) -> Failure {
        self.shared.damaged(hash, serial);
        Failure::Room
    }

    /// The object may have had to go for its own new meta.
    fn is_there(&self, hash: u64, serial: u64, wrote: io::Result<Head>) -> Result<(), Failure> {
        wrote?;
        let now = self.shared.index().file(hash);
        now.filter(|now| now.0 == serial).map(|_| ()).ok_or(Failure::Room)
    }

    fn forget(&mut self, serial: u64) {
        let Some(target) = self.files.remove(&serial) else { return };
        let granted = target.granted;
        drop(target);
        // What stays is found when the tier is next opened, and is not whole.
        let _ = self.shared.folder.unlink(serial);
        self.shared.index().spare(granted);
    }

    fn unlink(&mut self, gone: Gone) -> io::Result<()> {
        let unlinked = self.shared.folder.unlink(gone.serial);
        match unlinked {
            Ok(()) => self.shared.index().unlinked(gone),
            Err(_) if self.stuck.len() < STUCK_MAX => self.stuck.push(gone),
            Err(_) => {}
        }
        unlinked
    }

    fn unlink_cleared(&mut self) {
        for _ in 0..UNLINKS {
            let Some(gone) = self.cleared.last_mut().map(Iterator::next) else { return };
            match gone {
                Some(gone) => drop(self.unlink(gone)),
                None => drop(self.cleared.pop()),
            }
        }
    }

    /// What is owed to the disk from when it did not take it.
    fn settle(&mut self) -> io::Result<()> {
        if let Some(epoch) = self.owed {
            self.shared.folder.write_owner(epoch)?;
            self.owed = None;
        }
        for gone in std::mem::take(&mut self.stuck) {
            let _ = self.unlink(gone);
        }
        Ok(())
    }
}
