//! Following an app on all nodes: `eyot logs -f` shows requests, faults and what functions say, to those who publish it.

use std::process::Command;

use serde_json::Value;

use crate::harness::app::App;
use crate::harness::client::Protocol;
use crate::harness::process::{Process, until};
use crate::harness::world::{World, eyot, good};

fn logs(world: &World, app: &str, key: &str) -> Command {
    let mut command = eyot();
    command.args(["logs", "-f", app, "--json", "--origin", &world.origin_url(), "--ca"]).arg(world.ca());
    command.arg("--key").arg(world.path(key));
    command
}

fn events(process: &Process) -> Vec<Value> {
    let log = process.log();
    log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[test]
fn who_publishes_an_app_hears_of_it_from_all_nodes_and_nobody_else_does() {
    let world = World::new();
    for (app, host) in [("shop", "shop.test"), ("books", "books.test")] {
        world.grant(app, &[host], &[]);
        let app = App::new(app, &[host])
            .function("flood", "log-flood", "")
            .function("panic", "half-then-trap", "")
            .upstream("away", "http://192.0.2.1:9", "timeouts = { connect = \"100ms\" }")
            .route(host, "/*", "function = \"flood\"")
            .route(host, "/panic", "function = \"panic\"")
            .route(host, "/away", "upstream = \"away\"")
            .written();
        world.publish(&app);
    }
    let (mut a, b) = (world.node("a"), world.node("b"));
    for node in [&a, &b] {
        node.wait_for_release(&world, "shop.test", "/panic", "shop/1");
        node.wait_for_release(&world, "books.test", "/panic", "books/1");
    }

    good({
        let mut new = eyot();
        new.args(["keys", "new", "--plain"]).arg(world.path("other.key"));
        new
    });
    let denied = logs(&world, "shop", "other.key").output().expect("eyot logs");
    assert!(!denied.status.success() && denied.stdout.is_empty(), "{denied:?}");

    let following = Process::start("logs", &mut logs(&world, "shop", "keys/publisher.key"));
    let heard = |what: &str, is_meant: &dyn Fn(&Value) -> bool| {
        until(what, || events(&following).into_iter().find(|event| is_meant(event)))
    };
    heard("it follows", &|event| event["event"] == "following");
    // A node is told when it reads its stream: it is asked until it tells.
    for node in [&a, &b] {
        until("the node tells", || {
            node.ask(&world, Protocol::H2, "shop.test", "/begin");
            events(&following).into_iter().find(|event| event["node"] == node.id && event["path"] == "/begin")
        });
    }
    for node in [&a, &b] {
        node.ask(&world, Protocol::H2, "books.test", "/secret");
        let answer = node.ask(&world, Protocol::H2, "shop.test", "/said");
        let id = answer.header("x-request-id").expect("an id").to_owned();
        let of = |event: &Value| event["node"] == node.id && event["id"] == id;
        let request = heard("the request", &|event| of(event) && event["event"] == "request");
        // It says so much that it may spend its budget first.
        assert!(request["path"] == "/said" && request["status"].is_u64(), "{request}");
        let said = heard("what it said", &|event| of(event) && event["event"] == "log" && event["text"] == "a line");
        assert_eq!(said["stream"], "stdout");
        let away = node.ask(&world, Protocol::H2, "shop.test", "/away");
        let id = away.header("x-request-id").expect("an id").to_owned();
        let fault = heard("the fault", &|event| event["event"] == "fault" && event["id"] == id);
        assert!(fault.get("cause").is_none(), "where upstreams are is not told: {fault}");
    }
    assert!(!following.log().contains("/secret") && !following.log().contains("books"), "of another app");

    // A node that comes again is told again who follows; so is one whose stream broke.
    a.restart();
    a.wait_for_release(&world, "shop.test", "/panic", "shop/1");
    until("the node tells again", || {
        a.ask(&world, Protocol::H2, "shop.test", "/again");
        events(&following).into_iter().find(|event| event["path"] == "/again")
    });
    let trap = a.ask(&world, Protocol::H2, "shop.test", "/panic").header("x-request-id").expect("an id").to_owned();
    let trapped = heard("a trap", &|event| event["event"] == "fault" && event["id"] == trap);
    assert_eq!(trapped["code"], "function_trapped");
    assert!(trapped["cause"].as_str().is_some_and(|cause| cause.contains("unreachable")), "{trapped}");
}
