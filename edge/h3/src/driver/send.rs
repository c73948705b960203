//! Sending one message: its head and the first of its body in one write, the rest as it comes and as the peer takes it.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame};
use quinn::{SendStream, StoppedError, VarInt, WriteError};

use super::recv::Incoming;
use super::room;
use super::schedule::Place;
use super::shared::{Shared, lock};
use super::varint;
use crate::Error;
use crate::core::code::Code;
use crate::core::encode::{self, Encoded};
use crate::core::head;
use crate::core::priority::Priority;
use crate::patience::Patience;

/// How much of a body is gathered for one write.
const BATCH_BYTES_MAX: usize = 64 << 10;
/// How many pieces are gathered for one write.
const BATCH_PIECES_MAX: usize = 32;
/// Up to this size copying a piece is cheaper than sending it by itself.
const COPY_BYTES_MAX: usize = 1 << 10;

/// The sending half of a request stream. Dropped before it is finished, it resets the stream: what was sent so far must
/// not look whole.
pub(crate) struct Outgoing {
    stream: Option<SendStream>,
    shared: Arc<Shared>,
    /// What to tell the peer if it is dropped.
    code: Code,
    /// What is to be written before anything else: interim responses.
    ahead: Bytes,
    /// The response's place among those of its connection, and where it was last put.
    place: Option<(Arc<Place>, i32)>,
    /// The receiving half, while it is read: a breach of the protocol there is what a reset here says.
    incoming: Option<Arc<Mutex<Incoming>>>,
    /// Whether it was counted that the peer broke it off.
    counted: bool,
    /// How long the peer is waited for.
    patience: Patience,
    /// How much of it quinn has taken.
    taken_bytes: u64,
}

type Stopped = Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>> + Send + Sync>>;

impl Outgoing {
    pub(crate) fn new(stream: SendStream, shared: Arc<Shared>, code: Code) -> Self {
        let (ahead, place, incoming) = (Bytes::new(), None, None);
        let patience = Patience::new(shared.limits.write_time_max, shared.limits.write_rate_bytes_min);
        Self { stream: Some(stream), shared, code, ahead, place, incoming, counted: false, patience, taken_bytes: 0 }
    }

    /// The same, in this place.
    pub(crate) fn at(mut self, place: Arc<Place>) -> Self {
        self.place = Some((place, 0));
        self
    }

    /// The request asks for this.
    pub(crate) fn asked(&self, priority: Priority) {
        if let (Some((place, _)), true) = (&self.place, priority != Priority::default()) {
            lock(&self.shared.schedule).ask(place, priority);
        }
    }

    /// The response itself says this.
    pub(crate) fn answered(&self, priority: Priority) {
        if let (Some((place, _)), true) = (&self.place, priority != Priority::default()) {
            lock(&self.shared.schedule).answer(place, priority);
        }
    }

    /// Puts the stream where it belongs; the task is woken when that changes.
    fn arrange(&mut self, cx: &Context<'_>) {
        if let (Some(stream), Some((place, put))) = (&self.stream, &mut self.place) {
            let order = place.order(cx.waker());
            if order != *put {
                *put = order;
                let _ = stream.set_priority(order);
            }
        }
    }

    /// The same, beside this receiving half.
    pub(crate) fn beside(mut self, incoming: Arc<Mutex<Incoming>>) -> Self {
        self.incoming = Some(incoming);
        self
    }

    /// The connection.
    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// The receiving half, if it is read.
    pub(crate) fn incoming(&self) -> Option<Arc<Mutex<Incoming>>> {
        self.incoming.clone()
    }

    /// The peer broke the request off; it is counted once.
    pub(crate) fn broken_off(&mut self) {
        if !std::mem::replace(&mut self.counted, true) {
            self.shared.broken_off();
        }
    }

    /// Whether the peer takes this head.
    pub(crate) fn takes(&self, head: &Encoded) -> bool {
        self.shared.takes(head.section_bytes)
    }

    /// What to tell the peer if it is dropped.
    pub(crate) fn on_drop(&mut self, code: Code) {
        self.code = code;
    }

    /// Resolves when the peer has stopped the stream or the connection is lost.
    pub(crate) fn stopped(&self) -> Stopped {
        match &self.stream {
            Some(stream) => Box::pin(stream.stopped()),
            None => Box::pin(std::future::ready(Ok(None))),
        }
    }

