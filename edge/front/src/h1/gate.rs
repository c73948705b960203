//! The gate between the socket and hyper: it lets through whole, sound heads and sound bodies only, bounds how long a
//! head may take, and turns what it refuses into a request of its own, so that the fault is answered in its turn.

use core::future::Future as _;
use core::pin::{Pin, pin};
use core::task::{Context, Poll, ready};
use core::time::Duration;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use eyot_plan::fault::{Code, Fault};
use eyot_plan::request::FIELDS_MAX;
use http::Response;
use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep};

use super::Shared;
use super::framing::{Framing, Limits, Step};
use crate::settings::Settings;

/// What hyper gets in place of a head that is refused. No request can be taken for it: it goes by its number.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";

/// What is read from the socket at once, in bytes: one TLS record.
const READ_BYTES: usize = 16 << 10;

/// The request that was refused, by its number on the connection, and why. It is the last one.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<Option<(u64, Fault)>>);

impl Refusals {
    /// The fault of this request, if it is the one refused.
    pub(super) fn take(&self, number: u64) -> Option<Fault> {
        let mut refused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        refused.take_if(|(of, _)| *of == number).map(|(_, fault)| fault)
    }

    fn put(&self, number: u64, fault: Fault) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((number, fault));
    }
}

/// Interim heads that are on their way to the client, as they are written (RFC 9112, section 4). One request after the
/// other fills it, each within its bounds.
#[derive(Debug, Default)]
pub(super) struct Said(Mutex<Saying>);

#[derive(Debug, Default)]
struct Saying {
    out: BytesMut,
    /// A part of a response has been written, and perhaps not all of it: hyper may have begun with the next request, but
    /// what is said before the next response must not stand inside of this one.
    is_amid: bool,
}

impl Said {
    fn saying(&self) -> MutexGuard<'_, Saying> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The response begins. What could not leave before it comes too late: it would stand behind.
    pub(super) fn end(&self) {
        let mut saying = self.saying();
        if saying.is_amid {
            saying.out.clear();
        }
    }

    pub(super) fn push(&self, head: &Response<()>) {
        let out = &mut self.saying().out;
        let status = head.status();
        let reason = status.canonical_reason().unwrap_or_default();
        out.put_slice(format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).as_bytes());
        for (name, value) in head.headers() {
            for piece in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                out.put_slice(piece);
            }
        }
        out.put_slice(b"\r\n");
    }
}

/// The gate.
pub(super) struct Gate<S, A> {
    io: S,
    framing: Framing,
    /// What has come and not gone on; the first `sound` bytes may.
    buffer: BytesMut,
    sound: usize,
    /// Heads let through.
    heads: u64,
    shared: Arc<Shared<A>>,
    is_refused: bool,
    head_timeout: Duration,
    idle_timeout: Duration,
    timer: Pin<Box<Sleep>>,
    waits: Waits,
}

/// What the timer runs for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    /// The rest of a head, or the first of the connection.
    Head,
    /// The next request.
    Idle,
    /// Nothing that has a limit here.
    Nothing,
}

impl<S, A> Gate<S, A> {
    pub(super) fn new(io: S, settings: &Settings, shared: Arc<Shared<A>>) -> Self {
        Self {
            io,
            framing: Framing::new(Limits { head_bytes_max: settings.header_bytes_max, fields_max: FIELDS_MAX }),
            buffer: BytesMut::new(),
            sound: 0,
            heads: 0,
            shared,
            is_refused: false,
            head_timeout: settings.header_timeout,
            idle_timeout: settings.connection_idle,
            timer: Box::pin(sleep(settings.header_timeout)),
            waits: Waits::Nothing,
        }
    }

    /// The socket, and what has come and not gone on.
    pub(super) fn into_inner(self) -> (S, Bytes) {
        (self.io, self.buffer.freeze())
    }

    /// Moves `sound` on. `false`: more must come.
    fn judge(&mut self) -> io::Result<bool> {
        let in_head = self.framing.is_in_head();
        match self.framing.step(&self.buffer) {
            Ok(Step::More) => return Ok(false),
            Ok(Step::Body(bytes)) => self.sound = bytes,
            Ok(Step::Head(bytes)) => {
                self.sound = bytes;
                self.heads += 1;
            }
            Err(fault) if in_head => self.refuse(fault),
            Err(fault) => return Err(io::Error::new(io::ErrorKind::InvalidData, fault)),
        }
        Ok(true)
    }

    /// Puts the stand-in where the head was. Nothing that comes after it is looked at.
    fn refuse(&mut self, fault: Fault) {
        self.heads += 1;
        self.shared.refusals.put(self.heads, fault);
        self.is_refused = true;
        self.buffer = BytesMut::from(STAND_IN);
        self.sound = STAND_IN.len();
    }

    /// Looks at the clock while nothing comes.
    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<Waits> {
        let waits = if !self.framing.is_in_head() {
            Waits::Nothing
        } else if !self.buffer.is_empty() || self.heads == 0 {
            Waits::Head
        } else if self.shared.connection.activity.ended() == self.heads {
            Waits::Idle
        } else {
            Waits::Nothing
        };
        if waits != self.waits {
            self.waits = waits;
            let limit = if waits == Waits::Idle { self.idle_timeout } else { self.head_timeout };
            self.timer.as_mut().reset(Instant::now() + limit);
        }
        if waits == Waits::Nothing { Poll::Pending } else { self.timer.as_mut().poll(cx).map(|()| waits) }
    }
}

impl<S: AsyncRead + Unpin, A> Read for Gate<S, A> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let gate = &mut *self;
        loop {
            if gate.sound > 0 {
                let bytes = gate.sound.min(into.remaining());
                into.put_slice(&gate.buffer[..bytes]);
                gate.buffer.advance(bytes);
                gate.sound -= bytes;
                return Poll::Ready(Ok(()));
            }
            if gate.is_refused {
                return Poll::Pending;
            }
            if gate.judge()? {
                gate.waits = Waits::Nothing;
                continue;
            }
            gate.buffer.reserve(READ_BYTES);
            match pin!(gate.io.read_buf(&mut gate.buffer)).poll(cx)? {
                Poll::Ready(0) => return Poll::Ready(Ok(())),
                Poll::Ready(_) => {}
                Poll::Pending => match gate.poll_wait(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Waits::Head) if !gate.buffer.is_empty() => {
                        gate.refuse(Fault::new(Code::ClientTimeout).because("the head took too long"));
                    }
                    // Nothing was asked, so there is nothing to answer.
                    Poll::Ready(_) => return Poll::Ready(Ok(())),
                },
            }
        }
    }
}

impl<S: AsyncWrite + Unpin, A> Gate<S, A> {
    /// Interim heads leave before all else, but not amid a response.
    fn poll_said(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut saying = self.shared.said.saying();
        while !saying.is_amid && !saying.out.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &saying.out))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            saying.out.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// The same before a part of a response.
    fn poll_said_before(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_said(cx))?;
        self.shared.said.saying().is_amid = true;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin, A> Write for Gate<S, A> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_said_before(cx))?;
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes when it has written everything it has.
        self.shared.said.saying().is_amid = false;
        ready!(self.poll_said(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_said_before(cx))?;
        Pin::new(&mut self.io).poll_write_vectored(cx, pieces)
    }
}
