//! The end of listening: first it drains, then what is left is cut. One sender, seen by every connection.

use tokio::sync::watch;

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

/// How far the end has come. It only goes forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Requests are taken.
    Serving,
    /// Another process takes new connections; requests in flight end.
    Leaving,
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