    /// Adds to what is written before anything else.
    pub(crate) fn put_ahead(&mut self, bytes: &[u8]) {
        let mut ahead = BytesMut::with_capacity(self.ahead.len() + bytes.len());
        ahead.extend_from_slice(&self.ahead);
        ahead.extend_from_slice(bytes);
        self.ahead = ahead.freeze();
    }

    /// Writes of what goes ahead as much as the peer takes. What fails shows when something else is written.
    pub(crate) fn poll_ahead(&mut self, cx: &mut Context<'_>) {
        self.arrange(cx);
        while let (Some(stream), false) = (&mut self.stream, self.ahead.is_empty()) {
            let write = pin!(stream.write_chunks(std::slice::from_mut(&mut self.ahead)));
            if !matches!(write.poll(cx), Poll::Ready(Ok(_))) {
                return;
            }
        }
    }

    /// Writes all that goes ahead.
    pub(crate) async fn write_ahead(&mut self) -> Result<(), Error> {
        let mut ahead = [std::mem::take(&mut self.ahead)];
        self.write(&mut ahead).await
    }

    /// Writes all, waiting for the peer to take it, but not for ever: one that takes nothing has broken it off.
    async fn write(&mut self, pieces: &mut [Bytes]) -> Result<(), Error> {
        if self.stream.is_none() {
            return Err(Error::Stopped(self.code));
        }
        let mut written = 0;
        let in_time = poll_fn(|cx| match self.poll_write(cx, pieces, &mut written) {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending => self.patience.poll(cx).map(|()| None),
        });
        let Some(result) = in_time.await else {
            self.code = Code::REQUEST_CANCELLED;
            self.broken_off();
            // Part of it may have been taken: nothing can follow that.
            if let Some(mut stream) = self.stream.take() {
                let _ = stream.reset(varint(self.code));
            }
            return Err(Error::Stopped(self.code));
        };
        result.map_err(|error| self.lost(error))
    }

    /// The same; `written` is how many pieces are.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &mut [Bytes],
        written: &mut usize,
    ) -> Poll<Result<(), WriteError>> {
        self.arrange(cx);
        while let (Some(stream), true) = (&mut self.stream, *written < pieces.len()) {
            if let Some((place, _)) = &self.place {
                let left: usize = pieces[*written..].iter().map(Bytes::len).sum();
                room::make(&self.shared, place, self.taken_bytes.saturating_add(left as u64));
            }
            let write = pin!(stream.write_chunks(&mut pieces[*written..]));
            let taken = ready!(write.poll(cx))?;
            *written += taken.chunks;
            self.taken_bytes += taken.bytes as u64;
            self.patience.moved(taken.bytes);
        }
        Poll::Ready(Ok(()))
    }

    fn lost(&mut self, error: impl Into<Error>) -> Error {
        let error = self.shared.error(error);
        if let Error::Stopped(code) = error {
            // RFC 9000, section 3.5: a stopped stream is reset, with the same code.
            self.code = code;
            self.broken_off();
        }
        error
    }

    /// Ends the stream well.
    pub(crate) fn finish(&mut self) {
        if let Some(mut stream) = self.stream.take()
            && stream.finish().is_ok()
        {
            self.shared.ended_well();
            // A client knows by the response that its request arrived.
            if let Some((place, _)) = self.place.take() {
                place.writes(false);
                self.shared.finished(stream, place);
            }
        }
    }

    /// Sends the head and then the body, and ends the stream. `length` is what content-length promises.
    pub(crate) async fn send<B>(&mut self, head: Encoded, body: B, length: Option<u64>) -> Result<(), Error>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut body = pin!(body);
        let mut batch = Batch { tail: head.frame, pieces: Vec::new(), bytes: 0 };
        if !self.ahead.is_empty() {
            batch.pieces.push(std::mem::take(&mut self.ahead));
        }
        let mut stopped = None;
        let mut missing = length;
        let mut ended = body.is_end_stream();
        while !ended {
            match poll_fn(|cx| self.step(cx, body.as_mut(), &batch, &mut stopped)).await {
                Step::Flush => self.write_batch(&mut batch).await?,
                Step::Frame(frame) => {
                    ended = batch.frame(frame, &mut missing, &self.shared)? || body.is_end_stream();
                    if batch.is_full() && !ended {
                        self.write_batch(&mut batch).await?;
                    }
                }
                Step::End => ended = true,
                Step::Lost(error) => return Err(error),
            }
        }
        if missing.is_some_and(|missing| missing > 0) {
            return Err(Error::Length);
        }
        self.write_batch(&mut batch).await?;
        self.finish();
        Ok(())
    }

    async fn write_batch(&mut self, batch: &mut Batch) -> Result<(), Error> {
        batch.seal();
        let result = self.write(&mut batch.pieces).await;
        batch.pieces.clear();
        batch.bytes = 0;
        result
    }

    /// The next step: what the body gives, else writing what is there, else waiting for either the body or the peer.
    fn step<B>(
        &mut self,
        cx: &mut Context<'_>,
        body: Pin<&mut B>,
        batch: &Batch,
        stopped: &mut Option<Stopped>,
    ) -> Poll<Step>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.arrange(cx);
        match body.poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => return Poll::Ready(Step::Frame(frame)),
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Step::Lost(Error::body(error))),
            Poll::Ready(None) => return Poll::Ready(Step::End),
            Poll::Pending if !batch.is_empty() => return Poll::Ready(Step::Flush),
            Poll::Pending => {}
        }
        stopped.get_or_insert_with(|| self.stopped()).as_mut().poll(cx).map(|result| {
            Step::Lost(match result {
                Ok(code) => self.lost(Error::Stopped(code.map_or(self.code, |code| Code(code.into_inner())))),
                Err(StoppedError::ConnectionLost(error)) => self.lost(error),
                Err(StoppedError::ZeroRttRejected) => Error::Stopped(self.code),
            })
        })
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if let Some(mut stream) = self.stream.take() {
            let breach = self.incoming.as_ref().and_then(|incoming| lock(incoming).breach());
            let _ = stream.reset(varint(breach.unwrap_or(self.code)));
            if breach.is_some() {
                self.broken_off();
            }
        }
        if let Some((place, _)) = self.place.take() {
            lock(&self.shared.schedule).leave(&place);
        }
    }
}

