//! Secrets, from their publisher's machine to the function: sealed to the nodes, opened there alone, and found nowhere.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use crate::harness::app::App;
use crate::harness::client::Protocol;
use crate::harness::process::until;
use crate::harness::world::{Node, World, eyot, good};

/// No program, log or disk has this by chance.
const VALUE: &str = "5b1e-correct-horse-battery-staple-77f0";

/// The identity of the node `id`, made by it and put into the fleet by the operator.
fn identify(world: &World, id: &str) {
    let config = world.configure(id, 1, 2, "");
    let told =
        eyot().args(["node", "identity", "--json", "--config"]).arg(config).output().expect("eyot node identity");
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).expect("an identity");
    let mut set = eyot();
    set.args(["fleet", "set-identity", id, told["identity"].as_str().expect("a text"), "--keys"])
        .arg(world.path("keys"));
    set.args(["--origin", &world.origin_url()]);
    good(set);
}

/// `eyot secret …` in the app's folder, with this on standard input; what it said.
fn secret(world: &World, app: &App, words: &[&str], input: &str) -> (bool, String) {
    let mut command = eyot();
    command.arg("secret").args(words).args(["--origin", &world.origin_url(), "--app"]).arg(app.folder());
    command.arg("--ca").arg(world.ca()).arg("--key").arg(world.path("keys/publisher.key"));
    command.arg("--root").arg(world.path("keys/root.json"));
    // Without a terminal that it could ask on.
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("eyot");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("eyot secret");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said)
}

fn app() -> App {
    App::new("shop", &["shop.test"])
        .function("pay", "secret", "secrets = [\"KEY\"]")
        .route("shop.test", "/*", "function = \"pay\"")
        .written()
}

fn body(world: &World, node: &Node, path: &str) -> (u16, String) {
    let answer = node.ask(world, Protocol::H3, "shop.test", path);
    (answer.status, answer.text())
}

/// Waits until the node says that it refused the app's release, and why.
fn refused(world: &World, node: &Node, app: &str, reason: &str, detail: &str) {
    until(&format!("{} refuses {app}: {detail}", node.id), || {
        let refused = &node.status(world)["sync"]["apps"][app]["refused"];
        let told = refused["detail"].as_str().unwrap_or_default();
        (refused["reason"] == reason && told.contains(detail)).then_some(())
    });
}

#[test]
fn a_node_that_a_secret_was_not_sealed_to_refuses_the_release_until_it_is_sealed_again() {
    let world = World::new();
    world.grant("shop", &["shop.test"], &[]);
    identify(&world, "a");
    let app = app();
    assert!(secret(&world, &app, &["set", "KEY"], VALUE).0);
    world.publish(&app);
    let (a, b) = (world.node("a"), world.node("b"));
    a.wait_for_release(&world, "shop.test", "/value", "shop/1");
    refused(&world, &b, "shop", "incompatible", "not sealed to this node");
    identify(&world, "b");
    let (_, said) = secret(&world, &app, &["list"], "");
    assert!(said.contains("opens on 1 nodes") && said.contains("not on b"), "{said}");
    let (is_sealed, said) = secret(&world, &app, &["seal"], "");
    assert!(is_sealed && said.contains("sealed to 2 nodes"), "{said}");
    world.publish(&app);
    b.wait_for_release(&world, "shop.test", "/value", "shop/2");
    assert_eq!(body(&world, &b, "/value"), (200, VALUE.to_owned()));

    let mut revoke = eyot();
    revoke
        .args(["fleet", "revoke-node", "b", "--keys"])
        .arg(world.path("keys"))
        .args(["--origin", &world.origin_url()]);
    good(revoke);
    let (_, said) = secret(&world, &app, &["list"], "");
    assert!(said.contains("KEY is known to b, which was put out"), "{said}");
    let (is_set, said) = secret(&world, &app, &["set", "KEY"], "another value");
    assert!(is_set && said.contains("version 2"), "{said}");
    let (_, said) = secret(&world, &app, &["list"], "");
    assert!(!said.contains("known to"), "{said}");
}

#[test]
fn a_sealed_secret_that_was_copied_into_another_app_opens_nowhere() {
    let world = World::new();
    world.grant("shop", &["shop.test"], &[]);
    world.grant("books", &["books.test"], &[]);
    identify(&world, "a");
    let shop = app();
    assert!(secret(&world, &shop, &["set", "KEY"], VALUE).0);
    let books = App::new("books", &["books.test"])
        .function("pay", "secret", "secrets = [\"KEY\"]")
        .route("books.test", "/*", "function = \"pay\"")
        .written();
    fs::create_dir(books.folder().join("secrets")).expect("a folder");
    fs::copy(shop.folder().join("secrets/KEY.json"), books.folder().join("secrets/KEY.json")).expect("copied");
    world.publish(&books);
    let node = world.node("a");
    refused(&world, &node, "books", "incompatible", "sealed for another app, name or version");
}
