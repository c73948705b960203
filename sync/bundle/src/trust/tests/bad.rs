//! What must be refused, with its reason, and what must go on all the same.

use std::sync::Arc;

use jiff::SignedDuration;

use super::world::{World, all_good, grant, reasons};
use crate::refusal::Reason;
use crate::sign::{self, Delegation, Header, Key, Pin};
use crate::trust::{TargetFile, Trust};

/// A world whose shop has release 1 known to a node, and what it looks like once release 2 is out.
fn known() -> (World, Trust) {
    let mut world = World::new(&["blog", "shop"]);
    world.publish("blog", 1);
    world.publish("shop", 1);
    let mut trust = Trust::new(&world.roots[0]).unwrap();
    all_good(&world.walk(&mut trust));
    (world, trust)
}

/// Spoils the world after release 2 of both apps is out, and walks it: `file` gives `reason`, the shop stays at one
/// release, and the blog has two if `blog_goes_on`.
#[track_caller]
fn check(spoil: impl FnOnce(&mut World), file: &str, reason: Reason, blog_goes_on: bool) {
    let (mut world, mut trust) = known();
    world.publish("blog", 2);
    world.publish("shop", 2);
    spoil(&mut world);
    let walked = world.walk(&mut trust);
    let told = reasons(&walked);
    assert!(told.contains(&(file, Some(reason))), "{told:?}");
    let apps = trust.apps();
    assert_eq!(apps[1].releases.len(), 1, "the shop keeps its old release");
    assert_eq!(apps[0].releases.len(), if blog_goes_on { 2 } else { 1 }, "the blog");
    let role = file.split('.').rev().nth(1).unwrap();
    assert_eq!(trust.refused().get(role).map(|refusal| refusal.reason), Some(reason));
}

/// Makes the shop's newest role anew with `key` and pins it.
fn shop_signed_by(world: &mut World, key: &Key, expires_in_hours: i64) {
    let expires = world.now + SignedDuration::from_hours(expires_in_hours);
    let header = Header { version: world.versions["app-shop"], expires };
    let bytes = sign::delegated(header, &world.listed["app-shop"], &[key]).unwrap();
    world.put("app-shop", header.version, bytes);
    world.online();
}

fn flip(bytes: &mut [u8], needle: &str) {
    let at = bytes.windows(needle.len()).position(|window| window == needle.as_bytes()).unwrap();
    bytes[at] ^= 1;
}

#[test]
fn a_role_signed_by_the_wrong_key_is_wrong_key_and_its_neighbour_goes_on() {
    let stranger = |world: &mut World| shop_signed_by(world, &Key::generate().unwrap(), 24);
    check(stranger, "3.app-shop.json", Reason::WrongKey, true);
    let neighbour = |world: &mut World| {
        let key = world.key("app-blog");
        shop_signed_by(world, &key, 24);
    };
    check(neighbour, "3.app-shop.json", Reason::WrongKey, true);
}

#[test]
fn a_role_changed_after_signing_is_signature_if_pinned_and_digest_mismatch_if_not() {
    let pinned = |world: &mut World| {
        let mut bytes = world.files["3.app-shop.json"].clone();
        flip(&mut bytes, "shop/2");
        world.put("app-shop", 3, bytes);
        world.online();
    };
    check(pinned, "3.app-shop.json", Reason::Signature, true);
    let unpinned = |world: &mut World| flip(world.files.get_mut("3.app-shop.json").unwrap(), "shop/2");
    check(unpinned, "3.app-shop.json", Reason::DigestMismatch, true);
}

#[test]
fn a_signature_by_another_key_under_the_right_id_is_signature() {
    let forged = |world: &mut World| {
        let (id, stranger) = (world.key("app-shop").id(), Key::generate().unwrap());
        shop_signed_by(world, &stranger, 24);
        let text = String::from_utf8(world.files["3.app-shop.json"].clone()).unwrap().replace(&stranger.id(), &id);
        world.put("app-shop", 3, text.into_bytes());
        world.online();
    };
    check(forged, "3.app-shop.json", Reason::Signature, true);
}

#[test]
fn an_expired_role_is_expired() {
    let spoil = |world: &mut World| {
        let key = world.key("app-shop");
        shop_signed_by(world, &key, -1);
    };
    check(spoil, "3.app-shop.json", Reason::Expired, true);
}

#[test]
fn a_role_that_no_parent_has_is_missing_and_its_neighbour_goes_on() {
    check(|world| drop(world.files.remove("3.app-shop.json")), "3.app-shop.json", Reason::MissingBlob, true);
}

#[test]
fn what_is_no_metadata_is_parse() {
    for text in ["", "{", "[]", "{}", r#"{"signed":{},"signatures":[]}"#, r#"{"signed":{"a":0.5},"signatures":[]}"#] {
        let spoil = |world: &mut World| {
            world.put("app-shop", 3, text.as_bytes().to_vec());
            world.online();
        };
        check(spoil, "3.app-shop.json", Reason::Parse, true);
    }
}