/// What content-length promises for `body`. If it promises nothing, and the body knows its length, the field is added;
/// one that is no number is taken away. `even_empty`: also for an empty body.
pub(crate) fn promise<B: Body>(headers: &mut HeaderMap, body: &B, even_empty: bool) -> Option<u64> {
    match head::content_length(headers) {
        Ok(Some(length)) => return Some(length),
        Ok(None) => {}
        Err(_) => drop(headers.remove(CONTENT_LENGTH)),
    }
    let length = body.size_hint().exact()?;
    if length > 0 || even_empty {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Some(length)
}

/// What sending does next.
enum Step {
    End,
    Flush,
    Frame(Frame<Bytes>),
    Lost(Error),
}

/// What is gathered for one write: pieces, and a tail into which small things are copied.
struct Batch {
    pieces: Vec<Bytes>,
    tail: BytesMut,
    bytes: usize,
}

impl Batch {
    /// Adds a frame of the body. True: it was the last one.
    fn frame(&mut self, frame: Frame<Bytes>, missing: &mut Option<u64>, shared: &Shared) -> Result<bool, Error> {
        match frame.into_data() {
            Ok(data) => {
                if let Some(missing) = missing {
                    *missing = missing.checked_sub(data.len() as u64).ok_or(Error::Length)?;
                }
                self.data(data);
                Ok(false)
            }
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) => {
                    let trailers = encode::trailers(&trailers).map_err(Error::Unsendable)?;
                    if !shared.takes(trailers.section_bytes) {
                        return Err(Error::PeerLimit);
                    }
                    self.tail.extend_from_slice(&trailers.frame);
                    Ok(true)
                }
                Err(_) => Ok(false),
            },
        }
    }

    fn data(&mut self, data: Bytes) {
        if data.is_empty() {
            return;
        }
        encode::data(data.len(), &mut self.tail);
        self.bytes += data.len();
        if data.len() <= COPY_BYTES_MAX {
            self.tail.extend_from_slice(&data);
        } else {
            self.seal();
            self.pieces.push(data);
        }
    }

    /// Makes the tail a piece.
    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push(self.tail.split().freeze());
        }
    }

    fn is_empty(&self) -> bool {
        self.tail.is_empty() && self.pieces.is_empty()
    }

    fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES_MAX || self.pieces.len() >= BATCH_PIECES_MAX
    }
}
