//! A node is put in the place of another while clients ask it: nobody notices, and when it goes wrong neither.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use serde_json::Value;

use crate::harness::app::App;
use crate::harness::client::{Ask, PROTOCOLS, Protocol, ask, unix};
use crate::harness::process::{PATIENCE, until};
use crate::harness::relay::Relay;
use crate::harness::size::size;
use crate::harness::upstream::Upstream;
use crate::harness::world::{Node, World, eyot};

/// What goes over a connection before, and what goes over it after an upgrade.
const PIECE_BYTES: usize = 256 << 10;

/// A node whose program can be replaced, with an app of a function, an upstream and a fixed answer.
struct House {
    world: World,
    node: Node,
    app: App,
    program: PathBuf,
    manager: UnixDatagram,
    /// The processes that took over, which are nobody's children.
    heirs: Mutex<Vec<u64>>,
    _upstream: Upstream,
}

impl Drop for House {
    fn drop(&mut self) {
        for pid in self.heirs.get_mut().expect("no panic") {
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).output();
        }
    }
}

fn house() -> House {
    let (world, upstream) = (World::new(), Upstream::start());
    let private = format!("127.0.0.1/32={}", upstream.address.port());
    world.grant("shop", &["shop.test"], &["--private", &private]);
    let app = App::new("shop", &["shop.test"])
        .function("env", "env", "env = { WORD = \"word-1\" }")
        .upstream("api", &upstream.url(), "")
        .route("shop.test", "/env", "function = \"env\"")
        .route("shop.test", "/up/*", "upstream = \"api\"")
        .route("shop.test", "/fixed", "respond = { status = 200, body = \"fixed\" }")
        .written();
    world.publish(&app);
    let program = world.path("eyot");
    fs::hard_link(env!("CARGO_BIN_EXE_eyot"), &program)
        .or_else(|_| fs::copy(env!("CARGO_BIN_EXE_eyot"), &program).map(drop))
        .expect("the program");
    let notify = world.path("notify");
    let manager = UnixDatagram::bind(&notify).expect("a socket");
    manager.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let more = "[limits]\ndrain = \"60s\"\n";
    let node = world.node_of(&program, "a", &[("NOTIFY_SOCKET", &notify)], more);
    node.wait_for_release(&world, "shop.test", "/env", "shop/1");
    House { world, node, app, program, manager, heirs: Mutex::default(), _upstream: upstream }
}

impl House {
    fn upgrade(&self) -> Output {
        let mut command = eyot();
        command.args(["upgrade", "--json", "--wait", "120", "--admin"]).arg(self.socket());
        command.output().expect("the command")
    }

    fn socket(&self) -> PathBuf {
        self.world.path("a/admin.sock")
    }

    /// Upgrades, and gives the process that serves then.
    fn upgraded(&self) -> u64 {
        let output = self.upgrade();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{text}{}\n{}",
            String::from_utf8_lossy(&output.stderr),
            self.node.process.log()
        );
        let told: Value = serde_json::from_str(&text).expect("JSON");
        let pid = told["process"].as_u64().expect("a process");
        self.heirs.lock().expect("no panic").push(pid);
        pid
    }

    /// Waits until the service manager was told that `pid` is the main process now.
    fn told_main(&self, pid: u64) {
        let mut buffer = [0; 4096];
        loop {
            let length = self.manager.recv(&mut buffer).expect("the manager is told");
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.contains("MAINPID=") {
                assert_eq!(text, format!("MAINPID={pid}\nREADY=1\n"));
                return;
            }
        }
    }

    fn replace_program(&self, text: &str) {
        let aside = self.world.path("eyot.new");
        fs::write(&aside, text).expect("written");
        fs::set_permissions(&aside, fs::Permissions::from_mode(0o755)).expect("ours");
        fs::rename(&aside, &self.program).expect("replaced");
    }
}

/// Clients that ask all the time, over all protocols, each time anew.
struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    failed: Arc<Mutex<Vec<String>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn on(house: &House) -> Self {
        let mut load =
            Self { stop: Arc::default(), asked: Arc::default(), failed: Arc::default(), threads: Vec::new() };
        for (protocol, path) in PROTOCOLS.into_iter().flat_map(|protocol| [(protocol, "/env"), (protocol, "/fixed")]) {
            let (stop, asked, failed) = (Arc::clone(&load.stop), Arc::clone(&load.asked), Arc::clone(&load.failed));
            let (world_ca, port) = (fs::read(house.world.ca()).expect("the CA"), house.node.port);
            load.threads.push(std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let answer = ask(Ask::trusting(&world_ca, port, protocol, "shop.test", path));
                    if !answer.as_ref().is_ok_and(|answer| answer.status == 200) {
                        failed.lock().expect("no panic").push(format!("{protocol:?} {path}: {answer:?}"));
                    }
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        load
    }

    /// Waits until so many more requests were answered.
    fn more(&self, count: usize) {
        let to = self.asked.load(Ordering::Relaxed) + count;
        until("the clients are answered", || (self.asked.load(Ordering::Relaxed) >= to).then_some(()));
    }

    fn end(self, house: &House) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("no panic");
        }
        let failed = self.failed.lock().expect("no panic");
        let asked = self.asked.load(Ordering::Relaxed);
        println!("{asked} requests, {} failed", failed.len());
        assert!(
            failed.is_empty(),
            "{} of {asked}: {:#?}\n{}",
            failed.len(),
            &failed[..failed.len().min(5)],
            house.node.process.log()
        );
    }
}

/// An exchange that is open both ways: its upload goes on when it is told to, its download is that upload.
struct Open {
    more: tokio::sync::mpsc::UnboundedSender<Bytes>,
    answer: JoinHandle<Result<crate::harness::client::Answer, String>>,
    sent: Vec<u8>,
    what: String,
}

