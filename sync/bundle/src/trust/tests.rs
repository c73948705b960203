//! A whole world is authored with `sign` and walked by `trust`; then one thing after another is made wrong in it.

mod bad;
mod most;
mod replays;
mod rotations;
mod world;

use world::{World, all_good, reasons};

use super::Trust;
use crate::grant::GrantState;

#[test]
fn a_whole_world_is_walked_and_every_part_of_it_is_seen() {
    let mut world = World::new(&["blog", "shop"]);
    world.publish("shop", 1);
    world.publish("shop", 2);
    world.publish("blog", 1);
    world.control("shop", "{}");
    let mut trust = Trust::new(&world.roots[0]).unwrap();
    all_good(&world.walk(&mut trust));
    let apps = trust.apps();
    let seen: Vec<_> = apps.iter().map(|app| (app.app.as_str(), app.releases.len(), app.control.is_some())).collect();
    assert_eq!(seen, [("blog", 1, false), ("shop", 2, true)]);
    assert!(
        apps.iter().all(|app| app.refused.is_none() && app.keys.len() == 1 && app.grant.state == GrantState::Active)
    );
    assert!(trust.fleet().nodes.is_some() && trust.fleet().denied.is_none());
    assert_eq!(trust.seq(), world.snapshot_version);
    assert!(trust.expired(world.now).is_empty() && trust.refused().is_empty());
    assert_eq!(trust.expiries().len(), 8);
}

#[test]
fn a_second_round_asks_only_for_the_next_root_and_the_timestamp() {
    let mut world = World::new(&["shop"]);
    world.publish("shop", 1);
    let mut trust = Trust::new(&world.roots[0]).unwrap();
    all_good(&world.walk(&mut trust));
    let walked = world.walk(&mut trust);
    let files: Vec<_> = walked.iter().map(|(file, _)| file.as_str()).collect();
    assert_eq!(files, ["2.root.json", "timestamp.json"]);
}

#[test]
fn a_publish_fetches_the_role_that_changed_and_no_other() {
    let mut world = World::new(&["blog", "shop"]);
    world.publish("shop", 1);
    world.publish("blog", 1);
    let mut trust = Trust::new(&world.roots[0]).unwrap();
    all_good(&world.walk(&mut trust));
    world.publish("shop", 2);
    let walked = world.walk(&mut trust);
    let files: Vec<_> = walked.iter().map(|(file, _)| file.as_str()).collect();
    assert_eq!(files, ["2.root.json", "timestamp.json", "4.snapshot.json", "3.app-shop.json"]);
    assert_eq!(trust.apps()[1].releases.len(), 2);
    assert_eq!(trust.apps()[0].releases.len(), 1, "the role that did not change is still believed");
}

#[test]
fn an_app_that_was_granted_and_published_nothing_is_no_refusal() {
    let world = World::new(&["shop"]);
    let mut trust = Trust::new(&world.roots[0]).unwrap();
    all_good(&world.walk(&mut trust));
    let app = &trust.apps()[0];
    assert!(app.releases.is_empty() && app.refused.is_none());
}

#[test]
fn metadata_that_expires_is_named_and_stays_believed() {
    let mut world = World::new(&["shop"]);
    world.publish("shop", 1);
    let mut trust = Trust::new(&world.roots[0]).unwrap();
    all_good(&world.walk(&mut trust));
    let later = world.now + jiff::SignedDuration::from_hours(25);
    assert_eq!(trust.expired(later).iter().map(|(role, _)| role.as_str()).collect::<Vec<_>>(), ["timestamp"]);
    assert_eq!(trust.apps()[0].releases.len(), 1);
    assert_eq!(reasons(&world.walk_at(&mut trust, later)), [("timestamp.json", None)], "the one that is known");
}

#[test]
fn a_clock_that_went_back_makes_nothing_fresh_again() {
    let mut world = World::new(&["shop"]);
    world.publish("shop", 1);
    let mut trust = Trust::new(&world.roots[0]).unwrap();
    all_good(&world.walk(&mut trust));
    let stale = world.clone();
    world.now += jiff::SignedDuration::from_hours(72);
    world.publish("shop", 2);
    all_good(&world.walk(&mut trust));
    assert!(trust.expired(stale.now).is_empty());
    assert_eq!(trust.time_floor(), world.now);
}

#[test]
fn a_signed_time_counts_at_most_an_hour_beyond_the_clock_and_expires_nothing_that_others_signed() {
    let hours = jiff::SignedDuration::from_hours;
    for (ahead, floor) in [(0, 0), (1, 1), (2, 1), (24 * 365 * 20, 1)] {
        let mut world = World::new(&["shop"]);
        world.publish("shop", 1);
        let clock = world.now;
        let mut trust = Trust::new(&world.roots[0]).unwrap();
        all_good(&world.walk(&mut trust));
        // Again and again, so that no step stands on the one before.
        for _ in 0..3 {
            world.now = clock + hours(ahead);
            world.online();
            all_good(&world.walk_at(&mut trust, clock));
            assert_eq!(trust.time_floor(), clock + hours(floor), "{ahead} h ahead");
        }
        assert!(trust.expired(clock).is_empty(), "{ahead} h ahead");
        let ledger = world.ledger(&mut Trust::new(&world.roots[0]).unwrap());
        let mut again = Trust::replay(&world.roots[0], ledger.into_iter()).unwrap();
        again.raise_time(clock);
        assert_eq!(again.time_floor(), trust.time_floor(), "{ahead} h ahead");
        // The clock that signs was put right.
        world.now = clock + hours(floor);
        world.publish("shop", 2);
        all_good(&world.walk_at(&mut trust, clock));
        assert_eq!(trust.apps()[0].releases.len(), 2, "{ahead} h ahead");
    }
}
