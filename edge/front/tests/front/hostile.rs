//! Requests that mean harm: two readings of one message, heads without end.

use std::sync::atomic::Ordering;

use eyot_front::Settings;
use eyot_plan::arrival::{Arrival, Protocol};
use eyot_plan::fault::Code;
use http::Request;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{Front, nothing, read, text};

/// Sends raw bytes over TLS and reads until the server closes: the statuses it answered with.
async fn statuses(front: &Front, bytes: &[u8]) -> Vec<String> {
    let mut stream = front.raw("a.net", "http/1.1").await.expect("TLS");
    stream.write_all(bytes).await.expect("it is read");
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said).await;
    let said = String::from_utf8_lossy(&said);
    said.match_indices("HTTP/1.1 ").map(|(at, _)| said[at + 9..at + 12].to_owned()).collect()
}

/// A request that must never be seen, however the one before it is read.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nhost: a.net\r\n\r\n";

#[tokio::test]
async fn a_head_that_could_be_read_in_two_ways_is_answered_400_and_nothing_behind_it_is_read() {
    let front = Front::answering(|_| async { text("served") });
    for head in [
        "POST / HTTP/1.1\r\nhost: a.net\r\ncontent-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a.net\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n5c\r\n",
        "POST / HTTP/1.1\r\nhost: a.net\r\ncontent-length: 0\r\ncontent-length: 40\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a.net\r\ncontent-length: 0\r\ncontent-length: 0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a.net\r\ncontent-length: 0, 40\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a.net\r\nx: y\r\n content-length: 40\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a.net\r\ncontent-length : 40\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a.net\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a.net\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a.net\r\ntransfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a.net\r\ntransfer-encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nhost: a.net\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\nhost: a.net\n\n",
        "GET / HTTP/1.1\r\nhost: a.net\nx: y\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a.net\rx: y\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a.net\r\nx: a\0b\r\n\r\n",
        "GET  / HTTP/1.1\r\nhost: a.net\r\n\r\n",
        "GET / HTTP/1.1\r\n host: a.net\r\n\r\n",
        "GET / HTTP/9.9\r\nhost: a.net\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let found = statuses(&front, format!("{head}{SMUGGLED}").as_bytes()).await;
        assert_eq!(found, ["400"], "{}", head.escape_debug());
    }
    assert_eq!(front.arrivals.load(Ordering::Relaxed), 0);
    front.ended().await;
}

#[tokio::test]
async fn a_head_without_one_good_host_is_answered_400_and_the_connection_lives() {
    let front = Front::answering(|_| async { text("served") });
    for head in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a.net\r\nhost: a.net\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a.net, b.net\r\n\r\n",
        "GET https://b.net/ HTTP/1.1\r\nhost: a.net\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: user@a.net\r\n\r\n",
        "GET /%00 HTTP/1.1\r\nhost: a.net\r\n\r\n",
    ] {
        let last = "GET / HTTP/1.1\r\nhost: a.net\r\nconnection: close\r\n\r\n";
        let found = statuses(&front, format!("{head}{last}").as_bytes()).await;
        assert_eq!(found, ["400", "200"], "{}", head.escape_debug());
    }
    front.ended().await;
}

#[tokio::test]
async fn a_broken_chunk_is_an_error_of_the_body_and_ends_the_connection() {
    let front = Front::answering(|arrival: Arrival| async move {
        match arrival.request.into_body().collect().await {
            Ok(_) => text("whole"),
            Err(fault) => fault.response("id").map(eyot_plan::body::full),
        }
    });
    let long = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(300));
    for chunks in [
        "1\na\n0\n\n",
        "1 \r\na\r\n0\r\n\r\n",
        "+1\r\na\r\n0\r\n\r\n",
        "0x1\r\na\r\n0\r\n\r\n",
        "1\r\nab\r\n0\r\n\r\n",
        "ffffffffffffffff1\r\na\r\n",
        "1\r\na\r\n0\r\nx : y\r\n\r\n",
        "\r\n",
        &long,
    ] {
        let head = "POST / HTTP/1.1\r\nhost: a.net\r\ntransfer-encoding: chunked\r\n\r\n";
        let found = statuses(&front, format!("{head}{chunks}{SMUGGLED}").as_bytes()).await;
        assert!(found.is_empty() || found == ["400"], "{}: {found:?}", chunks.escape_debug());
    }
    front.ended().await;
}

