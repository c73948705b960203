//! The file, open in this process: reads go beside each other and wait for no write, writes go to the writer.

use std::sync::Arc;

use tokio::sync::{Semaphore, oneshot};

use super::Clock;
use super::file::File;
use super::writer::{Job, Writer};
use crate::ask::{Ask, Bound, Said};
use crate::error::Error;

/// Reads of one app at once.
const READS_MAX: usize = 32;
/// What of one app may wait to be written, in KiB, each ask counted as one more.
const WAITING_KIB_MAX: u32 = 16 << 10;

/// What of one app may be under way.
#[derive(Debug)]
pub(super) struct Room {
    reads: Arc<Semaphore>,
    writes: Arc<Semaphore>,
}

impl Default for Room {
    fn default() -> Self {
        let writes = usize::try_from(WAITING_KIB_MAX).unwrap_or(usize::MAX);
        Self { reads: Arc::new(Semaphore::new(READS_MAX)), writes: Arc::new(Semaphore::new(writes)) }
    }
}

#[derive(Debug)]
pub(super) struct Here {
    file: Arc<File>,
    writer: Arc<Writer>,
    clock: Clock,
}

impl Here {
    pub(super) fn start(file: File, clock: Clock) -> std::io::Result<Self> {
        let file = Arc::new(file);
        let writer = Arc::new(Writer::start(Arc::clone(&file), clock.clone())?);
        Ok(Self { file, writer, clock })
    }

    /// None: it is closed.
    pub(super) async fn ask(&self, room: &Room, bound: &Arc<Bound>, ask: Ask) -> Option<Result<Said, Error>> {
        if ask.only_reads() { self.read(room, bound, ask).await } else { self.write(room, bound, ask).await }
    }

    async fn read(&self, room: &Room, bound: &Arc<Bound>, ask: Ask) -> Option<Result<Said, Error>> {
        let permit = Arc::clone(&room.reads).acquire_owned().await.ok()?;
        let (file, bound, now_ms) = (Arc::clone(&self.file), Arc::clone(bound), self.clock.now_ms());
        let read = move || {
            let _permit = permit;
            file.read(&bound, &ask, now_ms)
        };
        let read = tokio::task::spawn_blocking(read).await;
        match read {
            Ok(None) if !self.writer.is_closed() => Some(Err(Error::unavailable("its file cannot be opened"))),
            Ok(said) => said,
            Err(_) => Some(Err(Error::unavailable("its file could not be read"))),
        }
    }

    async fn write(&self, room: &Room, bound: &Arc<Bound>, ask: Ask) -> Option<Result<Said, Error>> {
        let kib = u32::try_from(ask.bytes() / 1024).unwrap_or(WAITING_KIB_MAX).saturating_add(1).min(WAITING_KIB_MAX);
        let permit = Arc::clone(&room.writes).acquire_many_owned(kib).await.ok()?;
        let (said, told) = oneshot::channel();
        if !self.writer.push(Job { bound: Arc::clone(bound), ask, said, _room: permit }) {
            return None;
        }
        Some(told.await.unwrap_or_else(|_| Err(Error::unavailable("its writer has ended"))))
    }

    pub(super) async fn close(&self) {
        let writer = Arc::clone(&self.writer);
        if tokio::task::spawn_blocking(move || writer.close()).await.is_err() {
            tracing::error!("closing the stores panicked");
        }
    }
}
