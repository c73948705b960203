//! The end of a node: what is in flight ends well, then the process does.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::app::App;
use crate::harness::client::{Ask, PROTOCOLS, ask};
use crate::harness::process::until;
use crate::harness::upstream::Upstream;
use crate::harness::world::World;

#[test]
fn a_node_that_is_told_to_stop_finishes_what_is_in_flight_and_ends_with_0() {
    let world = World::new();
    world.grant("shop", &["shop.test"], &[]);
    let app = App::new("shop", &["shop.test"])
        .function("sleep", "sleep", "")
        .route("shop.test", "/*", "function = \"sleep\"")
        .written();
    world.publish(&app);
    let mut node = world.node("a");
    node.wait_for_release(&world, "shop.test", "/?1", "shop/1");
    let before = node.metric("eyot_requests_total");
    let asks: Vec<_> =
        PROTOCOLS.into_iter().map(|protocol| Ask::get(&world, &node, protocol, "shop.test", "/?2000")).collect();
    std::thread::scope(|scope| {
        let asked: Vec<_> = asks.into_iter().map(|request| scope.spawn(move || ask(request))).collect();
        until("three calls run", || (node.metric("eyot_slots{state=\"used\"}") >= 3.0).then_some(()));
        node.process.signal("TERM");
        for answer in asked {
            let answer = answer.join().expect("asked");
            assert_eq!(answer.map(|answer| answer.status), Ok(200));
        }
    });
    assert_eq!(node.process.wait(), 0, "{before}: {}", node.process.log());
}

#[test]
fn a_node_that_is_told_to_stop_answers_all_who_have_connected_and_refuses_the_others() {
    let world = World::new();
    world.grant("shop", &["shop.test"], &[]);
    let app = App::new("shop", &["shop.test"])
        .function("sleep", "sleep", "")
        .route("shop.test", "/*", "function = \"sleep\"")
        .written();
    world.publish(&app);
    let mut node = world.node("a");
    node.wait_for_release(&world, "shop.test", "/?1", "shop/1");
    let served = AtomicUsize::new(0);
    let ask_now = |protocol, path| ask(Ask::get(&world, &node, protocol, "shop.test", path));
    std::thread::scope(|scope| {
        let (ask_now, served) = (&ask_now, &served);
        // Each time on a connection of its own, until there is none.
        let crowd = PROTOCOLS.into_iter().flat_map(|protocol| [protocol; 2]).map(|protocol| {
            scope.spawn(move || {
                loop {
                    match ask_now(protocol, "/?0") {
                        Ok(answer) => assert_eq!(answer.status, 200, "{protocol:?}"),
                        Err(refused) => return (protocol, refused),
                    }
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        let crowd: Vec<_> = crowd.collect();
        // It keeps the node for longer than it listens.
        let long = scope.spawn(move || ask_now(PROTOCOLS[0], "/?5000"));
        until("many are served", || (served.load(Ordering::Relaxed) >= 60).then_some(()));
        node.process.signal("TERM");
        for client in crowd {
            let (protocol, refused) = client.join().expect("no other answer");
            assert!(refused.to_ascii_lowercase().contains("refused"), "{protocol:?} {refused}");
        }
        assert_eq!(long.join().expect("asked").map(|answer| answer.status), Ok(200));
    });
    assert_eq!(node.process.wait(), 0, "{}", node.process.log());
}

#[test]
fn what_a_function_does_after_its_answer_is_in_the_line_of_its_request_also_when_the_node_ends() {
    let (world, upstream) = (World::new(), Upstream::start());
    let target = upstream.address;
    world.grant("shop", &["shop.test"], &["--private", &format!("127.0.0.1/32={}", target.port())]);
    let more = format!("egress = [\"*\"]\nenv = {{ TARGET = \"{target}\" }}\nlimits = {{ cpu = \"50ms\" }}");
    let app = App::new("shop", &["shop.test"])
        .function("after", "after", &more)
        .route("shop.test", "/*", "function = \"after\"")
        .written();
    world.publish(&app);
    let mut node = world.node_with("a", "[limits]\ndrain = \"1s\"\n");
    node.wait_for_release(&world, "shop.test", "/", "shop/1");
    for protocol in PROTOCOLS {
        let path = format!("/spin-{protocol:?}");
        assert_eq!(node.ask(&world, protocol, "shop.test", &path).text(), "answered\n");
        let line = until("its line", || lines(&node.process.log(), &path).pop());
        assert_eq!((&line["status"], &line["fault"]), (&200.into(), &"cpu_budget_exceeded".into()), "{line}");
        assert!(line["cpu_us"].as_u64() >= Some(50_000), "{line}");
    }
    assert_eq!(node.ask(&world, PROTOCOLS[0], "shop.test", "/ask").text(), "answered\n");
    until("it asks after its answer", || (upstream.asked() == 1).then_some(()));
    assert_eq!(lines(&node.process.log(), "/ask").len(), 0, "it waits for ever");
    node.process.signal("TERM");
    assert_eq!(node.process.wait(), 0, "{}", node.process.log());
    until("its line", || (lines(&node.process.log(), "/ask").len() == 1).then_some(()));
    for protocol in PROTOCOLS {
        assert_eq!(lines(&node.process.log(), &format!("/spin-{protocol:?}")).len(), 1);
    }
}

/// The lines of the access log for this path.
fn lines(log: &str, path: &str) -> Vec<serde_json::Value> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    lines.filter(|line| line["path"] == path).collect()
}
