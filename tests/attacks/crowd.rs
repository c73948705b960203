//! Many clients at once, and slow ones: a node takes so many, lets go of those that are too slow, and serves the good ones.

use super::watch::watched;
use super::{Attacker, CONNECTION_BYTES, ended, house};
use crate::harness::client::PROTOCOLS;
use crate::harness::size::size;

/// What an open connection that asks for nothing may cost, in bytes (LIMITS.md), whatever it speaks.
const IDLE_BYTES: u64 = 64 << 10;

/// What a connection may cost whose handshake has only begun, in bytes.
const BEGUN_BYTES: u64 = 64 << 10;

#[test]
fn thousands_of_connections_that_ask_for_nothing_are_held_at_little_cost() {
    let house = house("header_timeout = \"5m\"\nconnection_idle = \"1h\"");
    let count = size().idle_connections;
    let rows = watched(&house, "idle", count as u64 * IDLE_BYTES, || {
        let mut attacker = Attacker::start(&house, "attack_crowd.py", "idle", &[count]);
        assert_eq!(attacker.until("ready").connections, count as u64);
        for protocol in PROTOCOLS {
            house.served(protocol, "/up/any");
        }
        attacker.go_on();
        attacker.rest()
    });
    assert_eq!(rows[0].connections, count as u64, "all are still there");
}

#[test]
fn an_address_has_so_many_connections_and_all_addresses_together_have_so_many() {
    let alone = house("header_timeout = \"5m\"\nconnections_per_address = 32");
    let rows = alone.attacked("attack_crowd.py", "one_address", &[48], 64 * CONNECTION_BYTES);
    // QUIC's own CONNECTION_REFUSED (RFC 9000, section 20.1).
    ended("one_address", &rows, &[("TCP", "closed"), ("QUIC", "connection 0x2")], "");
    assert_eq!((rows[0].connections, rows[1].connections), (32, 32));
    assert_eq!(rows[1].retries, 48 - 16, "half of the places are taken: an address is proven first");
    drop(alone);

    let together = house("header_timeout = \"5m\"\nconnections = 64");
    let mut attacker = Attacker::start(&together, "attack_crowd.py", "full", &[64]);
    assert_eq!(attacker.until("ready").connections, 64);
    let quic = attacker.until("QUIC");
    assert_eq!((quic.end.as_str(), quic.retries), ("connection 0x2", 20));
    attacker.go_on();
    assert_eq!(attacker.until("TCP").end, "waits");
    assert_eq!(attacker.until("TCP, when places come free").connections, 20);
    assert!(attacker.rest().is_empty());
    together.served(PROTOCOLS[0], "/fixed");
}

#[test]
fn first_datagrams_that_nothing_follows_are_answered_in_proportion_then_with_retry_while_others_are_served() {
    // Places for a quarter of them: half of those are given to addresses that are not proven, the rest is asked to.
    let count = size().initials;
    let house = house(&format!("connections = {}\nheader_timeout = \"5m\"", count / 4));
    let rows = house.attacked("attack_crowd.py", "initials", &[count], count as u64 / 8 * BEGUN_BYTES);
    let row = &rows[0];
    println!("initials: {} bytes sent, {} back, {} of {count} answered by Retry", row.sent, row.back, row.retries);
    assert!(row.retries * 2 > count as u64, "{} of {count} were asked for their address", row.retries);
    // Three times what came (RFC 9000, section 8.1), and the datagram that the library begins within that.
    assert!(row.back <= 4 * row.sent, "{} bytes for {}", row.back, row.sent);
}

#[test]
fn handshakes_that_go_no_further_are_closed_while_others_are_served() {
    let house = house("header_timeout = \"3s\"");
    let count = size().idle_connections;
    let rows = house.attacked("attack_crowd.py", "hellos", &[count], count as u64 * BEGUN_BYTES);
    ended("hellos", &rows, &[("hellos", "closed")], "");
}

#[test]
fn clients_that_are_too_slow_over_any_protocol_are_ended_while_others_are_served() {
    let house = house("header_timeout = \"6s\"\nbody_idle = \"3s\"\nsend_idle = \"3s\"");
    let count = size().slow_clients;
    let rows = house.attacked("attack_crowd.py", "slow", &[count], 14 * count as u64 * CONNECTION_BYTES / 4);
    let table = [
        ("h1 body", "408"),
        ("h1 chunks", "408"),
        ("h1 head", "408"),
        ("h1 read", "cut"),
        ("h2 body", "head 408"),
        ("h2 continuation", "GOAWAY ENHANCE_YOUR_CALM"),
        ("h2 head", "cut"),
        ("h2 preface", "cut"),
        ("h2 read", "cut"),
        ("h2 trickle", "reset CANCEL"),
        ("h3 body", "408"),
        ("h3 head", "reset H3_REQUEST_INCOMPLETE"),
        ("h3 read", "reset H3_REQUEST_CANCELLED"),
        ("h3 trickle", "reset H3_REQUEST_CANCELLED"),
    ];
    ended("slow", &rows, &table, "");
}
