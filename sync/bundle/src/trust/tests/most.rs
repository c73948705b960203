//! How much of everything is asked for, read and followed, and no more.

use jiff::SignedDuration;

use super::world::{World, all_good, grant, reasons};
use crate::refusal::Reason;
use crate::sign::{self, Delegation, Header, Holders, RootRoles};
use crate::trust::{TargetFile, Trust};

/// A file with white space after it, so that it has this size.
fn padded(bytes: &[u8], bytes_most: usize) -> Vec<u8> {
    let mut padded = bytes.to_vec();
    padded.resize(bytes_most, b' ');
    padded
}

#[test]
fn a_role_that_is_larger_than_any_may_be_is_not_taken_whatever_its_pin_says() {
    for (more, reason) in [(0, None), (1, Some(Reason::Parse))] {
        let mut world = World::new(&["shop"]);
        world.publish("shop", 1);
        let bytes = padded(&world.files["2.app-shop.json"], (4 << 20) + more);
        world.put("app-shop", 2, bytes);
        world.online();
        let mut trust = Trust::new(&world.roots[0]).unwrap();
        let walked = world.walk(&mut trust);
        assert!(reasons(&walked).contains(&("2.app-shop.json", reason)), "{walked:?}");
        assert_eq!(trust.apps()[0].releases.is_empty(), reason.is_some());
    }
}

#[test]
fn each_file_is_asked_for_with_the_most_that_it_may_have() {
    let mut world = World::new(&["shop"]);
    world.publish("shop", 1);
    let mut trust = Trust::new(&world.roots[0]).unwrap();
    trust.begin();
    let mut asked = Vec::new();
    while let Some(want) = trust.wants().first().cloned() {
        asked.push((want.file.clone(), want.bytes_max));
        match world.files.get(&want.file) {
            Some(bytes) => drop(trust.feed(&want.file, bytes, world.now).unwrap()),
            None => trust.absent(&want.file),
        }
    }
    for (file, bytes_max) in asked {
        let most = match file.as_str() {
            "2.root.json" => 4 << 20,
            "timestamp.json" => 16 << 10,
            pinned => world.files[pinned].len() as u64,
        };
        assert_eq!(bytes_max, most, "{file}");
    }
    for (more, good) in [(0, true), (1, false)] {
        let bytes = padded(&world.files["timestamp.json"], (16 << 10) + more);
        let mut trust = Trust::new(&world.roots[0]).unwrap();
        trust.begin();
        trust.absent("2.root.json");
        let fed = trust.feed("timestamp.json", &bytes, world.now).map_err(|refusal| refusal.reason);
        assert_eq!(fed.is_ok(), good, "{fed:?}");
    }
}

#[test]
fn a_role_lists_twenty_thousand_files_and_no_more() {
    for (count, reason) in [(20_000, None), (20_001, Some(Reason::Parse))] {
        let mut world = World::new(&["shop"]);
        let file = |number: u64| TargetFile::new(format!("releases/shop/{number}.json"), b"{}");
        world.listed.insert("app-shop".to_owned(), (1..=count).map(file).collect());
        world.role("app-shop");
        world.online();
        let mut trust = Trust::new(&world.roots[0]).unwrap();
        let walked = world.walk(&mut trust);
        assert!(reasons(&walked).contains(&("1.app-shop.json", reason)), "{count}: {:?}", trust.refused());
    }
}

#[test]
fn targets_hand_on_twenty_thousand_roles_and_no_more() {
    // The smallest grants there are, and still they would be larger than a file may be: the count is told first.
    let world = &mut World::new(&["shop"]);
    let holders = world.holders("app-shop");
    let mut one = Delegation::app(&"shop".parse().unwrap(), holders, grant("a.b"));
    one.paths.clear();
    let delegations = |count: usize| -> Vec<_> {
        (0..count).map(|number| Delegation { role: format!("app-a{number}"), ..one.clone() }).collect()
    };
    let trust = Trust::new(&world.roots[0]).unwrap();
    let key = world.key("targets");
    for (count, reason) in [(20_000, None), (20_001, Some(Reason::Parse))] {
        let header = Header { version: 1, expires: world.now + SignedDuration::from_hours(1) };
        let bytes = sign::targets(header, &delegations(count), &[&key]).unwrap();
        let judged = trust.judge("targets", &bytes, world.now).map(drop).map_err(|refusal| refusal.reason);
        assert_eq!(judged.err(), reason, "{count}");
    }
}

/// A world of which only roots are known, with so many after the first.
fn roots(count: u64) -> World {
    let mut world = World::new(&[]);
    (0..count).for_each(|_| world.root());
    world
}

#[test]
fn a_round_follows_sixty_four_roots_and_the_next_goes_on() {
    let world = roots(65);
    let mut trust = Trust::new(&world.roots[0]).unwrap();
    all_good(&world.walk(&mut trust));
    assert_eq!((trust.root_version(), trust.seq()), (65, 1), "the rest of the round is as any");
    all_good(&world.walk(&mut trust));
    assert_eq!(trust.root_version(), 66);
}

#[test]
fn a_ledger_has_four_thousand_and_ninety_six_roots_after_its_first_and_no_more() {
    let mut world = World::new(&[]);
    let one = |key: &sign::Key| Holders::one(key.public());
    let key = world.key("root");
    let roles = RootRoles { root: one(&key), snapshot: one(&key), targets: one(&key), timestamp: one(&key) };
    let root = |version: u64| {
        let header = Header { version, expires: world.now + SignedDuration::from_hours(1) };
        (format!("{version}.root.json"), sign::root(header, &roles, &[&*key]).unwrap())
    };
    let chain: Vec<_> = (1..=4_098).map(root).collect();
    let replay = |last: usize| Trust::replay(&chain[0].1, chain[1..last].iter().cloned());
    assert_eq!(replay(4_097).unwrap().root_version(), 4_097);
    assert_eq!(replay(4_098).err().map(|refusal| refusal.reason), Some(Reason::Parse));
}
