//! An HTTP/3 connection: a request on one of its streams, with the interim responses, the body that goes up and the one
//! that comes down. It knows no pool and no times of a request.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use eyot_h3::client::Connection;
use eyot_h3::{Error, RecvBody};
use eyot_plan::arrival::Interim;
use eyot_plan::fault::{Code, Fault};
use futures_util::task::noop_waker_ref;
use http::{Method, Request, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use crate::connection::Unsent;
use crate::head;
use crate::incoming::Incoming;
use crate::upload::UploadBody;

/// How long the end of a response of which nothing more is wanted is waited for, before its stream is broken off.
const SETTLE: Duration = Duration::from_secs(1);

/// An HTTP/3 connection.
pub(crate) struct H3(Connection);

impl H3 {
    pub(crate) fn new(quic: Connection) -> Self {
        Self(quic)
    }

    /// Whether it takes no more requests: it has ended, or the server goes away.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Sends a request and waits for the head of its response; interim ones go to `interim`. If the future is dropped
    /// the stream is reset.
    pub(crate) async fn send(
        &self,
        request: Request<UploadBody>,
        interim: &Interim,
    ) -> Result<Response<Incoming>, Unsent> {
        let is_head = request.method() == Method::HEAD;
        let (parts, body) = request.into_parts();
        let slot = Arc::new(Mutex::new(Slot { body: Some(body), is_touched: false }));
        let lent = Lent(Arc::clone(&slot));
        let sent = self.0.send_informed(Request::from_parts(parts, lent), |head| head::interim(head, interim)).await;
        match sent {
            Ok(response) => {
                let without = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&response.status());
                Ok(response.map(|body| Incoming::H3(Received::new(body, is_head || without))))
            }
            Err(error) => Err(unsent(error, &slot)),
        }
    }
}

/// Why a request was not answered; with its body, if nothing of that was taken and the server has done nothing.
fn unsent(error: Error, slot: &Mutex<Slot>) -> Unsent {
    // What cannot be sent here can be sent nowhere else.
    let is_ours = matches!(error, Error::Unsendable(_) | Error::PeerLimit);
    let mut slot = locked(slot);
    let body = slot.body.take().filter(|_| error.is_unprocessed() && !is_ours && !slot.is_touched);
    match body {
        Some(body) => Unsent::never(error, body),
        None => Unsent::failed(error),
    }
}

/// A request's body, and whether anything of it was asked for.
struct Slot {
    body: Option<UploadBody>,
    is_touched: bool,
}

fn locked(slot: &Mutex<Slot>) -> MutexGuard<'_, Slot> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A body as the connection reads it, which can be had back.
struct Lent(Arc<Mutex<Slot>>);

impl http_body::Body for Lent {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let mut slot = locked(&self.0);
        slot.is_touched = true;
        match &mut slot.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(Some(Err(Fault::new(Code::InternalError).because("the body was taken back")))),
        }
    }

    fn is_end_stream(&self) -> bool {
        locked(&self.0).body.as_ref().is_some_and(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        locked(&self.0).body.as_ref().map_or_else(SizeHint::default, http_body::Body::size_hint)
    }
}

/// A response's body as it comes. Dropped before its end it resets the stream, unless nothing but the end is left.
pub(crate) struct Received {
    /// None once it has ended.
    body: Option<RecvBody>,
    /// What was read ahead, looking for the end.
    ahead: Option<Result<Frame<Bytes>, Error>>,
    is_bodiless: bool,
}

impl Received {
    fn new(body: RecvBody, is_bodiless: bool) -> Self {
        let mut this = Self { body: Some(body), ahead: None, is_bodiless };
        this.look(&mut Context::from_waker(noop_waker_ref()));
        this
    }

    /// Whether no more data can come.
    fn is_past_data(&self) -> bool {
        self.is_bodiless || self.body.as_ref().is_some_and(|body| body.size_hint().exact() == Some(0))
    }

    /// Looks whether the end is here: who knows the length does not ask for it.
    fn look(&mut self, cx: &mut Context<'_>) {
        if !self.is_past_data() || self.ahead.is_some() {
            return;
        }
        let Some(body) = &mut self.body else { return };
        match Pin::new(body).poll_frame(cx) {
            Poll::Ready(None) => self.body = None,
            Poll::Ready(Some(frame)) => self.ahead = Some(frame),
            Poll::Pending => {}
        }
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(ahead) = self.ahead.take() {
            return Poll::Ready(Some(ahead));
        }
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        match &frame {
            Some(Ok(_)) => self.look(cx),
            Some(Err(_)) | None => self.body = None,
        }
        Poll::Ready(frame)
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.body.is_none() && self.ahead.is_none()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), http_body::Body::size_hint)
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        if !self.is_past_data() || self.ahead.is_some() {
            return;
        }
        // To a server a stream that is broken off at its end looks like a request that nobody wanted.
        if let (Some(mut body), Ok(runtime)) = (self.body.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move { drop(timeout(SETTLE, body.frame()).await) });
        }
    }
}
