//! The access log: one JSON line a request (`docs/formats.md`, section 7), written aside.
//!
//! It must never hold up a request: what does not fit in the queue is dropped and counted. It must never tell a whole
//! client address, nor let a request write anything but its own field: all text is escaped to plain ASCII and cut.

mod line;

use std::cell::RefCell;
use std::io::{self, Write as _};
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::tap::Tap;
use crate::telemetry::Telemetry;
pub use line::{Line, TEXT_CHARS_MAX};

/// Lines that may wait to be written.
const LINES_MAX: usize = 8192;
/// After some lines were written, those of this time are gathered: waking the thread costs more than the line.
const GATHER: Duration = Duration::from_millis(10);
/// Beyond this the memory of written lines is given back, in bytes.
const KEPT_BYTES_MAX: usize = 1 << 20;
/// Where journald listens.
const JOURNAL: &str = "/run/systemd/journal/socket";

/// Where access lines go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Destination {
    /// To journald, under the identifier `eyot-access`; to standard output where there is no journald.
    #[default]
    Journal,
    /// Nowhere.
    Off,
    /// To standard output.
    Stdout,
}

/// The log. Its thread writes what waits and ends when the log is dropped.
pub struct Log {
    /// Absent when the log is off.
    lines: Option<Arc<Lines>>,
    thread: Option<JoinHandle<()>>,
    telemetry: Arc<Telemetry>,
    tap: Arc<Tap>,
}

/// What waits to be written.
#[derive(Default)]
struct Lines {
    waiting: Mutex<Waiting>,
    told: Condvar,
}

#[derive(Default)]
struct Waiting {
    /// The lines, each with its newline.
    text: String,
    count: usize,
    /// The thread sleeps until there is a line.
    is_asleep: bool,
    /// The log is gone.
    is_over: bool,
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a line, if there is room for it. Never waits.
    fn put(&self, line: &str) -> bool {
        let mut waiting = self.lock();
        if waiting.count == LINES_MAX {
            return false;
        }
        waiting.count += 1;
        waiting.text.push_str(line);
        waiting.text.push('\n');
        let is_asleep = std::mem::take(&mut waiting.is_asleep);
        drop(waiting);
        if is_asleep {
            self.told.notify_one();
        }
        true
    }

    /// Waits for lines, and moves them into `text`, which was written. False: there are none, and will be none.
    fn take(&self, text: &mut String) -> bool {
        text.clear();
        text.shrink_to(KEPT_BYTES_MAX);
        let gathering = self.told.wait_timeout_while(self.lock(), GATHER, |waiting| !waiting.is_over);
        let mut waiting = gathering.unwrap_or_else(PoisonError::into_inner).0;
        while waiting.count == 0 && !waiting.is_over {
            waiting.is_asleep = true;
            waiting = self.told.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        waiting.is_asleep = false;
        waiting.count = 0;
        std::mem::swap(&mut waiting.text, text);
        !text.is_empty()
    }

    /// No more lines will come.
    fn end(&self) {
        self.lock().is_over = true;
        self.told.notify_one();
    }
}

thread_local! {
    /// Where the lines of a thread are put together.
    static LINE: RefCell<String> = const { RefCell::new(String::new()) };
}

impl Log {
    /// A log to `destination`.
    ///
    /// # Errors
    /// When its thread does not start.
    pub fn start(destination: Destination, telemetry: Arc<Telemetry>) -> io::Result<Self> {
        let sink: Box<dyn Sink> = match destination {
            Destination::Off => return Ok(Self { lines: None, thread: None, telemetry, tap: Arc::default() }),
            Destination::Stdout => Box::new(Stdout),
            Destination::Journal => match journal() {
                Ok(socket) => Box::new(Journal(socket)),
                Err(_) => Box::new(Stdout),
            },
        };
        Self::to(sink, telemetry)
    }

    fn to(sink: Box<dyn Sink>, telemetry: Arc<Telemetry>) -> io::Result<Self> {
        let lines = Arc::<Lines>::default();
        let (pumped, told) = (Arc::clone(&lines), Arc::clone(&telemetry));
        let thread = std::thread::Builder::new().name("eyot-access".to_owned());
        let thread = thread.spawn(move || pump(&pumped, sink, &told))?;
        Ok(Self { lines: Some(lines), thread: Some(thread), telemetry, tap: Arc::default() })
    }

    /// Where those hear of an app who follow it.
    pub fn tap(&self) -> &Arc<Tap> {
        &self.tap
    }

    /// Whether lines go anywhere.
    pub fn is_on(&self) -> bool {
        self.lines.is_some()
    }

