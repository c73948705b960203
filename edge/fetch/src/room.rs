//! How many connections there may be: in all, and of one app, so that no app takes the room of another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use eyot_plan::fault::{Code, Fault};
use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::lane::{Lane, Turn};
use crate::pool::Pool;

/// Connections of one app that are being made at once at most: a name that never resolves holds one of these.
const DIALS_MAX: usize = 64;
/// Apps that are remembered before those without connections are forgotten.
const APPS_MAX: usize = 1024;

/// The room of all connections.
pub(crate) struct Room {
    all: Arc<Semaphore>,
    apps: Mutex<HashMap<Box<str>, App>>,
    per_app_max: usize,
}

#[derive(Clone)]
struct App {
    connections: Arc<Semaphore>,
    dials: Arc<Semaphore>,
}

/// The place of one connection, from before its name is resolved until it is closed.
#[derive(Debug)]
pub(crate) struct Place {
    _app: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
    /// Where its upstream has a bound of its own.
    turn: Option<Turn>,
}

impl Place {
    /// The lane of its server, where there is one.
    pub(crate) fn lane(&self) -> Option<&Arc<Lane>> {
        self.turn.as_ref().map(Turn::lane)
    }
}

/// The right to be making a connection.
pub(crate) struct Dialling {
    _permit: OwnedSemaphorePermit,
}

impl Room {
    pub(crate) fn new(per_app_max: usize, all_max: usize) -> Self {
        let all = Arc::new(Semaphore::new(all_max.min(Semaphore::MAX_PERMITS)));
        Self { all, apps: Mutex::default(), per_app_max: per_app_max.min(Semaphore::MAX_PERMITS) }
    }

    /// A place for a connection of `app`. Where there is none, an idle connection of the app, or of any, makes room.
    ///
    /// # Errors
    /// `allowance_spent` if the app has no place by `until`, `overloaded` if nobody has.
    pub(crate) async fn enter(
        &self,
        app: &str,
        until: Instant,
        pool: &Pool,
        turn: Option<Turn>,
    ) -> Result<(Place, Dialling), Fault> {
        let of_app = self.app(app);
        let spent = |_| Fault::new(Code::AllowanceSpent).because("the app has no connection left");
        let full = |_| Fault::new(Code::Overloaded).because("the node has no connection left");
        let connection = make_room(of_app.connections, pool, Some(app));
        let connection = timeout_at(until, connection).await.map_err(spent)?;
        let dialling = timeout_at(until, permit(of_app.dials)).await.map_err(spent)?;
        let all = timeout_at(until, make_room(Arc::clone(&self.all), pool, None)).await.map_err(full)?;
        Ok((Place { _app: connection, _all: all, turn }, Dialling { _permit: dialling }))
    }

    fn app(&self, app: &str) -> App {
        let mut apps = self.apps.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = apps.get(app) {
            return known.clone();
        }
        if apps.len() >= APPS_MAX {
            // A permit holds its semaphore: one that nobody else holds is wholly free.
            apps.retain(|_, app| Arc::strong_count(&app.connections) > 1);
        }
        let new =
            App { connections: Arc::new(Semaphore::new(self.per_app_max)), dials: Arc::new(Semaphore::new(DIALS_MAX)) };
        apps.insert(app.into(), new.clone());
        new
    }
}

/// A permit: while there is none, what becomes idle is closed for it.
async fn make_room(semaphore: Arc<Semaphore>, pool: &Pool, app: Option<&str>) -> OwnedSemaphorePermit {
    let mut permit = std::pin::pin!(permit(semaphore));
    loop {
        let mut idle = std::pin::pin!(pool.became_idle());
        // From here on nothing that becomes idle is missed.
        idle.as_mut().enable();
        if let Some(permit) = permit.as_mut().now_or_never() {
            return permit;
        }
        if !pool.shed(app) {
            tokio::select! {
                permit = &mut permit => return permit,
                () = idle => {}
            }
        }
    }
}

async fn permit(semaphore: Arc<Semaphore>) -> OwnedSemaphorePermit {
    semaphore.acquire_owned().await.expect("no semaphore of a room is ever closed")
}
