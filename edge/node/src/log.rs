//! The log: JSON lines to standard error, written aside. A full log drops lines rather than hold up what it tells of.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::Level;

/// Lines that may wait to be written.
const LINES_MAX: usize = 4096;
/// Crates that speak of every packet: only their warnings are of use to an operator.
const QUIETED: &str = "h2=warn,hickory_proto=warn,hickory_resolver=warn,hyper=warn,hyper_util=warn,quinn=warn,\
                       quinn_proto=warn,rustls=warn,wasmtime=warn,cranelift=warn";

/// Why the log did not start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// This process logs already.
    #[error("this process logs already")]
    Already,
    /// Its thread did not start.
    #[error("the log's thread did not start")]
    Thread(#[source] io::Error),
}

/// The log of this process; what waits is written before it goes. Lines after it are lost.
pub struct Log {
    queue: Queue,
    thread: Option<JoinHandle<()>>,
}

/// Starts the log of this process: `level` and above.
///
/// # Errors
/// When there is one already, or no thread for it.
pub fn start(level: Level) -> Result<Log, LogError> {
    let (queue, receiver) = queue();
    let dropped = Arc::clone(&queue.dropped);
    let thread = std::thread::Builder::new()
        .name("eyot-log".to_owned())
        .spawn(move || pump(&receiver, &dropped, &mut io::stderr()));
    let thread = thread.map_err(LogError::Thread)?;
    let filter = EnvFilter::new(format!("{},{QUIETED}", level.word()));
    let subscriber = tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter);
    let subscriber = subscriber.with_writer(queue.clone()).with_ansi(false).finish();
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Already)?;
    Ok(Log { queue, thread: Some(thread) })
}

fn queue() -> (Queue, Receiver<Vec<u8>>) {
    let (lines, receiver) = sync_channel(LINES_MAX);
    (Queue { lines, dropped: Arc::default() }, receiver)
}

impl Drop for Log {
    fn drop(&mut self) {
        // The subscriber keeps a sender for ever, so the end is told by an empty line.
        let told = self.queue.lines.send(Vec::new());
        if let (Ok(()), Some(thread)) = (told, self.thread.take()) {
            let _ = thread.join();
        }
    }
}

#[derive(Clone)]
struct Queue {
    lines: SyncSender<Vec<u8>>,
    /// Lines that found it full since the last one that did not.
    dropped: Arc<AtomicU64>,
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !line.is_empty() && self.lines.try_send(line.to_vec()).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes until the empty line. What cannot be written is lost: there is nobody to tell.
fn pump(lines: &Receiver<Vec<u8>>, dropped: &AtomicU64, to: &mut impl Write) {
    while let Ok(line) = lines.recv() {
        if line.is_empty() {
            return;
        }
        let _ = to.write_all(&line);
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _ = writeln!(to, "{{\"level\":\"WARN\",\"message\":\"the log was full\",\"lines_lost\":{lost}}}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_over_4096_that_wait_are_dropped_and_the_log_says_how_many() {
        let (mut queue, receiver) = queue();
        for number in 0..LINES_MAX + 10 {
            assert!(queue.write(format!("{number}\n").as_bytes()).is_ok(), "whoever logs never waits");
        }
        let dropped = Arc::clone(&queue.dropped);
        drop(queue);
        let mut written = Vec::new();
        pump(&receiver, &dropped, &mut written);
        let written = String::from_utf8(written).expect("text");
        let mut lines: Vec<_> = written.lines().collect();
        assert_eq!(lines.remove(1), r#"{"level":"WARN","message":"the log was full","lines_lost":10}"#);
        assert_eq!(lines, (0..LINES_MAX).map(|number| number.to_string()).collect::<Vec<_>>());
    }
}
