//! Certificates that nodes get by themselves, from a real authority that speaks ACME, by strict rules.

use std::net::SocketAddr;

use eyot_link::tls::Authorities;
use serde_json::Value;

use super::harness::client::{Ask, PROTOCOLS, Protocol, ask};
use super::harness::pebble::{Pebble, Ports};
use super::harness::process::{free_port, until};
use super::harness::world::{Node, World};

const NAME: &str = "acme.example";
/// Shorter than which nothing is renewed within the time of a test, in seconds.
const LONG_S: u64 = 3_600;
/// Renewed with a third of it left, in seconds.
const SHORT_S: u64 = 30;

fn ports() -> Ports {
    Ports { http: free_port(), tls: free_port() }
}

/// A fleet whose origin knows its nodes.
fn world() -> World {
    let world = World::new();
    let granted = world.grant("shop", &["shop.test"], &[]);
    assert!(granted.status.success(), "{}", String::from_utf8_lossy(&granted.stderr));
    world
}

/// A node without any certificate but those that it gets, with a line for its `[tls]`.
fn node(world: &World, id: &str, ports: Ports, acme: &str) -> Node {
    world.node_edited(id, ports.tls, |text| {
        let (before, rest) = text.split_once("certificates = ").expect("its certificates");
        let (_, after) = rest.split_once('\n').expect("a line");
        let text = format!("{before}{acme}\n{after}");
        text.replacen("[listen]\n", &format!("[listen]\nhttp = [\"127.0.0.1:{}\"]\n", ports.http), 1)
    })
}

/// What its `/status` says of the name.
fn said(world: &World, node: &Node) -> Value {
    node.status(world)["acme"][NAME].clone()
}

/// Waits until its `/status` says this of the name.
fn wait(world: &World, node: &Node, pebble: &Pebble, state: &str) -> Value {
    let mut last = Value::Null;
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        until(&format!("{} says {state}", node.id), || {
            last = said(world, node);
            (last["state"] == state).then(|| last.clone())
        })
    }));
    found.unwrap_or_else(|_| panic!("{} says {last}\n{}", node.id, pebble.log()))
}

/// Asks the node over a protocol, trusting `authorities`.
fn asked(node: &Node, protocol: Protocol, authorities: Authorities) -> Result<u16, String> {
    let at = SocketAddr::from(([127, 0, 0, 1], node.port));
    ask(Ask::url(&format!("https://{NAME}:{}/", node.port), protocol, authorities, at)).map(|answer| answer.status)
}

/// No app is here: that it says so is an answer.
const SERVED: Result<u16, String> = Ok(404);

#[test]
fn a_node_gets_a_certificate_by_each_challenge_and_serves_it_over_each_protocol() {
    for challenge in ["http-01", "tls-alpn-01"] {
        let (world, ports) = (world(), ports());
        let pebble = Pebble::start(&world, ports, LONG_S);
        let node = node(&world, "a", ports, &pebble.acme(&world, &[NAME], &[challenge], ""));
        let status = wait(&world, &node, &pebble, "good");
        assert!(status["error"].is_null(), "{status}");
        for protocol in PROTOCOLS {
            let answer = asked(&node, protocol, Authorities::Pem(pebble.root(&world)));
            assert_eq!(answer, SERVED, "{challenge} {protocol:?}");
        }
        assert!(node.metric(&format!("eyot_certificate_expiry_timestamp_seconds{{name=\"{NAME}\"}}")) > 0.0);
        let elsewhere = ask(Ask::plain(ports.http, "/.well-known/acme-challenge/unknown")).expect("an answer");
        assert_eq!(elsewhere.status, 308, "what is no challenge goes to https");
    }
}

#[test]
fn a_certificate_is_renewed_in_time_and_an_authority_that_fails_takes_nothing_away() {
    let (world, ports) = (world(), ports());
    let mut pebble = Pebble::start(&world, ports, SHORT_S);
    let acme = pebble.acme(&world, &[NAME], &["tls-alpn-01", "http-01"], "");
    let mut node = node(&world, "a", ports, &acme);
    let first = wait(&world, &node, &pebble, "good")["expires"].clone();
    let second = until("it is renewed", || {
        let said = said(&world, &node);
        (said["state"] == "good" && said["expires"] != first).then(|| said["expires"].clone())
    });
    assert!(second.as_str() > first.as_str(), "{first} {second}");
    pebble.stop();
    let failed = until("a renewal fails", || Some(said(&world, &node)).filter(|said| said["failures"] != 0));
    let error = failed["error"].as_str().unwrap_or_default();
    assert!(error.contains("let this node reach `directory`"), "{error}");
    for protocol in PROTOCOLS {
        assert_eq!(asked(&node, protocol, Authorities::Anyone), SERVED, "{protocol:?}");
    }
    node.restart();
    assert_eq!(
        asked(&node, Protocol::H2, Authorities::Anyone),
        SERVED,
        "what it kept is served before anyone is asked"
    );
    // The authority comes back without memory of the account, as another one would.
    pebble.restart(&world, ports, LONG_S);
    node.restart();
    wait(&world, &node, &pebble, "good");
    until("it serves the new one", || {
        asked(&node, Protocol::H3, Authorities::Pem(pebble.root(&world))).ok().filter(|status| *status == 404)
    });
}

#[test]
fn a_challenge_is_answered_by_the_whole_fleet_and_one_order_serves_all_its_nodes() {
    for challenge in ["http-01", "tls-alpn-01"] {
        let (world, here, there) = (world(), ports(), ports());
        // The authority looks at `b`, and is away when that starts, so that it is `a` that orders.
        let mut pebble = Pebble::start(&world, there, LONG_S);
        std::fs::write(world.path("share"), "7a".repeat(32)).expect("the key that nodes share");
        let share = format!(", share = \"{}\"", world.path("share").display());
        let acme = pebble.acme(&world, &[NAME], &[challenge], &share);
        pebble.stop();
        let mut b = node(&world, "b", there, &acme);
        until("b cannot order", || Some(said(&world, &b)).filter(|said| said["failures"] != 0));
        pebble.restart(&world, there, LONG_S);
        let a = node(&world, "a", here, &acme);
        wait(&world, &a, &pebble, "good");
        let root = pebble.root(&world);
        pebble.stop();
        b.restart();
        wait(&world, &b, &pebble, "good");
        for node in [&a, &b] {
            assert_eq!(asked(node, Protocol::H3, Authorities::Pem(root.clone())), SERVED, "{} {challenge}", node.id);
        }
        let heads = std::fs::read(world.path("origin/heads.redb")).expect("the origin's state");
        let is_there = |text: &[u8]| heads.windows(text.len()).any(|window| window == text);
        assert!(is_there(b"cert/acme.example") && !is_there(b"PRIVATE KEY"), "the origin keeps what it cannot read");
    }
}
