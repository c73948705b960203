//! The engine `node`: one file, which one process has at a time. Who has it may change while calls go on: what is asked
//! then waits until it is known who answers.

mod file;
mod here;
mod line;
mod there;
mod wire;
mod writer;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use eyot_bundle::name::Name;
use tokio::sync::watch;

use crate::ask::{Ask, Bound, Said};
use crate::error::Error;
use crate::stores::OpenError;
use file::File;
use here::{Here, Room};
pub(crate) use line::answer;
use there::There;

/// A line to another process of this node.
pub type Line = tokio::net::UnixStream;

/// What says the time, in milliseconds since 1970.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

impl Clock {
    /// The system's.
    pub fn system() -> Self {
        Self::new(|| {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
    }

    /// One of another kind.
    pub fn new(now_ms: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_ms))
    }

    pub(crate) fn now_ms(&self) -> u64 {
        (self.0)()
    }
}

/// The file, wherever it is open.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    clock: Clock,
    whose: watch::Sender<Whose>,
    /// What of each app may be under way here. As many as have asked: what the operator granted bounds them.
    rooms: Mutex<HashMap<Name, Arc<Room>>>,
}

/// Who has the file.
#[derive(Clone, Debug)]
enum Whose {
    Here(Arc<Here>),
    /// Nobody, because it cannot be opened.
    Lost,
    /// Nobody yet.
    Nobodys,
    There(There),
}

impl Place {
    pub(crate) fn new(path: PathBuf, clock: Clock) -> Self {
        Self { path, clock, whose: watch::Sender::new(Whose::Nobodys), rooms: Mutex::default() }
    }

    pub(crate) async fn ask(&self, bound: &Arc<Bound>, ask: Ask) -> Result<Said, Error> {
        let mut whose = self.whose.subscribe();
        loop {
            let now = whose.borrow_and_update().clone();
            // None: it was not asked, because another is about to have the file.
            let said = match now {
                Whose::Here(here) => here.ask(&self.room(&bound.app), bound, ask.clone()).await,
                Whose::Lost => Some(Err(Error::unavailable("its file cannot be opened"))),
                Whose::Nobodys => None,
                Whose::There(there) => there.ask(bound, ask.clone()).await,
            };
            if let Some(said) = said {
                return said;
            }
            if whose.changed().await.is_err() {
                return Err(Error::unavailable("this process ends"));
            }
        }
    }

    fn room(&self, app: &Name) -> Arc<Room> {
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(rooms.entry(app.clone()).or_default())
    }

    /// Opens the file, unless it is open.
    pub(crate) async fn open(&self) -> Result<(), OpenError> {
        if matches!(*self.whose.borrow(), Whose::Here(_)) {
            return Ok(());
        }
        let path = self.path.clone();
        let opened = tokio::task::spawn_blocking(move || File::open(path)).await;
        let opened = opened.unwrap_or_else(|error| Err(error.to_string()));
        let started = opened.and_then(|file| Here::start(file, self.clock.clone()).map_err(|error| error.to_string()));
        match started {
            Ok(here) => {
                if let Whose::There(there) = self.whose.send_replace(Whose::Here(Arc::new(here))) {
                    there.end();
                }
                Ok(())
            }
            Err(error) => {
                self.whose.send_replace(Whose::Lost);
                Err(OpenError(format!("the stores in {}: {error}", self.path.display())))
            }
        }
    }

    pub(crate) async fn close(&self) {
        if let Whose::Here(here) = self.whose.send_replace(Whose::Nobodys) {
            here.close().await;
        }
    }

    pub(crate) fn lend(&self, line: Line) {
        self.whose.send_replace(Whose::There(There::begin(line)));
    }
}
