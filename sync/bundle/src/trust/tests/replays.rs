//! A node that starts from what its ledger kept.

use jiff::SignedDuration;

use super::world::{World, all_good, reasons};
use crate::refusal::Reason;
use crate::trust::Trust;

fn world() -> World {
    let mut world = World::new(&["blog", "shop"]);
    world.publish("blog", 1);
    world.publish("shop", 1);
    world
}

#[test]
fn a_replay_believes_what_was_believed_even_when_all_of_it_has_expired() {
    let world = world();
    let mut trust = Trust::new(&world.roots[0]).unwrap();
    let ledger = world.ledger(&mut trust);
    let again = Trust::replay(&world.roots[0], ledger.into_iter()).unwrap();
    assert_eq!((again.apps(), again.seq(), again.floors()), (trust.apps(), trust.seq(), trust.floors()));
    let later = world.now + SignedDuration::from_hours(24 * 4000);
    assert_eq!(again.expired(later).len(), again.expiries().len());
}

#[test]
fn a_replay_of_any_prefix_of_the_commits_goes_on_to_the_whole() {
    let mut world = world();
    let mut trust = Trust::new(&world.roots[0]).unwrap();
    let before = world.ledger(&mut trust);
    world.publish("shop", 2);
    world.targets();
    world.root();
    world.online();
    let steps = world.walk(&mut trust);
    let names: Vec<_> = steps.iter().filter(|(_, fed)| *fed == Ok(true)).map(|(file, _)| file.clone()).collect();
    assert_eq!(names, ["2.root.json", "timestamp.json", "5.snapshot.json", "2.targets.json", "3.app-shop.json"]);
    for committed in 0..=names.len() {
        let mut ledger = before.clone();
        for file in &names[..committed] {
            let name =
                if file.contains("root") { file.clone() } else { format!("{}.json", super::super::role_of(file)) };
            ledger.insert(name, world.files[file].clone());
        }
        let mut again = Trust::replay(&world.roots[0], ledger.into_iter()).unwrap();
        assert!(!again.apps()[1].releases.is_empty(), "it knows a release after {committed} commits");
        all_good(&world.walk(&mut again));
        assert_eq!((again.apps(), again.seq()), (trust.apps(), trust.seq()));
    }
}

#[test]
fn floors_outlive_a_snapshot_that_its_timestamp_has_overtaken() {
    let mut world = world();
    let mut trust = Trust::new(&world.roots[0]).unwrap();
    let mut ledger = world.ledger(&mut trust);
    let old_pin = world.pins["app-shop"];
    world.publish("shop", 2);
    world.ledger_on(&mut trust, &mut ledger);
    // The next timestamp came, its snapshot did not.
    world.online();
    ledger.insert("timestamp.json".to_owned(), world.files["timestamp.json"].clone());
    let mut again = Trust::replay(&world.roots[0], ledger.into_iter()).unwrap();
    world.pins.insert("app-shop".to_owned(), old_pin);
    world.online();
    let walked = world.walk(&mut again);
    assert_eq!(reasons(&walked)[1].1, Some(Reason::OlderThanFloor), "{walked:?}");
    assert_eq!(again.apps()[1].releases.len(), 2, "what was known stays");
}

#[test]
fn a_ledger_that_was_changed_is_no_ledger() {
    let mut world = world();
    world.root();
    let mut trust = Trust::new(&world.roots[0]).unwrap();
    let ledger = world.ledger(&mut trust);
    for (name, bytes) in &ledger {
        for at in (0..bytes.len()).step_by(bytes.len() / 40 + 1) {
            let mut changed = ledger.clone();
            changed.get_mut(name).unwrap()[at] ^= 0x02;
            match Trust::replay(&world.roots[0], changed.into_iter()) {
                Err(_) => {}
                // A key id that changed looks like a key that lost its role: named, and not believed.
                Ok(again) => assert!(!again.refused().is_empty(), "{name} at {at}"),
            }
        }
    }
    let mut gap = ledger.clone();
    let root = gap.remove("2.root.json").unwrap();
    gap.insert("3.root.json".to_owned(), root);
    assert!(Trust::replay(&world.roots[0], gap.into_iter()).is_err());
}

#[test]
fn floors_from_elsewhere_hold_without_the_files() {
    let mut world = world();
    let old = world.clone();
    world.publish("shop", 2);
    let mut trust = Trust::new(&world.roots[0]).unwrap();
    all_good(&world.walk(&mut trust));
    let mut fresh = Trust::new(&world.roots[0]).unwrap();
    fresh.raise_floors(trust.floors(), trust.time_floor());
    assert_eq!(reasons(&old.walk(&mut fresh)), [("timestamp.json", Some(Reason::OlderThanFloor))]);
    all_good(&world.walk(&mut fresh));
}
