//! Connections to one server where its upstream allows only so many, and the line of those who wait for one. It makes no
//! connection and keeps none.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::key::Server;

/// The lanes of all servers that have a bound.
#[derive(Default)]
pub(crate) struct Lanes(Mutex<HashMap<Server, Arc<Lane>>>);

/// What is under way to one server.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    /// Connections, from before they are made.
    open: AtomicU32,
    /// Requests that wait.
    waiting: AtomicU32,
    /// A connection has ended, or may carry another request.
    freed: Notify,
}

/// The right to have a connection.
#[derive(Debug)]
pub(crate) struct Turn(Arc<Lane>);

/// A place in the line.
#[derive(Debug)]
pub(crate) struct Waiting(Arc<Lane>);

impl Lanes {
    /// The lane of this server.
    pub(crate) fn of(&self, server: &Server) -> Arc<Lane> {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get(server) {
            return Arc::clone(lane);
        }
        // What nobody holds has no connection and no line.
        lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
        Arc::clone(lanes.entry(server.clone()).or_default())
    }

    /// A connection to this server may carry another request.
    pub(crate) fn freed(&self, server: &Server) {
        let lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get(server) {
            lane.freed.notify_one();
        }
    }
}

impl Lane {
    /// A turn, if there are fewer than so many.
    pub(crate) fn enter(self: &Arc<Self>, most: u32) -> Option<Turn> {
        one_more(&self.open, most).then(|| Turn(Arc::clone(self)))
    }

    /// A place in the line, if it is shorter than this.
    pub(crate) fn wait(self: &Arc<Self>, length: u32) -> Option<Waiting> {
        one_more(&self.waiting, length).then(|| Waiting(Arc::clone(self)))
    }

    /// Resolves when something is free. Those who wait are told one by one, in their order.
    pub(crate) fn freed(&self) -> Notified<'_> {
        self.freed.notified()
    }

    /// Tells the next in the line.
    pub(crate) fn free(&self) {
        self.freed.notify_one();
    }

    /// Tells all who wait: a new connection carries many requests.
    pub(crate) fn free_all(&self) {
        self.freed.notify_waiters();
    }
}

fn one_more(count: &AtomicU32, most: u32) -> bool {
    count.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| (count < most).then_some(count + 1)).is_ok()
}

impl Turn {
    /// Its lane.
    pub(crate) fn lane(&self) -> &Arc<Lane> {
        &self.0
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
        self.0.free();
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}
