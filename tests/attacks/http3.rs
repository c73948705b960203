//! Attacks on HTTP/3 by the byte of a stream (RFC 9114, RFC 9204): what ends, with which code, and what it costs.

use super::{Attacker, CONNECTION_BYTES, House, Row, ended, house};
use crate::harness::size::size;

/// What a client may send on a connection before it is read (LIMITS.md).
const WINDOW_BYTES: u64 = 1 << 20;

const LOAD: &str = "connection H3_EXCESSIVE_LOAD";

/// Plays an attack of HTTP/3, one connection after the other.
fn play(house: &House, attack: &str, table: &[(&str, &str)], others: &str) -> Vec<Row> {
    let arguments = [size().attack_bytes, size().attack_rounds];
    let rows = house.attacked("attack_http3.py", attack, &arguments, CONNECTION_BYTES);
    ended(attack, &rows, table, others);
    rows
}

#[test]
fn what_is_declared_or_sent_without_end_over_http_3_is_not_kept() {
    let house = house("");
    for (attack, end) in [
        ("huge_headers", "431, stopped H3_NO_ERROR"),
        ("huge_trailers", "400, stopped H3_EXCESSIVE_LOAD"),
        ("huge_unknown", LOAD),
        ("huge_unknown_in_body", LOAD),
        ("huge_on_control", LOAD),
        ("huge_settings", "connection H3_SETTINGS_ERROR"),
        ("huge_priority_update", LOAD),
    ] {
        play(&house, attack, &[(attack, end)], "");
    }
}

#[test]
fn bodies_that_are_held_over_http_3_take_no_more_than_the_windows_of_their_connection() {
    // None is given up before the last of a hundred has begun.
    let house = house("body_idle = \"10m\"");
    // Those that wait for an answer, and one on another connection that has it.
    let rows = play(&house, "held_body", &[("held_body", " or 200")], "");
    assert!(rows[0].sent >= WINDOW_BYTES, "{rows:?}: the window of the connection was not filled");
}

#[test]
fn floods_over_http_3_end_the_connection_with_their_code() {
    let house = house("");
    for (attack, end) in [
        ("rapid_reset", LOAD),
        ("max_push_id", LOAD),
        ("cancel_push", "connection H3_ID_ERROR"),
        ("priority_update", LOAD),
        ("empty_on_control", LOAD),
        ("goaways", LOAD),
        ("settings_again", "connection H3_FRAME_UNEXPECTED"),
        ("settings_many", LOAD),
        ("empty_data", LOAD),
        ("empty_unknown", LOAD),
        ("capacity_of_0", LOAD),
        ("stream_cancellations", LOAD),
        ("uni_streams", LOAD),
    ] {
        play(&house, attack, &[(attack, end)], "");
    }
}

#[test]
fn a_malformed_request_over_http_3_ends_alone_and_crumbs_of_cookies_are_joined() {
    let house = house("");
    let malformed = [
        // RFC 9114, section 4.1.2: what is seen only when an answer is being made may be told by one.
        ("a length too long", "400"),
        ("a length too short", "400"),
        ("a pseudo-header in trailers", "400"),
        ("afterwards", "200"),
    ];
    play(&house, "malformed", &malformed, "reset H3_MESSAGE_ERROR");
    play(&house, "cookies", &[("upstream saw", "a=1; b=2; c=3")], "");
}

#[test]
fn a_body_that_nobody_reads_is_stopped_without_blame_and_a_stopped_answer_harms_nobody() {
    let house = house("");
    let undrained = "200, stopped H3_NO_ERROR";
    let undrained = [("declared 2^40", undrained), ("in small frames", undrained), ("afterwards", "200")];
    play(&house, "undrained_body", &undrained, "");
    play(&house, "stop_sending", &[("afterwards", "200")], "");
}

#[test]
fn breaches_of_the_dynamic_table_and_of_critical_streams_end_the_connection_with_their_code() {
    let house = house("");
    let (decoder, section) = ("connection QPACK_DECODER_STREAM_ERROR", "connection QPACK_DECOMPRESSION_FAILED");
    let qpack = [
        ("an acknowledgement", decoder),
        ("an increment", decoder),
        ("an increment of 0", decoder),
        ("a required insert count", section),
        ("a dynamic reference", section),
        ("a post-base reference", section),
        ("a static entry that is not there", section),
    ];
    play(&house, "qpack", &qpack, "connection QPACK_ENCODER_STREAM_ERROR");
    let critical = [
        ("no settings", "connection H3_MISSING_SETTINGS"),
        ("a setting twice", "connection H3_SETTINGS_ERROR"),
        ("a setting of HTTP/2", "connection H3_SETTINGS_ERROR"),
        ("DATA on the control stream", "connection H3_FRAME_UNEXPECTED"),
        ("a second control stream", "connection H3_STREAM_CREATION_ERROR"),
        ("a push stream", "connection H3_STREAM_CREATION_ERROR"),
        ("DATA first", "connection H3_FRAME_UNEXPECTED"),
        ("a PUSH_PROMISE", "connection H3_FRAME_UNEXPECTED"),
        ("half a frame", "connection H3_FRAME_ERROR"),
        ("the control stream ends", "connection H3_CLOSED_CRITICAL_STREAM"),
        ("the encoder's stream ends", "connection H3_CLOSED_CRITICAL_STREAM"),
    ];
    play(&house, "critical", &critical, "");
}

#[test]
fn a_node_that_ends_names_the_first_request_that_it_does_not_answer_and_answers_those_before() {
    let mut house = house("");
    let mut attacker = Attacker::start(&house, "attack_http3.py", "drain", &[0, 0]);
    attacker.until("ready");
    house.node.process.signal("TERM");
    let table = [
        // No number that could be a request's; then the first of those that were not there.
        ("GOAWAY", "4611686018427387900 then 12"),
        ("a later request", "reset H3_REQUEST_REJECTED, stopped H3_REQUEST_REJECTED"),
        ("those before", "200"),
        ("the end", "connection H3_NO_ERROR"),
    ];
    ended("drain", &attacker.rest(), &table, "");
    assert_eq!(house.node.process.wait(), 0);
}
