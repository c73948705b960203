//! What is open while a node is put in the place of another, and has to end well: uploads, downloads, both at once, and
//! WebSockets, over each protocol, one of each by a client that moves.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdout, Stdio};
use std::thread::JoinHandle;

use bytes::Bytes;
use eyot_bundle::digest::Digest;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use serde_json::Value;

use super::house::House;
use crate::harness::client::{Answer, Ask, PROTOCOLS, Protocol, ask};
use crate::harness::peers;
use crate::harness::process::until;
use crate::harness::relay::Relay;
use crate::harness::tools::python;
use crate::harness::upstream::{piece, sum};

/// What goes over a connection at a time.
const PIECE_BYTES: usize = 256 << 10;
/// The message of a WebSocket.
const MESSAGE_BYTES: usize = 1 << 20;

/// All that is open at once.
pub(super) struct Open {
    relays: Vec<Relay>,
    uploads: Vec<Upload>,
    downloads: Vec<Pending>,
    sockets: Vec<Socket>,
}

impl Open {
    /// Opens them, and returns when all are under way.
    pub(super) fn on(house: &House) -> Self {
        let mut relays = Vec::new();
        let mut ways = || {
            relays.push(Relay::start(house.node.port));
            let moving = relays.last().map(|relay| (Protocol::H3, relay.port));
            PROTOCOLS.into_iter().map(|protocol| (protocol, house.node.port)).chain(moving)
        };
        let asked = house.upstream.asked();
        let mut uploads = Vec::new();
        for path in ["/up/echo", "/up/sum"] {
            uploads.extend(ways().map(|(protocol, port)| Upload::new(house, protocol, port, path)));
        }
        let feed = |(protocol, port)| Pending::new(house, protocol, port, "/up/feed", None);
        let downloads: Vec<_> = ways().map(feed).collect();
        house.upstream.feed();
        let all = asked + (uploads.len() + downloads.len()) as u64;
        until("the exchanges are under way", || (house.upstream.asked() >= all).then_some(()));
        let sockets = ways().map(|(protocol, port)| Socket::new(house, protocol, port)).collect();
        Self { relays, uploads, downloads, sockets }
    }

    /// More goes over all of them, from and to a client that has moved.
    pub(super) fn go_on(&mut self, house: &House) {
        self.relays.iter().for_each(Relay::change_address);
        self.uploads.iter_mut().for_each(Upload::send);
        house.upstream.feed();
    }

    /// The rest goes over, from a client that has moved once more, and all must be there.
    pub(super) fn end(mut self, house: &House) {
        self.go_on(house);
        let pieces = house.upstream.fed();
        let expect: Vec<u8> = (0..pieces).flat_map(piece).collect();
        for download in self.downloads {
            download.ends_with(&expect);
        }
        for upload in self.uploads {
            upload.end();
        }
        for socket in self.sockets {
            socket.end();
        }
    }
}

/// A request whose answer is not whole yet.
struct Pending {
    answer: JoinHandle<Result<Answer, String>>,
    what: String,
}

impl Pending {
    fn new(house: &House, protocol: Protocol, port: u16, path: &str, body: Option<eyot_link::body::Body>) -> Self {
        let mut request = Ask::at(&house.world, port, protocol, "shop.test", path).held();
        if let Some(body) = body {
            request = request.method("POST").stream(body);
        }
        Self { answer: std::thread::spawn(move || ask(request)), what: format!("{path} over {protocol:?} at {port}") }
    }

    fn ends_with(self, expect: &[u8]) {
        let answer = self.answer.join().expect("no panic").unwrap_or_else(|error| panic!("{}: {error}", self.what));
        assert_eq!((answer.status, answer.body.len()), (200, expect.len()), "{}", self.what);
        assert!(answer.body == expect, "{}: other bytes", self.what);
    }
}

/// A request whose upload goes on when it is told to.
struct Upload {
    more: tokio::sync::mpsc::UnboundedSender<Bytes>,
    pending: Pending,
    sent: Vec<u8>,
    is_echo: bool,
}

impl Upload {
    fn new(house: &House, protocol: Protocol, port: u16, path: &str) -> Self {
        let (more, mut pieces) = tokio::sync::mpsc::unbounded_channel::<Bytes>();
        let pieces = futures_util::stream::poll_fn(move |cx| {
            pieces.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
        });
        let pending = Pending::new(house, protocol, port, path, Some(StreamBody::new(pieces).boxed_unsync()));
        let mut upload = Self { more, pending, sent: Vec::new(), is_echo: path.ends_with("echo") };
        upload.send();
        upload
    }

    fn send(&mut self) {
        let piece: Vec<u8> =
            (0..PIECE_BYTES).map(|at| u8::try_from((at * 31 + self.sent.len()) % 251).expect("small")).collect();
        self.sent.extend(&piece);
        self.more.send(piece.into()).unwrap_or_else(|_| panic!("{}: nobody reads any more", self.pending.what));
    }

    fn end(self) {
        drop(self.more);
        if self.is_echo {
            self.pending.ends_with(&self.sent);
        } else {
            self.pending.ends_with(sum(&self.sent).as_bytes());
        }
    }
}

/// A WebSocket of others.
struct Socket {
    client: Child,
    said: BufReader<ChildStdout>,
    what: String,
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

impl Socket {
    fn new(house: &House, protocol: Protocol, port: u16) -> Self {
        let (mut command, scheme) = match protocol {
            Protocol::H1 => (python("websocket_client.py"), "wss"),
            Protocol::H2 | Protocol::H3 => (python("websocket_streams.py"), "https"),
        };
        match protocol {
            Protocol::H1 => {}
            Protocol::H2 => drop(command.arg("h2")),
            Protocol::H3 => drop(command.arg("h3")),
        }
        command.arg(house.world.ca()).arg(format!("{scheme}://shop.test:{port}/ws/chat"));
        command.args([&MESSAGE_BYTES.to_string(), "hold"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut client = command.spawn().expect("python3");
        let mut said = BufReader::new(client.stdout.take().expect("piped"));
        let what = format!("a WebSocket over {protocol:?} at {port}");
        let mut line = String::new();
        said.read_line(&mut line).expect("read");
        assert_eq!(line, "open\n", "{what}");
        Self { client, said, what }
    }

    fn end(mut self) {
        self.client.stdin.take().expect("piped").write_all(b"go on\n").expect("told");
        let mut text = String::new();
        self.said.read_to_string(&mut text).expect("read");
        let seen: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}: {text}", self.what));
        assert_eq!(seen["error"], Value::Null, "{}: {seen}", self.what);
        assert_eq!(seen["texts"], serde_json::json!(["text ü", "in three pieces"]), "{}", self.what);
        assert_eq!(seen["sha256"], Digest::of(&peers::body(MESSAGE_BYTES)).to_string(), "{}", self.what);
        assert_eq!((&seen["pong"], &seen["close"]), (&true.into(), &1000.into()), "{}", self.what);
    }
}
