//! A NATS server with JetStream, and as much of its protocol as it takes to send messages and to ask what became of them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::process::{Process, free_port, listens, until};
use super::tools;

/// A running server. It keeps what it has in its folder.
pub(crate) struct Nats {
    folder: tempfile::TempDir,
    port: u16,
    /// What more it was started with.
    more: Vec<String>,
    pub(crate) process: Process,
}

fn start(folder: &tempfile::TempDir, port: u16, more: &[String]) -> Process {
    let program: PathBuf = tools::later_debian("nats-server").join("usr/sbin/nats-server");
    let mut command = Command::new(program);
    command.args(["--addr", "127.0.0.1", "--port", &port.to_string(), "--jetstream", "--store_dir"]);
    let process = Process::start("nats", command.arg(folder.path()).args(more));
    until("NATS listens", || listens(port).then_some(()));
    process
}

impl Nats {
    pub(crate) fn new() -> Self {
        Self::with(Vec::new())
    }

    fn with(more: Vec<String>) -> Self {
        let (folder, port) = (tempfile::tempdir().expect("a folder"), free_port());
        let process = start(&folder, port, &more);
        Self { folder, port, more, process }
    }

    /// Three servers that keep the same.
    pub(crate) fn cluster() -> [Self; 3] {
        let ports = [free_port(), free_port(), free_port()];
        let own = ports.map(|port| format!("nats://127.0.0.1:{port}"));
        let server = |number: usize| {
            let (name, routes) = (format!("n{number}"), own.join(","));
            let more =
                ["--cluster_name", "test", "--server_name", &name, "--cluster", &own[number], "--routes", &routes];
            Self::with(more.map(str::to_owned).into())
        };
        [0, 1, 2].map(server)
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Takes it away.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again, where it was.
    pub(crate) fn restart(&mut self) {
        self.process.kill();
        self.process = start(&self.folder, self.port, &self.more);
    }

    /// A connection.
    #[expect(clippy::disallowed_methods, reason = "a server of this test, on loopback")]
    pub(crate) fn connect(&self) -> Connection {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("NATS");
        let mut connection = Connection { reader: BufReader::new(stream), inboxes: 0 };
        assert!(connection.line().starts_with("INFO "));
        connection.write("CONNECT {\"verbose\":false,\"headers\":true}\r\n");
        connection
    }
}

/// A client's connection: it asks, and waits for the answer.
pub(crate) struct Connection {
    reader: BufReader<TcpStream>,
    inboxes: usize,
}

impl Connection {
    /// Sends a message to a stream, which has it when this returns.
    pub(crate) fn publish(&mut self, subject: &str, fields: &[(&str, &str)], body: &str) -> Value {
        let mut head = "NATS/1.0\r\n".to_owned();
        for (name, value) in fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let inbox = self.subscribed();
        let (head_bytes, bytes) = (head.len(), head.len() + body.len());
        self.write(&format!("HPUB {subject} {inbox} {head_bytes} {bytes}\r\n{head}{body}\r\n"));
        let ack = self.answer();
        assert!(ack["error"].is_null(), "{subject}: {ack}");
        ack
    }

    /// Asks JetStream, such as `STREAM.INFO.eyot-shop`.
    pub(crate) fn api(&mut self, call: &str, body: &Value) -> Value {
        let (inbox, body) = (self.subscribed(), body.to_string());
        self.write(&format!("PUB $JS.API.{call} {inbox} {}\r\n{body}\r\n", body.len()));
        self.answer()
    }

    /// Listens until a server tells somebody that it is still there, while it has no message for him.
    pub(crate) fn hears_a_heartbeat(&mut self) {
        self.inboxes += 1;
        self.write(&format!("SUB _INBOX.> {}\r\n", self.inboxes));
        until("a heartbeat", || {
            let line = self.line();
            if line.starts_with("PING") {
                self.write("PONG\r\n");
            }
            line.starts_with("NATS/1.0 100 ").then_some(())
        });
        self.write(&format!("UNSUB {}\r\n", self.inboxes));
    }

    fn subscribed(&mut self) -> String {
        self.inboxes += 1;
        let inbox = format!("_INBOX.test.{}", self.inboxes);
        self.write(&format!("SUB {inbox} {n}\r\nUNSUB {n} 1\r\n", n = self.inboxes));
        inbox
    }

    fn write(&mut self, text: &str) {
        self.reader.get_mut().write_all(text.as_bytes()).expect("NATS takes it");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("NATS says something");
        line
    }

    fn answer(&mut self) -> Value {
        loop {
            let line = self.line();
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.first().copied() {
                Some("PING") => self.write("PONG\r\n"),
                Some("MSG" | "HMSG") => {
                    let bytes: usize = words.last().expect("a size").parse().expect("a size");
                    let mut body = vec![0; bytes + 2];
                    self.reader.read_exact(&mut body).expect("a body");
                    let text = String::from_utf8_lossy(&body[..bytes]).into_owned();
                    return serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
                }
                _ => assert!(!line.is_empty() && !line.starts_with("-ERR"), "{line}"),
            }
        }
    }
}
