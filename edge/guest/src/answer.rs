//! The answer of a guest: its head checked, its body streamed to the caller and ending in a fault if the guest failed.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use eyot_plan::fault::{Code, Fault};
use http::{HeaderMap, Method, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use tokio::task::AbortHandle;
use wasmtime_wasi_http::WasiBody;

use crate::account::Account;
use crate::charged::Delivery;
use crate::flow::Coalesced;

/// The size of fields as HTTP/2 and HTTP/3 count it, in bytes (RFC 9113, section 6.5.2; RFC 9114, section 4.2.2).
fn fields_bytes(fields: &HeaderMap) -> u64 {
    fields.iter().map(|(name, value)| (name.as_str().len() + value.len() + 32) as u64).sum()
}

/// Checks a head and makes of its body what the caller gets; `whole`: the guest is done, so all of the body is there.
pub(crate) fn check(response: Response<WasiBody>, account: &Arc<Account>, method: &Method, whole: bool) -> Delivery {
    let (parts, body) = response.into_parts();
    let (allowed, used) = (account.limits.header_bytes, fields_bytes(&parts.headers));
    if used > allowed {
        return Err(Fault::new(Code::ResponseTooLarge).over("header_bytes", allowed, used));
    }
    if !(200..600).contains(&parts.status.as_u16()) {
        let cause = format!("{} is no final status", parts.status.as_u16());
        return Err(Fault::new(Code::FunctionGaveNoResponse).because(cause));
    }
    let bodiless = method == Method::HEAD || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let length = parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let length = if bodiless { None } else { length };
    account.touch();
    let rest = (!bodiless).then(|| Coalesced::new(body));
    let mut answer = Answer { here: VecDeque::new(), rest, account: Arc::clone(account), length, guest: None };
    if whole {
        answer.gather()?;
    }
    Ok(Response::from_parts(parts, answer))
}

/// The body of an answer.
pub(crate) struct Answer {
    /// What is here already: all of it, if the guest was done when it answered.
    here: VecDeque<Frame<Bytes>>,
    /// What comes as the guest writes it.
    rest: Option<Coalesced<WasiBody>>,
    account: Arc<Account>,
    /// What is to come by its Content-Length, in bytes.
    length: Option<u64>,
    /// The guest, while it may still run: it ends with this body.
    guest: Option<AbortOnDrop>,
}

impl Answer {
    /// Holds the guest, so that it ends when the caller drops this.
    pub(crate) fn hold(mut self, guest: AbortOnDrop) -> Self {
        self.guest = Some(guest);
        self.release_if_out();
        self
    }

    /// Lets the guest go on by itself when all of the answer is out, though it may not have ended its body yet: who sends
    /// it may read no further than its Content-Length. What the guest still does, it does within the same budget.
    fn release_if_out(&mut self) {
        let is_out = self.rest.is_none() || self.length == Some(0);
        if let Some(guest) = self.guest.take_if(|_| is_out) {
            guest.release();
        }
    }

    /// Takes all that is there of a guest that is done.
    fn gather(&mut self) -> Result<(), Fault> {
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        while let Poll::Ready(Some(frame)) = self.poll(cx) {
            self.here.push_back(frame?);
        }
        Ok(())
    }

    /// What comes next of the rest.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let Some(rest) = self.rest.as_mut() else { return Poll::Ready(None) };
        let polled = match ready!(rest.poll(cx)) {
            Some(Ok(frame)) => Some(self.admit(frame)),
            Some(Err(_)) => Some(Err(self.unfinished())),
            None => self.close().err().map(Err),
        };
        match &polled {
            Some(Ok(_)) => return Poll::Ready(polled),
            Some(Err(_)) => self.guest = None,
            None => {}
        }
        self.rest = None;
        self.release_if_out();
        Poll::Ready(polled)
    }

    /// Counts a frame.
    fn admit(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, Fault> {
        self.account.touch();
        if let (Some(bytes), Some(length)) = (frame.data_ref(), self.length) {
            self.length = Some(length.saturating_sub(bytes.len() as u64));
            self.release_if_out();
        }
        if let Some(trailers) = frame.trailers_ref() {
            let (allowed, used) = (self.account.limits.header_bytes, fields_bytes(trailers));
            if used > allowed {
                return Err(Fault::new(Code::ResponseTooLarge).over("header_bytes", allowed, used));
            }
        }
        Ok(frame)
    }

    /// The guest's side is closed: well, only if the guest did not fail and wrote what it had announced.
    fn close(&self) -> Result<(), Fault> {
        match self.account.failed() {
            Some(fault) => Err(fault),
            None if self.length.unwrap_or(0) > 0 => Err(self.unfinished()),
            None => Ok(()),
        }
    }

    fn unfinished(&self) -> Fault {
        let ended = self.account.failed().or_else(|| self.account.blamed());
        ended.unwrap_or_else(|| Fault::new(Code::FunctionTrapped).because("it left its body unfinished"))
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        match self.here.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => self.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.here.is_empty() && self.rest.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.rest, self.length) {
            // Over HTTP/1.1 a body of exact size has no room for trailers (RFC 9112, section 7.1.2).
            (None, _) if self.here.iter().any(Frame::is_trailers) => SizeHint::default(),
            (None, _) => {
                let bytes = self.here.iter().filter_map(Frame::data_ref).map(Bytes::len).sum::<usize>();
                SizeHint::with_exact(bytes as u64)
            }
            (Some(_), Some(length)) => SizeHint::with_exact(length),
            (Some(_), None) => SizeHint::default(),
        }
    }
}

/// A task that ends with its owner.
pub(crate) struct AbortOnDrop(Option<AbortHandle>);

impl AbortOnDrop {
    pub(crate) fn new(task: AbortHandle) -> Self {
        Self(Some(task))
    }

    /// Lets the task go on by itself.
    pub(crate) fn release(mut self) {
        self.0 = None;
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}
