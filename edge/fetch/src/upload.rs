//! The request's body on its way up: it is watched, so that whoever stops it is named, and it can be cut.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use eyot_plan::body::Body;
use eyot_plan::fault::{Code, Fault};
use http_body::{Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::Instant;

/// What is known of the body on its way up.
#[derive(Debug)]
pub(crate) struct Upload {
    state: Mutex<State>,
    ended: Notify,
    was_cut: Notify,
}

#[derive(Debug)]
struct State {
    cut: bool,
    ended: bool,
    fault: Option<Fault>,
    /// When the body last gave or was asked for something.
    moved_at: Instant,
    /// The upstream wants more and the body's source has none.
    source_is_slow: bool,
    waker: Option<Waker>,
}

/// How an upload stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// All of it was taken, at this time.
    Ended(Instant),
    /// The source is slow: not the upstream's fault.
    Source,
    /// The upstream has taken nothing since this time.
    Upstream(Instant),
}

impl Upload {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it stands.
    pub(crate) fn standing(&self) -> Standing {
        let state = self.state();
        match (state.ended, state.source_is_slow) {
            (true, _) => Standing::Ended(state.moved_at),
            (false, true) => Standing::Source,
            (false, false) => Standing::Upstream(state.moved_at),
        }
    }

    /// The fault the body itself ended in.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.state().fault.clone()
    }

    /// Resolves once when the body has ended.
    pub(crate) async fn ended(&self) {
        self.ended.notified().await;
    }

    /// Cuts the body: the connection or stream that carries it ends too.
    pub(crate) fn cut(&self) {
        let mut state = self.state();
        state.cut = true;
        let waker = state.waker.take();
        drop(state);
        self.was_cut.notify_one();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Resolves once when the body is cut: who carries it up may be waiting for room instead of for the body.
    pub(crate) async fn was_cut(&self) {
        self.was_cut.notified().await;
    }
}

/// Cuts the upload when it is dropped: the request's future or its response's body is gone.
#[derive(Debug)]
pub(crate) struct CutOnDrop(pub(crate) Arc<Upload>);

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        self.0.cut();
    }
}

/// The body as the connection reads it.
#[derive(Debug)]
pub(crate) struct UploadBody {
    body: Body,
    /// What is left of the declared length, in bytes.
    left: Option<u64>,
    upload: Arc<Upload>,
}

impl UploadBody {
    /// Watches `body`, which has said it is `length` bytes long, if it has.
    pub(crate) fn new(body: Body, length: Option<u64>) -> (Self, Arc<Upload>) {
        let ended = http_body::Body::is_end_stream(&body);
        let state =
            State { cut: false, ended, fault: None, moved_at: Instant::now(), source_is_slow: false, waker: None };
        let upload = Arc::new(Upload { state: Mutex::new(state), ended: Notify::new(), was_cut: Notify::new() });
        (Self { body, left: length, upload: Arc::clone(&upload) }, upload)
    }

    /// What is known of it.
    pub(crate) fn upload(&self) -> Arc<Upload> {
        Arc::clone(&self.upload)
    }

    /// Counts a frame against the declared length.
    fn count(&mut self, frame: Option<&Frame<Bytes>>) -> Result<(), Fault> {
        let Some(left) = self.left.as_mut() else { return Ok(()) };
        let bytes = frame.and_then(Frame::data_ref).map_or(0, |data| u64::try_from(data.len()).unwrap_or(u64::MAX));
        *left = left.checked_sub(bytes).ok_or_else(|| differs("longer"))?;
        let over = frame.is_none_or(Frame::is_trailers);
        if over && *left > 0 { Err(differs("shorter")) } else { Ok(()) }
    }
}

fn differs(how: &str) -> Fault {
    Fault::new(Code::BadRequest).because(format_args!("the body is {how} than its content-length"))
}

impl http_body::Body for UploadBody {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if self.upload.state().cut {
            return Poll::Ready(Some(Err(Fault::new(Code::ClientTimeout).because("nobody waits for the response"))));
        }
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let polled = match polled {
            Poll::Ready(Some(Ok(frame))) => {
                Poll::Ready(self.count(Some(&frame)).map_or_else(|fault| Some(Err(fault)), |()| Some(Ok(frame))))
            }
            Poll::Ready(None) => Poll::Ready(self.count(None).err().map(Err)),
            other => other,
        };
        let ended = match &polled {
            Poll::Ready(None | Some(Err(_))) => true,
            // A reader that knows the length does not ask for the end.
            Poll::Ready(Some(Ok(_))) => self.left == Some(0) || http_body::Body::is_end_stream(&self.body),
            Poll::Pending => false,
        };
        let mut state = self.upload.state();
        state.source_is_slow = polled.is_pending();
        state.moved_at = Instant::now();
        state.waker = polled.is_pending().then(|| cx.waker().clone());
        if let Poll::Ready(Some(Err(fault))) = &polled {
            state.fault = Some(fault.clone());
        }
        let just_ended = ended && !state.ended;
        state.ended |= ended;
        let cut = state.cut;
        drop(state);
        if just_ended {
            self.upload.ended.notify_one();
        }
        if cut && polled.is_pending() {
            // It was cut between the two looks; nobody else will wake this task.
            cx.waker().wake_by_ref();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        http_body::Body::is_end_stream(&self.body)
    }

    fn size_hint(&self) -> SizeHint {
        match self.left {
            Some(left) => SizeHint::with_exact(left),
            None => http_body::Body::size_hint(&self.body),
        }
    }
}
