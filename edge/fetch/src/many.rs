//! A connection that carries many requests at once, over TCP or QUIC: its seats, and how long it was of no use. What is
//! said on it is `http2`'s and `http3`'s.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use eyot_plan::arrival::Interim;
use http::{Request, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::connection::{Lease, Unsent};
use crate::fresh::Fresh;
use crate::http2::H2;
use crate::http3::H3;
use crate::incoming::{Incoming, WireError};
use crate::lane::Lane;
use crate::room::Place;
use crate::stream::Stream;
use crate::upload::UploadBody;

/// A connection that carries many requests. It is closed when all that hold it have dropped it.
pub(crate) struct Many {
    wire: Wire,
    streams: Arc<Semaphore>,
    streams_max: usize,
    used_at: Mutex<Instant>,
    pub(crate) fresh: Arc<Fresh>,
    /// Nothing new is to begin on it.
    is_retired: AtomicBool,
    place: Place,
}

/// What is spoken.
enum Wire {
    H2(H2),
    H3(H3),
}

/// The right to a stream of a connection. When it ends, the next who waits for one is told.
pub(crate) struct Seat {
    /// None once it has ended.
    permit: Option<OwnedSemaphorePermit>,
    lane: Option<Arc<Lane>>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        drop(self.permit.take());
        if let Some(lane) = &self.lane {
            lane.free();
        }
    }
}

impl Many {
    /// HTTP/2 on a stream that has agreed on it.
    pub(crate) async fn open(stream: Stream, place: Place, streams_max: usize) -> Result<Self, WireError> {
        let fresh = Fresh::at(stream.peer());
        let streams = Arc::new(Semaphore::new(streams_max));
        let h2 = H2::open(stream, Arc::clone(&streams), streams_max).await?;
        Ok(Self::new(Wire::H2(h2), fresh, streams, (place, streams_max)))
    }

    /// HTTP/3 on a connection that was made.
    pub(crate) fn over_quic(quic: eyot_h3::client::Connection, place: Place, streams_max: usize) -> Self {
        let fresh = Fresh::at(Some(quic.remote_address().ip()));
        let streams = Arc::new(Semaphore::new(streams_max));
        Self::new(Wire::H3(H3::new(quic)), fresh, streams, (place, streams_max))
    }

    fn new(wire: Wire, fresh: Fresh, streams: Arc<Semaphore>, (place, streams_max): (Place, usize)) -> Self {
        let (used_at, is_retired) = (Mutex::new(Instant::now()), AtomicBool::new(false));
        Self { wire, streams, streams_max, used_at, fresh: Arc::new(fresh), is_retired, place }
    }

    /// Whether it takes no more requests: it has ended, or is ending.
    pub(crate) fn is_closed(&self) -> bool {
        let is_closed = || match &self.wire {
            Wire::H2(h2) => h2.is_closed(),
            Wire::H3(h3) => h3.is_closed(),
        };
        self.is_retired.load(Ordering::Relaxed) || is_closed()
    }

    /// Whether the other side takes tunnels, as far as is known. Over QUIC none is opened.
    pub(crate) fn takes_tunnels(&self) -> bool {
        matches!(&self.wire, Wire::H2(h2) if h2.takes_tunnels())
    }

    /// Whether it is known that the other side takes no tunnels over HTTP/2.
    pub(crate) fn refuses_tunnels(&self) -> bool {
        matches!(&self.wire, Wire::H2(h2) if h2.is_settled() && !h2.takes_tunnels())
    }

    /// Whether the other side takes tunnels, once it has said so; no if it ends before.
    pub(crate) async fn told_tunnels(&self) -> bool {
        match &self.wire {
            Wire::H2(h2) => h2.told_tunnels().await,
            Wire::H3(_) => false,
        }
    }

    /// A stream, if the bounds of both sides leave one.
    pub(crate) fn lease(self: &Arc<Self>) -> Option<Lease> {
        let used = self.streams_max - self.streams.available_permits().min(self.streams_max);
        if matches!(&self.wire, Wire::H2(h2) if used >= h2.streams_most()) {
            return None;
        }
        let permit = Arc::clone(&self.streams).try_acquire_owned().ok()?;
        Some(self.seated(permit))
    }

    fn seated(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Lease {
        let seat = Seat { permit: Some(permit), lane: self.place.lane().cloned() };
        Lease::Many(Arc::clone(self), seat)
    }

    /// A stream, as soon as one is over.
    pub(crate) async fn lease_in_time(self: &Arc<Self>) -> Option<Lease> {
        let permit: OwnedSemaphorePermit = Arc::clone(&self.streams).acquire_owned().await.ok()?;
        Some(self.seated(permit))
    }

    /// Lets nothing new begin on it; what is under way goes on.
    pub(crate) fn retire(&self) {
        self.is_retired.store(true, Ordering::Relaxed);
    }

    /// Tells who waits for a connection to its server that it is there.
    pub(crate) fn tell_line(&self) {
        if let Some(lane) = self.place.lane() {
            lane.free_all();
        }
    }

    /// Whether it has carried nothing for `idle`.
    pub(crate) fn is_idle_for(&self, idle: Duration) -> bool {
        let used_at = *self.used_at.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_unused() && used_at.elapsed() >= idle
    }

    pub(crate) fn is_unused(&self) -> bool {
        self.streams.available_permits() >= self.streams_max
    }

    pub(crate) fn touch(&self) {
        *self.used_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Sends a request and waits for the head of its response; interim ones go to `interim`. If the future is dropped
    /// the stream is reset.
    pub(crate) async fn send(
        &self,
        request: Request<UploadBody>,
        interim: &Interim,
    ) -> Result<Response<Incoming>, Unsent> {
        match &self.wire {
            Wire::H2(h2) => h2.send(request, interim).await,
            Wire::H3(h3) => h3.send(request, interim).await,
        }
    }
}
