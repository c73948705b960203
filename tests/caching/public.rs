//! The public suite for caches (`http-tests/cache-tests`), from the folder that `EYOT_SUITES` names: its own server behind a
//! node with default settings, its own client before it. The same requests over HTTP/2 and HTTP/3 come through a relay.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::harness::app::App;
use crate::harness::client::Protocol;
use crate::harness::front::Front;
use crate::harness::process::{Process, free_port, until};
use crate::harness::world::{Node, World};

/// What the suite found of one kind of case.
#[derive(Debug, Deserialize, PartialEq)]
struct Verdicts {
    cases: usize,
    failed: BTreeMap<String, String>,
}

type Kinds = BTreeMap<String, Verdicts>;

/// The suite's folder, where it is at hand.
fn suite() -> Option<PathBuf> {
    let folder = std::env::var_os("EYOT_SUITES").map(|folder| Path::new(&folder).join("cache-tests"));
    let folder = folder.filter(|folder| folder.join("node_modules").exists());
    if folder.is_none() {
        println!("cache-tests: not run, it is not in the folder of EYOT_SUITES, or without its packages (`npm i`)");
    }
    folder
}

/// The suite's server behind a node.
struct House {
    world: World,
    node: Node,
    plain: u16,
    _server: Process,
}

fn house(suite: &Path) -> House {
    let (port, world) = (free_port(), World::new());
    let mut server = Command::new("node");
    server.arg("test-engine/server/server.mjs").current_dir(suite);
    server.env("npm_config_protocol", "http").env("npm_config_port", port.to_string());
    server.env("npm_config_pidfile", world.path("server.pid"));
    let server = Process::start("cache-tests", &mut server);
    until("the suite's server listens", || server.log().contains("Listening").then_some(()));
    world.grant("caches", &["localhost"], &["--private", &format!("127.0.0.1/32={port}")]);
    let app = App::new("caches", &["localhost"])
        .upstream("suite", &format!("http://127.0.0.1:{port}"), "")
        .route("localhost", "/*", "upstream = \"suite\"")
        .written();
    world.publish(&app);
    let plain = free_port();
    let tls = free_port();
    let node = world.node_edited("a", tls, |text| {
        let listen = format!("[listen]\nhttp = [\"127.0.0.1:{plain}\"]\nplain = \"serve\"\n");
        text.replacen("[listen]\n", &listen, 1)
    });
    node.wait_for_release(&world, "localhost", "/", "caches/1");
    House { world, node, plain, _server: server }
}

/// Runs the suite's client against a port; what it found, by the kinds of cases.
fn run(suite: &Path, port: u16, results: &Path) -> Kinds {
    let mut client = Command::new("node");
    client.args(["--no-warnings", "test-engine/cli.mjs"]).current_dir(suite);
    client.env("npm_config_base", format!("http://localhost:{port}")).env("npm_package_config_id", "");
    let output = client.output().expect("node");
    let found = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{found}{}", String::from_utf8_lossy(&output.stderr));
    fs::write(results, &found).expect("a file");
    let judge = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/caching/verdicts.mjs");
    let mut judge =
        Command::new("node").arg(judge).arg(suite).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("node");
    judge.stdin.take().expect("a pipe").write_all(found.as_bytes()).expect("written");
    let judged = judge.wait_with_output().expect("node").stdout;
    serde_json::from_slice(&judged).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&judged)))
}

fn told(over: &str, kinds: &Kinds) {
    for (kind, Verdicts { cases, failed }) in kinds {
        println!("{over}, {kind}: {} of {cases}", cases - failed.len());
        if kind != "check" {
            failed.iter().for_each(|(id, why)| println!("  {id}: {why}"));
        }
    }
}

#[test]
fn public_suite_for_caches_finds_all_that_it_requires_over_each_protocol() {
    let Some(suite) = suite() else { return };
    let house = house(&suite);
    let first = run(&suite, house.plain, &house.world.path("h1.json"));
    told("HTTP/1.1", &first);
    let (required, optimal) = (&first["required"], &first["optimal"]);
    assert!(required.cases >= 160 && required.failed.is_empty(), "{:#?}", required.failed);
    assert!(optimal.cases - optimal.failed.len() >= 90, "{:#?}", optimal.failed);
    for protocol in [Protocol::H2, Protocol::H3] {
        let front = Front::start(&house.world, &house.node, protocol, "localhost");
        let kinds = run(&suite, front.port, &house.world.path(format!("{protocol:?}.json")));
        told(&format!("{protocol:?}"), &kinds);
        for kind in ["required", "optimal"] {
            assert_eq!(kinds[kind], first[kind], "{kind} over {protocol:?}");
        }
    }
}