#[test]
fn an_app_may_list_only_its_own_releases() {
    for path in [
        "releases/blog/2.json",
        "releases/shop/02.json",
        "releases/shop/0.json",
        "releases/shop/2.txt",
        "releases/shop/../blog/2.json",
        "releases/shop/a/2.json",
        "control/shop.json",
        "fleet/nodes.json",
    ] {
        let spoil = |world: &mut World| world.list("app-shop", path, b"{}");
        check(spoil, "4.app-shop.json", Reason::WrongKey, true);
    }
}

#[test]
fn an_app_that_hands_its_releases_on_is_refused() {
    let spoil = |world: &mut World| {
        let key = world.key("app-shop");
        let delegation = Delegation::app(&"shop".parse().unwrap(), world.holders("helper"), grant("a.b"));
        let header = Header { version: 3, expires: world.now + SignedDuration::from_hours(1) };
        let bytes = sign::targets(header, &[delegation], &[&key]).unwrap();
        world.put("app-shop", 3, bytes);
        world.online();
    };
    check(spoil, "3.app-shop.json", Reason::WrongKey, true);
}

#[test]
fn an_older_timestamp_is_older_than_floor_and_an_older_snapshot_cannot_be_pinned() {
    let (mut world, mut trust) = known();
    let old = world.clone();
    world.publish("shop", 2);
    all_good(&world.walk(&mut trust));
    assert_eq!(reasons(&old.walk(&mut trust)), [("timestamp.json", Some(Reason::OlderThanFloor))]);
    let mut back = old.clone();
    back.timestamp_version = world.timestamp_version + 5;
    back.snapshot_version -= 1;
    back.now = world.now;
    back.online();
    assert_eq!(reasons(&back.walk(&mut trust)), [("timestamp.json", Some(Reason::OlderThanFloor))]);
    assert_eq!(trust.apps()[1].releases.len(), 2);
}

#[test]
fn a_new_snapshot_may_not_take_a_role_back_or_leave_it_out() {
    let (mut world, mut trust) = known();
    let old_pin = world.pins["app-shop"];
    world.publish("shop", 2);
    all_good(&world.walk(&mut trust));
    for pin in [Some(old_pin), None] {
        let mut mixed = world.clone();
        match pin {
            Some(pin) => drop(mixed.pins.insert("app-shop".to_owned(), pin)),
            None => drop(mixed.pins.remove("app-shop")),
        }
        mixed.online();
        let walked = mixed.walk(&mut trust);
        let snapshot = format!("{}.snapshot.json", mixed.snapshot_version);
        assert!(reasons(&walked).contains(&(snapshot.as_str(), Some(Reason::OlderThanFloor))), "{walked:?}");
        assert_eq!(trust.apps()[1].releases.len(), 2);
    }
}

#[test]
fn a_snapshot_of_another_moment_does_not_fit_its_timestamp() {
    let (mut world, mut trust) = known();
    let old = world.files["3.snapshot.json"].clone();
    world.publish("shop", 2);
    let newest = format!("{}.snapshot.json", world.snapshot_version);
    world.files.insert(newest.clone(), old);
    let walked = world.walk(&mut trust);
    assert!(reasons(&walked).contains(&(newest.as_str(), Some(Reason::DigestMismatch))), "{walked:?}");
    assert_eq!((trust.apps()[1].releases.len(), trust.seq()), (1, 3));
}

#[test]
fn online_roles_signed_by_strangers_are_wrong_key_and_nothing_moves() {
    for role in ["timestamp", "snapshot"] {
        let (mut world, mut trust) = known();
        world.keys.insert(role.to_owned(), Arc::new(Key::generate().unwrap()));
        world.publish("shop", 2);
        let walked = world.walk(&mut trust);
        assert!(reasons(&walked).iter().any(|(file, reason)| file.contains(role) && *reason == Some(Reason::WrongKey)));
        assert_eq!(trust.apps()[1].releases.len(), 1);
    }
}

#[test]
fn targets_by_whoever_holds_only_the_online_keys_are_wrong_key() {
    let (mut world, mut trust) = known();
    let online = world.key("snapshot");
    let thief = Key::generate().unwrap();
    let app = "shop".parse().unwrap();
    let stolen = Delegation::app(&app, sign::Holders::one(thief.public()), grant("bank.example.com"));
    sign::delegate(&mut world.delegations, stolen).unwrap();
    let header = Header { version: 2, expires: world.now + SignedDuration::from_hours(1) };
    let bytes = sign::targets(header, &world.delegations, &[&online]).unwrap();
    world.put("targets", 2, bytes);
    world.online();
    let walked = world.walk(&mut trust);
    assert!(reasons(&walked).contains(&("2.targets.json", Some(Reason::WrongKey))), "{walked:?}");
    let shop = &trust.apps()[1];
    assert_eq!(shop.grant.hosts[0].to_string(), "shop.example.com");
    assert_eq!(shop.releases.len(), 1, "the last good targets still say who may publish");
}

