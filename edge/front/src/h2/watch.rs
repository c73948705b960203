//! What a client sends, looked at by the frame (RFC 9113, section 4.1) on its way to the library, for what the library
//! does not bound: how long a frame or a field section may take to come, and frames that only make work.

use core::future::Future as _;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use core::task::{Context, Poll, ready};
use core::time::Duration;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use h2::Reason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep};

use super::linger::Linger;

/// Frames that ask for nothing, at once: SETTINGS, PING, PRIORITY, empty ones, and those that nobody knows. Time and
/// requests give some back.
const IDLE_FRAMES_MAX: u32 = 5_000;
const IDLE_FRAMES_A_SECOND: u32 = 100;
const IDLE_FRAMES_A_REQUEST: u32 = 20;

/// Requests that a client may break off while they are answered, over those that ended well.
const RESETS_MAX: u32 = 100;

/// The bytes before the first frame (RFC 9113, section 3.4).
const PREFACE_BYTES: usize = 24;

const HEAD_BYTES: usize = 9;

/// Types and flags of frames (RFC 9113, section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// What others learn of what came. Clones are the same.
#[derive(Clone)]
pub(super) struct Heard(Arc<State>);

struct State {
    last: Mutex<Instant>,
    /// By how many the requests broken off outnumber those that ended well.
    resets: AtomicU32,
    is_flood: AtomicBool,
    told: Notify,
}

impl Heard {
    fn new() -> Self {
        let last = Mutex::new(Instant::now());
        let (resets, is_flood) = (AtomicU32::new(0), AtomicBool::new(false));
        Self(Arc::new(State { last, resets, is_flood, told: Notify::new() }))
    }

    /// When something last came.
    pub(super) fn last(&self) -> Instant {
        *self.0.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves when the client makes work for nothing.
    pub(super) async fn flood(&self) -> Reason {
        while !self.0.is_flood.load(Ordering::Relaxed) {
            self.0.told.notified().await;
        }
        Reason::ENHANCE_YOUR_CALM
    }

    /// The client broke a request off that was being answered: one that does so again and again makes work for nothing.
    pub(super) fn broken_off(&self) {
        if self.0.resets.fetch_add(1, Ordering::Relaxed) >= RESETS_MAX {
            self.say_flood();
        }
    }

    /// A request was answered to its end.
    pub(super) fn ended_well(&self) {
        let resets = &self.0.resets;
        let _ = resets.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |resets| resets.checked_sub(1));
    }

    fn say_flood(&self) {
        self.0.is_flood.store(true, Ordering::Relaxed);
        self.0.told.notify_one();
    }
}

/// The watched connection.
pub(super) struct Watch<S> {
    io: S,
    frames: Frames,
    heard: Heard,
    timeout: Duration,
    /// Runs while a frame, or the rest of a field section, is awaited.
    timer: Option<Pin<Box<Sleep>>>,
    /// There when our side has ended.
    linger: Option<Linger>,
}

impl<S> Watch<S> {
    pub(super) fn new(io: S, timeout: Duration) -> (Self, Heard) {
        let heard = Heard::new();
        (
            Self { io, frames: Frames::new(Instant::now()), heard: heard.clone(), timeout, timer: None, linger: None },
            heard,
        )
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watch<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let watch = &mut *self;
        if watch.frames.is_flood() {
            return Poll::Pending;
        }
        let before = into.filled().len();
        if Pin::new(&mut watch.io).poll_read(cx, into)?.is_ready() {
            let begun = watch.frames.pieces;
            watch.frames.look(&into.filled()[before..]);
            *watch.heard.0.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            if watch.frames.pieces != begun {
                watch.timer = None;
            }
            if watch.frames.is_flood() {
                watch.heard.say_flood();
            }
            return Poll::Ready(Ok(()));
        }
        if watch.frames.is_between() {
            watch.timer = None;
            return Poll::Pending;
        }
        let timeout = watch.timeout;
        let timer = watch.timer.get_or_insert_with(|| Box::pin(sleep(timeout)));
        timer.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watch<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let watch = &mut *self;
        if watch.linger.is_none() {
            ready!(Pin::new(&mut watch.io).poll_shutdown(cx))?;
        }
        if watch.frames.is_flood() {
            return Poll::Ready(Ok(()));
        }
        watch.linger.get_or_insert_with(Linger::new).poll(&mut watch.io, cx).map(Ok)
    }
}

