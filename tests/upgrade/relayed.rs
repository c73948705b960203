//! A node whose kernel takes no program to steer QUIC: a filter of system calls refuses it, as sandboxes do.

use serde_json::Value;

use super::house::{House, refused};
use super::load::Load;
use super::upgrades_in_a_row;
use crate::harness::size::size;

/// Datagrams that the process that serves has passed on so far.
fn passed(house: &House) -> f64 {
    house.node.metric("eyot_datagrams_relayed_total{result=\"passed\"}")
}

#[test]
fn where_the_kernel_takes_no_program_upgrades_fail_no_request_and_cut_no_connection_either() {
    let house = refused();
    let log = || house.node.process.log();
    assert!(log().contains("the kernel takes no program to steer QUIC"), "{}", log());
    let status: Value = house.node.status(&house.world);
    assert_eq!(status["steering"], "relay");
    let load = Load::on(&house);
    load.more(20);
    assert!(passed(&house) > 0.0, "between the sockets of one process");
    upgrades_in_a_row(&house, size().upgrades);
    assert!(passed(&house) > 0.0, "the one that took over does the same");
    house.takes_a_release(2);
    load.end(&house);
}