/// The bytes of a request of HTTP/3 with a field `x` of this length: one HEADERS frame (RFC 9114, section 7.2.2) whose
/// fields are literals or of the static table (RFC 9204, section 4.5).
fn long_head(value_bytes: u16) -> Vec<u8> {
    let mut section = vec![0, 0, 0xd1, 0xd7, 0xc1, 0x50, 5];
    section.extend(b"a.net");
    section.extend([0x21, b'x', 0x7f]);
    let mut left = value_bytes - 127;
    while left >= 128 {
        section.push(u8::try_from(left % 128).expect("7 bits") | 0x80);
        left /= 128;
    }
    section.push(u8::try_from(left).expect("7 bits"));
    section.extend(std::iter::repeat_n(b'y', value_bytes.into()));
    let length = u32::try_from(section.len()).expect("a short section") | 0x8000_0000;
    [&[1][..], &length.to_be_bytes(), &section].concat()
}

/// Sends bytes on one request stream of HTTP/3, as a client that keeps to no limit; all that comes back.
async fn raw_h3(front: &Front, bytes: &[u8]) -> Vec<u8> {
    let quic = front.quic().await;
    let mut control = quic.open_uni().await.expect("a stream");
    control.write_all(&[0, 4, 0]).await.expect("it is read");
    let (mut send, mut recv) = quic.open_bi().await.expect("a stream");
    send.write_all(bytes).await.expect("it is read");
    let _ = send.finish();
    recv.read_to_end(1 << 16).await.expect("a response")
}

#[tokio::test]
async fn a_head_that_is_too_long_is_answered_431_on_each_protocol() {
    let settings = Settings { header_bytes_max: 8192, ..Settings::default() };
    let counts = settings.counts.clone();
    let front = Front::with(settings, |_| async { text("served") });
    for protocol in [Protocol::H1, Protocol::H2] {
        let mut client = front.client(protocol).await;
        let long = Request::get("https://a.net/").header("x", "y".repeat(9000)).body(nothing()).expect("a request");
        let response = client.send(long).await.expect("a response");
        assert_eq!(response.status(), 431, "{protocol:?}");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert!(read(response).await.expect("a body").contains("\"headers_too_large\""));
    }
    assert_eq!(counts.faults(Code::HeadersTooLarge), 2);
    let said = raw_h3(&front, &long_head(9000)).await;
    assert!(String::from_utf8_lossy(&said).contains("\"headers_too_large\""), "{}", said.escape_ascii());
    let said = raw_h3(&front, &long_head(1000)).await;
    assert!(said.ends_with(b"served"), "{}", said.escape_ascii());
    assert_eq!(front.arrivals.load(Ordering::Relaxed), 1);
    front.ended().await;
}

#[tokio::test]
async fn a_client_that_is_refused_and_goes_on_sending_gets_its_answer_and_then_is_cut() {
    let front = Front::answering(|_| async { text("served") });
    let stream = front.raw("a.net", "http/1.1").await.expect("TLS");
    let (mut recv, mut send) = tokio::io::split(stream);
    let endless = tokio::spawn(async move {
        let _ = send.write_all(b"GET / HTTP/1.1\r\nhost : a.net\r\n\r\n").await;
        while send.write_all(&[b'x'; 16 << 10]).await.is_ok() {}
    });
    let mut said = Vec::new();
    let _ = recv.read_to_end(&mut said).await;
    let said = String::from_utf8_lossy(&said);
    assert!(said.starts_with("HTTP/1.1 400 ") && said.contains("\"bad_request\""), "{said}");
    endless.await.expect("it is cut");
    assert_eq!(front.arrivals.load(Ordering::Relaxed), 0);
    front.ended().await;
}