/// Where in the client's frames we are.
struct Frames {
    /// Of the preface, then of each frame's payload, in bytes.
    left: usize,
    /// The head of the next frame, as far as it has come.
    head: [u8; HEAD_BYTES],
    head_bytes: usize,
    /// The payload that comes is DATA: how fast, its reader minds.
    is_data: bool,
    /// A field section has begun and not ended.
    is_in_section: bool,
    /// Frames and whole field sections that have come.
    pieces: u64,
    idle_frames_left: u32,
    refilled: Instant,
}

impl Frames {
    fn new(now: Instant) -> Self {
        Self {
            left: PREFACE_BYTES,
            head: [0; HEAD_BYTES],
            head_bytes: 0,
            is_data: false,
            is_in_section: false,
            pieces: 0,
            idle_frames_left: IDLE_FRAMES_MAX,
            refilled: now,
        }
    }

    fn is_flood(&self) -> bool {
        self.idle_frames_left == 0
    }

    /// Whether nothing is awaited whose time is bounded here.
    fn is_between(&self) -> bool {
        !self.is_in_section && self.head_bytes == 0 && (self.left == 0 || self.is_data)
    }

    fn look(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let passed = self.left.min(bytes.len());
                self.left -= passed;
                bytes = &bytes[passed..];
                if self.left == 0 {
                    self.end();
                }
                continue;
            }
            let passed = (HEAD_BYTES - self.head_bytes).min(bytes.len());
            self.head[self.head_bytes..][..passed].copy_from_slice(&bytes[..passed]);
            self.head_bytes += passed;
            bytes = &bytes[passed..];
            if self.head_bytes == HEAD_BYTES {
                self.begin();
            }
        }
    }

    /// A frame's head has come.
    fn begin(&mut self) {
        self.head_bytes = 0;
        let [high, middle, low, kind, flags, ..] = self.head;
        self.left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        self.is_data = kind == DATA;
        let is_section = matches!(kind, HEADERS | CONTINUATION);
        if is_section {
            self.is_in_section = true;
        }
        let gives_room = self.left > 0 && matches!(kind, DATA | CONTINUATION);
        let is_end = kind == DATA && flags & END_STREAM != 0;
        if kind == HEADERS {
            self.idle_frames_left = (self.idle_frames_left + IDLE_FRAMES_A_REQUEST).min(IDLE_FRAMES_MAX);
        } else if !gives_room && !is_end && !matches!(kind, RST_STREAM | GOAWAY | WINDOW_UPDATE) {
            self.spend();
        }
        if self.left == 0 {
            self.end();
        }
    }

    /// A frame, or the preface, is whole.
    fn end(&mut self) {
        let [_, _, _, kind, flags, ..] = self.head;
        if matches!(kind, HEADERS | CONTINUATION) && flags & END_HEADERS != 0 {
            self.is_in_section = false;
        }
        if !self.is_in_section {
            self.pieces += 1;
        }
    }

    /// One more frame for nothing.
    fn spend(&mut self) {
        self.idle_frames_left -= self.idle_frames_left.min(1);
        let seconds = u32::try_from(self.refilled.elapsed().as_secs()).unwrap_or(u32::MAX);
        if seconds > 0 && self.idle_frames_left > 0 {
            self.refilled = Instant::now();
            let more = seconds.saturating_mul(IDLE_FRAMES_A_SECOND);
            self.idle_frames_left = self.idle_frames_left.saturating_add(more).min(IDLE_FRAMES_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const PREFACE: &[u8; PREFACE_BYTES] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const LIMIT: Duration = Duration::from_secs(10);

    fn frame(bytes: u8, kind: u8, flags: u8) -> Vec<u8> {
        [&[0, 0, bytes, kind, flags, 0, 0, 0, 1][..], &vec![0; usize::from(bytes)]].concat()
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_or_a_field_section_that_does_not_become_whole_ends_the_connection_however_slowly_it_comes() {
        let whole = frame(4, HEADERS, END_HEADERS);
        let rests: [(&[u8], bool); 9] = [
            (b"", true),
            (&whole, true),
            (&whole[..3], false),
            (&whole[..12], false),
            (&frame(4, HEADERS, 0), false),
            (&[frame(4, HEADERS, 0), frame(1, CONTINUATION, END_HEADERS)].concat(), true),
            (&[frame(4, HEADERS, 0), frame(1, CONTINUATION, 0)].concat(), false),
            (&frame(100, DATA, 0)[..50], true),
            (&frame(100, 6, 0)[..50], false),
        ];
        for (rest, may_wait) in rests {
            let (ours, mut theirs) = duplex(1 << 16);
            let (mut watch, _) = Watch::new(ours, LIMIT);
            let sent = [&PREFACE[..], rest].concat();
            let sending = tokio::spawn(async move {
                for byte in sent {
                    let _ = theirs.write_u8(byte).await;
                    sleep(LIMIT / 100).await;
                }
                core::future::pending::<()>().await;
            });
            let mut sink = Vec::new();
            let found = tokio::time::timeout(LIMIT * 10, watch.read_to_end(&mut sink)).await;
            assert_eq!(found.is_err(), may_wait, "{}", rest.escape_ascii());
            sending.abort();
        }
        // Each in time, and slowly in all.
        let (ours, mut theirs) = duplex(64);
        let (mut watch, _) = Watch::new(ours, LIMIT);
        let sending = tokio::spawn(async move {
            theirs.write_all(PREFACE).await.expect("it is read");
            for byte in frame(1, 6, 0).repeat(5) {
                theirs.write_u8(byte).await.expect("it is read");
                sleep(LIMIT * 2 / 30).await;
            }
        });
        let mut sink = Vec::new();
        watch.read_to_end(&mut sink).await.expect("no time was too long");
        sending.await.expect("no panic");
    }

    #[tokio::test(start_paused = true)]
    async fn frames_that_only_make_work_are_counted_and_requests_and_time_give_some_back() {
        let all = usize::try_from(IDLE_FRAMES_MAX).expect("small");
        let request = frame(1, HEADERS, END_HEADERS);
        for (frames, is_flood) in [
            (frame(8, 6, 0).repeat(all - 1), false),
            (frame(8, 6, 0).repeat(all), true),
            (frame(0, 4, 0).repeat(all), true),
            (frame(5, 2, 0).repeat(all), true),
            (frame(0, 0x42, 0).repeat(all), true),
            (frame(0, DATA, 0).repeat(all), true),
            (frame(1, DATA, 0).repeat(all), false),
            (frame(4, WINDOW_UPDATE, 0).repeat(all), false),
            (
                [request, frame(8, 6, 0).repeat(usize::try_from(IDLE_FRAMES_A_REQUEST).expect("small"))]
                    .concat()
                    .repeat(all),
                false,
            ),
        ] {
            let mut seen = Frames::new(Instant::now());
            seen.look(PREFACE);
            seen.look(&frames);
            assert_eq!(seen.is_flood(), is_flood, "{}", frames[..9].escape_ascii());
        }
        let mut seen = Frames::new(Instant::now());
        seen.look(PREFACE);
        for _ in 0..all {
            seen.look(&frame(8, 6, 0).repeat(50));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert!(!seen.is_flood());
    }
}
