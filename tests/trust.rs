//! What does not verify changes nothing that is served, and everyone is told why.

use std::fs;
use std::path::PathBuf;

use crate::harness::app::App;
use crate::harness::client::Protocol;
use crate::harness::process::until;
use crate::harness::world::{Node, World, eyot, good};

/// An app that says a word, at a host of its own.
fn saying(app: &str, host: &str, word: &str) -> App {
    let answer = format!("respond = {{ status = 200, body = \"{word}\" }}");
    App::new(app, &[host]).function("hello", "hello", "").route(host, "/*", &answer).written()
}

fn serves(world: &World, node: &Node, host: &str) -> String {
    node.ask(world, Protocol::H3, host, "/").text()
}

#[test]
fn a_release_that_its_grant_does_not_cover_is_refused_with_its_reason_and_nothing_served_changes() {
    let world = World::new();
    world.grant("shop", &["shop.test"], &[]);
    world.grant("books", &["books.test"], &[]);
    let shop = saying("shop", "shop.test", "one");
    world.publish(&shop);
    world.publish(&saying("books", "books.test", "books"));
    let node = world.node("a");
    node.wait_for_release(&world, "shop.test", "/", "shop/1");
    node.wait_for_release(&world, "books.test", "/", "books/1");

    let other = saying("books", "shop.test", "stolen");
    let refused = world.try_publish(&other).expect_err("another app's host");
    assert!(refused.contains("host_not_granted"), "{refused}");

    let outside =
        saying("shop", "shop.test", "outside").route("other.test", "/*", "respond = { status = 200 }").written();
    outside.edit("hosts = [\"shop.test\"]", "hosts = [\"shop.test\", \"other.test\"]");
    let refused = world.try_publish(&outside).expect_err("a host outside the grant");
    assert!(refused.contains("host_not_granted"), "{refused}");

    let stranger = stranger(&world);
    let refused = world.publish_as(&saying("shop", "shop.test", "forged"), &stranger).expect_err("a stranger's key");
    assert!(
        ["wrong_key", "signature", "forbidden", "401", "403"].iter().any(|word| refused.contains(word)),
        "{refused}"
    );

    let same_host = world.grant("thief", &["shop.test"], &[]);
    assert!(!same_host.status.success(), "two apps were granted one host");

    assert_eq!(
        (serves(&world, &node, "shop.test").as_str(), serves(&world, &node, "books.test").as_str()),
        ("one", "books")
    );
}

/// A key that nobody was told of.
fn stranger(world: &World) -> PathBuf {
    let keys = world.path("stranger");
    let mut init = eyot();
    init.args(["keys", "init", "--plain", "--keys"]).arg(&keys);
    good(init);
    keys.join("publisher.key")
}

#[test]
fn a_blob_that_the_origin_lost_or_changed_is_refused_by_the_node_and_the_old_release_goes_on() {
    let world = World::new();
    world.grant("shop", &["shop.test"], &[]);
    world.grant("books", &["books.test"], &[]);
    world.publish(&saying("shop", "shop.test", "one"));
    let node = world.node("a");
    node.wait_for_release(&world, "shop.test", "/", "shop/1");

    // The origin's disk: a byte of each blob that the next releases will need is another one.
    let changed = App::new("shop", &["shop.test"])
        .function("echo", "echo", "")
        .route("shop.test", "/*", "respond = { status = 200, body = \"two\" }")
        .written();
    let digest =
        eyot_bundle::digest::Digest::of(&fs::read(changed.component("echo")).expect("a component")).to_string();
    let blob = world.path("origin/blobs/sha256").join(&digest[..2]).join(&digest);
    // The first node may have it whole by now; then what it has is right. A second one starts from the changed disk.
    world.publish(&changed);
    let mut bytes = fs::read(&blob).expect("the origin keeps it by its digest");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let mut permissions = fs::metadata(&blob).expect("a file").permissions();
    #[expect(clippy::permissions_set_readonly_false, reason = "the test is the disk that fails")]
    permissions.set_readonly(false);
    fs::set_permissions(&blob, permissions).expect("ours");
    fs::write(&blob, bytes).expect("ours");
    world.publish(&saying("books", "books.test", "books"));
    let other = world.node("b");
    other.wait_for_release(&world, "books.test", "/", "books/1");
    let status = until("the node says why", || {
        let status = other.status(&world).to_string();
        (status.contains("digest_mismatch") || status.contains("missing_blob")).then_some(status)
    });
    assert!(status.contains("shop"), "{status}");
    assert_eq!(other.ask(&world, Protocol::H3, "shop.test", "/").status, 503, "what never verified is not served");
    assert!(other.metric("eyot_refusals_total") > 0.0, "{}", other.admin("/metrics").text());
}

#[test]
fn rollback_goes_back_to_a_named_release_and_a_node_without_origin_starts_from_its_ledger() {
    let mut world = World::new();
    world.grant("shop", &["shop.test"], &[]);
    let app = saying("shop", "shop.test", "one");
    world.publish(&app);
    let mut node = world.node("a");
    node.wait_for_release(&world, "shop.test", "/", "shop/1");
    app.edit("one", "two");
    world.publish(&app);
    node.wait_for_release(&world, "shop.test", "/", "shop/2");
    world.rollback("shop", 1);
    node.wait_for_release(&world, "shop.test", "/", "shop/1");
    world.stop_origin();
    node.restart();
    node.wait_for_release(&world, "shop.test", "/", "shop/1");
    assert_eq!(serves(&world, &node, "shop.test"), "one");
}

#[test]
fn a_suspended_app_says_so_and_comes_back_and_its_neighbour_does_not_notice() {
    let world = World::new();
    world.grant("shop", &["shop.test"], &[]);
    world.grant("books", &["books.test"], &[]);
    world.publish(&saying("shop", "shop.test", "one"));
    world.publish(&saying("books", "books.test", "books"));
    let node = world.node("a");
    node.wait_for_release(&world, "shop.test", "/", "shop/1");
    node.wait_for_release(&world, "books.test", "/", "books/1");
    let change = |verb: &str| {
        let mut command = eyot();
        command.args(["app", verb, "shop", "--origin", &world.origin_url(), "--keys"]).arg(world.path("keys"));
        good(command);
    };
    change("suspend");
    until("the app is suspended", || {
        (node.ask(&world, Protocol::H2, "shop.test", "/").code() == "suspended").then_some(())
    });
    assert_eq!(serves(&world, &node, "books.test"), "books");
    change("resume");
    node.wait_for_release(&world, "shop.test", "/", "shop/1");
}
