//! Answering with what is kept in slices: each is found, or asked for once for all who read it, one ahead of its reader.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use eyot_plan::body::{self, Body};
use eyot_plan::cache::slices::Slices;
use eyot_plan::cache::{Kept, named, update};
use eyot_plan::fault::{Code, Fault};
use http::header::{ETAG, HeaderMap, IF_RANGE, RANGE};
use http::{Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;

use super::{Behind, Hints, Want, reply};
use crate::flight::Outcome;
use crate::object::Object;
use crate::purges::{Hash, Verdict};
use crate::room::{Ask, Found, Leading, Way};

/// How often a reader waits for others that give up before they have a slice.
const WAITS_MAX: usize = 3;

/// Stands for the slices of a whole that cannot be had.
const NONE: u64 = u64::MAX;

/// Why an answer in slices is not given.
#[derive(Debug)]
pub(super) enum Unsliced {
    /// Too many are read so, or nobody can ask for them.
    Busy,
    /// The whole is another one by now, and what was kept of it is forgotten.
    Changed,
    /// Who is asked did not answer.
    Failed(Fault),
}

impl Unsliced {
    fn fault(self) -> Fault {
        match self {
            Self::Failed(fault) => fault,
            Self::Busy | Self::Changed => {
                Fault::new(Code::UpstreamBadResponse).because("it has changed while it was read in slices")
            }
        }
    }
}

impl Want {
    /// How an answer is kept in slices, if it is.
    pub(super) fn sliced(&self, kept: &Kept, length: Option<u64>, now_ms: u64) -> Option<Slices> {
        let room = &self.cache.room;
        let slices = Slices::of(&self.parts.method, kept, length, room.object_bytes_max())?;
        (!room.is_passed(slices.key(self.id, kept, NONE), now_ms)).then_some(slices)
    }

    /// What is sent of `object`, whose body is kept in slices. When this is given, the first of them is there or comes.
    pub(super) async fn in_slices<B: Behind>(
        &self,
        behind: &B,
        object: &Arc<Object>,
        slices: &Slices,
    ) -> Result<Response<Body>, Unsliced> {
        let mut wanted = None;
        let answer = |wanted: &mut Option<(u64, u64)>| {
            let response = reply::with(object, &self.parts, behind.now_ms(), |from, to| {
                *wanted = Some((from, to.unwrap_or(slices.length)));
                Some(body::empty())
            });
            let response = response.ok_or(Unsliced::Busy)?;
            Ok(self.cache.told(response, || object.keys.to_vec()))
        };
        let response = answer(&mut wanted)?;
        let Some((from, to)) = wanted else { return Ok(response) };
        let asker = behind.reader().ok_or(Unsliced::Busy)?;
        let mut headers = self.parts.headers.clone();
        update::whole(&mut headers);
        let reader =
            Reader { want: self.clone(), headers, object: Arc::clone(object), slices: slices.clone(), asker, from, to };
        let (reader, first) = reader.read(slices.number(from)).await;
        let first = first?;
        // It is older by now.
        let response = answer(&mut wanted)?;
        Ok(response.map(|_| Sliced::new(reader, first).boxed_unsync()))
    }
}

/// Who reads some of a whole, slice by slice.
struct Reader<L> {
    want: Want,
    /// The fields of the request, without those that are about the whole.
    headers: HeaderMap,
    object: Arc<Object>,
    slices: Slices,
    asker: L,
    /// The bytes that are read: from here, to before there.
    from: u64,
    to: u64,
}

impl<L: Behind> Reader<L> {
    /// What is read of a slice.
    async fn read(mut self, number: u64) -> (Self, Result<Body, Unsliced>) {
        let read = self.slice(number).await;
        if matches!(read, Err(Unsliced::Changed)) {
            self.want.cache.room.forget(self.want.id, &self.object);
        }
        (self, read)
    }

    async fn slice(&mut self, number: u64) -> Result<Body, Unsliced> {
        let room = Arc::clone(&self.want.cache.room);
        let (id, none) = (self.slices.key(self.want.id, &self.object.kept, number), HeaderMap::new());
        let ask = Ask { id, url: self.want.url(), request: &none };
        for _ in 0..WAITS_MAX {
            let now_ms = self.asker.now_ms();
            let found = match room.find(id, &none, now_ms) {
                found @ Found::Object(..) => found,
                Found::Nothing | Found::Others => room.load(id, &none, now_ms).await,
            };
            if let Found::Object(slice, Verdict::Fresh | Verdict::Stale) = found
                && let Some(body) = self.part(&slice, number)
            {
                return Ok(body);
            }
            match room.way(&ask, now_ms) {
                Way::Alone => break,
                Way::Lead(leading) => return self.fetch(number, leading).await,
                Way::Wait(waiting) => match waiting.outcome().await {
                    Outcome::Kept(slice) => {
                        if let Some(body) = self.part(&slice, number) {
                            return Ok(body);
                        }
                    }
                    Outcome::Failed(fault) => return Err(Unsliced::Failed(fault)),
                    Outcome::Alone | Outcome::Left | Outcome::StoodIn(_) => {}
                },
            }
        }
        let leading = room.alone(&ask, self.asker.now_ms());
        self.fetch(number, leading).await
    }

    /// What is wanted of a slice. None: its beginning was let go of.
    fn part(&self, slice: &Object, number: u64) -> Option<Body> {
        let (begin, end) = self.slices.bounds(number);
        slice.read(self.from.max(begin) - begin, Some(self.to.min(end) - begin))
    }

    /// Asks for a slice, and keeps it if it may be kept (RFC 9110, sections 13.1.5 and 14.2).
    async fn fetch(&mut self, number: u64, leading: Leading) -> Result<Body, Unsliced> {
        let (asked_ms, mut headers) = (self.asker.now_ms(), self.headers.clone());
        headers.insert(RANGE, self.slices.range(number));
        headers.insert(IF_RANGE, self.slices.tag.clone());
        let parts = &self.want.parts;
        let mut request = Request::new(body::empty());
        (*request.method_mut(), *request.uri_mut()) = (parts.method.clone(), parts.uri.clone());
        (*request.version_mut(), *request.headers_mut()) = (parts.version, headers);
        request.extensions_mut().clone_from(&parts.extensions);
        let turn = self.want.cache.room.slice_turn().await;
        let response = match self.asker.ask(request).await {
            Ok(response) => response,
            Err(fault) => {
                leading.fail(&fault);
                return Err(Unsliced::Failed(fault));
            }
        };
        // It says nothing of the whole.
        let is_later = matches!(response.status(), StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        if is_later || response.status().is_server_error() {
            let fault =
                Fault::new(Code::UpstreamBadResponse).because(format_args!("{} for a slice", response.status()));
            leading.fail(&fault);
            return Err(Unsliced::Failed(fault));
        }
        if !self.slices.is(number, response.status(), response.headers()) {
            // The same whole, from who says that it takes ranges and does not: that is not tried again soon.
            if response.headers().get(ETAG) == Some(&self.slices.tag) {
                self.want.cache.room.pass(self.slices.key(self.want.id, &self.object.kept, NONE), self.asker.now_ms());
            }
            return Err(Unsliced::Changed);
        }
        let hints = response.extensions().get::<Hints>().cloned().unwrap_or_default();
        let (now_ms, rules) = (self.asker.now_ms(), self.want.rules(&hints));
        let (begin, end) = self.slices.bounds(number);
        // Whether others may have it: as if it were the whole, of which all is said that is said of a part.
        let times = (asked_ms, now_ms);
        if Kept::of(&self.want.asking(), StatusCode::OK, response.headers(), times, &rules).is_err() {
            leading.release(now_ms);
            let body = Turned { body: response.into_body(), _turn: turn }.boxed_unsync();
            return Ok(cut(body, self.from.max(begin) - begin, self.to.min(end) - begin));
        }
        // A part of what has this validator is good as long as that is what the head says.
        let long = named::Times { fresh_ms: named::KEEP_MS_MAX, stale_ms: 0 };
        let kept = named::kept(long, b"", Some(end - begin), now_ms).ok_or(Unsliced::Changed)?;
        let keys: Vec<Hash> = self.object.keys.to_vec();
        let body = Turned { body: response.into_body(), _turn: turn }.boxed_unsync();
        let breaks = &self.want.cache.site.breaks;
        let (slice, reader) = leading.breaking(breaks).keep(kept, &keys, body, Some(end - begin));
        let body = self.part(&slice, number);
        drop(reader);
        body.ok_or(Unsliced::Busy)
    }
}

/// A slice that comes, and the turn that it came by.
struct Turned {
    body: Body,
    _turn: Option<OwnedSemaphorePermit>,
}

impl http_body::Body for Turned {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The bytes of `body` from `from` to before `to`.
fn cut(body: Body, from: u64, to: u64) -> Body {
    Cut { body, skip: from, left: to.saturating_sub(from) }.boxed_unsync()
}

/// Some bytes of a body, as they come; too few are an error.
struct Cut {
    body: Body,
    skip: u64,
    left: u64,
}

impl http_body::Body for Cut {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = &mut *self;
        while this.left > 0 {
            let mut bytes = match std::task::ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                None => {
                    this.left = 0;
                    return Poll::Ready(Some(Err(short())));
                }
                Some(Err(fault)) => {
                    this.left = 0;
                    return Poll::Ready(Some(Err(fault)));
                }
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            };
            let skipped = bytes.len().min(usize::try_from(this.skip).unwrap_or(usize::MAX));
            this.skip -= skipped as u64;
            let _ = bytes.split_to(skipped);
            bytes.truncate(usize::try_from(this.left).unwrap_or(usize::MAX));
            this.left -= bytes.len() as u64;
            if !bytes.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
        }
        Poll::Ready(None)
    }
}

fn short() -> Fault {
    Fault::new(Code::UpstreamBadResponse).because("fewer bytes than were asked for")
}

/// A slice that is asked for, in a task of its own: others may wait for it, whatever its reader does. Dropped, it is given up.
struct Asking<L>(JoinHandle<(Reader<L>, Result<Body, Unsliced>)>);

impl<L> Drop for Asking<L> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What is asked for ahead of who reads.
enum Ahead<L> {
    /// The next slice, by its number.
    Asking(Asking<L>),
    /// It is there.
    There(Box<Reader<L>>, Body),
    /// It cannot be had.
    Failed(Fault),
    /// There is none.
    Over,
}

/// A body of slices.
struct Sliced<L> {
    slice: Body,
    /// Bytes that are still to come of this slice.
    left: u64,
    /// The number of the next.
    next: u64,
    /// Bytes that are still to come of all that is read.
    all: u64,
    ahead: Ahead<L>,
}

impl<L: Behind + 'static> Sliced<L> {
    fn new(reader: Reader<L>, first: Body) -> Self {
        let number = reader.slices.number(reader.from);
        let left = reader.slices.bounds(number).1.min(reader.to).saturating_sub(reader.from);
        let all = reader.to.saturating_sub(reader.from);
        let ahead = Self::after(reader, number);
        Self { slice: first, left, next: number + 1, all, ahead }
    }

    /// Has what follows this slice asked for, if something does.
    fn after(reader: Reader<L>, number: u64) -> Ahead<L> {
        if reader.slices.bounds(number).1 >= reader.to {
            return Ahead::Over;
        }
        Ahead::Asking(Asking(tokio::spawn(reader.read(number + 1))))
    }

    fn poll_ahead(&mut self, cx: &mut Context<'_>) {
        if let Ahead::Asking(asking) = &mut self.ahead
            && let Poll::Ready(asked) = Pin::new(&mut asking.0).poll(cx)
        {
            self.ahead = match asked {
                Ok((reader, Ok(body))) => Ahead::There(Box::new(reader), body),
                Ok((_, Err(unsliced))) => Ahead::Failed(unsliced.fault()),
                Err(_) => {
                    Ahead::Failed(Fault::new(Code::InternalError).because("a slice that nobody asks for any more"))
                }
            };
        }
    }

    /// The next slice is read from now on.
    fn turn(&mut self, reader: Reader<L>, slice: Body) {
        let number = self.next;
        let (begin, end) = reader.slices.bounds(number);
        (self.slice, self.left) = (slice, end.min(reader.to).saturating_sub(begin));
        self.next = number + 1;
        self.ahead = Self::after(reader, number);
    }

    fn end(&mut self, fault: Fault) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        (self.left, self.all, self.ahead) = (0, 0, Ahead::Over);
        Poll::Ready(Some(Err(fault)))
    }
}

impl<L: Behind + 'static> http_body::Body for Sliced<L> {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = &mut *self;
        loop {
            if this.all == 0 {
                return Poll::Ready(None);
            }
            this.poll_ahead(cx);
            if this.left == 0 {
                match std::mem::replace(&mut this.ahead, Ahead::Over) {
                    Ahead::There(reader, slice) => this.turn(*reader, slice),
                    Ahead::Failed(fault) => return this.end(fault),
                    Ahead::Over => return this.end(short()),
                    asking @ Ahead::Asking(_) => {
                        this.ahead = asking;
                        return Poll::Pending;
                    }
                }
                continue;
            }
            match std::task::ready!(Pin::new(&mut this.slice).poll_frame(cx)) {
                None => return this.end(short()),
                Some(Err(fault)) => return this.end(fault),
                Some(Ok(frame)) => {
                    let Ok(mut bytes) = frame.into_data() else { continue };
                    bytes.truncate(usize::try_from(this.left).unwrap_or(usize::MAX));
                    this.left -= bytes.len() as u64;
                    this.all -= bytes.len() as u64;
                    if !bytes.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(bytes))));
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.all == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.all)
    }
}
