//! Secrets, from their publisher's machine to the function: sealed to the nodes, opened there alone, and found nowhere.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::app::App;
use crate::harness::client::Protocol;
use crate::harness::process::until;
use crate::harness::world::{Node, World, eyot, good};

/// No program, log or disk has this by chance.
const VALUE: &str = "5b1e-correct-horse-battery-staple-77f0";

/// `eyot secret …` in the app's folder, with this on standard input; what it said.
pub(crate) fn secret(world: &World, app: &App, words: &[&str], input: &str) -> (bool, String) {
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

fn holds(bytes: &[u8]) -> bool {
    bytes.windows(VALUE.len()).any(|window| window == VALUE.as_bytes())
}

/// The files below `folder` that hold the value.
fn found(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(self::found(&path));
        } else if fs::read(&path).is_ok_and(|bytes| holds(&bytes)) {
            found.push(path.display().to_string());
        }
    }
    found
}

fn body(world: &World, node: &Node, path: &str) -> (u16, String) {
    let answer = node.ask(world, Protocol::H3, "shop.test", path);
    (answer.status, answer.text())
}

#[test]
fn a_secret_reaches_its_function_and_is_found_on_no_disk_in_no_log_in_no_error_and_in_no_core() {
    let world = World::new();
    world.grant("shop", &["shop.test"], &[]);
    world.identify("a");
    let app = app();
    let said = world.try_publish(&app).expect_err("it has no value yet");
    assert!(said.contains("eyot secret set KEY"), "{said}");
    let (is_set, said) = secret(&world, &app, &["set", "KEY"], VALUE);
    assert!(is_set && said.contains("sealed to 1 nodes") && !said.contains(VALUE), "{said}");
    world.publish(&app);
    let mut node = world.node_by(
        "a",
        crate::harness::process::free_port(),
        |text| text,
        |config| {
            // As large a core as it likes.
            let mut command = Command::new("/bin/sh");
            command.args(["-c", "ulimit -c unlimited && exec \"$@\"", "sh"]).arg(eyot().get_program());
            command.arg("node").arg("--config").arg(config).current_dir(world.folder.path());
            command
        },
    );
    node.wait_for_release(&world, "shop.test", "/value", "shop/1");
    assert_eq!(body(&world, &node, "/value"), (200, VALUE.to_owned()));
    assert!(body(&world, &node, "/none").1.contains("no-such-secret"));
    assert_eq!(body(&world, &node, "/say"), (200, "said".to_owned()));
    let (status, text) = body(&world, &node, "/trap");
    assert!(status == 502 && text.contains("function_trapped") && !text.contains(VALUE), "{text}");
    until("the log has what it said", || node.process.log().contains("the secret is ***, really").then_some(()));
    let log = node.process.log();
    assert!(log.contains("it is ***") && !log.contains(VALUE), "{log}");

    let filter = fs::read_to_string(format!("/proc/{}/coredump_filter", node.process.id())).expect("its filter");
    assert_eq!(filter.trim(), "00000010", "a core has the headers of files that are mapped, and no memory");
    node.process.signal("ABRT");
    node.process.wait();
    // Where cores go is the machine's to say; where they stay with the process, this one is looked through.
    let cores = fs::read_dir(world.folder.path()).expect("the world").flatten().map(|entry| entry.path());
    let cores: Vec<_> =
        cores.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("core"))).collect();
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").expect("a pattern");
    assert!(!cores.is_empty() || pattern.starts_with(['|', '/']), "no core was written: {pattern}");
    assert!(found(world.folder.path()).is_empty(), "{:?}", found(world.folder.path()));
    assert!(found(app.folder()).is_empty(), "{:?}", found(app.folder()));
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
    world.identify("a");
    let app = app();
    assert!(secret(&world, &app, &["set", "KEY"], VALUE).0);
    world.publish(&app);
    let (a, b) = (world.node("a"), world.node("b"));
    a.wait_for_release(&world, "shop.test", "/value", "shop/1");
    refused(&world, &b, "shop", "incompatible", "not sealed to this node");
    world.identify("b");
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
    world.identify("a");
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
