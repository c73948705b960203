//! The right to ask one server, for as long as it has something to do for it: to the end of its answer's body.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use eyot_bundle::web_origin::WebOrigin;
use eyot_plan::body::Body;
use eyot_plan::fault::{Fault, Side};
use eyot_plan::upstream::{Chosen, Outcome};
use http_body::{Body as _, Frame, SizeHint};

use super::Upstream;

/// The right to ask one server. Dropped, it tells nothing of the server.
pub(crate) struct Permit {
    upstream: Arc<Upstream>,
    /// None once it has ended.
    chosen: Option<Chosen>,
    server: usize,
}

impl Permit {
    pub(super) fn new(upstream: Arc<Upstream>, chosen: Chosen) -> Self {
        let server = chosen.server;
        Self { upstream, chosen: Some(chosen), server }
    }

    /// The server's place in its release.
    pub(crate) fn server(&self) -> usize {
        self.server
    }

    /// The server.
    pub(crate) fn origin(&self) -> Option<&WebOrigin> {
        self.upstream.origins.get(self.server)
    }

    /// It ended so.
    pub(crate) fn end(mut self, outcome: Outcome) {
        self.close(outcome);
    }

    fn close(&mut self, outcome: Outcome) {
        if let Some(chosen) = self.chosen.take() {
            self.upstream.ended(chosen, outcome);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.close(Outcome::Neutral);
    }
}

/// An answer's body, which ends the permit when it ends.
pub(crate) struct Watched {
    body: Body,
    permit: Option<Permit>,
    /// What the head of the answer told.
    outcome: Outcome,
}

impl Watched {
    /// Watches the body of an answer whose head told `outcome`.
    pub(crate) fn new(body: Body, permit: Permit, outcome: Outcome) -> Self {
        let mut watched = Self { body, permit: Some(permit), outcome };
        watched.settle();
        watched
    }

    /// Ends it as soon as the body is over: a reader that knows its length never asks for its end.
    fn settle(&mut self) {
        if self.body.is_end_stream() {
            self.end(self.outcome);
        }
    }

    fn end(&mut self, outcome: Outcome) {
        if let Some(permit) = self.permit.take() {
            permit.end(outcome);
        }
    }
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Err(fault))) if fault.code.side() == Side::Upstream => this.end(Outcome::Failed),
            Poll::Ready(None | Some(Err(_))) => this.end(this.outcome),
            Poll::Ready(Some(Ok(_))) => this.settle(),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.end(self.outcome);
    }
}
