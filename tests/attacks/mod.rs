//! Attacks on a node by clients of others, while its memory is watched and a good neighbour goes on asking.
//!
//! The clients are in `harness/peers/attack_*.py`: they write what they like on connections of aioquic and of Python's TLS,
//! and say how each of them ended. What must be the end, and what it may cost the node, stands here.

mod crowd;
mod http3;
mod tcp;
mod watch;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdout, Stdio};

use serde::Deserialize;

use crate::harness::app::App;
use crate::harness::client::{Ask, Protocol, ask};
use crate::harness::tools::python;
use crate::harness::upstream::Upstream;
use crate::harness::world::{Node, World};
use watch::watched;

/// What a connection may hold of its client's and for its client (LIMITS.md: the windows of a connection, and a head), in
/// bytes: of an attack by one connection after the other the node may hold no more than that, and the margin.
const CONNECTION_BYTES: u64 = 4 << 20;

/// What is not the attack's: the neighbour's connections, what the allocator keeps, code that was not touched before.
const MARGIN_BYTES: u64 = 6 << 20;

/// An attack takes its time, and so may those that wait meanwhile.
const PATIENT: &str = "connect = \"60s\", first_byte = \"10m\", between_bytes = \"10m\", total = \"20m\"";

/// A node with an upstream at `/up/`, and a fixed answer that the neighbour asks for.
struct House {
    world: World,
    node: Node,
    _upstream: Upstream,
}

/// A thing that an attack did, and how it ended.
#[derive(Debug, Deserialize)]
struct Row {
    case: String,
    end: String,
    #[serde(default)]
    sent: u64,
    #[serde(default)]
    back: u64,
    #[serde(default)]
    connections: u64,
    #[serde(default)]
    retries: u64,
}

/// The house, with more lines for the node's `[limits]`.
fn house(limits: &str) -> House {
    let (world, upstream) = (World::new(), Upstream::start());
    let private = format!("127.0.0.1/32={}", upstream.address.port());
    assert!(world.grant("shop", &["shop.test"], &["--private", &private]).status.success());
    let app = App::new("shop", &["shop.test"])
        .upstream("api", &upstream.url(), &format!("timeouts = {{ {PATIENT} }}"))
        .route("shop.test", "/up/*", "upstream = \"api\"")
        .route("shop.test", "/fixed", "respond = { status = 200, body = \"fixed\" }")
        .written();
    world.publish(&app);
    let node = world.node_with("a", &format!("[limits]\n{limits}\n"));
    node.wait_for_release(&world, "shop.test", "/fixed", "shop/1");
    let house = House { world, node, _upstream: upstream };
    // What is made once is made before the memory is looked at.
    for path in ["/fixed", "/up/any"] {
        for protocol in [Protocol::H1, Protocol::H2, Protocol::H3] {
            house.served(protocol, path);
        }
    }
    house
}

impl House {
    /// The node answers a good client.
    fn served(&self, protocol: Protocol, path: &str) {
        let answer = ask(Ask::get(&self.world, &self.node, protocol, "shop.test", path));
        let answer = answer.unwrap_or_else(|error| panic!("the neighbour, {protocol:?} {path}: {error}"));
        assert_eq!(answer.status, 200, "the neighbour, {protocol:?} {path}: {}", answer.text());
    }

    /// An attack from its begin to its end. Beside it the neighbour is answered, and the node's memory grows by no more
    /// than `room_bytes` and the margin.
    fn attacked(&self, script: &str, attack: &str, arguments: &[usize], room_bytes: u64) -> Vec<Row> {
        watched(self, attack, room_bytes, || Attacker::start(self, script, attack, arguments).rest())
    }
}

/// A running attack.
struct Attacker {
    attack: String,
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Attacker {
    fn start(house: &House, script: &str, attack: &str, arguments: &[usize]) -> Self {
        let mut command = python(script);
        command.args([&house.node.port.to_string(), attack]).args(arguments.iter().map(ToString::to_string));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("python3");
        let said = BufReader::new(child.stdout.take().expect("piped"));
        Self { attack: attack.to_owned(), child, said }
    }

    /// What it says next; none when it has ended well.
    fn next(&mut self) -> Option<Row> {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("its output");
        if line.is_empty() {
            let status = self.child.wait().expect("a child of ours");
            let mut complained = String::new();
            let _ = self.child.stderr.take().expect("piped").read_to_string(&mut complained);
            assert!(status.success(), "{}: {complained}", self.attack);
            return None;
        }
        Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{}: {error}: {line}", self.attack)))
    }

    /// What it says until it has done something that is called so.
    fn until(&mut self, case: &str) -> Row {
        loop {
            let row = self.next().unwrap_or_else(|| panic!("{}: it ended before `{case}`", self.attack));
            if row.case == case {
                return row;
            }
        }
    }

    /// Tells it to go on.
    fn go_on(&mut self) {
        self.child.stdin.as_mut().expect("piped").write_all(b"go on\n").expect("it listens");
    }

    /// All that it says from here to its end.
    fn rest(mut self) -> Vec<Row> {
        std::iter::from_fn(|| self.next()).collect()
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Each thing that was done ended as the table says; what is not in the table, as `others` says.
fn ended(attack: &str, rows: &[Row], table: &[(&str, &str)], others: &str) {
    assert!(!rows.is_empty(), "{attack}: nothing was done");
    for row in rows {
        let expect = table.iter().find(|(case, _)| *case == row.case).map_or(others, |(_, end)| end);
        println!("| {attack}: {} | {} | {} connections, {} KiB |", row.case, row.end, row.connections, row.sent >> 10);
        assert_eq!(row.end, expect, "{attack}: {}", row.case);
    }
    for (case, _) in table {
        assert!(rows.iter().any(|row| row.case == *case), "{attack}: {case} was not done");
    }
}