#[test]
fn a_role_twice_in_targets_is_refused_and_a_bad_grant_refuses_its_app_only() {
    let (mut world, mut trust) = known();
    let twice = world.delegations[2].clone();
    world.delegations.push(twice);
    world.targets();
    world.online();
    assert!(reasons(&world.walk(&mut trust)).contains(&("2.targets.json", Some(Reason::Parse))));

    let (mut world, mut trust) = known();
    world.delegations[3].grant = None;
    world.targets();
    world.online();
    all_good(&world.walk(&mut trust));
    assert_eq!(trust.apps().iter().map(|app| app.app.as_str()).collect::<Vec<_>>(), ["blog"]);
    assert_eq!(trust.refused()["app-shop"].reason, Reason::Parse);
}

#[test]
fn the_paths_of_a_delegation_and_an_earlier_terminating_one_take_releases_away() {
    for (paths, earlier, releases) in [
        (vec!["releases/shop/*".to_owned()], vec![], 1),
        (vec!["releases/blog/*".to_owned()], vec![], 0),
        (vec!["releases/*".to_owned()], vec![], 0),
        (vec!["releases/*/*".to_owned()], vec![], 1),
        (vec!["releases/shop/*".to_owned()], vec!["releases/*/*".to_owned()], 0),
    ] {
        let (mut world, mut trust) = known();
        world.delegations[3].paths = paths.clone();
        world.delegations[2].paths.extend(earlier.clone());
        world.targets();
        world.online();
        all_good(&world.walk(&mut trust));
        assert_eq!(trust.apps()[1].releases.len(), releases, "{paths:?} {earlier:?}");
    }
}

#[test]
fn what_was_not_asked_for_is_not_taken() {
    let (world, mut trust) = known();
    trust.begin();
    for file in ["timestamp.json", "3.snapshot.json", "1.root.json", "../x", ""] {
        let refusal = trust.feed(file, &world.files["timestamp.json"], world.now).unwrap_err();
        assert_eq!(refusal.reason, Reason::Parse, "{file}");
    }
}

#[test]
fn a_file_larger_than_its_pin_is_refused_before_it_is_read() {
    let grow = |world: &mut World| world.files.get_mut("3.app-shop.json").unwrap().extend([b' '; 1000]);
    check(grow, "3.app-shop.json", Reason::Parse, true);
}

#[test]
fn an_origin_judges_a_role_before_it_pins_it() {
    let (mut world, trust) = known();
    let judge = |world: &World, key: &Key, version: u64, path: &str| {
        let header = Header { version, expires: world.now + SignedDuration::from_hours(1) };
        let bytes = sign::delegated(header, &[TargetFile::new(path, b"{}")], &[key]).unwrap();
        trust.judge("app-shop", &bytes, world.now).map_err(|refusal| refusal.reason)
    };
    let (key, stranger) = (world.key("app-shop"), world.key("app-blog"));
    assert_eq!(judge(&world, &key, 3, "releases/shop/9.json").map(|judged| judged.version), Ok(3));
    assert_eq!(judge(&world, &key, 2, "releases/shop/9.json"), Err(Reason::OlderThanFloor));
    assert_eq!(judge(&world, &stranger, 3, "releases/shop/9.json"), Err(Reason::WrongKey));
    assert_eq!(judge(&world, &key, 3, "releases/blog/9.json"), Err(Reason::WrongKey));
    assert_eq!(trust.judge("snapshot", b"{}", world.now).map_err(|refusal| refusal.reason), Err(Reason::WrongKey));
    let pin = Pin::of(1, b"x");
    assert_eq!(pin.length, 1);
}

#[test]
fn no_byte_of_any_file_can_be_changed_unseen() {
    let (mut world, _) = known();
    world.control("shop", "{}");
    for file in
        ["1.root.json", "timestamp.json", "4.snapshot.json", "1.targets.json", "2.app-shop.json", "2.director.json"]
    {
        let length = world.files[file].len();
        for at in (0..length).step_by(length / 60 + 1) {
            let mut changed = world.clone();
            changed.files.get_mut(file).unwrap()[at] ^= 0x01;
            let Ok(mut trust) = Trust::new(&changed.files["1.root.json"]) else { continue };
            let walked = changed.walk(&mut trust);
            // A key of the root that changes its own bytes makes another root, which then verifies nothing.
            assert!(walked.iter().any(|(_, fed)| fed.is_err()), "{file} at {at}");
        }
    }
}
