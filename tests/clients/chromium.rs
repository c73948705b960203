//! Chromium without a screen, at a page with 50 resources. It is large, so it is fetched and run only in the full size.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use eyot_bundle::digest::Digest;
use serde::Deserialize;

use super::{House, told_all, told_of};
use crate::harness::peers;
use crate::harness::process::{Process, until};
use crate::harness::size::size;
use crate::harness::tools::{self, Tree, python};
use crate::harness::world::{Node, World, good};

/// Resources of the page, and the page.
const RESOURCES: usize = 51;

/// What Chromium saw of the page.
#[derive(Debug, Deserialize)]
struct Seen {
    version: String,
    error: Option<String>,
    failed: Vec<String>,
    report: Option<Report>,
    dom: Option<String>,
}

/// What the page's script found, and wrote into the document.
#[derive(Debug, Deserialize, PartialEq, Eq)]
struct Report {
    pngs: u32,
    svgs: u32,
    styles: u32,
    scripts: u32,
    /// How many came over which protocol.
    protocols: BTreeMap<String, usize>,
    socket: Option<Socket>,
}

/// What came back of a WebSocket: a text, the length of something binary, the code of the close.
#[derive(Debug, Deserialize, PartialEq, Eq)]
struct Socket {
    heard: (String, u32),
    code: u16,
}

/// What does not leave the machine, nor ask who is there.
const QUIET: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
];

/// The server's certificate is of no authority that browsers know: its key is named instead.
fn key_hash(world: &World) -> String {
    let mut public = Command::new("openssl");
    public.args(["x509", "-pubkey", "-noout", "-in"]).arg(world.path("keys/origin/origin.pem"));
    let pem = good(public);
    let lines = pem.lines().filter(|line| !line.starts_with('-'));
    let der = BASE64_STANDARD.decode(lines.collect::<String>()).expect("PEM");
    let hash = Digest::of(&der).to_string();
    let byte = |at: usize| u8::from_str_radix(&hash[2 * at..2 * at + 2], 16).expect("hexadecimal");
    BASE64_STANDARD.encode((0..32).map(byte).collect::<Vec<_>>())
}

/// Opens the page with a new Chromium, and looks at it.
fn visit(house: &House, node: &Node, name: &str, query: &str, flags: &[&str]) -> Seen {
    static TREE: OnceLock<Tree> = OnceLock::new();
    let tree = TREE.get_or_init(|| Tree::of("chromium"));
    let profile = house.world.path(name);
    let mut command = tree.command("usr/lib/chromium/chromium");
    command.args(QUIET).args(flags).arg(format!("--user-data-dir={}", profile.display()));
    command.arg(format!("--ignore-certificate-errors-spki-list={}", key_hash(&house.world)));
    command.arg("--host-resolver-rules=MAP shop.test 127.0.0.1");
    command.env("HOME", &profile).env("FONTCONFIG_SYSROOT", tree.path("")).env_remove("DBUS_SESSION_BUS_ADDRESS");
    let _chromium = Process::start("chromium", &mut command);
    let said = profile.join("DevToolsActivePort");
    until("Chromium listens", || std::fs::read_to_string(&said).ok().filter(|text| text.contains('\n')));
    let mut page = python("chromium_page.py");
    page.arg(&profile).arg(format!("https://shop.test:{}/page/{query}", node.port)).arg(screenshot(name));
    peers::told(page)
}

/// Where a picture of the page is left, to be looked at.
fn screenshot(name: &str) -> PathBuf {
    tools::target().join(format!("{name}.png"))
}

/// A server of others, whose first line is its port.
fn server(script: &str) -> (Process, String) {
    let process = Process::start(script, &mut python(script));
    let port: u16 = until("the server's port", || process.log().lines().next().and_then(|line| line.parse().ok()));
    (process, format!("http://127.0.0.1:{port}"))
}

#[test]
fn a_page_with_50_resources_loads_whole_over_http_3_and_over_http_2_and_so_does_its_websocket() {
    if size().browsers == 0 {
        println!("Chromium is asked in the full size only");
        return;
    }
    let (_page, page) = server("page_server.py");
    let (_sockets, sockets) = server("websocket_server.py");
    let house = House::with(&[("page", &page), ("ws", &sockets)]);
    let node = house.node("a", "", "");
    let force = format!("--origin-to-force-quic-on=shop.test:{}", node.port);
    let cases: [(&str, &str, &str, &[&str]); 2] =
        [("chromium-h3", "h3", "", &[&force]), ("chromium-h2", "h2", "?ws=/ws/chat", &[])];
    let mut before = 0;
    for (name, protocol, query, flags) in cases {
        let seen = visit(&house, &node, name, query, flags);
        assert_eq!((seen.error.as_deref(), &seen.failed[..]), (None, &[][..]), "{name}: {seen:?}");
        let expect = Report {
            pngs: 20,
            svgs: 10,
            styles: 10,
            scripts: 10,
            protocols: BTreeMap::from([(protocol.to_owned(), RESOURCES)]),
            socket: (!query.is_empty()).then(|| Socket { heard: ("text ü".to_owned(), 100_000), code: 1000 }),
        };
        let in_document: Report = serde_json::from_str(seen.dom.as_deref().unwrap_or_default()).expect("JSON");
        assert_eq!((seen.report.as_ref(), &in_document), (Some(&expect), &expect), "{name}");
        let told = until("the log tells of the page", || {
            Some(told_of(&node, |path| path.starts_with("/page/"))).filter(|told| told.len() >= before + RESOURCES)
        });
        assert_eq!(told[before..], vec![(protocol.to_owned(), 200, None); RESOURCES], "{name}");
        before = told.len();
        println!("{} over {protocol}: {}", seen.version, screenshot(name).display());
    }
    assert_eq!(told_all(&node, "/ws/chat", 1), [("h2".to_owned(), 200, None)]);
}
