//! The one thread that writes the file: it takes what waits, in turn of the apps, and commits it together. What was asked
//! is answered when it is durable.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use eyot_bundle::name::Name;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::Clock;
use super::file::File;
use crate::ask::{Ask, Bound, Said};
use crate::error::Error;

/// What one commit takes: asks, and bytes of them.
const COMMIT_ASKS_MAX: usize = 512;
const COMMIT_BYTES_MAX: usize = 4 << 20;
/// How long nothing is looked at when nothing is asked, at least and at most.
const LOOK_MIN: Duration = Duration::from_millis(100);
const LOOK_MAX: Duration = Duration::from_secs(60);

/// What waits to be written.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) bound: Arc<Bound>,
    pub(super) ask: Ask,
    pub(super) said: oneshot::Sender<Result<Said, Error>>,
    /// Its place among what its app may have waiting.
    pub(super) _room: OwnedSemaphorePermit,
}

/// What waits, an app behind the other.
#[derive(Debug, Default)]
struct Queues {
    apps: HashMap<Name, VecDeque<Job>>,
    /// The apps for which something waits, in turn.
    turns: VecDeque<Name>,
    is_closed: bool,
}

impl Queues {
    fn push(&mut self, job: Job) {
        let app = job.bound.app.clone();
        let waiting = self.apps.entry(app.clone()).or_default();
        if waiting.is_empty() {
            self.turns.push_back(app);
        }
        waiting.push_back(job);
    }

    /// One ask of an app, then one of the next, until there is enough for a commit.
    fn batch(&mut self) -> Vec<Job> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < COMMIT_ASKS_MAX && bytes < COMMIT_BYTES_MAX {
            let Some(app) = self.turns.pop_front() else { break };
            let Some(waiting) = self.apps.get_mut(&app) else { continue };
            if let Some(job) = waiting.pop_front() {
                bytes += job.ask.bytes();
                batch.push(job);
            }
            match waiting.is_empty() {
                true => drop(self.apps.remove(&app)),
                false => self.turns.push_back(app),
            }
        }
        batch
    }
}

#[derive(Debug, Default)]
struct Shared {
    queues: Mutex<Queues>,
    wake: Condvar,
}

impl Shared {
    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to do next, which is nothing when there was nothing for `wait`; none: it is over.
    fn next(&self, wait: Option<Duration>) -> Option<Vec<Job>> {
        let idle = |queues: &mut Queues| queues.turns.is_empty() && !queues.is_closed;
        let queues = self.queues();
        let mut queues = match wait {
            Some(wait) => self.wake.wait_timeout_while(queues, wait, idle).unwrap_or_else(PoisonError::into_inner).0,
            None => self.wake.wait_while(queues, idle).unwrap_or_else(PoisonError::into_inner),
        };
        match queues.turns.is_empty() && queues.is_closed {
            true => None,
            false => Some(queues.batch()),
        }
    }

    fn close(&self) {
        self.queues().is_closed = true;
        self.wake.notify_all();
    }
}

/// The thread. It ends with this, when it has written what waits, and lets go of the file.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Writer {
    pub(super) fn start(file: Arc<File>, clock: Clock) -> std::io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("stores".to_owned()).spawn(move || {
            let mut wait = look(&file, &clock);
            while let Some(batch) = theirs.next(wait) {
                commit(&file, batch, clock.now_ms());
                wait = look(&file, &clock);
            }
            file.close();
        })?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Lets a job wait for its turn. `false`: it is over.
    pub(super) fn push(&self, job: Job) -> bool {
        let mut queues = self.shared.queues();
        if queues.is_closed {
            return false;
        }
        queues.push(job);
        drop(queues);
        self.shared.wake.notify_all();
        true
    }

    pub(super) fn is_closed(&self) -> bool {
        self.shared.queues().is_closed
    }

    /// Takes no more, writes what waits, and waits until the file is let go of. Blocks.
    pub(super) fn close(&self) {
        self.shared.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the stores panicked");
        }
    }
}

/// How long to wait for something to do, until values end that have to be removed.
fn look(file: &File, clock: &Clock) -> Option<Duration> {
    let ends = file.next_end_ms()?;
    Some(Duration::from_millis(ends.saturating_sub(clock.now_ms())).clamp(LOOK_MIN, LOOK_MAX))
}

fn commit(file: &File, batch: Vec<Job>, now_ms: u64) {
    match file.write(batch.iter().map(|job| (&*job.bound, &job.ask)), now_ms) {
        Ok(answers) => {
            for (job, said) in batch.into_iter().zip(answers) {
                // Who does not wait any more is not told.
                let _ = job.said.send(said);
            }
        }
        Err(error) => {
            tracing::error!(error, "the stores could not be written");
            for job in batch {
                let _ = job.said.send(Err(Error::unavailable("its file could not be written")));
            }
            if let Err(error) = file.reopen() {
                tracing::error!(error, "the stores cannot be opened again");
            }
        }
    }
}
