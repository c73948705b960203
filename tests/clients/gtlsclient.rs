//! gtlsclient: the client of ngtcp2 with GnuTLS, which moves, loses packets, takes new keys and comes back when told to.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::{House, told_all};
use crate::harness::peers;
use crate::harness::process::{Process, until};
use crate::harness::tools::{Tree, python};
use crate::harness::world::Node;

/// What is sent and comes back, in bytes: many round trips.
const BYTES: usize = 4 << 20;

/// Groups of which a client's first hello has a key for those alone that no server need know.
const OTHER_GROUPS: &str = "--groups=-GROUP-ALL:+GROUP-SECP521R1:+GROUP-SECP256R1:+GROUP-X25519";

/// TLS: the types of messages in a server's flight (RFC 8446, section 4).
const WHOLE: [u8; 4] = [8, 11, 15, 20];
const RESUMED: [u8; 2] = [8, 20];

/// What the client did and saw, as it tells it.
struct Run {
    text: String,
    has_ended_well: bool,
}

impl Run {
    /// The status of its answer.
    fn status(&self) -> Option<u16> {
        let (_, rest) = self.text.split_once("[:status: ")?;
        rest.split_once(']')?.0.parse().ok()
    }

    /// Whether a line tells of all of this.
    fn tells(&self, parts: &[&str]) -> bool {
        self.text.lines().any(|line| parts.iter().all(|part| line.contains(part)))
    }

    /// The types of the messages in the server's flight, from the client's dump of them.
    fn flight(&self) -> Vec<u8> {
        let mut lines = self.text.lines();
        let (mut bytes, mut types) = (Vec::new(), Vec::new());
        while lines.by_ref().any(|line| line == "Ordered CRYPTO data in Handshake crypto level") {
            // `00000010  01 02 ..  09 ..  |....|`, and in the end a line with nothing but the count.
            for line in lines.by_ref().map_while(|line| line.split_once("  ").filter(|(at, _)| at.len() == 8)) {
                let hex = line.1.split_once('|').map_or(line.1, |(hex, _)| hex).split_whitespace();
                bytes.extend(hex.map(|byte| u8::from_str_radix(byte, 16).expect("hexadecimal")));
            }
        }
        let mut rest = bytes.as_slice();
        while let [kind, a, b, c, after @ ..] = rest {
            types.push(*kind);
            rest = after.get(u32::from_be_bytes([0, *a, *b, *c]) as usize..).unwrap_or_default();
        }
        types
    }
}

/// The client's command for a path of `shop.test` at a node.
fn command(node: &Node, options: &[&str], path: &str) -> Command {
    static TREE: OnceLock<Tree> = OnceLock::new();
    let mut command = TREE.get_or_init(|| Tree::of("ngtcp2-client")).command("usr/bin/gtlsclient");
    command.args(["--exit-on-all-streams-close", "--sni=shop.test", "--timeout=60s", "--handshake-timeout=60s"]);
    command.args(options).args(["127.0.0.1", &node.port.to_string()]);
    command.arg(format!("https://shop.test:{}{path}", node.port));
    command
}

fn run(node: &Node, options: &[&str], path: &str) -> Run {
    let output = command(node, options, path).output().expect("gtlsclient");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    Run { text, has_ended_well: output.status.success() }
}

/// Asks, and the answer has this status.
fn answered(node: &Node, options: &[&str], path: &str, status: u16) -> Run {
    let run = run(node, options, path);
    assert_eq!((run.status(), run.has_ended_well), (Some(status), true), "{options:?} {path}: {}", run.text);
    run
}

/// `--<option>=<path>` for each file that a client keeps of a connection.
struct Kept(Vec<String>);

impl Kept {
    fn new(folder: &Path, files: &[&str]) -> Self {
        Self(files.iter().map(|file| format!("--{file}={}", folder.join(file).display())).collect())
    }

    fn options<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        self.0.iter().map(String::as_str).chain(more.iter().copied()).collect()
    }
}

