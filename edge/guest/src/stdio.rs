//! Standard output and error of a guest: bounded lines for the log, never a byte for the client.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::doors::{Log, LogLevel, LogStream};

/// A line is cut here, in bytes.
const LINE_BYTES_MAX: usize = 4 << 10;
/// What one call may say, both streams together, in bytes; a line counts as 32 more than it has.
const CALL_BYTES_MAX: usize = 64 << 10;
/// The context of a message is cut here, in bytes.
const CONTEXT_BYTES_MAX: usize = 256;
/// The last line of a call that says too much.
const DROPPED: &str = "the rest of what this call says is dropped";
/// What a guest may write at once, in bytes.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// Both streams of a guest, and where they lead: to the log of the call it serves.
pub(crate) struct Said(Mutex<Saying>);

struct Saying {
    log: Arc<dyn Log>,
    /// What the call may still say, in bytes.
    left: usize,
}

impl Said {
    pub(crate) fn new(log: Arc<dyn Log>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Saying { log, left: CALL_BYTES_MAX })))
    }

    /// Says what comes to `log` from now on, as much as a call may say.
    pub(crate) fn turn_to(&self, log: Arc<dyn Log>) {
        *self.saying() = Saying { log, left: CALL_BYTES_MAX };
    }

    /// One of its streams.
    pub(crate) fn stream(self: &Arc<Self>, stream: LogStream) -> Lines {
        Lines(Arc::new(Line { said: Arc::clone(self), stream, begun: Mutex::default() }))
    }

    fn line(&self, stream: LogStream, line: &[u8]) {
        match self.takes(line.len()) {
            Takes::All(log) => log.line(stream, &String::from_utf8_lossy(line)),
            Takes::Last(log) => log.line(stream, DROPPED),
            Takes::None => {}
        }
    }

    /// A message with its level, cut as lines are.
    pub(crate) fn logged(&self, level: LogLevel, context: &str, text: &str) {
        let (context, text) = (cut(context, CONTEXT_BYTES_MAX), cut(text, LINE_BYTES_MAX));
        match self.takes(context.len() + text.len()) {
            Takes::All(log) => log.logged(level, context, text),
            Takes::Last(log) => log.logged(level, context, DROPPED),
            Takes::None => {}
        }
    }

    fn takes(&self, bytes: usize) -> Takes {
        let mut saying = self.saying();
        if saying.left == 0 {
            return Takes::None;
        }
        saying.left = saying.left.saturating_sub(bytes + 32);
        let log = Arc::clone(&saying.log);
        if saying.left == 0 { Takes::Last(log) } else { Takes::All(log) }
    }

    fn saying(&self) -> MutexGuard<'_, Saying> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What of a line may still be said.
enum Takes {
    /// All of it.
    All(Arc<dyn Log>),
    /// That nothing more is said.
    Last(Arc<dyn Log>),
    /// Nothing.
    None,
}

/// The beginning of `text`, of whole characters.
fn cut(text: &str, bytes_max: usize) -> &str {
    let at = (0..=bytes_max.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..at]
}

/// One stream.
#[derive(Clone)]
pub(crate) struct Lines(Arc<Line>);

/// The line that is being written.
struct Line {
    said: Arc<Said>,
    stream: LogStream,
    begun: Mutex<Vec<u8>>,
}

impl Line {
    fn begun(&self) -> MutexGuard<'_, Vec<u8>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, bytes: &[u8]) {
        let mut begun = self.begun();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = piece.strip_suffix(b"\n").unwrap_or(piece);
            let room = LINE_BYTES_MAX - begun.len();
            begun.extend_from_slice(&text[..room.min(text.len())]);
            if text.len() < piece.len() {
                self.said.line(self.stream, &begun);
                begun.clear();
            }
        }
    }
}

impl Line {
    /// Says what was written of a line.
    fn finish(&self) {
        let begun = std::mem::take(&mut *self.begun());
        if !begun.is_empty() {
            self.said.line(self.stream, &begun);
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Lines {
    /// Says what was written of a line, which has no end yet.
    pub(crate) fn finish(&self) {
        self.0.finish();
    }
}

impl IsTerminal for Lines {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Lines {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Lines {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.0.write(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

impl AsyncWrite for Lines {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let now = &bytes[..bytes.len().min(WRITE_BYTES_MAX)];
        self.0.write(now);
        Poll::Ready(Ok(now.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[async_trait]
impl Pollable for Lines {
    async fn ready(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Log for Heard {
        fn line(&self, stream: LogStream, text: &str) {
            self.0.lock().expect("not poisoned").push(format!("{} {text}", stream.label()));
        }

        fn logged(&self, level: LogLevel, context: &str, text: &str) {
            self.0.lock().expect("not poisoned").push(format!("{} {context} {text}", level.label()));
        }
    }

    #[test]
    fn lines_are_split_cut_and_counted_and_the_last_needs_no_end() {
        let heard = Arc::new(Heard::default());
        let said = Said::new(Arc::clone(&heard) as Arc<dyn Log>);
        let (out, err) = (said.stream(LogStream::Stdout), said.stream(LogStream::Stderr));
        out.0.write(b"one\ntw");
        err.0.write(b"error\n\n");
        out.0.write(b"o\n");
        out.0.write(&[b'l'; 10_000]);
        out.0.write(b"\nthe end \xff");
        drop((out, err));
        let lines = heard.0.lock().expect("not poisoned").clone();
        let long = format!("stdout {}", "l".repeat(LINE_BYTES_MAX));
        assert_eq!(lines, ["stdout one", "stderr error", "stderr ", "stdout two", &long, "stdout the end \u{fffd}"]);
    }

    #[test]
    fn messages_are_cut_at_whole_characters_and_counted_with_the_lines() {
        let heard = Arc::new(Heard::default());
        let said = Said::new(Arc::clone(&heard) as Arc<dyn Log>);
        said.logged(LogLevel::Warn, &"c".repeat(1000), &"é".repeat(5_000));
        let out = said.stream(LogStream::Stdout);
        for _ in 0..CALL_BYTES_MAX / 32 {
            out.0.write(b"\n");
        }
        said.logged(LogLevel::Error, "", "too late");
        let lines = heard.0.lock().expect("not poisoned");
        assert_eq!(lines[0], format!("warn {} {}", "c".repeat(CONTEXT_BYTES_MAX), "é".repeat(LINE_BYTES_MAX / 2)));
        assert!(lines.last().is_some_and(|line| line.contains("dropped")));
        assert_eq!(lines.len(), 1 + (CALL_BYTES_MAX - LINE_BYTES_MAX - CONTEXT_BYTES_MAX - 32) / 32);
    }

    #[test]
    fn a_flood_ends() {
        let heard = Arc::new(Heard::default());
        let out = Said::new(Arc::clone(&heard) as Arc<dyn Log>).stream(LogStream::Stdout);
        for _ in 0..100_000 {
            out.0.write(b"\n");
        }
        let lines = heard.0.lock().expect("not poisoned");
        assert_eq!(lines.len(), CALL_BYTES_MAX / 32);
        assert!(lines.last().is_some_and(|line| line.contains("dropped")));
    }
}
