//! The access log: one JSON line a request (`docs/formats.md`, section 7), written aside.
//!
//! It must never hold up a request: what does not fit in the queue is dropped and counted. It must never tell a whole
//! client address, nor let a request write anything but its own field: all text is escaped to plain ASCII and cut.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;

use crate::telemetry::Telemetry;

/// Lines that may wait to be written.
const LINES_MAX: usize = 8192;
/// Characters of a text from a request that are kept.
const TEXT_CHARS_MAX: usize = 1024;
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

/// What one line says. Empty texts stand for what there is not.
pub struct Line<'a> {
    /// When the request's head was complete.
    pub at: jiff::Timestamp,
    /// Our id of the request.
    pub id: &'a str,
    /// The app of the host.
    pub app: &'a str,
    /// The release that answered.
    pub release: Option<u64>,
    /// The route's id.
    pub route: &'a str,
    /// `function:cart`, `upstream:api`, `respond` or `redirect`.
    pub target: &'a str,
    /// `h1`, `h2` or `h3`.
    pub protocol: &'static str,
    /// The client's address, written only as its network.
    pub client: IpAddr,
    /// The request's method.
    pub method: &'a str,
    /// The request's host.
    pub host: &'a str,
    /// The request's path, without its query.
    pub path: &'a str,
    /// The status that was sent; 499 when the client left before.
    pub status: u16,
    /// The code of the fault that was met.
    pub fault: Option<&'static str>,
    /// From the head's arrival to the last byte, in microseconds.
    pub wall_us: u64,
    /// CPU time of the function, in microseconds.
    pub cpu_us: u64,
    /// The most memory of the function, in bytes.
    pub memory_bytes: u64,
    /// Outbound requests of the function.
    pub subrequests: u64,
    /// Bytes of the request's body.
    pub in_bytes: u64,
    /// Bytes of the response's body.
    pub out_bytes: u64,
}

impl Line<'_> {
    /// The line as JSON, without a newline.
    pub fn json(&self) -> String {
        let mut out = String::with_capacity(512);
        let _ = write!(out, "{{\"time\":\"{:.6}\"", self.at);
        text(&mut out, "id", self.id);
        text(&mut out, "app", self.app);
        match self.release {
            Some(release) => number(&mut out, "release", release),
            None => out.push_str(",\"release\":null"),
        }
        text(&mut out, "route", self.route);
        text(&mut out, "target", self.target);
        text(&mut out, "protocol", self.protocol);
        text(&mut out, "client", &network(self.client));
        text(&mut out, "method", self.method);
        text(&mut out, "host", self.host);
        text(&mut out, "path", self.path);
        number(&mut out, "status", self.status.into());
        match self.fault {
            Some(code) => text(&mut out, "fault", code),
            None => out.push_str(",\"fault\":null"),
        }
        for (name, value) in [
            ("wall_us", self.wall_us),
            ("cpu_us", self.cpu_us),
            ("memory_bytes", self.memory_bytes),
            ("subrequests", self.subrequests),
            ("in_bytes", self.in_bytes),
            ("out_bytes", self.out_bytes),
        ] {
            number(&mut out, name, value);
        }
        out.push('}');
        out
    }
}

/// The network a client is logged as: /24 of IPv4, /48 of IPv6.
fn network(client: IpAddr) -> String {
    match client.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            format!("{}/48", std::net::Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))
        }
    }
}

fn number(out: &mut String, name: &str, value: u64) {
    let _ = write!(out, ",\"{name}\":{value}");
}

