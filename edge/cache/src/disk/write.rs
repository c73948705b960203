//! The front of a write: it gathers chunks and hands them to the keeper, and never waits for the disk. Where the disk
//! does not keep up, the object is given up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::format::{BODY_BYTES_MAX, CHUNK, Id, META_BYTES_MAX, body_at};
use super::keeper::Job;
use super::shared::{Shared, count};

/// What the keeper knows of an object that is being written.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) primary: Id,
    pub(crate) id: Id,
    pub(crate) serial: u64,
    /// How often all had been cleared when it was begun.
    pub(crate) clears: u64,
    /// Where its body begins, if it is written before the last meta is known.
    pub(crate) body_at: u64,
    /// It will not become an object.
    pub(crate) dead: AtomicBool,
}

impl Draft {
    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    pub(crate) fn give_up(&self) {
        self.dead.store(true, Ordering::Relaxed);
    }
}

/// Writes an object. Nothing is seen of it before it is finished; if it is dropped, nothing is left of it.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    draft: Arc<Draft>,
    rest: BytesMut,
    body_bytes: u64,
    chunks: u64,
    finished: bool,
}

impl Writer {
    /// Begins to write, if the disk takes it.
    pub(crate) fn begin(shared: &Arc<Shared>, primary: Id, id: Id, meta_bytes: usize) -> Option<Self> {
        let options = &shared.options;
        let busy = shared.writers.load(Ordering::Relaxed) >= options.writers_max || !shared.has_room();
        if busy || meta_bytes > META_BYTES_MAX || shared.is_closed() || shared.health.is_paused() {
            count(&shared.counts.declined);
            return None;
        }
        shared.writers.fetch_add(1, Ordering::Relaxed);
        let index = shared.index();
        let (clears, serial) = (index.clears, shared.serial.fetch_add(1, Ordering::Relaxed));
        drop(index);
        let dead = AtomicBool::new(false);
        let draft = Draft { primary, id, serial, clears, body_at: body_at(meta_bytes), dead };
        Some(Self {
            shared: Arc::clone(shared),
            draft: Arc::new(draft),
            rest: BytesMut::new(),
            body_bytes: 0,
            chunks: 0,
            finished: false,
        })
    }

    /// The number of its file: each object that is stored has another.
    pub fn file(&self) -> u64 {
        self.draft.serial
    }

    /// Takes more of the body. False: it was given up, and there is no use in more.
    pub fn push(&mut self, mut bytes: Bytes) -> bool {
        self.body_bytes += bytes.len() as u64;
        if self.body_bytes > self.shared.options.object_bytes_max.min(BODY_BYTES_MAX) {
            self.give_up();
        }
        while !self.draft.is_dead() && !bytes.is_empty() {
            // A full chunk goes when something follows it: the last one goes with the end.
            if self.rest.len() == CHUNK {
                let chunk = self.rest.split().freeze();
                self.send_chunk(chunk);
            }
            if self.rest.is_empty() && bytes.len() > CHUNK {
                let chunk = bytes.split_to(CHUNK);
                self.send_chunk(chunk);
            } else {
                let some = bytes.split_to(bytes.len().min(CHUNK - self.rest.len()));
                self.rest.extend_from_slice(&some);
            }
        }
        !self.draft.is_dead()
    }

    /// Waits until the disk has caught up, for those who may wait: what is pushed then is not given up for its pace.
    pub async fn ready(&self) {
        loop {
            let drained = self.shared.drained.notified();
            if self.shared.has_room() || self.shared.is_closed() {
                return;
            }
            drained.await;
        }
    }

    /// The body is complete, and `meta` is what is kept of it: what was written becomes an object in place of the one
    /// that had its id. It goes on if nobody waits for the answer, which is whether there is such an object now.
    pub fn finish(mut self, meta: Bytes) -> impl Future<Output = bool> + Send + 'static {
        self.finished = true;
        let (said, hears) = oneshot::channel();
        let rest = self.rest.split().freeze();
        let permit = self.permit(rest.len() + meta.len());
        let sent = match permit {
            Some(permit) if meta.len() <= META_BYTES_MAX && !self.draft.is_dead() => {
                let (draft, body_bytes) = (Arc::clone(&self.draft), self.body_bytes);
                self.shared.jobs.send(Job::Finish { draft, rest, meta, body_bytes, said, permit }).is_ok()
            }
            _ => {
                self.drop_file();
                false
            }
        };
        async move { sent && hears.await.unwrap_or(false) }
    }

    fn send_chunk(&mut self, chunk: Bytes) {
        let Some(permit) = self.permit(chunk.len()) else { return self.give_up() };
        let (draft, number) = (Arc::clone(&self.draft), self.chunks);
        self.chunks += 1;
        if self.shared.jobs.send(Job::Chunk { draft, number, chunk, permit }).is_err() {
            self.give_up();
        }
    }

    /// Room in the queue, if there is.
    fn permit(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let kib = u32::try_from(bytes / 1024 + 1).ok()?;
        Arc::clone(&self.shared.queue).try_acquire_many_owned(kib).ok()
    }

    fn give_up(&mut self) {
        if !self.draft.is_dead() {
            self.draft.give_up();
            count(&self.shared.counts.declined);
        }
        self.rest = BytesMut::new();
    }

    fn drop_file(&self) {
        self.draft.give_up();
        if self.chunks > 0 {
            let _ = self.shared.jobs.send(Job::Drop { serial: self.draft.serial });
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.writers.fetch_sub(1, Ordering::Relaxed);
        if !self.finished {
            self.drop_file();
        }
    }
}
