//! A node that is killed while a function writes: what was acknowledged is there.

use std::fmt::Write as _;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::harness::app::App;
use crate::harness::client::{Answer, Ask, Protocol, ask};
use crate::harness::process::{until, until_within};
use crate::harness::size::size;
use crate::harness::world::{Node, World};

/// Keys that one request writes; one more is counted.
const BATCH: usize = 250;
const CLIENTS: usize = 4;
const KILLS: usize = 3;

/// An app whose function keeps what it is told in a store of its node.
fn app() -> App {
    App::new("shop", &["shop.test"])
        .function("given", "given", "stores = { carts = \"carts\" }\nlimits = { cpu = \"5s\", wall = \"60s\" }")
        .table("[stores.carts]\nengine = \"node\"\nconsistency = \"linearizable\"\nkeys_max = 2_000_000")
        .route("shop.test", "/*", "function = \"given\"")
        .written()
}

/// Who asks the function.
struct Client {
    ca: Vec<u8>,
    port: u16,
}

impl Client {
    fn tells(&self, lines: &str) -> Result<Answer, String> {
        let ask_for = Ask::trusting(&self.ca, self.port, Protocol::H2, "shop.test", "/");
        ask(ask_for.method("POST").body(lines.to_owned()).connecting(5_000))
    }

    /// Whether a batch and its count were acknowledged.
    fn writes(&self, batch: usize) -> bool {
        let mut lines = "open carts\nset-many".to_owned();
        for (key, value) in pairs(batch) {
            let _ = write!(lines, " {key}={value}");
        }
        lines.push_str("\nincrement count 1\n");
        let Ok(answer) = self.tells(&lines) else { return false };
        let text = answer.text();
        let said: Vec<_> = text.lines().collect();
        matches!(said[..], ["()", "()", counted] if counted.parse::<u64>().is_ok())
    }

    fn reads(&self, line: &str) -> String {
        let told = self.tells(&format!("open carts\n{line}\n")).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(told.status, 200, "{}", told.text());
        told.text().lines().nth(1).unwrap_or_default().to_owned()
    }
}

fn pairs(batch: usize) -> impl Iterator<Item = (String, String)> {
    (0..BATCH).map(move |number| (format!("k-{batch}-{number}"), format!("{batch}x{number}")))
}

/// Writes batches, one after another, each until it is acknowledged; how often any was tried.
fn write_all(client: &Client, batches: usize, next: &AtomicUsize, done: &AtomicUsize) -> usize {
    let mut tried = 0;
    loop {
        let batch = next.fetch_add(1, Ordering::Relaxed);
        if batch >= batches {
            return tried;
        }
        until("a batch is acknowledged", || {
            tried += 1;
            client.writes(batch).then_some(())
        });
        done.fetch_add(1, Ordering::Relaxed);
    }
}

/// Kills the node when so many batches are acknowledged, and starts it again.
fn kill_at(node: &mut Node, done: &AtomicUsize, batches: usize) {
    let patience = Duration::from_secs(1_800);
    until_within(patience, "batches are acknowledged", || (done.load(Ordering::Relaxed) >= batches).then_some(()));
    node.restart();
}

#[test]
fn a_node_that_is_killed_again_and_again_under_writes_has_every_one_that_it_acknowledged() {
    let world = World::new();
    world.grant("shop", &["shop.test"], &[]);
    world.publish(&app());
    let mut node = world.node("a");
    node.wait_for_release(&world, "shop.test", "/", "shop/1");
    let client = Client { ca: fs::read(world.ca()).expect("the CA"), port: node.port };
    let batches = size().writes.div_ceil(BATCH);
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let tried: usize = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| write_all(&client, batches, &next, &done))).collect();
        for kill in 1..=KILLS {
            kill_at(&mut node, &done, batches * kill / (KILLS + 1));
        }
        clients.into_iter().map(|client| client.join().expect("no panic")).sum()
    });
    for batch in 0..batches {
        let keys: Vec<_> = pairs(batch).map(|(key, _)| key).collect();
        let expect: Vec<_> = pairs(batch).map(Some).collect();
        assert_eq!(client.reads(&format!("get-many {}", keys.join(" "))), format!("{expect:?}"), "batch {batch}");
    }
    let counted: usize = client.reads("increment count 0").parse().expect("a number");
    assert!((batches..=tried).contains(&counted), "{counted} counted of {batches} acknowledged and {tried} tried");
    println!("{} writes in {tried} requests, {KILLS} kills; {counted} counted of {batches}", batches * BATCH);
}