/// Adds `"name":"value"`: cut, and escaped to printable ASCII, so that no terminal and no parser is surprised.
fn text(out: &mut String, name: &str, value: &str) {
    let _ = write!(out, ",\"{name}\":\"");
    for character in value.chars().take(TEXT_CHARS_MAX) {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            ' '..='~' => out.push(character),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}

/// The log. Its thread writes what waits and ends when the log is dropped.
pub struct Log {
    /// Absent when the log is off, or closed.
    lines: Option<SyncSender<String>>,
    thread: Option<JoinHandle<()>>,
    telemetry: Arc<Telemetry>,
}

impl Log {
    /// A log to `destination`.
    ///
    /// # Errors
    /// When its thread does not start.
    pub fn start(destination: Destination, telemetry: Arc<Telemetry>) -> io::Result<Self> {
        let sink: Box<dyn Sink> = match destination {
            Destination::Off => return Ok(Self { lines: None, thread: None, telemetry }),
            Destination::Stdout => Box::new(Stdout::default()),
            Destination::Journal => match journal() {
                Ok(socket) => Box::new(Journal(socket)),
                Err(_) => Box::new(Stdout::default()),
            },
        };
        Self::to(sink, telemetry)
    }

    fn to(sink: Box<dyn Sink>, telemetry: Arc<Telemetry>) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(LINES_MAX);
        let thread = std::thread::Builder::new().name("eyot-access".to_owned()).spawn(move || pump(&receiver, sink))?;
        Ok(Self { lines: Some(sender), thread: Some(thread), telemetry })
    }

    /// Whether lines go anywhere.
    pub fn is_on(&self) -> bool {
        self.lines.is_some()
    }

    /// Takes a line. Never waits: when the queue is full it is dropped and counted.
    pub fn line(&self, line: &Line<'_>) {
        let Some(lines) = &self.lines else { return };
        if lines.try_send(line.json()).is_err() {
            self.telemetry.log_dropped("access", 1);
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        drop(self.lines.take());
        if let Some(thread) = self.thread.take() {
            // Its panic was counted by the hook; there is nothing else to do about it here.
            let _ = thread.join();
        }
    }
}

/// Where lines end.
trait Sink: Send {
    fn write(&mut self, line: &str) -> io::Result<()>;
    /// Called when no line waits.
    fn flush(&mut self) -> io::Result<()>;
}

/// Standard output, in pieces of some kilobytes.
#[derive(Default)]
struct Stdout(Vec<u8>);

/// Bytes that are gathered before a write.
const GATHERED_BYTES_MAX: usize = 32 << 10;

impl Sink for Stdout {
    fn write(&mut self, line: &str) -> io::Result<()> {
        self.0.extend_from_slice(line.as_bytes());
        self.0.push(b'\n');
        if self.0.len() < GATHERED_BYTES_MAX { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(&self.0).and_then(|()| stdout.flush());
        self.0.clear();
        written
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
    fn write(&mut self, line: &str) -> io::Result<()> {
        let entry = format!("PRIORITY=6\nSYSLOG_IDENTIFIER=eyot-access\nMESSAGE={line}\n");
        self.0.send(entry.as_bytes()).map(drop)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes until the log is gone. What cannot be written is lost: there is nobody to tell.
fn pump(lines: &Receiver<String>, mut sink: Box<dyn Sink>) {
    loop {
        let line = match lines.try_recv() {
            Ok(line) => line,
            Err(TryRecvError::Disconnected) => break,
            Err(TryRecvError::Empty) => {
                let _ = sink.flush();
                match lines.recv() {
                    Ok(line) => line,
                    Err(_) => break,
                }
            }
        };
        let _ = sink.write(&line);
    }
    let _ = sink.flush();
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

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
            line().json(),
            concat!(
                r#"{"time":"2026-11-22T12:00:00.250000Z","id":"0193","app":"shop","release":417,"#,
                r#""route":"shop.example.com/*","target":"function:cart","protocol":"h3","client":"203.0.113.0/24","#,
                r#""method":"GET","host":"shop.example.com","path":"/cart","status":200,"fault":null,"wall_us":1200,"#,
                r#""cpu_us":310,"memory_bytes":1310720,"subrequests":1,"in_bytes":0,"out_bytes":512}"#
            )
        );
    }

    #[test]
    fn a_request_writes_nothing_but_its_own_field() {
        let long = "x".repeat(5000);
        for path in ["/\"},{\"app\":\"other", "/a\nb\r\0\u{1b}[31m", "/\\", "/ä\u{2028}\u{1F600}\u{85}\u{7f}", &long] {
            let json = Line { path, ..line() }.json();
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
            assert_eq!(super::network(client.parse().expect("an address")), network);
        }
    }

    /// A sink that tells of each line and then waits to be let go.
    struct Gate {
        told: Sender<String>,
        go: Receiver<()>,
    }

    impl Sink for Gate {
        fn write(&mut self, line: &str) -> io::Result<()> {
            let _ = self.told.send(line.to_owned());
            let _ = self.go.recv();
            Ok(())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
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
