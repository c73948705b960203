//! Queues: messages of JetStream, each given to a worker until it says that it is done, or was tried often enough.
//!
//! Each app has one stream, of all subjects that begin with its name; a message is there until a queue is done with it. What
//! a queue takes goes to one worker at a time, at least once. Where the worker fails, the message comes again after a while;
//! where it failed for the last time, it goes to the queue's dead letters, with the reason, before it is taken from the
//! queue: none is lost in between. Whose process ends meanwhile, its messages go to another.

mod asked;
mod one;
mod place;

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::{Context, Message as Delivered};
use bytes::Bytes;
use eyot_bundle::name::Name;
use eyot_bundle::release;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::Servers;
use asked::Asked;

/// Messages that are asked for at once, each of at most [`MESSAGE_BYTES_MAX`].
const BATCH_MAX: usize = 64;
/// How long is waited after a failure, at most; it begins with [`AGAIN`].
const AGAIN_MAX: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_millis(500);
/// The largest message, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// The queues of a node's apps. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Queues(Arc<Servers>);

/// A queue of an app, as its release describes it.
#[derive(Clone, Debug)]
pub struct Queue {
    /// The app.
    pub app: Name,
    /// The release.
    pub release: u64,
    /// What it says.
    pub spec: release::Queue,
}

/// A message.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its subject, within the app's own.
    pub subject: String,
    /// Its fields, in the order of their names.
    pub fields: Vec<(String, String)>,
    /// Its body.
    pub body: Bytes,
    /// Its number in the app's stream, the same each time it comes.
    pub number: u64,
    /// When the servers took it, in milliseconds since 1970.
    pub published_ms: i64,
    /// Which try this is, from 1.
    pub attempt: u32,
}

/// How a try of a message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It is a dead letter now.
    Dead,
    /// It is done.
    Done,
    /// It was tried in vain for the last time, and the queue has no dead letters.
    Dropped,
    /// It comes again.
    Retried,
    /// The servers did not hear how it ended: it comes again.
    Unheard,
}

/// What works on the messages of a queue.
pub trait Worker: Send + Sync + 'static {
    /// Works on a message. An error is the reason why it failed, for its dead letter.
    fn work(&self, message: Message) -> impl Future<Output = Result<(), String>> + Send;

    /// A try ended.
    fn ended(&self, how: Ended);

    /// Whether messages can be had; if not, why.
    fn connected(&self, state: Result<(), String>);
}

impl Queues {
    pub(crate) fn new(servers: Arc<Servers>) -> Self {
        Self(servers)
    }

    /// Gives the messages of `queue` to `worker`, until `stop` turns true; then returns when those that it works on have
    /// ended. What is dropped meanwhile comes again.
    pub async fn run<W: Worker>(&self, queue: Queue, worker: Arc<W>, mut stop: watch::Receiver<bool>) {
        let permits = usize::try_from(queue.spec.concurrency).unwrap_or(1).clamp(1, Semaphore::MAX_PERMITS);
        let mut shift = Shift {
            queue: Arc::new(queue),
            worker,
            permits: Arc::new(Semaphore::new(permits)),
            working: JoinSet::new(),
        };
        let mut again = AGAIN;
        while let Err(why) = shift.begin(&self.0, &mut again, &mut stop).await {
            shift.worker.connected(Err(why));
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                () = tokio::time::sleep(again) => again = (again * 2).min(AGAIN_MAX),
            }
        }
        while shift.working.join_next().await.is_some() {}
    }
}

/// One queue being worked on.
struct Shift<W> {
    queue: Arc<Queue>,
    worker: Arc<W>,
    permits: Arc<Semaphore>,
    working: JoinSet<()>,
}

type Stop = watch::Receiver<bool>;

impl<W: Worker> Shift<W> {
    /// Takes messages until it is told to stop, or cannot go on.
    async fn begin(&mut self, servers: &Servers, again: &mut Duration, stop: &mut Stop) -> Result<(), String> {
        let context = servers.context().await.map_err(|error| error.to_string())?.clone();
        let consumer = place::consumer(&context, &self.queue, servers.replicas).await?;
        self.worker.connected(Ok(()));
        *again = AGAIN;
        while !*stop.borrow() {
            self.batch(&context, &consumer, stop).await?;
        }
        Ok(())
    }

    /// Asks for as many messages as may be worked on now, and has each of them worked on.
    async fn batch(&mut self, context: &Context, consumer: &PullConsumer, stop: &mut Stop) -> Result<(), String> {
        let first = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
            permit = Arc::clone(&self.permits).acquire_owned() => permit.map_err(|error| error.to_string())?,
        };
        let mut permits = vec![first];
        permits.extend((1..BATCH_MAX).map_while(|_| Arc::clone(&self.permits).try_acquire_owned().ok()));
        let mut asked = Asked::ask(context, consumer, permits.len()).await?;
        let mut is_leaving = false;
        loop {
            let came = tokio::select! {
                _ = stop.wait_for(|stop| *stop), if !is_leaving => None,
                next = asked.next() => Some(next),
            };
            let Some(next) = came else {
                is_leaving = true;
                asked.leave().await;
                continue;
            };
            let Some(message) = next else { return Ok(()) };
            let permit = permits.pop().ok_or("more messages came than were asked for")?;
            self.take(context, message?, permit);
        }
    }

    fn take(&mut self, context: &Context, message: Delivered, permit: OwnedSemaphorePermit) {
        while self.working.try_join_next().is_some() {}
        let (context, queue, worker) = (context.clone(), Arc::clone(&self.queue), Arc::clone(&self.worker));
        self.working.spawn(async move {
            one::work(&context, &queue, &*worker, message).await;
            drop(permit);
        });
    }
}
