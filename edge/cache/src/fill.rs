//! A body that is read while it is still coming: one writes, many read, each at its own place, and all of them can tell
//! whether it came to its end. What has come whole is read without a lock.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use eyot_plan::body::Body;
use eyot_plan::fault::{Code, Fault};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;

use crate::tee::Tee;

/// The pieces of a body that is there.
const PIECE_BYTES: usize = 64 << 10;
/// How far what is too large to be kept may come before its slowest reader, in bytes.
const WINDOW_BYTES: u64 = 1 << 20;

/// A body, here or still coming.
#[derive(Debug)]
pub struct Fill {
    whole: OnceLock<Whole>,
    state: Mutex<State>,
}

/// A body that is here.
#[derive(Debug)]
struct Whole {
    /// Each of [`PIECE_BYTES`] but the last.
    pieces: Box<[Bytes]>,
    bytes: u64,
    trailers: Option<HeaderMap>,
}

#[derive(Debug, Default)]
struct State {
    /// What has come and was not let go of.
    pieces: VecDeque<Bytes>,
    /// How many bytes were before those.
    gone: u64,
    /// All bytes that have come.
    bytes: u64,
    /// How it ended; none: it has not.
    end: Option<Result<(), Fault>>,
    trailers: Option<HeaderMap>,
    /// Whether it is only passed on: what all have read is let go of.
    passing: bool,
    /// The readers by their numbers.
    readers: HashMap<u64, Place>,
    next_reader: u64,
    /// The writer, where it waits for room.
    writer: Option<Waker>,
}

/// Where a reader is, and what wakes it if it waits.
#[derive(Debug, Default)]
struct Place {
    at: u64,
    waker: Option<Waker>,
}

impl State {
    /// Wakes the readers that wait.
    fn wake(&mut self) {
        self.readers.values_mut().filter_map(|reader| reader.waker.take()).for_each(Waker::wake);
    }

    /// Where the slowest reader is; none: nobody reads.
    fn slowest(&self) -> Option<u64> {
        self.readers.values().map(|reader| reader.at).min()
    }

    /// Lets go of what all readers have had, and has the writer go on.
    fn let_go(&mut self) {
        let upto = self.slowest().unwrap_or(self.bytes);
        while let Some(first) = self.pieces.front() {
            let end = self.gone + first.len() as u64;
            if end > upto {
                break;
            }
            self.gone = end;
            self.pieces.pop_front();
        }
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }
}

impl Fill {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A body that is here.
    pub fn full(bytes: &Bytes) -> Arc<Self> {
        Self::here(std::slice::from_ref(bytes), None)
    }

    /// The same for one in pieces, with what follows it.
    pub fn here(pieces: &[Bytes], trailers: Option<HeaderMap>) -> Arc<Self> {
        let fill = Self { whole: OnceLock::new(), state: Mutex::default() };
        let bytes = pieces.iter().map(|piece| piece.len() as u64).sum();
        let _ = fill.whole.set(Whole { pieces: cut(pieces.iter()), bytes, trailers });
        Arc::new(fill)
    }

    /// A body that will come, and who writes it. `declared`: how many bytes it will have, if that is known; `most`: beyond
    /// how many it is passed on and no longer kept.
    pub fn begin(declared: Option<u64>, most: u64) -> (Arc<Self>, Writer) {
        let fill = Arc::new(Self { whole: OnceLock::new(), state: Mutex::default() });
        (Arc::clone(&fill), Writer { fill, declared, most, ended: false })
    }

    /// Its length, once it is here.
    pub fn length(&self) -> Option<u64> {
        self.whole.get().map(|whole| whole.bytes)
    }

    /// The bytes it takes in memory.
    pub fn weight(&self) -> u64 {
        self.whole.get().map_or(0, |whole| whole.bytes)
    }

    /// Its pieces and what follows them, once it is here.
    pub fn whole(&self) -> Option<(&[Bytes], Option<&HeaderMap>)> {
        self.whole.get().map(|whole| (&*whole.pieces, whole.trailers.as_ref()))
    }

    /// Reads the bytes from `from` to before `to`, or to the end. None: they were let go of already, or the body has died.
    pub fn read(self: &Arc<Self>, from: u64, to: Option<u64>) -> Option<Reader> {
        let mut reader = Reader { fill: Arc::clone(self), at: from, to, number: None, is_over: false };
        if self.whole.get().is_none() {
            let mut state = self.state();
            if (state.passing && state.gone > from) || matches!(state.end, Some(Err(_))) {
                return None;
            }
            let number = state.next_reader;
            state.next_reader += 1;
            state.readers.insert(number, Place { at: from, waker: None });
            reader.number = Some(number);
        }
        Some(reader)
    }
}

