//! Bodies on their way between the threads of I/O and those of guests: small pieces put together, a bounded number of them
//! under way, counted.
//!
//! QUIC gives pieces of 1200 bytes; a guest that is woken for each of them spends most of its time waking.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use eyot_plan::fault::{Code, Fault};
use http_body::{Body, Frame};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use wasmtime_wasi_http::{Error as WasiError, WasiBody};

use crate::account::Account;
use crate::answer::AbortOnDrop;
use crate::blame;

/// Pieces are put together up to this, in bytes, from what is there already.
const PIECE_BYTES: usize = 32 << 10;
/// Pieces under way.
const PIECES_MAX: usize = 4;

/// A body whose small pieces are put together. It never waits for more than there is.
pub(crate) struct Coalesced<B: Body> {
    /// Absent: it has ended.
    body: Option<B>,
    /// What was met while putting together, and comes next.
    next: Option<Result<Frame<Bytes>, B::Error>>,
}

impl<B: Body<Data = Bytes> + Unpin> Coalesced<B> {
    pub(crate) fn new(body: B) -> Self {
        Self { body: Some(body), next: None }
    }

    /// Whether nothing comes any more.
    fn is_done(&self) -> bool {
        self.body.is_none() && self.next.is_none()
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if let Some(next) = self.next.take() {
            return Poll::Ready(Some(next));
        }
        let mut first = Bytes::new();
        let mut all = BytesMut::new();
        while first.len().max(all.len()) < PIECE_BYTES {
            let Some(body) = self.body.as_mut() else { break };
            let met = match Pin::new(body).poll_frame(cx) {
                Poll::Pending if first.is_empty() => return Poll::Pending,
                Poll::Pending => break,
                Poll::Ready(None) => {
                    self.body = None;
                    break;
                }
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) if first.is_empty() => {
                        first = bytes;
                        continue;
                    }
                    Ok(bytes) => {
                        if all.is_empty() {
                            all.extend_from_slice(&first);
                        }
                        all.extend_from_slice(&bytes);
                        continue;
                    }
                    Err(trailers) => Ok(trailers),
                },
                Poll::Ready(Some(Err(error))) => Err(error),
            };
            self.body = None;
            self.next = Some(met);
        }
        let bytes = if all.is_empty() { first } else { all.freeze() };
        match bytes.is_empty() {
            true => Poll::Ready(self.next.take()),
            false => Poll::Ready(Some(Ok(Frame::data(bytes)))),
        }
    }
}

/// Opens a body that comes from the I/O's side to a guest's: what is there already is taken along, the rest is read by a
/// task of `io` and comes in few, large pieces.
pub(crate) async fn open(body: eyot_plan::body::Body, io: &Handle, account: &Arc<Account>, kind: Kind) -> Flow {
    let mut inlet = Inlet { body: Coalesced::new(body), account: Arc::clone(account), kind, bytes: 0 };
    let first = std::future::poll_fn(|cx| Poll::Ready(inlet.poll(cx))).await;
    let rest = match &first {
        Poll::Ready(None | Some(Err(_))) => None,
        _ if inlet.body.is_done() => None,
        _ => Some(inlet),
    };
    let first = match first {
        Poll::Ready(first) => first,
        Poll::Pending => None,
    };
    let rest = rest.map(|inlet| {
        let (sender, receiver) = mpsc::channel(PIECES_MAX);
        (receiver, AbortOnDrop::new(io.spawn(inlet.run(sender)).abort_handle()))
    });
    account.flows(true);
    Flow { first, rest, account: Arc::clone(account), kind }
}

/// What a body is to the guest that reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The request's body: counted, and its size is limited.
    Request,
    /// The body of a response it fetched.
    Response,
}

/// What is under way.
type Piece = Result<Frame<Bytes>, Fault>;

/// The I/O's side of a body.
struct Inlet {
    body: Coalesced<eyot_plan::body::Body>,
    account: Arc<Account>,
    kind: Kind,
    /// What came so far.
    bytes: u64,
}

