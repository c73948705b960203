//! A node that is killed at any point of a pull serves exactly the old or exactly the new release afterwards.

use std::time::Duration;

use crate::harness::app::App;
use crate::harness::client::Protocol;
use crate::harness::size::size;
use crate::harness::world::World;

#[test]
fn a_node_killed_while_it_pulls_starts_with_the_origin_away_and_serves_the_old_or_the_new_release() {
    let mut world = World::new();
    world.grant("shop", &["shop.test"], &[]);
    let app = App::new("shop", &["shop.test"])
        .function("env", "env", "env = { WORD = \"word-1\" }")
        .route("shop.test", "/*", "function = \"env\"")
        .written();
    let mut old = world.publish(&app);
    let mut node = world.node("a");
    node.wait_for_release(&world, "shop.test", "/", &format!("shop/{old}"));
    let points = size().kill_points;
    let mut went_on = 0;
    for point in 0..points {
        app.edit(&format!("word-{old}\""), &format!("word-{}\"", old + 1));
        let new = world.publish(&app);
        // The moments of a pull, from before its first byte to after its last, spread over the points.
        moment(point, points);
        node.process.kill();
        world.stop_origin();
        node.restart();
        let answer = node.ask(&world, Protocol::H3, "shop.test", "/");
        let release = answer.header("eyot-release").unwrap_or_default().to_owned();
        let number: u64 = release
            .trim_start_matches("shop/")
            .parse()
            .unwrap_or_else(|_| panic!("{}: {}", answer.status, answer.text()));
        assert!(number == old || number == new, "point {point}: {release} is neither {old} nor {new}");
        assert!(
            answer.text().contains(&format!("WORD=word-{number}")),
            "point {point}: {release} says {}",
            answer.text()
        );
        went_on += usize::from(number == new);
        world.start_origin();
        node.wait_for_release(&world, "shop.test", "/", &format!("shop/{new}"));
        old = new;
    }
    println!("{points} kills: {went_on} found the new release active, {} the old one", points - went_on);
}

#[expect(clippy::disallowed_methods, reason = "the kill comes at a moment of its own, whatever the node is doing then")]
fn moment(point: usize, points: usize) {
    // Where in its part of the spread each kill comes is drawn from the run's seed.
    let part = 1000 / u64::try_from(points).expect("few").max(1);
    let drawn = size().seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(point as u64) % part.max(1);
    let at = 400 * (u64::try_from(point).expect("few") * part + drawn) / 1000;
    std::thread::sleep(Duration::from_millis(at));
}