/// Bytes in pieces of one size, each with memory of its own, so that no more is held than is counted.
fn cut<'a>(pieces: impl Iterator<Item = &'a Bytes>) -> Box<[Bytes]> {
    let (mut cut, mut open) = (Vec::new(), BytesMut::new());
    for piece in pieces {
        let mut piece = &piece[..];
        while !piece.is_empty() {
            let (now, later) = piece.split_at(piece.len().min(PIECE_BYTES - open.len()));
            open.extend_from_slice(now);
            piece = later;
            if open.len() == PIECE_BYTES {
                cut.push(Bytes::from(std::mem::take(&mut open).to_vec().into_boxed_slice()));
            }
        }
    }
    if !open.is_empty() {
        cut.push(Bytes::from(open.to_vec().into_boxed_slice()));
    }
    cut.into_boxed_slice()
}

/// Who writes a body. Dropped before its end, the body has died.
#[derive(Debug)]
pub struct Writer {
    fill: Arc<Fill>,
    declared: Option<u64>,
    most: u64,
    ended: bool,
}

/// What a piece was written behind.
enum Before {
    /// What is kept so far.
    Kept,
    /// What is passed on.
    Passing,
    /// What was kept until this piece: these are all, with it.
    Turned(Vec<Bytes>),
}

/// Whether there is room for the next piece.
enum Room {
    /// Nobody reads.
    Alone,
    /// Who reads is near enough.
    Near,
}

/// What became of a body that was written.
#[derive(Debug)]
pub enum Pumped {
    /// It has died, or nobody wanted its rest.
    Broken,
    /// It came to its end, and was too large to be kept. With what followed it.
    Passed(Option<HeaderMap>),
    /// It is here.
    Whole,
}

impl Writer {
    /// Writes what comes of `body`, to its end; what is too large to be kept goes to `tee` too.
    pub(crate) async fn pump(mut self, mut body: Body, tee: &mut Tee) -> Pumped {
        let mut trailers = None;
        while let Some(frame) = body.frame().await {
            match frame.map(Frame::into_data) {
                Ok(Ok(bytes)) => {
                    let Some(before) = self.push(bytes.clone()) else { return Pumped::Broken };
                    match before {
                        Before::Kept => {}
                        Before::Turned(pieces) => tee.begin(pieces).await,
                        Before::Passing => tee.push(bytes),
                    }
                    match std::future::poll_fn(|cx| self.poll_room(cx)).await {
                        Room::Near => {}
                        Room::Alone => tee.wait().await,
                    }
                    if !self.is_read() && !tee.is_on() {
                        return Pumped::Broken;
                    }
                }
                Ok(Err(frame)) => trailers = frame.into_trailers().ok(),
                Err(fault) => {
                    self.end(Err(fault));
                    return Pumped::Broken;
                }
            }
        }
        self.finish(trailers)
    }

    /// Writes the next piece. None: it is one too many, and the body has died.
    fn push(&mut self, bytes: Bytes) -> Option<Before> {
        let mut state = self.fill.state();
        state.bytes += bytes.len() as u64;
        if !bytes.is_empty() {
            state.pieces.push_back(bytes);
        }
        if self.declared.is_some_and(|declared| state.bytes > declared) {
            drop(state);
            self.end(Err(Fault::new(Code::UpstreamBadResponse).because("more bytes than were declared")));
            return None;
        }
        let mut before = if state.passing { Before::Passing } else { Before::Kept };
        if state.bytes > self.most {
            if !std::mem::replace(&mut state.passing, true) {
                before = Before::Turned(state.pieces.iter().cloned().collect());
            }
            state.let_go();
        }
        state.wake();
        Some(before)
    }

    /// Whether what is kept, or somebody who reads what passes, is there to be written for.
    fn is_read(&self) -> bool {
        let state = self.fill.state();
        !state.passing || state.slowest().is_some()
    }

