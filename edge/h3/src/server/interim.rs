//! Interim responses that are said beside the making of the answer.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::Context;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::{Response, StatusCode};

use crate::core::encode::{self, Encoded, Unsendable};
use crate::driver::shared::{Shared, lock};

/// How many interim responses a request may have in this way.
const SENT_MAX: usize = 16;
/// And how many bytes they may have in all: a client that takes none leaves them here.
const SENT_BYTES_MAX: usize = 64 << 10;

/// Says interim responses to the client of one request, while others make its answer. They leave while
/// [`Responder::gone`](super::Responder::gone) is awaited, and before the answer at the latest. Clones are the same.
#[derive(Clone)]
pub struct Interim {
    line: Arc<Line>,
    shared: Arc<Shared>,
}

/// What waits.
#[derive(Default)]
pub(super) struct Line {
    state: Mutex<State>,
    waker: AtomicWaker,
}

#[derive(Default)]
struct State {
    heads: VecDeque<Bytes>,
    sent: usize,
    sent_bytes: usize,
    is_over: bool,
}

impl Interim {
    pub(super) fn new(line: Arc<Line>, shared: Arc<Shared>) -> Self {
        Self { line, shared }
    }

    /// Says one: its status is 1xx, and not 101, which HTTP/3 does not have. It never waits. False: it is not sent,
    /// because it is none, or larger than the client takes, or one too many (16, 64 KiB), or the answer has begun.
    pub fn send(&self, response: Response<()>) -> bool {
        let Ok(head) = encode(response) else { return false };
        self.shared.takes(head.section_bytes) && self.line.push(head.frame.freeze())
    }
}

impl Line {
    fn push(&self, head: Bytes) -> bool {
        let mut state = lock(&self.state);
        if state.is_over || state.sent == SENT_MAX || head.len() > SENT_BYTES_MAX - state.sent_bytes {
            return false;
        }
        state.sent += 1;
        state.sent_bytes += head.len();
        state.heads.push_back(head);
        drop(state);
        self.waker.wake();
        true
    }

    /// The next that waits; the task is woken when there is one.
    pub(super) fn next(&self, cx: &Context<'_>) -> Option<Bytes> {
        self.waker.register(cx.waker());
        self.take()
    }

    /// The next that waits.
    pub(super) fn take(&self) -> Option<Bytes> {
        lock(&self.state).heads.pop_front()
    }

    /// The answer begins: no more are taken. Those that wait still are there.
    pub(super) fn end(&self) {
        lock(&self.state).is_over = true;
    }
}

/// The head of an interim response.
pub(super) fn encode(response: Response<()>) -> Result<Encoded, Unsendable> {
    let (head, ()) = response.into_parts();
    if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Unsendable::Status);
    }
    encode::response(&head)
}

impl std::fmt::Debug for Interim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Interim").field("sent", &lock(&self.line.state).sent).finish_non_exhaustive()
    }
}
