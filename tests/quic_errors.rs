//! What a QUIC client must not do, and the code that the connection is then closed with: our port of h3spec's cases for
//! QUIC. Those for HTTP/3 stand in `h3 conformance`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::harness::app::App;
use crate::harness::client::Protocol;
use crate::harness::process::free_port;
use crate::harness::tools::python;
use crate::harness::world::World;

// RFC 9000, section 20.1.
const FLOW_CONTROL_ERROR: u64 = 0x03;
const STREAM_LIMIT_ERROR: u64 = 0x04;
const STREAM_STATE_ERROR: u64 = 0x05;
const FRAME_ENCODING_ERROR: u64 = 0x07;
const TRANSPORT_PARAMETER_ERROR: u64 = 0x08;
const PROTOCOL_VIOLATION: u64 = 0x0a;
// 0x100 and an alert of TLS (RFC 9001, section 4.8; RFC 8446, section 6).
const UNEXPECTED_MESSAGE: u64 = 0x10a;
const MISSING_EXTENSION: u64 = 0x16d;
const NO_APPLICATION_PROTOCOL: u64 = 0x178;

/// The connection stays open.
const NONE: &[u64] = &[];

/// Each case of `quic_errors.py`, and the codes that its rule allows: where a rule names one, a generic one is not enough.
const CASES: [(&str, &[u64]); 38] = [
    ("nothing wrong, Handshake", NONE),
    ("nothing wrong, Short", NONE),
    ("nothing wrong, 0-RTT", NONE),
    ("numbers of streams at their limits", NONE),
    ("transport parameters at their limits", NONE),
    // RFC 9000, section 4.
    ("STREAM with a large offset", &[FLOW_CONTROL_ERROR]),
    ("STREAM beyond the limit of streams", &[STREAM_LIMIT_ERROR]),
    // Sections 7.3, 7.4 and 18.2.
    ("no initial_source_connection_id", &[TRANSPORT_PARAMETER_ERROR]),
    ("original_destination_connection_id", &[TRANSPORT_PARAMETER_ERROR]),
    ("preferred_address", &[TRANSPORT_PARAMETER_ERROR]),
    ("retry_source_connection_id", &[TRANSPORT_PARAMETER_ERROR]),
    ("stateless_reset_token", &[TRANSPORT_PARAMETER_ERROR]),
    ("max_udp_payload_size under 1200", &[TRANSPORT_PARAMETER_ERROR]),
    ("ack_delay_exponent over 20", &[TRANSPORT_PARAMETER_ERROR]),
    ("max_ack_delay of 2^14", &[TRANSPORT_PARAMETER_ERROR]),
    // Sections 12.4, 17.2 and 17.3.
    ("frame of an unknown type", &[FRAME_ENCODING_ERROR]),
    ("packet without frames", &[PROTOCOL_VIOLATION]),
    ("reserved bits in Handshake", &[PROTOCOL_VIOLATION]),
    ("reserved bits in Short", &[PROTOCOL_VIOLATION]),
    ("PATH_CHALLENGE in Handshake", &[PROTOCOL_VIOLATION]),
    // Section 19, frame by frame.
    ("RESET_STREAM of a send-only stream", &[STREAM_STATE_ERROR]),
    ("STOP_SENDING of a stream that is not there", &[STREAM_STATE_ERROR]),
    ("NEW_TOKEN", &[PROTOCOL_VIOLATION]),
    ("STREAM of the server's that is not there", &[STREAM_STATE_ERROR]),
    ("STREAM of a send-only stream", &[STREAM_STATE_ERROR]),
    ("MAX_STREAM_DATA of a stream that is not there", &[STREAM_STATE_ERROR]),
    ("MAX_STREAM_DATA of a receive-only stream", &[STREAM_STATE_ERROR]),
    ("MAX_STREAMS over 2^60", &[FRAME_ENCODING_ERROR]),
    ("STREAMS_BLOCKED over 2^60", &[FRAME_ENCODING_ERROR, STREAM_LIMIT_ERROR]),
    ("NEW_CONNECTION_ID that retires itself", &[FRAME_ENCODING_ERROR]),
    ("NEW_CONNECTION_ID of 0 bytes", &[FRAME_ENCODING_ERROR]),
    ("HANDSHAKE_DONE", &[PROTOCOL_VIOLATION]),
    // RFC 9001, sections 6, 8.1, 8.2 and 8.3.
    ("KeyUpdate in Handshake", &[UNEXPECTED_MESSAGE]),
    ("KeyUpdate in Short", &[UNEXPECTED_MESSAGE]),
    ("no protocol of the server's in ALPN", &[NO_APPLICATION_PROTOCOL]),
    ("no transport parameters", &[MISSING_EXTENSION]),
    ("EndOfEarlyData", &[UNEXPECTED_MESSAGE]),
    ("CRYPTO in 0-RTT", &[PROTOCOL_VIOLATION]),
];

/// How a case ended.
#[derive(Deserialize)]
struct End {
    case: String,
    code: Option<u64>,
    reason: Option<String>,
}

/// All cases at a node on this port.
fn ends(port: u16) -> BTreeMap<String, End> {
    let output = python("quic_errors.py").arg(port.to_string()).output().expect("python3");
    let (told, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}{complained}");
    let ends =
        told.lines().map(|line| serde_json::from_str::<End>(line).unwrap_or_else(|error| panic!("{error}: {line}")));
    ends.map(|end| (end.case.clone(), end)).collect()
}

/// A code as it is printed.
fn shown(code: Option<u64>) -> String {
    code.map_or_else(|| "open".to_owned(), |code| format!("{code:#05x}"))
}

#[test]
fn what_a_quic_client_must_not_do_closes_its_connection_with_the_code_of_its_rule() {
    let world = World::new();
    world.grant("shop", &["localhost"], &[]);
    let app = App::new("shop", &["localhost"])
        .route("localhost", "/*", "respond = { status = 200, body = \"here\\n\" }")
        .written();
    world.publish(&app);
    // Without early data, CRYPTO in 0-RTT is not even read.
    let early = |text: String| text.replace("[tls]\n", "[tls]\nresumption = \"early-data\"\n");
    let node = world.node_edited("a", free_port(), early);
    node.wait_for_release(&world, "localhost", "/", "shop/1");
    let mut ends = ends(node.port);
    let mut wrong = Vec::new();
    for (case, allowed) in CASES {
        let end = ends.remove(case).unwrap_or_else(|| panic!("{case}: was not run"));
        let line = format!("{case:<46} {:<6} {}", shown(end.code), end.reason.unwrap_or_default());
        println!("{line}");
        let is_allowed = end.code.map_or(allowed.is_empty(), |code| allowed.contains(&code));
        if !is_allowed {
            wrong.push(format!("{line}, not {allowed:x?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(ends.is_empty(), "not in the table: {:?}", ends.keys());
    let answer = node.ask(&world, Protocol::H3, "localhost", "/");
    assert_eq!((answer.status, answer.text().as_str()), (200, "here\n"), "a good request after them all");
}