    /// Ready when the slowest reader is near enough, or none is left of what is passed on.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Room> {
        let mut state = self.fill.state();
        if !state.passing {
            return Poll::Ready(Room::Near);
        }
        match state.slowest() {
            None => Poll::Ready(Room::Alone),
            Some(slowest) if state.bytes.saturating_sub(slowest) <= WINDOW_BYTES => Poll::Ready(Room::Near),
            Some(_) => {
                state.writer = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// It has come to its end, if it is as long as was declared.
    fn finish(&mut self, trailers: Option<HeaderMap>) -> Pumped {
        let mut state = self.fill.state();
        if self.declared.is_some_and(|declared| state.bytes != declared) {
            drop(state);
            self.end(Err(Fault::new(Code::UpstreamBadResponse).because("fewer bytes than were declared")));
            return Pumped::Broken;
        }
        let kept = !state.passing;
        if kept {
            let pieces = cut(state.pieces.iter());
            let _ = self.fill.whole.set(Whole { pieces, bytes: state.bytes, trailers: trailers.clone() });
            state.pieces.clear();
        }
        state.trailers.clone_from(&trailers);
        drop(state);
        self.end(Ok(()));
        if kept { Pumped::Whole } else { Pumped::Passed(trailers) }
    }

    fn end(&mut self, end: Result<(), Fault>) {
        self.ended = true;
        let mut state = self.fill.state();
        state.end = Some(end);
        state.wake();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.ended {
            self.end(Err(Fault::new(Code::InternalError).because("a fill that nobody goes on with")));
        }
    }
}

/// Who reads a body: one itself.
#[derive(Debug)]
pub struct Reader {
    fill: Arc<Fill>,
    at: u64,
    to: Option<u64>,
    /// Its number in the state, where it began to read before the body was here.
    number: Option<u64>,
    is_over: bool,
}

impl Reader {
    /// As the body of an answer.
    pub fn body(self) -> Body {
        self.boxed_unsync()
    }

    /// The next frame of a body that is here.
    fn of_whole(&mut self, whole: &Whole) -> Option<Frame<Bytes>> {
        let to = self.to.unwrap_or(whole.bytes).min(whole.bytes);
        if self.at < to {
            let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
            let (index, within) = (place(self.at) / PIECE_BYTES, place(self.at) % PIECE_BYTES);
            let piece = whole.pieces.get(index)?;
            let end = piece.len().min(within + place(to - self.at));
            let piece = piece.slice(within..end);
            self.at += piece.len() as u64;
            return Some(Frame::data(piece));
        }
        self.is_over = true;
        whole.trailers.clone().filter(|_| self.to.is_none()).map(Frame::trailers)
    }

    /// The next frame of one that is still coming.
    fn of_state(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let fill = Arc::clone(&self.fill);
        let mut state = fill.state();
        // It has come to its end since this was looked at last, and its pieces are there alone.
        if let Some(whole) = fill.whole.get() {
            return Poll::Ready(self.of_whole(whole).map(Ok));
        }
        if self.to.is_some_and(|to| self.at >= to) {
            self.is_over = true;
            return Poll::Ready(None);
        }
        if let Some(piece) = piece_at(&state, self.at) {
            let most = self.to.map_or(piece.len(), |to| usize::try_from(to - self.at).unwrap_or(usize::MAX));
            let piece = piece.slice(..piece.len().min(most));
            self.at += piece.len() as u64;
            if let Some(place) = self.number.and_then(|number| state.readers.get_mut(&number)) {
                place.at = self.at;
            }
            if state.passing {
                state.let_go();
            }
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match &state.end {
            None => {
                if let Some(place) = self.number.and_then(|number| state.readers.get_mut(&number)) {
                    place.waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
            Some(Err(fault)) => {
                self.is_over = true;
                Poll::Ready(Some(Err(fault.clone())))
            }
            Some(Ok(())) => {
                self.is_over = true;
                Poll::Ready(state.trailers.clone().filter(|_| self.to.is_none()).map(|it| Ok(Frame::trailers(it))))
            }
        }
    }
}

/// What has come from `at` on, of the piece that has it, looked for from the nearer end.
fn piece_at(state: &State, at: u64) -> Option<Bytes> {
    if at >= state.bytes || at < state.gone {
        return None;
    }
    let of = |piece: &Bytes, begin: u64| Some(piece.slice(usize::try_from(at - begin).ok()?..));
    if state.bytes - at < at - state.gone {
        let mut end = state.bytes;
        for piece in state.pieces.iter().rev() {
            let begin = end - piece.len() as u64;
            if begin <= at {
                return of(piece, begin);
            }
            end = begin;
        }
    } else {
        let mut begin = state.gone;
        for piece in &state.pieces {
            let end = begin + piece.len() as u64;
            if at < end {
                return of(piece, begin);
            }
            begin = end;
        }
    }
    None
}

impl http_body::Body for Reader {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = &mut *self;
        if this.is_over {
            return Poll::Ready(None);
        }
        let fill = Arc::clone(&this.fill);
        match fill.whole.get() {
            Some(whole) => Poll::Ready(this.of_whole(whole).map(Ok)),
            None => this.of_state(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
            || self.to.is_some_and(|to| self.at >= to)
            || self.fill.whole.get().is_some_and(|whole| whole.trailers.is_none() && self.at >= whole.bytes)
    }

    fn size_hint(&self) -> SizeHint {
        match (self.to, self.fill.whole.get()) {
            (Some(to), _) => SizeHint::with_exact(to.saturating_sub(self.at)),
            (None, Some(whole)) => SizeHint::with_exact(whole.bytes.saturating_sub(self.at)),
            (None, None) => SizeHint::default(),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let mut state = self.fill.state();
            state.readers.remove(&number);
            if state.passing {
                state.let_go();
            }
        }
    }
}

#[cfg(test)]
mod tests;
