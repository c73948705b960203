//! A body that is too large for memory goes to the disk while it passes. Who reads it does not wait for that: what the disk
//! does not take in time is given up.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use crate::disk::Writer;

/// How long the disk may take to have room for more, while somebody reads what passes.
const WAIT: Duration = Duration::from_millis(250);
/// How long when nobody does.
const WAIT_ALONE: Duration = Duration::from_secs(10);

/// What begins to write, if the disk takes it.
type Begin = Box<dyn FnOnce() -> Option<Writer> + Send>;

/// The way to the disk of a body that passes.
#[derive(Default)]
pub(crate) struct Tee {
    begin: Option<Begin>,
    writer: Option<Writer>,
}

impl Tee {
    /// One that asks `begin` when memory does not take the body.
    pub(crate) fn new(begin: Begin) -> Self {
        Self { begin: Some(begin), writer: None }
    }

    /// Whether it is written.
    pub(crate) fn is_on(&self) -> bool {
        self.writer.is_some()
    }

    /// Writes all that has come before memory did not take it.
    pub(crate) async fn begin(&mut self, pieces: Vec<Bytes>) {
        self.writer = self.begin.take().and_then(|begin| begin());
        for piece in pieces {
            if !self.catch_up(WAIT).await {
                return;
            }
            self.push(piece);
        }
    }

    /// Writes the next piece.
    pub(crate) fn push(&mut self, bytes: Bytes) {
        if self.writer.as_mut().is_some_and(|writer| !writer.push(bytes)) {
            self.writer = None;
        }
    }

    /// Waits for the disk, since nobody reads.
    pub(crate) async fn wait(&mut self) {
        self.catch_up(WAIT_ALONE).await;
    }

    async fn catch_up(&mut self, wait: Duration) -> bool {
        let Some(writer) = &self.writer else { return false };
        let caught_up = timeout(wait, writer.ready()).await.is_ok();
        if !caught_up {
            self.writer = None;
        }
        caught_up
    }

    /// Who has written it all.
    pub(crate) fn into_writer(self) -> Option<Writer> {
        self.writer
    }
}
