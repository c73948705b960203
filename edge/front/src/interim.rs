//! Interim responses on their way to one client, and what else an exchange needs of its connection. Bounded: a client
//! that takes none must not make them pile up.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use eyot_plan::arrival::Interim;
use eyot_plan::body::Body;
use http::header;
use http::{Response, StatusCode};
use tokio::sync::Notify;

use crate::exchange::CONNECTION_ONLY;

/// How many interim responses one request may have, and their bytes in all.
const SENT_MAX: usize = 16;
const SENT_BYTES_MAX: usize = 64 << 10;

/// What the connection of a request lends to its exchange.
pub(crate) struct Reach {
    /// Where interim heads go.
    pub(crate) interim: Interim,
    /// Says 100 to a client that waits for it. None: nobody has to.
    pub(crate) go_on: Option<GoOn>,
    /// The `:protocol` of an extended CONNECT.
    pub(crate) extended: Option<String>,
    /// What comes through the tunnel, where that is not the request's body.
    pub(crate) tunnel: Option<Body>,
}

pub(crate) type GoOn = Box<dyn FnOnce() + Send>;

impl Reach {
    /// Of a client that cannot be told anything before the response.
    pub(crate) fn plain() -> Self {
        Self { interim: Interim::none(), go_on: None, extended: None, tunnel: None }
    }
}

/// The interim heads of one request that have not left. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Heads(Arc<Line>);

#[derive(Default)]
struct Line {
    state: Mutex<State>,
    told: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Response<()>>,
    sent: usize,
    sent_bytes: usize,
    is_over: bool,
}

impl Heads {
    /// What an arrival says them with.
    pub(crate) fn interim(&self) -> Interim {
        let heads = self.clone();
        Interim::new(move |head| heads.push(clean(head)))
    }

    /// What says 100.
    pub(crate) fn go_on(&self) -> GoOn {
        let heads = self.clone();
        Box::new(move || heads.push(go_on()))
    }

    fn push(&self, head: Response<()>) {
        let fields: usize = head.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is_over || state.sent == SENT_MAX || fields > SENT_BYTES_MAX - state.sent_bytes {
            return;
        }
        state.sent += 1;
        state.sent_bytes += fields;
        state.waiting.push_back(head);
        drop(state);
        self.0.told.notify_one();
    }

    /// The next, when there is one. Cancel-safe.
    pub(crate) async fn next(&self) -> Response<()> {
        loop {
            if let Some(head) = self.take() {
                return head;
            }
            self.0.told.notified().await;
        }
    }

    /// The next, if there is one.
    pub(crate) fn take(&self) -> Option<Response<()>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).waiting.pop_front()
    }

    /// The response begins: nothing more is taken.
    pub(crate) fn end(&self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).is_over = true;
    }
}

/// 100 (RFC 9110, section 15.2.1).
pub(crate) fn go_on() -> Response<()> {
    let mut head = Response::new(());
    *head.status_mut() = StatusCode::CONTINUE;
    head
}

/// An interim head without what belongs to the connection or to a body.
pub(crate) fn clean(mut head: Response<()>) -> Response<()> {
    for name in CONNECTION_ONLY.iter().chain([&header::CONTENT_LENGTH]) {
        head.headers_mut().remove(name);
    }
    head.extensions_mut().clear();
    head
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn hint(bytes: usize) -> Response<()> {
        let mut head = Response::new(());
        *head.status_mut() = StatusCode::EARLY_HINTS;
        head.headers_mut().insert("link", HeaderValue::from_str(&"x".repeat(bytes)).expect("a value"));
        head
    }

    #[test]
    fn of_the_interim_heads_that_nobody_takes_a_few_wait_and_none_once_the_response_begins() {
        for (bytes, kept) in [(10, SENT_MAX), (30_000, 2), (SENT_BYTES_MAX, 0)] {
            let heads = Heads::default();
            for _ in 0..100 {
                heads.interim().send(hint(bytes));
            }
            assert_eq!(std::iter::from_fn(|| heads.take()).count(), kept, "{bytes}");
        }
        let heads = Heads::default();
        heads.end();
        heads.interim().send(hint(1));
        assert!(heads.take().is_none());
    }
}
