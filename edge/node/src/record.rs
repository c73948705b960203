//! The record of one request: filled in along the line, written once. It decides nothing.
//!
//! It is written when the response's body has ended or the client has left, and every function that was called has ended:
//! what one spends after its answer is in it, and no client waits for that.

mod calls;
mod id;
mod story;

use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use eyot_plan::arrival::Arrival;
use eyot_plan::body::Body;
use eyot_plan::fault::{Code, Fault};
use http_body::{Frame, SizeHint};

use crate::access::Log;
use crate::telemetry::Telemetry;
pub(crate) use calls::Bill;
use story::{Last, Story};

/// The record of one request. Dropped, it is complete but for what functions still do.
pub(crate) struct Record {
    /// Gone only while this is dropped.
    story: Option<Story>,
    /// Whoever lets go of it last has the story written.
    last: Arc<Last>,
}

impl Record {
    pub(crate) fn begin(telemetry: &Arc<Telemetry>, access: &Arc<Log>, arrival: &Arrival) -> Self {
        Self { story: Some(Story::begin(telemetry, access, arrival)), last: Arc::default() }
    }

    /// The record of what is asked for when this request has its answer: a request of nobody, of which only what functions
    /// spend and faults are told.
    pub(crate) fn of_nobody(&self) -> Self {
        Self { story: Some(self.twin()), last: Arc::default() }
    }

    /// Where the calls of functions go on record that this request leads to.
    pub(crate) fn bill(&self) -> Bill {
        Bill { calls: Arc::clone(self.calls()), last: Arc::clone(&self.last) }
    }

    /// The outbound requests that were made or lent onward of what was lent to this request; none if nothing was, if a
    /// function still runs, or if it was passed on to who may have spent some.
    pub(crate) fn lent_made(&self) -> Option<u64> {
        let lent = self.lent.as_ref().filter(|_| Arc::strong_count(&self.last) == 1)?;
        Some(lent.subrequests())
    }
}

impl Deref for Record {
    type Target = Story;

    fn deref(&self) -> &Story {
        self.story.as_ref().expect("it is here until this is dropped")
    }
}

impl DerefMut for Record {
    fn deref_mut(&mut self) -> &mut Story {
        self.story.as_mut().expect("it is here until this is dropped")
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Some(story) = self.story.take() {
            self.last.tell(story.told());
        }
    }
}

/// A response's body that carries its request's record: what it sends is counted, its fault noted, and a generation that
/// is too old ends it. A panic of the body becomes a fault.
pub(crate) struct Recorded {
    /// Dropped before the record is written, so that a function's last steps are in it.
    body: Option<Body>,
    record: Record,
    /// Resolves when the entry that answers is closed; made when the body first has to wait.
    closed: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Recorded {
    pub(crate) fn new(body: Body, record: Record) -> Self {
        Self { body: Some(body), record, closed: None }
    }

    /// Asks to be woken when the entry is closed. Whether it is.
    fn watch(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(entry) = &self.record.entry else { return false };
        self.closed.get_or_insert_with(|| Box::pin(entry.closed())).as_mut().poll(cx).is_ready()
    }

    fn fail(&mut self, fault: Fault) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        self.body = None;
        self.record.fault(&fault);
        Poll::Ready(Some(Err(fault)))
    }
}

fn too_old() -> Fault {
    Fault::new(Code::NotReady).because("the release has ended here")
}

impl http_body::Body for Recorded {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        if this.record.entry.as_ref().is_some_and(|entry| entry.is_closed()) {
            return this.fail(too_old());
        }
        let poll = std::panic::AssertUnwindSafe(|| Pin::new(body).poll_frame(cx));
        match std::panic::catch_unwind(poll) {
            Ok(Poll::Pending) if this.watch(cx) => this.fail(too_old()),
            Ok(Poll::Ready(Some(Ok(frame)))) => {
                this.record.out_bytes += frame.data_ref().map_or(0, |bytes| bytes.len() as u64);
                Poll::Ready(Some(Ok(frame)))
            }
            Ok(Poll::Ready(Some(Err(fault)))) => this.fail(fault),
            Ok(other) => other,
            Err(_) => this.fail(Fault::new(Code::InternalError).because("a panic")),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), http_body::Body::size_hint)
    }
}
