//! Receiving one message: its head, and its body as it comes.

use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker, ready};

use bytes::{Bytes, BytesMut};
use futures_util::task::AtomicWaker;
use http_body::{Body, Frame, SizeHint};
use quinn::RecvStream;

use super::shared::{Shared, lock};
use super::varint;
use crate::Error;
use crate::core::code::{Code, Failure};
use crate::core::message::{Event, Message};

/// How many pieces are taken from quinn at once. They are datagrams, so this is up to about 40 KiB.
const PIECES: usize = 32;
/// The same as long as few came: most messages are one piece and an end, and room for more costs more than they do.
const FIRST_PIECES: usize = 2;
/// How many times that is.
const FIRST_FILLS: u8 = 2;

/// The receiving half of a request stream.
pub(crate) struct Incoming {
    stream: RecvStream,
    message: Message,
    input: Bytes,
    shared: Arc<Shared>,
    /// What to tell the peer if the rest of the message is not wanted.
    unwanted: Code,
    wakers: Arc<Wakers>,
    waker: Waker,
    state: State,
    /// How often something came, up to [`FIRST_FILLS`].
    fills: u8,
}

/// How far the receiving half is.
#[derive(Clone, Debug)]
enum State {
    Open,
    /// It ended well.
    Ended,
    /// It broke off, or what follows is not wanted.
    Failed(Error),
}

/// quinn wakes one task per stream; two may wait: who reads the body, and who waits for the peer to leave.
#[derive(Default)]
struct Wakers {
    body: AtomicWaker,
    gone: AtomicWaker,
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.body.wake();
        self.gone.wake();
    }
}

/// What came out of the stream.
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once, and a box would cost each piece of a body")]
pub(crate) enum Item {
    Event(Event),
    End,
}

impl Incoming {
    pub(crate) fn new(stream: RecvStream, message: Message, shared: Arc<Shared>, unwanted: Code) -> Self {
        let wakers = Arc::new(Wakers::default());
        let waker = Waker::from(Arc::clone(&wakers));
        Self { stream, message, input: Bytes::new(), shared, unwanted, wakers, waker, state: State::Open, fills: 0 }
    }

