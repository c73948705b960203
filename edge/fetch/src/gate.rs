//! The client's side of a tunnel: nothing passes before the tunnel is open, and when something last passed is known. It
//! knows no connection.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use eyot_plan::body::Body;
use eyot_plan::fault::Fault;
use http_body::Frame;
use tokio::time::Instant;

/// How a tunnel stands.
#[derive(Debug)]
pub(crate) struct Gate(Mutex<State>);

#[derive(Debug)]
struct State {
    stands: Stands,
    /// When something last passed, either way.
    moved_at: Instant,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    /// There will be no tunnel.
    Ended,
    Open,
    /// The upstream has not answered.
    Shut,
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, stands: Stands) {
        let mut state = self.state();
        (state.stands, state.moved_at) = (stands, Instant::now());
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The tunnel is open.
    pub(crate) fn open(&self) {
        self.set(Stands::Open);
    }

    /// There is no tunnel: what the client sends goes nowhere, and its side has ended.
    pub(crate) fn end(&self) {
        self.set(Stands::Ended);
    }

    /// Something passed.
    pub(crate) fn moved(&self) {
        self.state().moved_at = Instant::now();
    }

    /// When something last passed.
    pub(crate) fn moved_at(&self) -> Instant {
        self.state().moved_at
    }
}

/// What a client sends into a tunnel.
pub(crate) struct Gated {
    body: Body,
    gate: Arc<Gate>,
}

impl Gated {
    /// Shut at first.
    pub(crate) fn new(body: Body) -> (Self, Arc<Gate>) {
        let state = State { stands: Stands::Shut, moved_at: Instant::now(), waker: None };
        let gate = Arc::new(Gate(Mutex::new(state)));
        (Self { body, gate: Arc::clone(&gate) }, gate)
    }
}

impl http_body::Body for Gated {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let mut state = self.gate.state();
        match state.stands {
            Stands::Ended => return Poll::Ready(None),
            Stands::Open => drop(state),
            Stands::Shut => {
                state.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_ready() {
            self.gate.moved();
        }
        polled
    }
}
