//! WebSockets of others through a node, over each protocol, to a server of others: the same messages come back.

mod frames;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use eyot_bundle::digest::Digest;
use serde::Deserialize;

use crate::harness::app::App;
use crate::harness::client::Protocol;
use crate::harness::peers;
use crate::harness::process::{Process, until};
use crate::harness::size::size;
use crate::harness::tools::python;
use crate::harness::world::{Node, World};

/// Large enough that no buffer on the way holds it.
const BYTES: usize = 4 << 20;

/// What a client saw.
#[derive(Debug, Deserialize)]
struct Seen {
    error: Option<String>,
    status: u16,
    subprotocol: Option<String>,
    texts: Vec<String>,
    sha256: Option<String>,
    pong: bool,
    close: Option<u16>,
}

/// A client over this protocol.
fn client(protocol: Protocol) -> Command {
    let mut command = match protocol {
        Protocol::H1 => python("websocket_client.py"),
        Protocol::H2 | Protocol::H3 => python("websocket_streams.py"),
    };
    match protocol {
        Protocol::H1 => {}
        Protocol::H2 => drop(command.arg("h2")),
        Protocol::H3 => drop(command.arg("h3")),
    }
    command
}

/// The port that a peer prints as its first line.
fn port_of(peer: &Process) -> Option<u16> {
    peer.log().lines().next().and_then(|line| line.parse().ok())
}

fn talk(world: &World, node: &Node, protocol: Protocol, path: &str) -> Seen {
    let scheme = if matches!(protocol, Protocol::H1) { "wss" } else { "https" };
    let url = format!("{scheme}://shop.test:{}{path}", node.port);
    let output = client(protocol).arg(world.ca()).arg(url).arg(BYTES.to_string()).output().expect("python3");
    let (told, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&told).unwrap_or_else(|error| panic!("{protocol:?}: {error}\n{told}{complained}"))
}

#[test]
fn a_websocket_of_others_passes_to_a_server_of_others_over_each_protocol_and_a_refusal_comes_back() {
    let server = Process::start("websockets", &mut python("websocket_server.py"));
    let port = until("the server's port", || port_of(&server));
    let world = World::new();
    world.grant("shop", &["shop.test"], &["--private", &format!("127.0.0.1/32={port}")]);
    let app = App::new("shop", &["shop.test"])
        .upstream("ws", &format!("http://127.0.0.1:{port}"), "")
        .route("shop.test", "/*", "upstream = \"ws\"")
        .route("shop.test", "/fixed", "respond = { status = 200 }")
        .written();
    world.publish(&app);
    let node = world.node("a");
    node.wait_for_release(&world, "shop.test", "/fixed", "shop/1");
    let sent = Digest::of(&peers::body(BYTES)).to_string();
    for protocol in [Protocol::H1, Protocol::H2, Protocol::H3] {
        let seen = talk(&world, &node, protocol, "/chat");
        let opened = if matches!(protocol, Protocol::H1) { 101 } else { 200 };
        assert_eq!((seen.error.as_deref(), seen.status), (None, opened), "{protocol:?}: {seen:?}");
        assert_eq!(seen.texts, ["text ü", "in three pieces"], "{protocol:?}");
        assert_eq!((seen.sha256.as_deref(), seen.pong), (Some(sent.as_str()), true), "{protocol:?}");
        assert_eq!((seen.subprotocol.as_deref(), seen.close), (Some("chat"), Some(1000)), "{protocol:?}");
        for (path, status) in [("/refuse", 403), ("/fixed", 400)] {
            let refused = talk(&world, &node, protocol, path);
            assert_eq!((refused.error, refused.status), (None, status), "{protocol:?} {path}");
        }
    }
}

/// Reads a head of HTTP/1.1.
fn head(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a head");
        bytes.extend(byte);
    }
    String::from_utf8(bytes).expect("a head of text")
}

/// What comes back of what is sent in pieces through a tunnel behind `door`.
#[expect(clippy::disallowed_methods, reason = "a client of the tests'")]
fn through(door: u16, case: &frames::Case) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", door)).expect("the door");
    let asked = "GET /chat HTTP/1.1\r\nHost: shop.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    stream.write_all(asked.as_bytes()).expect("the door reads");
    let answer = head(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 101 "), "{}: {answer}", case.name);
    let mut sending = stream.try_clone().expect("the same socket");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for piece in case.bytes.chunks(case.piece_bytes.min(case.bytes.len())) {
                sending.write_all(piece).expect("the door reads");
            }
        });
        let mut back = vec![0; case.bytes.len()];
        stream.read_exact(&mut back).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        back
    })
}

#[test]
fn frames_of_every_kind_pass_as_they_are_over_each_protocol() {
    let server = Process::start("bytes", &mut python("websocket_raw.py"));
    let port = until("the server's port", || port_of(&server));
    let world = World::new();
    world.grant("shop", &["shop.test"], &["--private", &format!("127.0.0.1/32={port}")]);
    let app = App::new("shop", &["shop.test"])
        .upstream("ws", &format!("http://127.0.0.1:{port}"), "")
        .route("shop.test", "/*", "upstream = \"ws\"")
        .route("shop.test", "/fixed", "respond = { status = 200 }")
        .written();
    world.publish(&app);
    let node = world.node("a");
    node.wait_for_release(&world, "shop.test", "/fixed", "shop/1");
    let cases = frames::cases(size().body_bytes / 8);
    for protocol in ["h1", "h2", "h3"] {
        let mut command = python("websocket_bridge.py");
        let door =
            Process::start(protocol, command.arg(protocol).arg(world.ca()).args(["shop.test", &node.port.to_string()]));
        let port = until("the door's port", || port_of(&door));
        for case in &cases {
            assert!(through(port, case) == case.bytes, "{protocol} {}: other bytes came back", case.name);
        }
    }
    println!("{} sequences of frames over each protocol", cases.len());
}
