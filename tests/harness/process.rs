//! A process under test: started with its log kept, ended with its owner, its log shown when the test fails.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long anything that must happen may take before the test is given up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// So much of a log is shown when a test fails.
const SHOWN_LINES: usize = 20;
const SHOWN_CHARS: usize = 240;

/// The lines that a process has written.
type Log = Arc<Mutex<Vec<String>>>;

/// A running process.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: Log,
}

impl Process {
    /// Starts `command`.
    pub(crate) fn start(name: &str, command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        let log = Log::default();
        follow(child.stdout.take().expect("piped"), Arc::clone(&log));
        follow(child.stderr.take().expect("piped"), Arc::clone(&log));
        Self { name: name.to_owned(), child, log }
    }

    /// The process' id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// All that it has written so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("no test panics with the log in hand").join("\n")
    }

    /// Sends a signal by its number.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.id().to_string()]).status().expect("kill");
        assert!(status.success(), "kill -{name} {}", self.id());
    }

    /// Waits for its end; its exit code, -1 when a signal ended it.
    pub(crate) fn wait(&mut self) -> i32 {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                return status.code().unwrap_or(-1);
            }
            pause();
        }
        panic!("{} did not end in {PATIENCE:?}\n{}", self.name, self.log());
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child of ours").is_some()
    }

    /// The end of the log, so that what the test says of its failure stays in sight; all of it is kept in a file.
    fn show(&self, log: &str) {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{}.log", self.name, self.id()));
        let kept = std::fs::write(&file, log).map_or_else(|error| error.to_string(), |()| file.display().to_string());
        let lines: Vec<&str> = log.lines().collect();
        println!("---- {}, the end of its log; all of it: {kept}", self.name);
        let begin = lines.len().saturating_sub(SHOWN_LINES);
        let panicked = lines[..begin].iter().filter(|line| line.starts_with("thread '"));
        for line in panicked.chain(&lines[begin..]) {
            println!("{}", line.chars().take(SHOWN_CHARS).collect::<String>());
        }
        println!("----");
    }

    /// Ends it at once, as a power cut would.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        let log = self.log();
        // A guest's panic stands inside a JSON line; one of ours begins a line.
        let panicked = log.lines().any(|line| line.starts_with("thread '") && line.contains("panicked at"));
        if panicked || std::thread::panicking() {
            self.show(&log);
        }
        assert!(!panicked || std::thread::panicking(), "{} panicked", self.name);
    }
}

fn follow(pipe: impl Read + Send + 'static, log: Log) {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines() {
            let Ok(line) = line else { return };
            log.lock().expect("no test panics with the log in hand").push(line);
        }
    });
}

/// Asks again and again, a moment apart, until `ask` gives something: for what gives no event to wait for.
pub(crate) fn until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, ask)
}

/// The same, of what takes a busy machine longer.
pub(crate) fn until_within<T>(patience: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + patience;
    while Instant::now() < until {
        if let Some(found) = ask() {
            return found;
        }
        pause();
    }
    panic!("{what}: not in {patience:?}");
}

#[expect(clippy::disallowed_methods, reason = "the moment between two questions to another process")]
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

/// Whether somebody listens on this TCP port. It is read from the kernel's list: a question by `bind` would for a moment
/// take the port away from who is about to listen.
pub(crate) fn listens(port: u16) -> bool {
    const LISTEN: &str = "0A";
    let list = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's list of sockets");
    let ending = format!(":{port:04X}");
    list.lines().skip(1).any(|line| {
        let mut columns = line.split_whitespace().skip(1);
        columns.next().is_some_and(|local| local.ends_with(&ending)) && columns.nth(1) == Some(LISTEN)
    })
}

/// A port that is free for TCP and UDP on loopback, and given to nobody else here. It is below those that the kernel gives
/// to whoever connects or asks for any port: one of these could be taken before it is listened on.
pub(crate) fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 22_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Other tests may run beside these.
    let start = std::process::id().wrapping_mul(257);
    for _ in 0..COUNT {
        let at = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + at).expect("below 32,000");
        let tcp = std::net::TcpListener::bind(("127.0.0.1", port));
        if tcp.is_ok() && std::net::UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free for TCP and UDP");
}
