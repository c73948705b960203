//! Purges of what is kept, over several nodes of which one is cut off.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::app::App;
use crate::harness::client::{Ask, Protocol, ask};
use crate::harness::process::until;
use crate::harness::scripted::{Made, Scripted};
use crate::harness::world::{Node, World, eyot, good};

use super::answers::{answer, status};

#[test]
fn a_purge_is_heard_by_all_and_one_that_was_cut_off_gives_nothing_of_before_it() {
    let version = Arc::new(AtomicUsize::new(1));
    let now = Arc::clone(&version);
    let upstream = Scripted::start(move |_, _| {
        Made::of(format!("version {}", now.load(Ordering::Relaxed)))
            .control("max-age=6000")
            .field("surrogate-key", "all")
    });
    let world = World::new();
    world.grant("shop", &["shop.test"], &["--private", &format!("127.0.0.1/32={}", upstream.address.port())]);
    let app = App::new("shop", &["shop.test"])
        .upstream("api", &upstream.url(), "")
        .route("shop.test", "/*", "upstream = \"api\"")
        .written();
    world.publish(&app);
    // What one that hears nothing may answer with is asked for anew after a second.
    let nodes = ["a", "b", "c"].map(|id| world.node_with(id, "[cache]\npurge_lag_max = \"1s\"\n"));
    let get = |node: &Node| answer(Ask::get(&world, node, Protocol::H3, "shop.test", "/a"));
    for node in &nodes {
        node.wait_for_release(&world, "shop.test", "/ready", "shop/1");
        until("it watches", || node.status(&world)["sync"]["parent"].as_str().map(drop));
        until("it is kept", || status(&get(node)).starts_with("eyot; hit").then_some(()));
        assert_eq!(get(node).text(), "version 1");
    }
    nodes[2].process.signal("STOP");
    version.store(2, Ordering::Relaxed);
    let mut purge = eyot();
    purge.args([
        "--json",
        "purge",
        "--tag",
        "all",
        "--wait",
        "3",
        "--name",
        "shop",
        "--origin",
        &world.origin_url(),
        "--ca",
    ]);
    purge.arg(world.ca()).arg("--key").arg(world.path("keys/publisher.key"));
    let output = purge.output().expect("a command");
    // All that are there; the third has not.
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    for node in &nodes[..2] {
        assert_eq!(get(node).text(), "version 2", "{told}");
    }
    assert!(told.contains("\"a\"") && told.contains("done"), "{told}");
    println!("{told}");
    nodes[2].process.signal("CONT");
    let first = until("an answer", || ask(Ask::get(&world, &nodes[2], Protocol::H2, "shop.test", "/a")).ok());
    assert_eq!((first.status, first.text().as_str()), (200, "version 2"), "{}", status(&first));
    until("it keeps again", || status(&get(&nodes[2])).starts_with("eyot; hit").then_some(()));
    assert_eq!(get(&nodes[2]).text(), "version 2");
    let mut purge = eyot();
    purge.args(["purge", "--all", "--name", "shop", "--origin", &world.origin_url(), "--ca"]).arg(world.ca());
    purge.arg("--key").arg(world.path("keys/publisher.key"));
    good(purge);
}