/// A folder of the house's.
fn folder(house: &House, name: &str) -> PathBuf {
    let folder = house.world.path(name);
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

#[test]
fn requests_finish_when_the_client_moves_is_moved_loses_packets_takes_new_keys_or_begins_otherwise() {
    let house = House::new();
    let node = house.node("a", "", "");
    let (body, folder) = (peers::body(BYTES), folder(&house, "ngtcp2"));
    let (sent, download) = (folder.join("sent"), format!("--download={}", folder.display()));
    fs::write(&sent, &body).expect("a body");
    let data = format!("--data={}", sent.display());
    let cases: [(&[&str], &[&str]); 14] = [
        (&[], &["Negotiated ALPN is h3"]),
        (&["--change-local-addr=1ms"], &["rx", "PATH_RESPONSE"]),
        (&["--change-local-addr=1ms", "--nat-rebinding"], &["rx", "PATH_CHALLENGE"]),
        (&["--key-update=1ms"], &["pkt rx", "type=1RTT k=1"]),
        (&["--tx-loss=0.05"], &["Simulated outgoing packet loss"]),
        (&["--rx-loss=0.05"], &["Simulated incoming packet loss"]),
        (&["--tx-loss=0.05", "--rx-loss=0.05"], &["Simulated"]),
        (&["--version=0x1a2a3a4a", "--preferred-versions=v1"], &["VN v=0x00000001"]),
        (&["--version=v2draft", "--preferred-versions=v2draft,v1"], &["VN v=0x00000001"]),
        (&["--ciphers=NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+CHACHA20-POLY1305"], &["is CHACHA20-POLY1305"]),
        (&["--ciphers=NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-256-GCM"], &["is AES-256-GCM"]),
        // The node has no share of the first groups, and asks for another hello.
        (&[OTHER_GROUPS], &["frm tx", "Initial CRYPTO(0x06) offset=4"]),
        (&["--scid="], &["frm rx", "HANDSHAKE_DONE"]),
        (&["--max-data=32K", "--max-stream-data-bidi-local=8K"], &["frm tx", "MAX_STREAM_DATA"]),
    ];
    for (count, (options, sign)) in cases.into_iter().enumerate() {
        let all = [options, &["--no-quic-dump", "--no-http-dump", "-mPOST", &data, &download]].concat();
        let run = answered(&node, &all, "/up/echo", 200);
        assert!(run.tells(sign), "{options:?}: no line tells of {sign:?}\n{}", run.text);
        assert!(fs::read(folder.join("echo")).expect("what came back") == body, "{options:?}: it is another body");
        let told = told_all(&node, "/up/echo", count + 1);
        assert_eq!(told[count], ("h3".to_owned(), 200, None), "{options:?}");
    }
}

#[test]
fn three_hundred_requests_are_answered_on_one_connection_a_hundred_at_once() {
    let house = House::new();
    let node = house.node("a", "", "");
    let run = answered(&node, &["-n300"], "/early", 200);
    assert_eq!(run.text.matches("[:status: 200]").count(), 300, "{}", run.text);
    assert!(run.tells(&["frm rx", "MAX_STREAMS"]), "{}", run.text);
    assert_eq!(told_all(&node, "/early", 300), vec![("h3".to_owned(), 200, None); 300]);
}

#[test]
fn a_session_comes_back_without_early_data_unless_the_node_takes_it_and_then_only_routes_that_do() {
    let house = House::new();
    let (plain, eager) = (house.node("a", "", ""), house.node("b", "resumption = \"early-data\"", ""));
    let early = |run: &Run| match (run.tells(&["pkt tx", "type=0RTT"]), run.tells(&["Early data was rejected"])) {
        (true, is_refused) => Some(!is_refused),
        (false, _) => None,
    };
    for node in [&plain, &eager] {
        let kept = Kept::new(&folder(&house, &format!("kept-{}", node.id)), &["session-file", "tp-file"]);
        let first = answered(node, &kept.options(&[]), "/fixed", 200);
        assert_eq!((first.flight(), early(&first)), (WHOLE.to_vec(), None), "{}: {}", node.id, first.text);
        let late = answered(node, &kept.options(&["--disable-early-data"]), "/fixed", 200);
        assert_eq!((late.flight(), early(&late)), (RESUMED.to_vec(), None), "{}: {}", node.id, late.text);
        for (path, status) in [("/early", 200), ("/fixed", if node.id == "b" { 425 } else { 200 })] {
            let again = answered(node, &kept.options(&[]), path, status);
            let expect = (RESUMED.to_vec(), Some(node.id == "b"));
            assert_eq!((again.flight(), early(&again)), expect, "{} {path}: {}", node.id, again.text);
        }
    }
    // What the other node gave: this one knows no such session, takes nothing early, and answers after the handshake.
    let kept = Kept::new(&folder(&house, "kept-b"), &["session-file", "tp-file"]);
    let refused = answered(&plain, &kept.options(&[]), "/fixed", 200);
    assert_eq!((refused.flight(), early(&refused)), (WHOLE.to_vec(), Some(false)), "{}", refused.text);
    let told = told_all(&eager, "/fixed", 3);
    assert_eq!(told.last(), Some(&("h3".to_owned(), 425, Some("too_early".to_owned()))));
}

#[test]
fn a_client_proves_its_address_where_places_run_short_and_one_that_was_here_brings_a_token_instead() {
    let house = House::new();
    let node = house.node("a", "", "[limits]\nconnections_per_address = 8\n");
    let is_asked = |run: &Run| run.tells(&["pkt rx", "type=Retry"]);
    let free = answered(&node, &[], "/fixed", 200);
    assert!(!is_asked(&free) && free.tells(&["frm rx", "NEW_TOKEN"]), "{}", free.text);
    let _open =
        ["1", "2", "3", "4"].map(|name| Process::start(name, &mut command(&node, &[], &format!("/up/never?{name}"))));
    until("half of the places are taken", || (house.upstream.asked() == 4).then_some(()));
    let crowded = answered(&node, &[], "/fixed", 200);
    assert!(is_asked(&crowded), "{}", crowded.text);
    // This gtlsclient writes tokens and cannot read them; aioquic can.
    let mut tokens = python("aioquic_tokens.py");
    tokens.arg(house.world.ca()).args(["shop.test", &node.port.to_string()]);
    let were_asked: Vec<bool> = peers::told(tokens);
    assert_eq!(were_asked, [true, false, false, true], "none, given, given, used already");
}
