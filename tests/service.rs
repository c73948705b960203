//! A node as a service: sockets that its manager holds, and what it tells its manager.

use std::collections::BTreeSet;
use std::os::unix::net::UnixDatagram;

use crate::harness::app::App;
use crate::harness::client::{Ask, PROTOCOLS, Protocol, ask};
use crate::harness::process::{PATIENCE, Process, free_port, until};
use crate::harness::tools::python;
use crate::harness::world::World;

/// Waits until the node has told its manager `word`.
fn told(manager: &UnixDatagram, word: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let mut buffer = [0; 4096];
    while !all.contains(word) {
        let count = manager.recv(&mut buffer).unwrap_or_else(|error| panic!("no {word}, only {all:?}: {error}"));
        all.extend(String::from_utf8_lossy(&buffer[..count]).lines().map(str::to_owned));
    }
    all
}

#[test]
fn a_node_serves_on_the_sockets_it_inherits_and_tells_its_manager_how_it_is() {
    let world = World::new();
    world.grant("shop", &["shop.test"], &[]);
    let app = App::new("shop", &["shop.test"]).route("shop.test", "/*", "respond = { status = 200, body = \"here\" }");
    world.publish(&app.written());
    let port = free_port();
    let config = world.configure("a", port, free_port(), "");

    let notify = world.path("notify");
    let manager = UnixDatagram::bind(&notify).expect("a socket");
    manager.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut command = python("activate.py");
    command.args([&port.to_string(), env!("CARGO_BIN_EXE_eyot"), "node", "--config"]).arg(&config);
    command.env("NOTIFY_SOCKET", &notify).env("WATCHDOG_USEC", "1000000");
    let mut process = Process::start("a", &mut command);
    told(&manager, "READY=1");
    told(&manager, "WATCHDOG=1");

    let inherited = std::fs::read_link(format!("/proc/{}/fd/3", process.id())).expect("the socket it was given");
    assert!(inherited.display().to_string().starts_with("socket:"), "{inherited:?}");
    until("the release answers", || {
        let answer = ask(Ask::at(&world, port, Protocol::H2, "shop.test", "/")).ok()?;
        (answer.status == 200).then_some(())
    });
    for protocol in PROTOCOLS {
        let answer = ask(Ask::at(&world, port, protocol, "shop.test", "/"))
            .unwrap_or_else(|error| panic!("{protocol:?}: {error}"));
        assert_eq!((answer.status, answer.text().as_str()), (200, "here"), "{protocol:?}");
    }
    process.signal("TERM");
    told(&manager, "STOPPING=1");
    assert_eq!(process.wait(), 0, "{}", process.log());
}
