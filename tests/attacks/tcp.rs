//! Attacks on TLS, HTTP/1.1 and HTTP/2 by the byte (RFC 9112, RFC 9113): what ends, with which code, and what it costs.

use super::{CONNECTION_BYTES, House, ended, house};
use crate::harness::size::size;

const CALM: &str = "GOAWAY ENHANCE_YOUR_CALM";
const PROTOCOL: &str = "GOAWAY PROTOCOL_ERROR";

/// Requests at once on a connection (LIMITS.md).
const STREAMS: u64 = 100;

/// What is kept of an answer for which its client has no room, in bytes: a piece that waits, and one that is read. LIMITS.md
/// allows 256 KiB.
const STREAM_BYTES: u64 = 128 << 10;

/// Plays an attack over TCP. A window of HTTP/2 for each of a hundred streams counts only where they are at once.
fn play(house: &House, attack: &str, table: &[(&str, &str)], others: &str) {
    let arguments = [size().attack_bytes, size().attack_rounds];
    let rows = house.attacked("attack_tcp.py", attack, &arguments, CONNECTION_BYTES);
    ended(attack, &rows, table, others);
}

#[test]
fn floods_over_http_2_end_the_connection_with_their_code() {
    let house = house("");
    play(&house, "rapid_reset", &[("rapid_reset", CALM)], "");
    play(&house, "continuation", &[], CALM);
    play(&house, "work_for_nothing", &[], CALM);
    let errors_of_the_connection =
        [("an increment of 0", PROTOCOL), ("a head after the end", PROTOCOL), ("DATA after the end", PROTOCOL)];
    play(&house, "made_you_reset", &errors_of_the_connection, CALM);
    let sizes =
        [("a frame of 16 MiB", "GOAWAY FRAME_SIZE_ERROR"), ("a window that overflows", "GOAWAY FLOW_CONTROL_ERROR")];
    play(&house, "frames", &sizes, PROTOCOL);
}

#[test]
fn heads_over_http_2_that_are_small_on_the_way_and_large_in_memory_end_the_connection() {
    // The library says PROTOCOL_ERROR where RFC 9113, section 4.3, has COMPRESSION_ERROR.
    play(&house(""), "hpack", &[("a bomb", "goaway ENHANCE_YOUR_CALM")], PROTOCOL);
}

#[test]
fn what_has_no_end_over_http_1_and_before_tls_is_refused_and_not_kept() {
    let house = house("");
    play(&house, "huge_heads", &[("empty lines without end", "400")], "431");
    play(&house, "chunks", &[], "400");
    play(&house, "hellos", &[], "closed");
}

#[test]
fn answers_for_which_a_client_has_no_room_are_not_made_and_not_waited_with() {
    let house = house("send_idle = \"3s\"");
    // No more streams than an app may have connections out, or the neighbour would wait for its place.
    const CONNECTIONS: usize = 4;
    let streams = CONNECTIONS as u64 * STREAMS;
    let arguments = [size().attack_bytes, CONNECTIONS];
    let rows = house.attacked("attack_tcp.py", "zero_window", &arguments, streams * STREAM_BYTES);
    ended("zero_window", &rows, &[], "reset CANCEL");
    play(&house, "pipelining", &[], "cut");
}