    /// The next event of the message.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Item, Error>> {
        match &self.state {
            State::Open => {}
            State::Ended => return Poll::Ready(Ok(Item::End)),
            State::Failed(error) => return Poll::Ready(Err(error.clone())),
        }
        self.wakers.body.register(cx.waker());
        let result = loop {
            match self.message.read(&mut self.input) {
                Ok(Some(event)) => return Poll::Ready(Ok(Item::Event(event))),
                Ok(None) => {}
                Err(failure) => break Err(self.break_off(failure)),
            }
            match ready!(self.fill()) {
                Ok(true) => {}
                Ok(false) => match self.message.finish() {
                    Ok(()) => break Ok(Item::End),
                    Err(failure) => break Err(self.break_off(failure)),
                },
                Err(error) => break Err(error),
            }
        };
        self.state = match &result {
            Ok(_) => State::Ended,
            Err(error) => State::Failed(error.clone()),
        };
        Poll::Ready(result)
    }

    /// Whether the message ends here; what has come meanwhile is kept for later.
    pub(crate) fn poll_end(&mut self, cx: &mut Context<'_>) -> Result<bool, Error> {
        if !self.input.is_empty() {
            return Ok(false);
        }
        self.wakers.body.register(cx.waker());
        match self.fill() {
            Poll::Pending | Poll::Ready(Ok(true)) => Ok(false),
            Poll::Ready(Ok(false)) => match self.message.finish() {
                Ok(()) => {
                    self.state = State::Ended;
                    Ok(true)
                }
                Err(failure) => Err(self.break_off(failure)),
            },
            Poll::Ready(Err(error)) => {
                self.state = State::Failed(error.clone());
                Err(error)
            }
        }
    }

    /// Takes what has come into `input`, in one piece. False: the stream has ended.
    fn fill(&mut self) -> Poll<Result<bool, Error>> {
        if self.fills == FIRST_FILLS {
            return self.fill_of::<PIECES>();
        }
        let filled = ready!(self.fill_of::<FIRST_PIECES>());
        self.fills += 1;
        Poll::Ready(filled)
    }

    fn fill_of<const PIECES: usize>(&mut self) -> Poll<Result<bool, Error>> {
        let mut pieces = [const { Bytes::new() }; PIECES];
        let mut cx = Context::from_waker(&self.waker);
        let read = ready!(pin!(self.stream.read_chunks(&mut pieces)).poll(&mut cx));
        Poll::Ready(match read {
            Ok(None) => Ok(false),
            Ok(Some(1)) => {
                self.input = std::mem::take(&mut pieces[0]);
                Ok(true)
            }
            Ok(Some(count)) => {
                let pieces = &pieces[..count];
                let mut joined = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
                pieces.iter().for_each(|piece| joined.extend_from_slice(piece));
                self.input = joined.freeze();
                Ok(true)
            }
            Err(error) => Err(self.shared.error(error)),
        })
    }

    /// The peer broke the protocol.
    fn break_off(&mut self, failure: Failure) -> Error {
        let _ = self.stream.stop(varint(failure.code));
        let error = self.shared.judge(failure);
        self.state = State::Failed(error.clone());
        error
    }

    /// Whether the peer has reset the stream; if not, the task is woken when it does.
    ///
    /// It asks by reading, while nothing that was read waits for its reader: quinn's own question leaves its waker behind
    /// when the stream's end is there already. A peer that leaves while a body waits stops the other half too.
    pub(crate) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let State::Failed(error) = &self.state {
            // What this side ended says nothing about the peer.
            let ours = matches!(error, Error::Peer(_) | Error::Stopped(_));
            return if ours { Poll::Pending } else { Poll::Ready(()) };
        }
        if matches!(self.state, State::Ended) || !self.input.is_empty() {
            return Poll::Pending;
        }
        self.wakers.gone.register(cx.waker());
        match ready!(self.fill()) {
            Ok(true) => self.wakers.body.wake(),
            Ok(false) => match self.message.finish() {
                Ok(()) => {
                    self.state = State::Ended;
                    self.wakers.body.wake();
                }
                Err(failure) => {
                    let _ = self.break_off(failure);
                    self.wakers.body.wake();
                }
            },
            Err(error) => {
                self.state = State::Failed(error);
                self.wakers.body.wake();
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }

    /// The code of a breach of the protocol in this message.
    pub(crate) fn breach(&self) -> Option<Code> {
        match &self.state {
            State::Failed(Error::Peer(failure)) => Some(failure.code),
            _ => None,
        }
    }

    /// Whether the message came to its end.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// The rest is not wanted.
    pub(crate) fn abandon(&mut self) {
        if matches!(self.state, State::Open) {
            let _ = self.stream.stop(varint(self.unwanted));
            self.state = State::Failed(Error::Stopped(self.unwanted));
        }
    }

    /// The rest is not wanted, for this reason.
    pub(crate) fn stop(&mut self, code: Code) {
        self.unwanted = code;
        self.abandon();
    }

    /// The declared length of the body.
    pub(crate) fn length(&self) -> Option<u64> {
        self.message.length()
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.abandon();
    }
}

/// The body of a received message, as it comes: never more of it is held than the flow control window of its stream.
///
/// Its length is checked against content-length, so a body that ends without an error is whole. Dropping it before its
/// end tells the peer to stop: with H3_NO_ERROR at a server, H3_REQUEST_CANCELLED at a client.
pub struct RecvBody {
    source: Option<Arc<Mutex<Incoming>>>,
    /// How many bytes are still to come, where that is known.
    missing: Option<u64>,
    /// What must live as long as the body.
    _keep: Option<Arc<dyn Send + Sync>>,
}

impl RecvBody {
    /// No body.
    pub(crate) fn empty() -> Self {
        Self { source: None, missing: Some(0), _keep: None }
    }

    pub(crate) fn new(source: Arc<Mutex<Incoming>>, keep: Option<Arc<dyn Send + Sync>>) -> Self {
        let missing = lock(&source).length();
        Self { source: Some(source), missing, _keep: keep }
    }
}

impl Body for RecvBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(source) = &self.source else { return Poll::Ready(None) };
        let item = ready!(lock(source).poll(cx));
        Poll::Ready(match item {
            Ok(Item::Event(Event::Data(bytes))) => {
                self.missing = self.missing.map(|missing| missing.saturating_sub(bytes.len() as u64));
                Some(Ok(Frame::data(bytes)))
            }
            Ok(Item::Event(Event::Trailers(trailers))) => Some(Ok(Frame::<Bytes>::trailers(trailers))),
            // A message has one head, and it was read before the body was made.
            Ok(
                Item::Event(Event::Interim(_) | Event::Request(_) | Event::Response(_) | Event::TooLarge) | Item::End,
            ) => {
                self.source = None;
                None
            }
            Err(error) => {
                self.source = None;
                Some(Err(error))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.missing.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for RecvBody {
    fn drop(&mut self) {
        if let Some(source) = &self.source {
            lock(source).abandon();
        }
    }
}

impl std::fmt::Debug for RecvBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecvBody").field("missing", &self.missing).finish_non_exhaustive()
    }
}