impl Open {
    fn new(house: &House, protocol: Protocol, port: u16, what: &str) -> Self {
        let (more, mut pieces) = tokio::sync::mpsc::unbounded_channel::<Bytes>();
        let pieces = futures_util::stream::poll_fn(move |cx| {
            pieces.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
        });
        let request = Ask::at(&house.world, port, protocol, "shop.test", "/up/echo").method("POST");
        let request = request.stream(StreamBody::new(pieces).boxed_unsync());
        let answer = std::thread::spawn(move || ask(request));
        let mut open = Self { more, answer, sent: Vec::new(), what: format!("{what} over {protocol:?}") };
        open.send();
        open
    }

    fn send(&mut self) {
        let piece: Vec<u8> =
            (0..PIECE_BYTES).map(|at| u8::try_from((at * 31 + self.sent.len()) % 251).expect("small")).collect();
        self.sent.extend(&piece);
        self.more.send(piece.into()).unwrap_or_else(|_| panic!("{}: nobody reads any more", self.what));
    }

    fn end(mut self) {
        self.send();
        drop(self.more);
        let answer = self.answer.join().expect("no panic").unwrap_or_else(|error| panic!("{}: {error}", self.what));
        assert_eq!((answer.status, answer.body.len()), (200, self.sent.len()), "{}", self.what);
        assert!(answer.body == self.sent, "{}: other bytes", self.what);
    }
}

#[test]
fn upgrades_in_a_row_under_load_fail_no_request_and_cut_no_connection() {
    let mut house = house();
    let first = u64::from(house.node.process.id());
    let load = Load::on(&house);
    load.more(20);
    let mut serves = first;
    for round in 0..size().upgrades {
        let relay = Relay::start(house.node.port);
        let asked = house._upstream.asked();
        let mut open: Vec<_> =
            PROTOCOLS.into_iter().map(|protocol| Open::new(&house, protocol, house.node.port, "an exchange")).collect();
        open.push(Open::new(&house, Protocol::H3, relay.port, "an exchange of a client that moves"));
        let all = asked + open.len() as u64;
        until("the exchanges are under way", || (house._upstream.asked() >= all).then_some(()));
        let next = house.upgraded();
        assert_ne!(next, serves, "round {round}");
        house.told_main(next);
        relay.change_address();
        load.more(20);
        open.iter_mut().for_each(Open::send);
        relay.change_address();
        open.into_iter().for_each(Open::end);
        serves = next;
    }
    assert_eq!(house.node.process.wait(), 0, "the first process ended well: {}", house.node.process.log());
    let told: Value = serde_json::from_str(&unix(&house.socket(), "/status/upgrade")).expect("JSON");
    assert_eq!(told["pid"], serves, "{told}");
    // The ledger is its own: it takes a new release.
    house.app.edit("word-1", "word-2");
    house.world.publish(&house.app);
    house.node.wait_for_release(&house.world, "shop.test", "/env", "shop/2");
    load.end(&house);
}

/// A program that says that it has prepared and dies when it was given the ledger.
const DIES: &str = r#"#!/usr/bin/env python3
import json, socket, struct
line = socket.socket(fileno=0)
def exactly(count):
    text = b""
    while len(text) < count:
        text += line.recv(count - len(text))
    return text
exactly(struct.unpack(">I", exactly(4))[0])
line.recv(1)
word = json.dumps({"say": "prepared"}).encode()
line.sendall(struct.pack(">I", len(word)) + word)
exactly(struct.unpack(">I", exactly(4))[0])
"#;

#[test]
fn an_upgrade_that_fails_at_any_step_leaves_the_old_process_as_it_was() {
    let house = house();
    let good = house.world.path("eyot.good");
    fs::hard_link(&house.program, &good).expect("a second name");
    let load = Load::on(&house);
    load.more(10);
    let pids = house.world.path("pid");
    let refuses = format!("#!/bin/sh\nexec {} node --config /nowhere/node.toml\n", good.display());
    let hangs = format!("#!/bin/sh\necho $$ > {}\nexec sleep 1000\n", pids.display());
    for (program, why) in [
        (None, "cannot be started"),
        (Some("#!/bin/sh\nexit 3\n"), "ended before it was ready"),
        (Some(refuses.as_str()), "ended before it was ready"),
        (Some(hangs.as_str()), "ended before it was ready"),
        (Some(DIES), "ended before it was ready"),
    ] {
        match program {
            None => fs::remove_file(&house.program).expect("removed"),
            Some(text) => house.replace_program(text),
        }
        let killing = (program == Some(hangs.as_str())).then(|| kill_when_named(&pids));
        let output = house.upgrade();
        killing.into_iter().for_each(|killing| killing.join().expect("no panic"));
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{why}: {told}");
        assert!(told.contains(why), "{told} does not say `{why}`");
        load.more(10);
    }
    // The ledger came back: the old process takes a new release, and a good program still takes over.
    house.app.edit("word-1", "word-2");
    house.world.publish(&house.app);
    house.node.wait_for_release(&house.world, "shop.test", "/env", "shop/2");
    fs::rename(&good, &house.program).expect("replaced");
    house.upgraded();
    load.more(10);
    load.end(&house);
}

/// Kills the process that writes its name there.
fn kill_when_named(file: &Path) -> JoinHandle<()> {
    let file = file.to_owned();
    std::thread::spawn(move || {
        let pid =
            until("the new process is there", || fs::read_to_string(&file).ok().filter(|pid| pid.ends_with('\n')));
        let killed = Command::new("kill").args(["-KILL", pid.trim()]).status().expect("kill");
        assert!(killed.success());
    })
}
