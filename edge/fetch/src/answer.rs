//! The response's body on its way down: it keeps the connection's lease, its times, and names who broke it off.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use eyot_plan::fault::{Code, Fault};
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::connection::Lease;
use crate::exchange::fault_of;
use crate::head::within_bounds;
use crate::incoming::Incoming;
use crate::key::Key;
use crate::pool::Pool;
use crate::upload::{CutOnDrop, Standing};

/// A response's body. Dropped before its end it closes the connection (HTTP/1.1) or resets the stream (HTTP/2).
pub(crate) struct Answer {
    /// None once the body has ended, well or not.
    incoming: Option<Incoming>,
    lease: Option<(Key, Lease)>,
    pool: Arc<Pool>,
    upload: CutOnDrop,
    between: Duration,
    total_at: Instant,
    /// Armed while the reader waits for the upstream.
    timer: Pin<Box<Sleep>>,
    waits: bool,
}

impl Answer {
    /// The body of a response whose head came in time. `between` and `total_at` bound what is left.
    pub(crate) fn new(
        incoming: Incoming,
        lease: (Key, Lease),
        pool: Arc<Pool>,
        upload: CutOnDrop,
        (between, total_at): (Duration, Instant),
    ) -> Self {
        let timer = Box::pin(sleep_until(total_at));
        let mut this =
            Self { incoming: Some(incoming), lease: Some(lease), pool, upload, between, total_at, timer, waits: false };
        this.settle();
        this
    }

    /// Gives the connection back as soon as the body is over: a reader that knows its length never asks for its end.
    fn settle(&mut self) {
        if self.incoming.as_ref().is_some_and(http_body::Body::is_end_stream) {
            self.end_well();
        }
    }

    fn end_well(&mut self) {
        self.incoming = None;
        if let Some((key, lease)) = self.lease.take() {
            self.pool.give(key, lease);
        }
    }

    fn end_badly(&mut self, fault: Fault) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        self.incoming = None;
        self.lease = None;
        Poll::Ready(Some(Err(fault)))
    }

    /// Whether the upstream was given all its time.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<Fault> {
        let now = Instant::now();
        if !self.waits {
            self.waits = true;
            self.timer.as_mut().reset((now + self.between).min(self.total_at));
        }
        loop {
            std::task::ready!(self.timer.as_mut().poll(cx));
            let now = Instant::now();
            // While a request still goes up, what moves there counts too.
            let moved_at = match self.upload.0.standing() {
                _ if now >= self.total_at => return Poll::Ready(late("in all")),
                Standing::Ended(_) => return Poll::Ready(late("between two pieces")),
                Standing::Source => now,
                Standing::Upstream(at) => at,
            };
            let next = (moved_at + self.between).min(self.total_at);
            if next <= now {
                return Poll::Ready(late("between two pieces"));
            }
            self.timer.as_mut().reset(next);
        }
    }
}

fn late(when: &str) -> Fault {
    Fault::new(Code::UpstreamTimeout).because(format_args!("the response's body was too slow {when}"))
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let Some(incoming) = self.incoming.as_mut() else { return Poll::Ready(None) };
        match Pin::new(incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.waits = false;
                if Instant::now() >= self.total_at {
                    return self.end_badly(late("in all"));
                }
                if let Some(Err(fault)) = frame.trailers_ref().map(within_bounds) {
                    return self.end_badly(fault);
                }
                self.settle();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                let fault = fault_of(&error, &self.upload.0);
                self.end_badly(fault)
            }
            Poll::Ready(None) => {
                self.end_well();
                Poll::Ready(None)
            }
            Poll::Pending => match self.poll_late(cx) {
                Poll::Ready(fault) => self.end_badly(fault),
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), http_body::Body::size_hint)
    }
}