impl Inlet {
    async fn run(mut self, sender: mpsc::Sender<Piece>) {
        while let Some(frame) = std::future::poll_fn(|cx| self.poll(cx)).await {
            let last = frame.is_err();
            if sender.send(frame).await.is_err() || last {
                return;
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let polled = ready!(self.body.poll(cx));
        if let Some(Ok(frame)) = &polled {
            self.bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
            let allowed = self.account.limits.body_bytes;
            if self.kind == Kind::Request && self.bytes > allowed {
                let fault = Fault::new(Code::RequestTooLarge).over("body_bytes", allowed, self.bytes);
                return Poll::Ready(Some(Err(fault)));
            }
        }
        Poll::Ready(polled)
    }
}

/// The guest's side of a body.
pub(crate) struct Flow {
    first: Option<Result<Frame<Bytes>, Fault>>,
    /// What comes later, and the task that reads it.
    rest: Option<(mpsc::Receiver<Piece>, AbortOnDrop)>,
    account: Arc<Account>,
    kind: Kind,
}

impl Flow {
    /// The guest is told an error; the account is told the fault.
    fn failed(&self, fault: &Fault) -> WasiError {
        match self.kind {
            Kind::Request if fault.code == Code::RequestTooLarge => self.account.cut(fault.clone()),
            Kind::Request => self.account.blame(fault.clone()),
            Kind::Response => {}
        }
        blame::wasi_error(fault)
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.account.flows(false);
    }
}

impl Body for Flow {
    type Data = Bytes;
    type Error = WasiError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, WasiError>>> {
        let this = &mut *self;
        let polled = match (this.first.take(), &mut this.rest) {
            (Some(first), _) => Some(first),
            (None, Some((receiver, _))) => ready!(receiver.poll_recv(cx)),
            (None, None) => None,
        };
        this.account.touch();
        if let None | Some(Err(_)) = polled {
            this.rest = None;
        }
        Poll::Ready(polled.map(|frame| frame.map_err(|fault| this.failed(&fault))))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_none()
    }
}

/// The body of a request that a guest sends: if the guest fails, it does not end well. If no one reads on (the upstream
/// answered early, or failed), the guest is not told by its writes, which fail before it hears why, but by the answer.
pub(crate) struct Outgoing {
    /// Absent: it has ended.
    body: Option<Coalesced<WasiBody>>,
    account: Arc<Account>,
    io: Handle,
}

impl Outgoing {
    pub(crate) fn new(body: WasiBody, account: &Arc<Account>, io: &Handle) -> Self {
        Self { body: Some(Coalesced::new(body)), account: Arc::clone(account), io: io.clone() }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let Some(body) = self.body.as_mut() else { return Poll::Ready(None) };
        let polled = ready!(body.poll(cx));
        self.account.touch();
        let unfinished = || Fault::new(Code::FunctionTrapped).because("it left the body of its request unfinished");
        let polled = match polled {
            Some(frame) => Some(frame.map_err(|_| unfinished())),
            // Where the guest is gone, so is what it had begun: that this is all of it, nobody can say any more.
            None => self.account.ended().map(|how| Err(how.err().unwrap_or_else(unfinished))),
        };
        if let None | Some(Err(_)) = polled {
            self.body = None;
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none()
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        let Some(mut body) = self.body.take() else { return };
        // It ends when the guest finishes the body or is gone.
        self.io.spawn(async move { while let Some(Ok(_)) = std::future::poll_fn(|cx| body.poll(cx)).await {} });
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::HeaderMap;
    use http_body_util::StreamBody;

    use super::*;

    /// What comes of a body in pieces.
    async fn pieces(frames: Vec<Frame<Bytes>>) -> Vec<Result<usize, usize>> {
        let frames = futures_util::stream::iter(frames.into_iter().map(Ok::<_, Infallible>));
        let mut body = Coalesced::new(StreamBody::new(frames));
        let mut met = Vec::new();
        while let Some(Ok(frame)) = std::future::poll_fn(|cx| body.poll(cx)).await {
            met.push(
                frame
                    .into_data()
                    .map(|bytes| bytes.len())
                    .map_err(|frame| frame.into_trailers().map_or(0, |trailers| trailers.len())),
            );
        }
        met
    }

    fn data(bytes: usize) -> Frame<Bytes> {
        Frame::data(vec![0; bytes].into())
    }

    #[tokio::test]
    async fn small_pieces_are_put_together_large_ones_stay_and_trailers_come_last() {
        assert_eq!(pieces(vec![]).await, []);
        assert_eq!(pieces(vec![data(0), data(3)]).await, [Ok(3)]);
        assert_eq!(pieces((0..40).map(|_| data(1200)).collect()).await, [Ok(33_600), Ok(14_400)]);
        assert_eq!(pieces(vec![data(1 << 20), data(1)]).await, [Ok(1 << 20), Ok(1)]);
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", http::HeaderValue::from_static("1"));
        assert_eq!(pieces(vec![data(5), Frame::trailers(trailers)]).await, [Ok(5), Err(1)]);
    }

    #[tokio::test]
    async fn an_error_comes_after_what_came_before_it() {
        let frames = futures_util::stream::iter([Ok(data(5)), Err("broken")]);
        let mut body = Coalesced::new(StreamBody::new(frames));
        let first = std::future::poll_fn(|cx| body.poll(cx)).await.expect("a frame").expect("good");
        assert_eq!(first.into_data().map(|bytes| bytes.len()).ok(), Some(5));
        assert_eq!(std::future::poll_fn(|cx| body.poll(cx)).await.expect("a frame").err(), Some("broken"));
    }
}
