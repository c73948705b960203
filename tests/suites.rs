//! Public suites, run from the folder that `EYOT_SUITES` names: `h2spec`, `h3spec` and `wstest` (Autobahn) as programs in it.
//! Without the folder, or without the program, nothing is run and the test says so. `docs/conformance.md` has the results.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::harness::app::App;
use crate::harness::process::{Process, until};
use crate::harness::tools::python;
use crate::harness::world::{Node, World};

/// How one of Autobahn's cases ended.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
struct End {
    behavior: String,
    behavior_close: String,
}

/// The program of a suite, where it is at hand.
fn suite(name: &str) -> Option<PathBuf> {
    let program =
        std::env::var_os("EYOT_SUITES").map(|folder| Path::new(&folder).join(name)).filter(|path| path.exists());
    if program.is_none() {
        println!("{name}: not run, it is not in the folder of EYOT_SUITES");
    }
    program
}

/// A node that answers `localhost` from its configuration.
fn fixed() -> (World, Node) {
    let world = World::new();
    world.grant("shop", &["localhost"], &[]);
    let app = App::new("shop", &["localhost"])
        .route("localhost", "/*", "respond = { status = 200, body = \"here\\n\" }")
        .written();
    world.publish(&app);
    let node = world.node("a");
    node.wait_for_release(&world, "localhost", "/", "shop/1");
    (world, node)
}

/// Runs a suite to its end; what it printed.
fn told(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{text}");
    text
}

#[test]
fn h2spec_passes_all_its_cases() {
    let Some(program) = suite("h2spec") else { return };
    let (_world, node) = fixed();
    let mut command = Command::new(program);
    command.args([
        "--host",
        "localhost",
        "--tls",
        "--insecure",
        "--strict",
        "--timeout",
        "4",
        "--max-header-length",
        "4000",
    ]);
    command.args(["--port", &node.port.to_string()]);
    // Where an answer leaves before the client's RST_STREAM comes, case 5.1/8 sees that answer: it is a race of the suite's.
    let passed = (0..3).any(|_| told(&mut command).contains(" 0 failed"));
    assert!(passed, "h2spec fails");
}

/// What h3spec asks of QUIC and is not so: rustls also takes the transport parameters under the number that drafts gave them.
const DRAFT_PARAMETERS: &str =
    "MUST send missing_extension TLS alert if the quic_transport_parameters extension does not included [TLS 8.2]";

#[test]
fn h3spec_passes_all_its_cases_but_the_one_that_is_known() {
    let Some(program) = suite("h3spec") else { return };
    let (_world, node) = fixed();
    let text = told(Command::new(program).args(["--no-validate", "localhost", &node.port.to_string()]));
    let failed: Vec<_> = text.lines().filter_map(|line| line.strip_suffix("[✘]")).map(str::trim).collect();
    assert_eq!(failed, [DRAFT_PARAMETERS], "the cases that fail");
    assert!(text.contains("examples, 1 failure"), "h3spec did not come to its end");
}

/// Runs Autobahn's client at a URL; how each case ended.
fn autobahn(program: &Path, folder: &Path, name: &str, url: &str) -> BTreeMap<String, End> {
    let reports = folder.join(name);
    let spec = serde_json::json!({
        "outdir": reports, "servers": [{ "agent": name, "url": url }], "cases": ["*"], "exclude-cases": [], "exclude-agent-cases": {},
    });
    let file = folder.join(format!("{name}.json"));
    fs::write(&file, spec.to_string()).expect("the suite's settings");
    let output = Command::new(program).args(["-m", "fuzzingclient", "-s"]).arg(&file).output().expect("wstest");
    let index = fs::read_to_string(reports.join("index.json"));
    let index = index.unwrap_or_else(|error| panic!("{name}: {error}\n{}", String::from_utf8_lossy(&output.stderr)));
    // One agent, under the name that the server gave itself.
    let mut agents: BTreeMap<String, BTreeMap<String, End>> = serde_json::from_str(&index).expect("Autobahn's index");
    let (_, cases) = agents.pop_first().unwrap_or_else(|| panic!("{name}: no case was run"));
    cases
}

#[test]
fn each_case_of_autobahn_ends_through_a_node_as_it_does_without() {
    let Some(program) = suite("wstest") else { return };
    let server = Process::start("websockets", &mut python("websocket_server.py"));
    let port_of = |process: &Process| {
        until("its port", || process.log().lines().next().and_then(|line| line.parse::<u16>().ok()))
    };
    let port = port_of(&server);
    let world = World::new();
    world.grant("shop", &["localhost"], &["--private", &format!("127.0.0.1/32={port}")]);
    let app = App::new("shop", &["localhost"])
        .upstream("ws", &format!("http://127.0.0.1:{port}"), "")
        .route("localhost", "/*", "upstream = \"ws\"")
        .route("localhost", "/fixed", "respond = { status = 200 }")
        .written();
    world.publish(&app);
    let node = world.node("a");
    node.wait_for_release(&world, "localhost", "/fixed", "shop/1");
    let bridge = |protocol: &str| {
        let mut command = python("websocket_bridge.py");
        let node_port = node.port.to_string();
        Process::start(protocol, command.arg(protocol).arg(world.ca()).args(["localhost", &node_port]))
    };
    let folder = world.folder.path();
    let direct = autobahn(&program, folder, "direct", &format!("ws://127.0.0.1:{port}"));
    println!("{} cases without a node", direct.len());
    let mut differences = Vec::new();
    for name in ["h1", "h2", "h3"] {
        let door = bridge(name);
        let through = autobahn(&program, folder, name, &format!("ws://127.0.0.1:{}", port_of(&door)));
        println!("{} cases through a node, {name}", through.len());
        for (case, end) in &direct {
            let there = through.get(case);
            if there != Some(end) {
                differences.push(format!("{name} {case}: {there:?} instead of {end:?}"));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
