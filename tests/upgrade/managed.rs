//! A node whose sockets are held by a service manager, and that has no privilege.

use std::time::Instant;

use super::house::{managed, signal};
use super::load::{Fall, Load};
use super::open::Open;
use super::upgrades_in_a_row;
use crate::harness::client::{Ask, PROTOCOLS, ask};
use crate::harness::process::until;
use crate::harness::size::size;

#[test]
fn upgrades_of_a_node_without_privilege_on_inherited_sockets_fail_no_request_and_cut_no_connection() {
    let house = managed(2);
    let log = || house.node.process.log();
    assert!(!log().contains("takes no program"), "the kernel steers, also on inherited sockets: {}", log());
    let load = Load::on(&house);
    load.more(20);
    upgrades_in_a_row(&house, size().upgrades);
    house.takes_a_release(2);
    load.end(&house);
    assert!(
        !log().contains("not heard") && !log().contains("ended "),
        "only the main process told anything: {}",
        log()
    );
}

#[test]
fn a_process_that_falls_after_it_has_proven_itself_is_started_again_and_meanwhile_nobody_is_refused() {
    let house = managed(2);
    house.serves();
    let mut serves = house.upgraded();
    house.told_main(serves);
    until("the one before has ended", || (house.state()["predecessor_drains"] == false).then_some(()));
    let load = Load::on(&house);
    let mut falls = Vec::new();
    for _ in 0..2 {
        load.more(20);
        let aimed = Instant::now();
        signal(serves, "KILL");
        let struck = Instant::now();
        let next = until("another one serves", || {
            let log = house.node.process.log();
            let (_, after) = log.split_once(&format!("\nended {serves}\n"))?;
            after.lines().find_map(|line| line.strip_prefix("main ")?.split(' ').next()?.parse::<u64>().ok())
        });
        load.more(40);
        falls.push(Fall { aimed, struck, replaced: Instant::now() });
        serves = next;
    }
    load.end_but_for(&house, &falls);
    house.serves();
}

#[test]
fn who_begins_to_connect_while_a_node_is_restarted_waits_for_the_next_process_and_is_answered() {
    let house = managed(2);
    let before = house.serves();
    let mut open = Open::on(&house);
    signal(before, "TERM");
    until("it takes nobody any more", || house.node.process.log().contains("no connection begins here").then_some(()));
    let late = PROTOCOLS.into_iter().flat_map(|protocol| [(protocol, "/env"), (protocol, "/fixed")]);
    let late = late.map(|(protocol, path)| {
        let request = Ask::at(&house.world, house.node.port, protocol, "shop.test", path).held();
        (std::thread::spawn(move || ask(request)), protocol)
    });
    let late: Vec<_> = late.collect();
    open.go_on(&house);
    open.end(&house);
    for (asked, protocol) in late {
        let answer = asked.join().expect("no panic").unwrap_or_else(|error| panic!("{protocol:?}: {error}"));
        assert_eq!(answer.status, 200, "{protocol:?}");
    }
    assert_ne!(house.serves(), before);
}
