//! What a node serves: its certificates, seen by the command, and hosts that ask their clients for one.

use serde_json::Value;

use crate::harness::client::{Ask, PROTOCOLS, ask};
use crate::harness::process::free_port;
use crate::harness::world::{World, eyot};

#[test]
fn the_command_shows_what_is_served_and_a_guarded_host_is_asked_at_its_own_port_only() {
    let world = World::new();
    let guarded = free_port();
    let more = format!(
        "[[tls.client_auth]]\nhost = \"books.test\"\nca = \"{}\"\nlisten = \"127.0.0.1:{guarded}\"\n",
        world.ca().display(),
    );
    let node = world.node_with("a", &more);
    let admin = world.path("a/admin.sock");
    let certs = |json: &[&str]| {
        let mut command = eyot();
        let output = command.args(["node", "certs", "--admin"]).arg(&admin).args(json).output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let shown: Value = serde_json::from_str(&certs(&["--json"])).expect("JSON");
    assert_eq!((&shown[0]["name"], &shown[0]["source"]), (&"localhost".into(), &"file".into()));
    assert!(shown[0]["days_left"].as_i64().is_some_and(|days| days > 0), "{shown}");
    let line = certs(&[]);
    assert!(line.starts_with("localhost  ECDSA  file") && line.contains("days left"), "{line}");
    for protocol in PROTOCOLS {
        let common = ask(Ask::at(&world, node.port, protocol, "books.test", "/")).expect("an answer");
        assert_eq!((common.status, common.code().as_str()), (421, "misdirected"), "{protocol:?}");
        let without = ask(Ask::at(&world, guarded, protocol, "books.test", "/"));
        assert!(without.is_err(), "{protocol:?}: {without:?}");
    }
    assert_eq!(node.metric("eyot_panics_total"), 0.0);
}
