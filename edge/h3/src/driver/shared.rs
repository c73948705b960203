//! The state of one connection that all its streams see.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use quinn::{ConnectionError, SendStream};
use tokio::sync::{Notify, watch};

use super::room::Room;
use super::schedule::{Place, Schedule};
use super::varint;
use crate::core::code::{Code, Failure, Scope};
use crate::core::peer::Role;
use crate::core::priority::Priority;
use crate::core::settings::Settings;
use crate::{Error, Limits};

/// How many finished streams are kept before those whose data has arrived are let go.
const FINISHED_MAX: usize = 64;

/// The state of one connection.
pub(crate) struct Shared {
    /// The QUIC connection.
    pub(crate) quinn: quinn::Connection,
    /// Which side this is.
    pub(crate) role: Role,
    /// What it may cost.
    pub(crate) limits: Limits,
    /// How many requests there were.
    pub(crate) requests: AtomicU64,
    /// The GOAWAY that the peer sent, if one did.
    pub(crate) goaway_in: watch::Sender<Option<u64>>,
    /// The GOAWAY to send to the peer.
    pub(crate) goaway_out: watch::Sender<Option<u64>>,
    /// The peer's settings, once they are here.
    pub(crate) settings: watch::Sender<Option<Settings>>,
    /// The largest head that the peer takes.
    header_bytes_max: AtomicU64,
    /// Which response goes first.
    pub(crate) schedule: Mutex<Schedule>,
    /// How much may wait in quinn.
    pub(crate) room: Room,
    /// Whether what comes is no replay: true once the handshake is over, false if it never will be.
    pub(crate) proven: watch::Sender<Option<bool>>,
    /// What closed the connection from this side.
    failure: Mutex<Option<Failure>>,
    flight: Mutex<Flight>,
    /// Told when nothing is in flight any more.
    landed: Notify,
    /// By how many the requests broken off outnumber those that ended well.
    resets: AtomicU32,
}

/// What is in flight.
#[derive(Default)]
struct Flight {
    count: usize,
    /// Streams that are finished, but whose data may not have arrived.
    finished: Vec<Finished>,
}

/// A stream that is finished, and its place among those that send.
type Finished = (SendStream, Arc<Place>);

/// One request in flight: until its response is finished and its body is dropped.
pub(crate) struct Ticket(Arc<Shared>);

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut flight = lock(&self.0.flight);
        flight.count -= 1;
        if flight.count == 0 {
            self.0.landed.notify_waiters();
        }
    }
}

/// Locks; a panic elsewhere does not spread.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(quinn: quinn::Connection, role: Role, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            quinn,
            role,
            limits,
            requests: AtomicU64::new(0),
            goaway_in: watch::Sender::new(None),
            goaway_out: watch::Sender::new(None),
            settings: watch::Sender::new(None),
            header_bytes_max: AtomicU64::new(Settings::default().header_bytes_max),
            schedule: Mutex::default(),
            room: Room::default(),
            proven: watch::Sender::new(Some(true)),
            failure: Mutex::new(None),
            flight: Mutex::new(Flight::default()),
            landed: Notify::new(),
            resets: AtomicU32::new(0),
        })
    }

    /// The peer broke the protocol for the whole connection: it ends here. The first failure is the one told.
    pub(crate) fn fail(&self, failure: Failure) {
        tracing::debug!(peer = %self.quinn.remote_address(), %failure, "connection closed");
        lock(&self.failure).get_or_insert(failure);
        self.quinn.close(varint(failure.code), failure.reason.as_bytes());
    }

    /// Ends what the failure ends, if that is the connection; says it as an error.
    pub(crate) fn judge(&self, failure: Failure) -> Error {
        if failure.scope == Scope::Connection {
            self.fail(failure);
        }
        Error::Peer(failure)
    }

    /// An error of quinn, with its real cause where this side closed the connection.
    pub(crate) fn error(&self, error: impl Into<Error>) -> Error {
        match error.into() {
            Error::Connection(ConnectionError::LocallyClosed) => match *lock(&self.failure) {
                Some(failure) => Error::Peer(failure),
                None => Error::Connection(ConnectionError::LocallyClosed),
            },
            other => other,
        }
    }

    /// The peer's settings have come.
    pub(crate) fn settle(&self, settings: Settings) {
        self.header_bytes_max.store(settings.header_bytes_max, Ordering::Relaxed);
        self.settings.send_replace(Some(settings));
    }

    /// Whether the peer takes a head of this size.
    pub(crate) fn takes(&self, section_bytes: u64) -> bool {
        section_bytes <= self.header_bytes_max.load(Ordering::Relaxed)
    }

    /// A request begins.
    pub(crate) fn ticket(self: &Arc<Self>) -> Ticket {
        self.requests.fetch_add(1, Ordering::Relaxed);
        lock(&self.flight).count += 1;
        Ticket(Arc::clone(self))
    }

    /// A response is finished; its data may still be on the way.
    pub(crate) fn finished(&self, stream: SendStream, place: Arc<Place>) {
        let mut flight = lock(&self.flight);
        if flight.finished.len() >= FINISHED_MAX {
            flight.finished.retain(|(stream, place)| {
                let mut stopped = std::pin::pin!(stream.stopped());
                let is_on_the_way = stopped.as_mut().poll(&mut Context::from_waker(Waker::noop())) == Poll::Pending;
                if !is_on_the_way {
                    lock(&self.schedule).leave(place);
                }
                is_on_the_way
            });
        }
        // Beyond this the peer acknowledges nothing; then it is not waited for either.
        if flight.finished.len() < 16 * FINISHED_MAX {
            flight.finished.push((stream, place));
        } else {
            lock(&self.schedule).leave(&place);
        }
    }

    /// A client says anew what it asks for a response.
    pub(crate) fn prioritise(&self, stream: u64, priority: Priority) {
        if !lock(&self.schedule).update(stream, priority) {
            return;
        }
        // The others are put where they belong by the tasks that write them.
        for (stream, place) in &lock(&self.flight).finished {
            let _ = stream.set_priority(place.now());
        }
    }

    /// Waits until nothing is in flight; gives the streams whose data may still be on the way.
    pub(crate) async fn landed(&self) -> Vec<SendStream> {
        loop {
            let landed = self.landed.notified();
            {
                let mut flight = lock(&self.flight);
                if flight.count == 0 {
                    return flight.finished.drain(..).map(|(stream, _)| stream).collect();
                }
            }
            landed.await;
        }
    }

    /// Whether nothing is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        lock(&self.flight).count == 0
    }

    /// A request ended well.
    pub(crate) fn ended_well(&self) {
        let _ = self.resets.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |resets| resets.checked_sub(1));
    }

    /// The peer broke a request off, or it was malformed. A client that does so too often is cut; a server may.
    pub(crate) fn broken_off(&self) {
        if self.role == Role::Server && self.resets.fetch_add(1, Ordering::Relaxed) >= self.limits.resets_max {
            self.fail(Failure::connection(Code::EXCESSIVE_LOAD, "too many requests broken off"));
        }
    }
}
