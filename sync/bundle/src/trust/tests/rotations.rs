//! Keys that change hands.

use std::sync::Arc;

use super::world::{World, all_good, reasons};
use crate::refusal::Reason;
use crate::sign::{self, Delegation, Key};
use crate::trust::Trust;

fn known() -> (World, Trust) {
    let mut world = World::new(&["blog", "shop"]);
    world.publish("blog", 1);
    world.publish("shop", 1);
    let mut trust = Trust::new(&world.roots[0]).unwrap();
    all_good(&world.walk(&mut trust));
    (world, trust)
}

fn rotate(world: &mut World, role: &str) {
    let before = world.keys.insert(role.to_owned(), Arc::new(Key::generate().unwrap()));
    if role == "root" {
        world.keys.insert("root-before".to_owned(), before.unwrap());
    }
}

#[test]
fn a_new_root_signed_by_the_old_is_followed_and_the_rest_stays_believed() {
    let (mut world, mut trust) = known();
    rotate(&mut world, "root");
    world.root();
    all_good(&world.walk(&mut trust));
    assert_eq!((trust.root_version(), trust.seq()), (2, 3));
    assert_eq!(trust.apps()[1].releases.len(), 1);
}

#[test]
fn a_root_that_the_old_one_did_not_sign_is_wrong_key() {
    let (mut world, mut trust) = known();
    rotate(&mut world, "root");
    world.keys.remove("root-before");
    world.root();
    let walked = world.walk(&mut trust);
    let root = walked.iter().find(|(file, _)| file == "2.root.json").unwrap();
    assert_eq!(root.1.as_ref().map_err(|refusal| refusal.reason), Err(Reason::WrongKey));
    assert_eq!(trust.root_version(), 1);
}

#[test]
fn new_online_keys_forget_the_floors_of_the_old_ones() {
    let (mut world, mut trust) = known();
    // A thief of the online keys counts as far as numbers go.
    world.timestamp_version = u64::MAX - 2;
    world.snapshot_version = u64::MAX - 2;
    world.online();
    all_good(&world.walk(&mut trust));
    rotate(&mut world, "timestamp");
    rotate(&mut world, "snapshot");
    world.root();
    (world.timestamp_version, world.snapshot_version) = (7, 7);
    world.online();
    all_good(&world.walk(&mut trust));
    assert_eq!((trust.seq(), trust.apps()[1].releases.len()), (8, 1));
}

#[test]
fn a_revoked_publisher_loses_what_he_signed_until_the_new_one_signs() {
    let (mut world, mut trust) = known();
    let old = world.clone();
    rotate(&mut world, "app-shop");
    let app = "shop".parse().unwrap();
    let holders = world.holders("app-shop");
    let grant = world.delegations[3].grant.clone().unwrap();
    sign::delegate(&mut world.delegations, Delegation::app(&app, holders, grant)).unwrap();
    world.targets();
    world.online();
    let walked = world.walk(&mut trust);
    assert!(reasons(&walked).contains(&("2.app-shop.json", Some(Reason::WrongKey))), "{walked:?}");
    assert!(trust.apps()[1].releases.is_empty(), "what rested on the old key has ended");
    assert_eq!(trust.apps()[0].releases.len(), 1);
    let held = |role: &str, file: &str| trust.held(role, &old.files[file]).map_err(|refusal| refusal.reason);
    assert_eq!(held("app-shop", "2.app-shop.json").err(), Some(Reason::WrongKey));
    assert_eq!(
        held("app-blog", "1.app-blog.json").map(|judged| judged.files.len()),
        Ok(0),
        "an old version still counts"
    );
    world.publish("shop", 2);
    all_good(&world.walk(&mut trust));
    assert_eq!(trust.apps()[1].releases.len(), 2);
    assert_eq!(reasons(&old.walk(&mut trust)), [("timestamp.json", Some(Reason::OlderThanFloor))]);
}

#[test]
fn a_threshold_of_two_needs_two_different_holders() {
    let (mut world, mut trust) = known();
    let second = Key::generate().unwrap();
    world.delegations[3].holders.keys.push(second.public());
    world.delegations[3].holders.threshold = 2;
    world.targets();
    world.publish("shop", 2);
    let walked = world.walk(&mut trust);
    assert!(reasons(&walked).contains(&("3.app-shop.json", Some(Reason::Signature))), "{walked:?}");
    let both = sign::countersign(&world.files["3.app-shop.json"], &second).unwrap();
    let again = sign::countersign(&both, &second).unwrap();
    assert_eq!(both, again, "the same key signs once");
    world.put("app-shop", 3, both);
    world.online();
    all_good(&world.walk(&mut trust));
    assert_eq!(trust.apps()[1].releases.len(), 2);
}

#[test]
fn a_host_is_granted_once_and_free_again_when_its_app_is_removed() {
    let (mut world, _) = known();
    let app = "copy".parse().unwrap();
    let holders = world.holders("app-copy");
    let copy = Delegation::app(&app, holders, super::world::grant("shop.example.com"));
    let taken = sign::delegate(&mut world.delegations, copy.clone());
    assert!(matches!(taken, Err(sign::SignError::HostTaken { .. })));
    world.delegations[3].grant.as_mut().unwrap().state = crate::grant::GrantState::Removed;
    assert_eq!(sign::delegate(&mut world.delegations, copy), Ok(()));
}

#[test]
fn targets_read_back_as_they_were_written() {
    let (world, _) = known();
    let draft = sign::read(&world.files["1.targets.json"]).unwrap();
    assert_eq!((draft.version, &draft.delegations), (1, &world.delegations));
    let draft = sign::read(&world.files["2.app-shop.json"]).unwrap();
    assert_eq!((draft.version, &draft.files), (2, &world.listed["app-shop"]));
    assert!(sign::read(&world.files["timestamp.json"]).is_err());
}
