//! The end of listening: first it drains, then what is left is cut. One sender, seen by every connection.

use core::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::connection::Activity;

/// How long it is waited for what a client has sent before it could know of the end: connections that it has begun, and
/// requests on connections that carry none. Few round-trips are longer.
pub(crate) const ON_ITS_WAY: Duration = Duration::from_millis(500);

/// Why listening ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Another process has taken over the sockets: what still comes here is served.
    HandedOver,
    /// Nobody listens any more.
    Stop,
}

impl From<()> for Ending {
    fn from((): ()) -> Self {
        Self::Stop
    }
}

/// What becomes of a QUIC connection that begins when none is taken any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Late {
    /// Nothing is said: somebody else has the socket, too, and the process that comes next hears the client ask again.
    Left,
    /// The client is told, and goes elsewhere: nobody comes.
    Refused,
}

/// How far the end has come. It only goes forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Requests are taken.
    Serving,
    /// Another process takes new connections; requests in flight end.
    Leaving,
    /// Nobody takes new connections any more but those that have begun; requests in flight end.
    Stopping,
    /// No new connection; requests in flight end.
    Draining,
    /// What is left is cut.
    Cut,
}

/// A view on the phase, one for each task.
#[derive(Clone, Debug)]
pub(crate) struct Drain(watch::Receiver<Phase>);

/// A phase to move, and the view on it.
pub(crate) fn drain() -> (watch::Sender<Phase>, Drain) {
    let (sender, receiver) = watch::channel(Phase::Serving);
    (sender, Drain(receiver))
}

impl Drain {
    /// Resolves when draining has begun (also when it has long begun), whoever listens then.
    pub(crate) async fn draining(&mut self) {
        self.reached(Phase::Leaving).await;
    }

    /// Resolves when draining has begun and no request is on its way on this connection: one is there, or it has been waited
    /// for. Not before is a client told that there is no place for another (RFC 9112, section 9.6).
    pub(crate) async fn leaving(&mut self, activity: &Activity) {
        self.draining().await;
        let _ = timeout(ON_ITS_WAY, activity.busy()).await;
    }

    /// Whether draining has begun.
    pub(crate) fn is_draining(&self) -> bool {
        *self.0.borrow() >= Phase::Leaving
    }

    /// Whether nobody takes over, so that what waits at a listener is this process's to take.
    pub(crate) fn is_stopping(&self) -> bool {
        matches!(*self.0.borrow(), Phase::Stopping | Phase::Draining)
    }

    /// Resolves when no connection may begin any more, wherever it goes.
    pub(crate) async fn refusing(&mut self) {
        self.reached(Phase::Draining).await;
    }

    /// Resolves when what is left must go.
    pub(crate) async fn cut(&mut self) {
        self.reached(Phase::Cut).await;
    }

    /// A sender that is gone means the listener's `run` was dropped: the same as a cut.
    async fn reached(&mut self, phase: Phase) {
        let _ = self.0.wait_for(|now| *now >= phase).await;
    }
}
