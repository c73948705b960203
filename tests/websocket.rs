//! WebSockets of others through a node, over each protocol, to a server of others: the same messages come back.

use std::process::Command;

use eyot_bundle::digest::Digest;
use serde::Deserialize;

use crate::harness::app::App;
use crate::harness::client::Protocol;
use crate::harness::peers;
use crate::harness::process::{Process, until};
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
    let port: u16 = until("the server's port", || server.log().lines().next().and_then(|line| line.parse().ok()));
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
