//! How many connections there may be, how long they may take, and what they carry.

use std::time::Duration;

use eyot_front::Settings;
use eyot_plan::arrival::Protocol;
use eyot_plan::body;
use http::Response;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{ALL, Front, read, text};

/// Everything a server says until it closes; a connection that is cut counts as closed.
async fn until_closed(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said).await;
    String::from_utf8(said).expect("text")
}

#[tokio::test]
async fn an_address_over_its_limit_is_refused_until_a_connection_ends() {
    let settings = Settings { connections_per_address_max: 2, ..Settings::default() };
    let counts = settings.counts.clone();
    let front = Front::with(settings, |_| async { text("served") });
    for protocol in ALL {
        let mut first = front.client(protocol).await;
        let mut second = front.client(protocol).await;
        let before = counts.refused();
        assert!(front.client_of(protocol, "a.net").await.is_err(), "{protocol:?}");
        assert!(counts.refused() > before);
        for client in [&mut first, &mut second] {
            assert_eq!(read(client.get("https://a.net/").await.expect("a response")).await.expect("a body"), "served");
        }
        assert!(counts.connections(protocol) == 2);
        first.leave();
        // The place comes back when the server has seen the end.
        while front.client_of(protocol, "a.net").await.is_err() {}
        second.leave();
        while counts.connections(protocol) > 0 {
            tokio::task::yield_now().await;
        }
    }
    front.ended().await;
}

#[tokio::test]
async fn over_the_limit_of_all_a_connection_waits_for_its_place() {
    let settings = Settings { connections_max: 1, ..Settings::default() };
    let front = Front::with(settings, |_| async { text("served") });
    let first = front.client(Protocol::H2).await;
    let (waiting, ()) = tokio::join!(front.client_of(Protocol::H2, "a.net"), async {
        tokio::task::yield_now().await;
        first.leave();
    });
    let mut waiting = waiting.expect("its turn came");
    assert_eq!(read(waiting.get("https://a.net/").await.expect("a response")).await.expect("a body"), "served");
    waiting.leave();
    front.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_head_is_answered_408_and_cut_and_silence_is_only_cut() {
    let front = Front::answering(|_| async { text("served") });
    for (sent, expect) in [("GET / HTTP/1.1\r\nhost: a.n", "HTTP/1.1 408 "), ("", "")] {
        let mut stream = front.raw("a.net", "http/1.1").await.expect("TLS");
        stream.write_all(sent.as_bytes()).await.expect("it is read");
        let said = until_closed(&mut stream).await;
        assert!(said.starts_with(expect) && said.is_empty() == expect.is_empty(), "{said}");
        assert_eq!(said.contains("\"client_timeout\""), !expect.is_empty());
    }
    let mut silent = crate::harness::tcp(front.tls).await.expect("a listener");
    assert_eq!(until_closed(&mut silent).await, "", "no handshake");
    let mut half = front.raw("a.net", "h2").await.expect("TLS");
    half.write_all(b"PRI * HTTP/2.0\r\n").await.expect("it is read");
    until_closed(&mut half).await;
    front.ended().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed() {
    let settings = Settings::default();
    let (idle, counts) = (settings.connection_idle, settings.counts.clone());
    let front = Front::with(settings, |_| async { text("served") });
    for protocol in ALL {
        let mut client = front.client(protocol).await;
        assert_eq!(read(client.get("https://a.net/").await.expect("a response")).await.expect("a body"), "served");
        tokio::time::sleep(idle / 2).await;
        assert_eq!(counts.connections(protocol), 1, "{protocol:?}");
        while counts.connections(protocol) > 0 {
            tokio::time::sleep(Duration::from_secs(1)).await; // of the paused clock
        }
        assert!(client.get("https://a.net/").await.is_err(), "{protocol:?}");
    }
    front.ended().await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let front = Front::answering(|arrival: eyot_plan::arrival::Arrival| async move {
        Response::new(body::full(format!("<{}>", arrival.request.uri().path())))
    });
    let mut stream = front.raw("a.net", "http/1.1").await.expect("TLS");
    let one = "GET /1 HTTP/1.1\r\nhost: a.net\r\n\r\n";
    let two = "POST /2 HTTP/1.1\r\nhost: a.net\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let bad = "GET /3 HTTP/1.1\r\nhost : a.net\r\n\r\nGET /4 HTTP/1.1\r\nhost: a.net\r\n\r\n";
    stream.write_all([one, two, bad].concat().as_bytes()).await.expect("it is read");
    let said = until_closed(&mut stream).await;
    let heads: Vec<_> = said.match_indices("HTTP/1.1 ").map(|(at, _)| &said[at + 9..at + 12]).collect();
    assert_eq!(heads, ["200", "200", "400"], "{said}");
    assert!(said.find("</1>") < said.find("</2>") && !said.contains("</4>"), "{said}");
    front.ended().await;
}
