//! The end of a node: what is in flight ends well, then the process does.

use crate::harness::app::App;
use crate::harness::client::{Ask, PROTOCOLS, ask};
use crate::harness::process::until;
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
