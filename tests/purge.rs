//! Purges through the fleet: from whoever may, to every node, also one that was away, and over restarts of all.

use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::app::App;
use crate::harness::client::{Ask, Protocol, ask, unix_asks};
use crate::harness::process::until;
use crate::harness::world::{Node, World, eyot, good};

/// `eyot purge` of the app `shop`, as `key` of the keys folder.
fn purge(world: &World, key: &str, more: &[&str]) -> Command {
    let mut purge = eyot();
    purge.args(["purge", "--json", "--name", "shop", "--origin", &world.origin_url(), "--ca"]).arg(world.ca());
    purge.arg("--key").arg(world.path(format!("keys/{key}"))).args(more);
    purge
}

/// The same, which must end well.
fn purged(world: &World, more: &[&str]) -> Value {
    let told = good(purge(world, "publisher.key", more));
    serde_json::from_str(&told).unwrap_or_else(|error| panic!("{error}: {told}"))
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// How far a node is with the log.
fn position(world: &World, node: &Node) -> u64 {
    node.status(world)["sync"]["purge"].as_u64().unwrap_or_default()
}

/// A node that keeps answers on disk, and follows the log of purges.
fn node(world: &World, id: &str) -> Node {
    let disk = world.path(format!("{id}-http"));
    let node = world.node_with(id, &format!("[cache]\ndisk = {{ path = \"{}\", size = \"64MiB\" }}\n", disk.display()));
    watches(world, &node);
    node
}

fn watches(world: &World, node: &Node) {
    until("the node holds a stream", || node.status(world)["sync"]["parent"].as_str().map(drop));
}

/// An app of one route.
fn shop(world: &World) -> App {
    world.grant("shop", &["shop.test"], &[]);
    let app = App::new("shop", &["shop.test"]).route("shop.test", "/*", "respond = { status = 204 }").written();
    world.publish(&app);
    app
}

#[test]
fn a_purge_is_done_by_every_node_that_is_there_and_by_one_that_was_away_when_it_is_back() {
    let mut world = World::new();
    let _app = shop(&world);
    let (a, b, mut c) = (node(&world, "a"), node(&world, "b"), node(&world, "c"));
    let told = purged(&world, &["--tag", "product-9"]);
    let first = told["purge"].as_u64().expect("a number");
    for id in ["a", "b", "c"] {
        assert_eq!(
            (&told["nodes"][id]["state"], told["nodes"][id]["ms"].is_number()),
            (&"done".into(), true),
            "{told}"
        );
    }
    for node in [&a, &b, &c] {
        assert_eq!(position(&world, node), first);
        assert!(node.metric("eyot_purges_total{app=\"shop\",source=\"parent\"}") >= 1.0);
    }
    // One is cut off.
    c.process.kill();
    // Nobody waits for it longer than its stream is thought to live.
    let told = purged(&world, &["--url", "https://shop.test/a", "--wait", "300"]);
    assert_eq!(told["nodes"]["c"]["state"], "away", "{told}");
    let told = purged(&world, &["--tag", "product-9", "--tag", "product-10", "--soft"]);
    let last = told["purge"].as_u64().expect("a number");
    let states = ["a", "b", "c"].map(|id| told["nodes"][id]["state"].clone());
    assert_eq!(states, ["done", "done", "away"].map(Value::from), "{told}");
    assert_eq!((position(&world, &a), position(&world, &b)), (last, last));
    // The origin forgets nothing of it when it is begun anew.
    world.stop_origin();
    world.start_origin();
    c.restart();
    until("the third has done it too", || (position(&world, &c) >= last).then_some(()));
    assert!(c.metric("eyot_purges_total{app=\"shop\",source=\"parent\"}") >= 3.0, "each, and not one for all");
    // And who was told all before it ended is told nothing twice.
    let before = purged(&world, &["--wait", "30", "--tag", "x"])["purge"].as_u64().expect("a number");
    until("it is at the end", || (position(&world, &c) == before).then_some(()));
    c.restart();
    until("it is where it was", || (position(&world, &c) == before).then_some(()));
    assert_eq!(c.metric("eyot_purges_total{app=\"shop\",source=\"parent\"}"), 0.0);
}

#[test]
fn a_key_that_may_purge_an_app_may_neither_publish_nor_look_and_not_purge_another() {
    let world = World::new();
    let key = world.path("keys/cms.key");
    good({
        let mut new = eyot();
        new.args(["keys", "new", "--plain"]).arg(&key);
        new
    });
    let public = world.path("keys/cms.pub").display().to_string();
    world.grant("shop", &["shop.test"], &["--purge-key", &public]);
    let app = App::new("shop", &["shop.test"]).route("shop.test", "/*", "respond = { status = 204 }").written();
    world.publish(&app);
    world.grant("other", &["other.test"], &[]);
    let told = good(purge(&world, "cms.key", &["--all"]));
    assert!(told.contains("\"purge\":"), "{told}");
    let refused = purge(&world, "cms.key", &["--all", "--name", "other"]).output().expect("a command");
    // The last name counts for nothing: it stands twice.
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    let mut other = eyot();
    other.args(["purge", "--all", "--name", "other", "--origin", &world.origin_url(), "--ca"]).arg(world.ca());
    let refused = other.arg("--key").arg(&key).output().expect("a command");
    assert!(
        refused.status.code() == Some(1) && said(&refused).contains("no publisher of `other`"),
        "{}",
        said(&refused)
    );
    let why = world.publish_as(&app, &key).expect_err("not a publisher's");
    assert!(why.contains("may purge, and nothing else"), "{why}");
    let mut looks = eyot();
    looks.args(["releases", "--name", "shop", "--origin", &world.origin_url(), "--ca"]).arg(world.ca());
    let refused = looks.arg("--key").arg(&key).output().expect("a command");
    assert!(!refused.status.success() && said(&refused).contains("nothing else"), "{}", said(&refused));
}

#[test]
fn a_function_purges_every_node_if_its_release_says_that_it_may_and_else_none() {
    let world = World::new();
    world.grant("shop", &["shop.test"], &[]);
    let app = App::new("shop", &["shop.test"])
        .function("may", "given", "purge = true")
        .function("not", "given", "")
        .route("shop.test", "/may", "function = \"may\"")
        .route("shop.test", "/not", "function = \"not\"")
        .written();
    world.publish(&app);
    let (a, b) = (node(&world, "a"), node(&world, "b"));
    a.wait_for_release(&world, "shop.test", "/may", "shop/1");
    let asks = |path: &str, text: &str| {
        let request = Ask::get(&world, &a, Protocol::H2, "shop.test", path).method("POST").body(text.to_owned());
        ask(request).expect("an answer").text()
    };
    let before = position(&world, &b);
    assert!(asks("/not", "purge key product-9").contains("not-permitted"));
    let told = asks("/may", "purge key product-9");
    assert!(!told.contains("unavailable") && !told.contains("not-permitted"), "{told}");
    until("the other node has done it", || (position(&world, &b) > before).then_some(()));
    assert_eq!(position(&world, &b), before + 1, "that of the other function came to nobody");
    assert!(a.metric("eyot_purges_total{app=\"shop\",source=\"function\"}") >= 1.0);
    assert_eq!(b.metric("eyot_purges_total{app=\"shop\",source=\"function\"}"), 0.0);
}

#[test]
fn an_operator_purges_one_node_through_its_socket_file_and_not_over_the_network() {
    let world = World::new();
    let _app = shop(&world);
    let a = node(&world, "a");
    let before = position(&world, &a);
    let socket = world.path("a/admin.sock");
    let asks = |query: &str| unix_asks(&socket, "POST", &format!("/purge?{query}"));
    let (status, told) = asks("app=shop&key=product-9&soft=1");
    assert!(status == 200 && told.contains("product-9"), "{status} {told}");
    assert_eq!(asks("app=shop").0, 400);
    assert_eq!(unix_asks(&socket, "GET", "/purge?app=shop&all=1").0, 405);
    let over_tcp = ask(Ask::plain(a.admin, "/purge?app=shop&all=1").method("POST")).expect("an answer");
    assert_eq!(over_tcp.status, 404);
    assert_eq!(a.metric("eyot_purges_total{app=\"shop\",source=\"operator\"}"), 1.0);
    assert_eq!(position(&world, &a), before, "no other node hears of it");
}
