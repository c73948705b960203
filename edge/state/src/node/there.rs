//! The file, open in another process of this node, which is asked over a line.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

use super::Line;
use super::wire::{self, Answer, Asked};
use crate::ask::{Ask, Bound, Said};
use crate::error::Error;

/// What waits to be said.
const WAITING_MAX: usize = 64;

/// The other process. Cheap to clone; the line ends with the last one.
#[derive(Clone, Debug)]
pub(super) struct There {
    asks: mpsc::Sender<Asked>,
    waiting: Arc<Waiting>,
}

/// Who waits for an answer, by its number.
#[derive(Debug, Default)]
struct Waiting {
    last: AtomicU64,
    /// None: the line has ended.
    told: Mutex<Option<HashMap<u64, oneshot::Sender<Answer>>>>,
}

impl Waiting {
    fn told(&self) -> MutexGuard<'_, Option<HashMap<u64, oneshot::Sender<Answer>>>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Someone who waits, until it is dropped.
struct Place<'a> {
    waiting: &'a Waiting,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(told) = self.waiting.told().as_mut() {
            told.remove(&self.number);
        }
    }
}

impl There {
    pub(super) fn begin(line: Line) -> Self {
        let (read, write) = line.into_split();
        let (asks, to_say) = mpsc::channel(WAITING_MAX);
        let waiting = Arc::new(Waiting { last: AtomicU64::new(0), told: Mutex::new(Some(HashMap::new())) });
        tokio::spawn(say(write, to_say));
        tokio::spawn(hear(read, Arc::clone(&waiting)));
        Self { asks, waiting }
    }

    /// Nothing that is answered there from now on is heard.
    pub(super) fn end(&self) {
        *self.waiting.told() = None;
    }

    /// None: it was not asked, because the other process has ended.
    pub(super) async fn ask(&self, bound: &Bound, ask: Ask) -> Option<Result<Said, Error>> {
        let only_reads = ask.only_reads();
        let number = self.waiting.last.fetch_add(1, Ordering::Relaxed);
        let (told, answer) = oneshot::channel();
        self.waiting.told().as_mut()?.insert(number, told);
        let _place = Place { waiting: &self.waiting, number };
        self.asks.send(Asked::new(number, bound, ask)).await.ok()?;
        match answer.await {
            Ok(answer) => Some(answer.into_said()),
            // It may be asked again.
            Err(_) if only_reads => None,
            Err(_) => Some(Err(Error::unavailable("the process that kept it has ended"))),
        }
    }
}

async fn say(mut line: OwnedWriteHalf, mut asks: mpsc::Receiver<Asked>) {
    while let Some(asked) = asks.recv().await {
        if let Err(error) = wire::say(&mut line, &asked).await {
            tracing::warn!(%error, "the stores of the other process cannot be asked");
            return;
        }
    }
}

async fn hear(mut line: OwnedReadHalf, waiting: Arc<Waiting>) {
    while let Ok(answer) = wire::hear::<Answer>(&mut line).await {
        let told = waiting.told().as_mut().and_then(|told| told.remove(&answer.number));
        // Who does not wait any more is not told.
        told.map(|told| told.send(answer));
    }
    *waiting.told() = None;
}
