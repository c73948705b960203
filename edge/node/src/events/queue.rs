//! One queue: its messages, each brought to its function as an event.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use eyot_state::{Ended, Message, Worker};
use jiff::Timestamp;
use tokio::sync::watch;

use super::Ground;
use super::message::{self, Event};
use crate::entry::{Entry, Queue};

/// Runs a queue until it is told to stop and what it works on has ended.
pub(super) async fn run(ground: Arc<Ground>, entry: Arc<Entry>, queue: Arc<Queue>, stop: watch::Receiver<bool>) {
    let bound = eyot_state::Queue { app: entry.app.clone(), release: entry.release, spec: queue.spec.clone() };
    let queues = ground.queues.clone();
    let worker = Arc::new(Work { ground, entry, queue, was_there: AtomicBool::new(true) });
    match queues {
        Some(queues) => queues.run(bound, worker, stop).await,
        None => worker.connected(Err("this node has no NATS: node.toml names none in [stores]".to_owned())),
    }
}

/// What works on the messages.
struct Work {
    ground: Arc<Ground>,
    entry: Arc<Entry>,
    queue: Arc<Queue>,
    /// Whether messages could be had when that was last told.
    was_there: AtomicBool,
}

impl Worker for Work {
    async fn work(&self, message: Message) -> Result<(), String> {
        let Message { subject, fields, body, number, published_ms, attempt } = message;
        let app = &self.entry.app;
        let content_type = fields.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        let event = Event {
            kind: "io.eyot.queue",
            id: format!("{app}-{number}"),
            source: format!("/apps/{app}/queues/{}", self.queue.spec.subject),
            subject,
            time: Timestamp::from_millisecond(published_ms).unwrap_or_default(),
            attempt,
            content_type: content_type.map(|(_, value)| value),
            body,
        };
        message::bring(&self.ground.node, &self.entry, &self.queue.target, event).await
    }

    fn ended(&self, how: Ended) {
        self.ground.node.telemetry.message(&self.entry.label, &self.queue.target.route, how);
    }

    fn connected(&self, state: Result<(), String>) {
        let (app, queue) = (&self.entry.app, &self.queue.spec.subject);
        self.ground.node.telemetry.queue(&self.entry.label, &self.queue.target.route, state.is_ok());
        let was_there = self.was_there.swap(state.is_ok(), Ordering::Relaxed);
        match state {
            Ok(()) if !was_there => tracing::info!(%app, queue, "messages of a queue are taken again"),
            Ok(()) => tracing::debug!(%app, queue, "messages of a queue are taken"),
            Err(why) if was_there => tracing::warn!(%app, queue, why, "no messages of a queue are taken"),
            Err(why) => tracing::debug!(%app, queue, why, "still no messages of a queue are taken"),
        }
    }
}
