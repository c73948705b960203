//! Kept connections, by key. What does not fit is closed; what stays idle too long is closed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::futures::Notified;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep, timeout};

use crate::connection::{H1, Lease};
use crate::key::{Key, Server};
use crate::lane::Lanes;
use crate::many::Many;

/// Connections that carry many requests kept for one key at most.
const MANY_PER_KEY_MAX: usize = 4;
/// How long an HTTP/1.1 connection gets to finish its last exchange before it is closed instead of kept.
const SETTLE: Duration = Duration::from_secs(1);

/// The kept connections.
pub(crate) struct Pool {
    shelves: Mutex<Shelves>,
    idle: Duration,
    per_key_max: usize,
    all_max: usize,
    pub(crate) streams_max: usize,
    /// Who waits for room wants to know.
    became_idle: Notify,
    /// Who waits for a connection to one server, too.
    lanes: Arc<Lanes>,
}

#[derive(Default)]
struct Shelves {
    by_key: HashMap<Key, Shelf>,
    /// Whether a task sweeps.
    is_swept: bool,
}

#[derive(Default)]
struct Shelf {
    /// Ready for a request, the longest idle first.
    h1: Vec<(H1, Instant)>,
    many: Vec<Arc<Many>>,
}

/// What the pool has for a request.
pub(crate) enum Kept {
    /// All connections that carry many requests are full, and there may be no more; this one is as good as any.
    Full(Arc<Many>),
    /// This.
    Lease(Lease),
    /// Nothing.
    Nothing,
}

/// What the pool has for a tunnel.
pub(crate) enum KeptForTunnel {
    /// A stream of a connection that takes tunnels.
    Lease(Lease),
    /// Nothing, as far as is known.
    Nothing,
    /// The server speaks HTTP/2 and takes no tunnels over it.
    Refused,
}

impl Pool {
    pub(crate) fn new(
        idle: Duration,
        per_key_max: usize,
        all_max: usize,
        streams_max: usize,
        lanes: Arc<Lanes>,
    ) -> Self {
        let streams_max = streams_max.clamp(1, Semaphore::MAX_PERMITS);
        Self { shelves: Mutex::default(), idle, per_key_max, all_max, streams_max, became_idle: Notify::new(), lanes }
    }

    fn shelves(&self) -> MutexGuard<'_, Shelves> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection for `key` that is not known to be closed.
    pub(crate) fn take(&self, key: &Key) -> Kept {
        let mut shelves = self.shelves();
        let Some(shelf) = shelves.by_key.get_mut(key) else { return Kept::Nothing };
        shelf.many.retain(|many| !many.is_closed());
        if let Some(lease) = shelf.many.iter().find_map(Many::lease) {
            return Kept::Lease(lease);
        }
        while let Some((h1, since)) = shelf.h1.pop() {
            if !h1.is_closed() && since.elapsed() < self.idle {
                return Kept::Lease(Lease::H1(h1));
            }
        }
        match shelf.many.last() {
            Some(many) if shelf.many.len() >= MANY_PER_KEY_MAX => Kept::Full(Arc::clone(many)),
            _ => Kept::Nothing,
        }
    }

    /// A connection for a tunnel.
    pub(crate) fn take_for_tunnel(&self, key: &Key) -> KeptForTunnel {
        let mut shelves = self.shelves();
        let Some(shelf) = shelves.by_key.get_mut(key) else { return KeptForTunnel::Nothing };
        shelf.many.retain(|many| !many.is_closed());
        if let Some(lease) = shelf.many.iter().filter(|many| many.takes_tunnels()).find_map(Many::lease) {
            return KeptForTunnel::Lease(lease);
        }
        if shelf.many.iter().any(|many| many.refuses_tunnels()) {
            KeptForTunnel::Refused
        } else {
            KeptForTunnel::Nothing
        }
    }

