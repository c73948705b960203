//! A node whose sockets are held by a service manager, and that has no privilege.

use std::time::Instant;

use super::house::{managed, signal};
use super::load::{Fall, Load};
use super::upgrades_in_a_row;
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