    /// Takes a line. Never waits: when too many wait it is dropped and counted.
    pub fn line(&self, line: &Line<'_>) {
        let Some(lines) = &self.lines else { return };
        let is_taken = LINE.with_borrow_mut(|text| {
            text.clear();
            line.write(text);
            lines.put(text)
        });
        if !is_taken {
            self.telemetry.log_dropped("access", 1);
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Some(lines) = &self.lines {
            lines.end();
        }
        if let Some(thread) = self.thread.take() {
            // Its panic was counted by the hook; there is nothing else to do about it here.
            let _ = thread.join();
        }
    }
}

/// Where lines end.
trait Sink: Send {
    /// Writes some lines, each with its newline. How many could not be written.
    fn write(&mut self, lines: &str) -> u64;
}

/// Standard output.
struct Stdout;

impl Sink for Stdout {
    fn write(&mut self, lines: &str) -> u64 {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(lines.as_bytes()).and_then(|()| stdout.flush()) {
            Ok(()) => 0,
            // How much of them was is not known.
            Err(_) => lines.lines().count() as u64,
        }
    }
}

/// Journald's native protocol: one datagram an entry.
struct Journal(UnixDatagram);

fn journal() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(JOURNAL)?;
    Ok(socket)
}

impl Sink for Journal {
    fn write(&mut self, lines: &str) -> u64 {
        let lost = lines.lines().filter(|line| {
            let entry = format!("PRIORITY=6\nSYSLOG_IDENTIFIER=eyot-access\nMESSAGE={line}\n");
            self.0.send(entry.as_bytes()).is_err()
        });
        lost.count() as u64
    }
}

/// Writes until the log is gone. What cannot be written is lost, and counted.
fn pump(lines: &Lines, mut sink: Box<dyn Sink>, telemetry: &Telemetry) {
    let mut text = String::new();
    while lines.take(&mut text) {
        let lost = sink.write(&text);
        if lost > 0 {
            telemetry.log_dropped("access", lost);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    fn json(line: &Line<'_>) -> String {
        let mut out = String::new();
        line.write(&mut out);
        out
    }

    fn line<'a>() -> Line<'a> {
        Line {
            at: "2026-11-22T12:00:00.25Z".parse().expect("a time"),
            id: "0193",
            app: "shop",
            release: Some(417),
            route: "shop.example.com/*",
            target: "function:cart",
            protocol: "h3",
            client: "203.0.113.77".parse().expect("an address"),
            method: "GET",
            host: "shop.example.com",
            path: "/cart",
            status: 200,
            fault: None,
            cache: Some("miss"),
            wall_us: 1200,
            cpu_us: 310,
            memory_bytes: 1_310_720,
            subrequests: 1,
            in_bytes: 0,
            out_bytes: 512,
        }
    }

    #[test]
    fn a_line_has_the_fields_of_the_format() {
        assert_eq!(
            json(&line()),
            concat!(
                r#"{"time":"2026-11-22T12:00:00.250000Z","id":"0193","app":"shop","release":417,"#,
                r#""route":"shop.example.com/*","target":"function:cart","protocol":"h3","client":"203.0.113.0/24","#,
                r#""method":"GET","host":"shop.example.com","path":"/cart","status":200,"fault":null,"cache":"miss","#,
                r#""wall_us":1200,"cpu_us":310,"memory_bytes":1310720,"subrequests":1,"in_bytes":0,"out_bytes":512}"#
            )
        );
    }

    #[test]
    fn a_request_writes_nothing_but_its_own_field() {
        let long = "x".repeat(5000);
        for path in ["/\"},{\"app\":\"other", "/a\nb\r\0\u{1b}[31m", "/\\", "/ä\u{2028}\u{1F600}\u{85}\u{7f}", &long] {
            let json = json(&Line { path, ..line() });
            assert!(json.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{json}");
            let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
            let kept: String = path.chars().take(TEXT_CHARS_MAX).collect();
            assert_eq!((&value["path"], &value["app"]), (&kept.into(), &"shop".into()));
        }
    }

    #[test]
    fn a_client_is_logged_as_its_network_only() {
        for (client, network) in [
            ("203.0.113.77", "203.0.113.0/24"),
            ("::ffff:203.0.113.77", "203.0.113.0/24"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"),
        ] {
            let json = json(&Line { client: client.parse().expect("an address"), ..line() });
            assert!(json.contains(&format!(r#""client":"{network}""#)), "{json}");
        }
    }

    /// A sink that tells of each line and then waits to be let go.
    struct Gate {
        told: Sender<String>,
        go: Receiver<()>,
    }

    impl Sink for Gate {
        fn write(&mut self, lines: &str) -> u64 {
            for line in lines.lines() {
                let _ = self.told.send(line.to_owned());
                let _ = self.go.recv();
            }
            0
        }
    }

    #[test]
    fn a_line_that_journald_does_not_take_is_counted_and_those_after_it_are_written() {
        let (ours, theirs) = UnixDatagram::pair().expect("two sockets");
        let mut journal = Journal(ours);
        // More than a datagram may have.
        let large = "x".repeat(16 << 20);
        assert_eq!(journal.write(&format!("first\n{large}\nlast\n")), 1);
        for line in ["first", "last"] {
            let mut entry = [0; 100];
            let length = theirs.recv(&mut entry).expect("an entry");
            assert!(entry[..length].ends_with(format!("MESSAGE={line}\n").as_bytes()));
        }
        drop(theirs);
        let telemetry = Arc::new(Telemetry::new());
        let log = Log::to(Box::new(journal), Arc::clone(&telemetry)).expect("a thread");
        (0..5).for_each(|_| log.line(&line()));
        drop(log);
        assert!(telemetry.render().contains(r#"eyot_log_dropped_total{log="access"} 5"#));
    }

    #[test]
    fn a_full_log_drops_and_counts_and_never_waits() {
        let (told, heard) = channel();
        let (go, gate) = channel();
        let telemetry = Arc::new(Telemetry::new());
        let log = Log::to(Box::new(Gate { told, go: gate }), Arc::clone(&telemetry)).expect("a thread");
        log.line(&line());
        heard.recv().expect("the first line is being written");
        for _ in 0..LINES_MAX + 7 {
            log.line(&line());
        }
        assert!(telemetry.render().contains(r#"eyot_log_dropped_total{log="access"} 7"#));
        drop(go);
        drop(log);
        assert_eq!(heard.iter().count(), LINES_MAX);
    }
}