    /// Takes back what a lease held, once its response is over.
    pub(crate) fn give(self: &Arc<Self>, key: Key, lease: Lease) {
        match lease {
            Lease::Many(many, permit) => {
                many.touch();
                drop((permit, many));
                self.became_idle.notify_waiters();
            }
            Lease::H1(mut h1) => {
                let (pool, Ok(runtime)) = (Arc::clone(self), tokio::runtime::Handle::try_current()) else { return };
                runtime.spawn(async move {
                    if timeout(SETTLE, h1.is_ready()).await == Ok(true) {
                        pool.shelve(key.clone(), |shelf, per_key_max| {
                            if shelf.h1.len() < per_key_max {
                                shelf.h1.push((h1, Instant::now()));
                            }
                        });
                        pool.lanes.freed(&key.server);
                    }
                });
            }
        }
    }

    /// Lets later requests use a new connection that carries many too.
    pub(crate) fn share(self: &Arc<Self>, key: Key, many: &Arc<Many>) {
        let many = Arc::clone(many);
        self.shelve(key, |shelf, per_key_max| {
            if shelf.many.len() < MANY_PER_KEY_MAX.min(per_key_max) {
                shelf.many.push(many);
            }
        });
    }

    fn shelve(self: &Arc<Self>, key: Key, put: impl FnOnce(&mut Shelf, usize)) {
        let mut shelves = self.shelves();
        if shelves.count() >= self.all_max {
            return;
        }
        put(shelves.by_key.entry(key).or_default(), self.per_key_max);
        if !shelves.is_swept {
            shelves.is_swept = true;
            tokio::spawn(sweep(Arc::downgrade(self), self.idle / 2));
        }
        drop(shelves);
        self.became_idle.notify_waiters();
    }

    /// Resolves when a connection has become idle.
    pub(crate) fn became_idle(&self) -> Notified<'_> {
        self.became_idle.notified()
    }

    /// Closes an idle connection of `app`, or of any. Says whether there was one.
    pub(crate) fn shed(&self, app: Option<&str>) -> bool {
        let mut shelves = self.shelves();
        let of_app = shelves.by_key.iter_mut().filter(|(key, _)| app.is_none_or(|app| *key.app == *app));
        for (_, shelf) in of_app {
            if !shelf.h1.is_empty() {
                shelf.h1.remove(0);
                return true;
            }
            if let Some(at) = shelf.many.iter().position(|many| many.is_unused()) {
                shelf.many.swap_remove(at);
                return true;
            }
        }
        false
    }

    /// Closes an idle connection to `server`, whoever its client. Says whether there was one.
    pub(crate) fn shed_of(&self, server: &Server) -> bool {
        let mut shelves = self.shelves();
        shelves.by_key.iter_mut().filter(|(key, _)| key.server == *server).any(|(_, shelf)| {
            let unused = shelf.many.iter().position(|many| many.is_unused());
            unused.map(|at| shelf.many.swap_remove(at)).is_some() || shelf.h1.pop().is_some()
        })
    }

    /// How many connections are kept that carry nothing.
    pub(crate) fn idle(&self) -> usize {
        let shelves = self.shelves();
        let idle = |shelf: &Shelf| shelf.h1.len() + shelf.many.iter().filter(|many| many.is_unused()).count();
        shelves.by_key.values().map(idle).sum()
    }
}

impl Shelves {
    fn count(&self) -> usize {
        self.by_key.values().map(|shelf| shelf.h1.len() + shelf.many.len()).sum()
    }
}

/// Closes what is idle too long, until nothing is kept.
async fn sweep(pool: std::sync::Weak<Pool>, every: Duration) {
    loop {
        sleep(every.max(Duration::from_millis(10))).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut shelves = pool.shelves();
        shelves.by_key.retain(|_, shelf| {
            shelf.h1.retain(|(h1, since)| !h1.is_closed() && since.elapsed() < pool.idle);
            shelf.many.retain(|many| !many.is_closed() && !many.is_idle_for(pool.idle));
            !shelf.h1.is_empty() || !shelf.many.is_empty()
        });
        if shelves.by_key.is_empty() {
            shelves.is_swept = false;
            return;
        }
    }
}
