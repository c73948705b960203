//! Upstreams that send what is no HTTP, too much of it, or too little.

use std::time::Duration;

use eyot_plan::fault::Code;
use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;

use crate::harness::*;

/// How an exchange ends.
#[derive(Debug, PartialEq, Eq)]
enum Ends {
    /// Before the response's head.
    Head(Code),
    /// After it, in the body.
    Body(Code),
    /// Well, with this body.
    Well(&'static str),
}
use Ends::{Body, Head, Well};

/// What a server does after the bytes it says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Close,
    Repeat(&'static str),
    Stall,
}
use Then::{Close, Repeat, Stall};

async fn server(says: &'static str, then: Then) -> Server {
    raw(move |mut stream, _| async move {
        read_head(&mut stream).await.expect("a head");
        stream.write_all(says.as_bytes()).await.expect("written");
        match then {
            Close => {}
            Stall => read_all(&mut stream).await,
            Repeat(text) => {
                let many = text.repeat((4096 / text.len()).max(1));
                while stream.write_all(many.as_bytes()).await.is_ok() {}
            }
        }
    })
    .await
}

async fn ends(server: &Server, change: impl FnOnce(&mut eyot_plan::way::Way)) -> Ends {
    let mut way = way();
    change(&mut way);
    let fetch = fetch();
    let response = match fetch.send(&way, get(server.http("/"))).await {
        Ok(response) => response,
        Err(fault) => return Head(fault.code),
    };
    match response.into_body().collect().await {
        Ok(all) => Well(String::from_utf8_lossy(&all.to_bytes()).into_owned().leak()),
        Err(fault) => Body(fault.code),
    }
}

const GOOD: &str = "HTTP/1.1 200 OK\r\n";

#[tokio::test]
async fn what_is_no_response_is_a_bad_response_and_nothing_of_it_is_passed_on() {
    let bad = Code::UpstreamBadResponse;
    for (says, then, expect) in [
        ("", Close, Head(bad)),
        ("HTT", Close, Head(bad)),
        ("\0\x01\x02 garbage\r\n\r\n", Stall, Head(bad)),
        ("SSH-2.0-OpenSSH_9\r\n", Stall, Head(bad)),
        ("HTTP/0.9 200 OK\r\n\r\n", Stall, Head(bad)),
        ("HTTP/1.1 99999 OK\r\n\r\n", Stall, Head(bad)),
        ("HTTP/1.1 200 OK\r\nx", Repeat("x"), Head(bad)),
        ("HTTP/1.1 200 OK\r\n", Repeat("x: y\r\n"), Head(bad)),
        ("", Repeat("HTTP/1.1 103 Early Hints\r\n\r\n"), Head(bad)),
        ("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", Stall, Head(bad)),
        ("HTTP/1.1 200 OK\r\na: 1\r\n folded\r\n\r\n", Stall, Head(bad)),
        ("HTTP/1.1 200 OK\r\na : 1\r\n\r\n", Stall, Head(bad)),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx", Stall, Head(bad)),
        ("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", Stall, Head(bad)),
        ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", Stall, Head(bad)),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nx", Close, Head(bad)),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", Close, Head(bad)),
        ("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", Close, Head(bad)),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", Close, Body(bad)),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", Close, Body(bad)),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nabc\r\n", Stall, Body(bad)),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n", Stall, Body(bad)),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3;", Repeat("x"), Body(bad)),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", Repeat("a: b\r\n"), Body(bad)),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\na", Repeat("a"), Body(bad)),
        ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcdef", Stall, Well("abc")),
        ("HTTP/1.1 200 OK\r\n\r\nto the end", Close, Well("to the end")),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: ab12\r\n\r\nto the end", Close, Well("to the end")),
        ("HTTP/1.0 200 OK\r\n\r\nto the end", Close, Well("to the end")),
    ] {
        assert_eq!(ends(&server(says, then).await, |_| {}).await, expect, "{says:?}");
    }
}

#[tokio::test]
async fn a_head_within_its_bounds_passes_and_one_over_them_does_not() {
    let head = |fields: usize, bytes: usize| {
        let mut head = GOOD.to_owned();
        for number in 0..fields {
            head.push_str(&format!("x-{number}: {}\r\n", "v".repeat(bytes)));
        }
        head + "content-length: 0\r\n\r\n"
    };
    for (text, good) in
        [(head(250, 10), true), (head(300, 10), false), (head(60, 1_000), true), (head(70, 1_000), false)]
    {
        let ended = ends(&says(text).await, |_| {}).await;
        assert_eq!(ended, if good { Well("") } else { Head(Code::UpstreamBadResponse) });
    }
}

#[tokio::test]
async fn an_upstream_that_is_too_slow_anywhere_is_late() {
    type Change = fn(&mut eyot_plan::way::Way);
    let late = Code::UpstreamTimeout;
    let first: Change = |way| way.timeouts.first_byte_ms = 100;
    let between: Change = |way| way.timeouts.between_bytes_ms = 100;
    let total: Change = |way| way.timeouts.total_ms = 150;
    let body = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx";
    for (says, then, change, expect) in [
        ("", Stall, first, Head(late)),
        ("H", Stall, first, Head(late)),
        ("HTTP/1.1 103 Early Hints\r\n\r\n", Stall, first, Head(late)),
        ("", Stall, total, Head(late)),
        (body, Stall, between, Body(late)),
        (body, Stall, total, Body(late)),
        ("HTTP/1.1 200 OK\r\n\r\n", Repeat("endless"), total, Body(late)),
    ] {
        assert_eq!(ends(&server(says, then).await, change).await, expect, "{says:?}");
    }
}

#[tokio::test]
async fn an_upstream_that_says_a_byte_now_and_then_ends_with_its_time_in_all() {
    let server = raw(|mut stream, _| async move {
        read_head(&mut stream).await.expect("a head");
        let mut said = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while said.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
            said = stream.write_all(b"x").await;
        }
    })
    .await;
    let change = |way: &mut eyot_plan::way::Way| {
        (way.timeouts.between_bytes_ms, way.timeouts.total_ms) = (10_000, 200);
    };
    assert_eq!(ends(&server, change).await, Body(Code::UpstreamTimeout));
}

#[tokio::test]
async fn a_handshake_that_never_ends_ends_with_the_time_to_connect() {
    let server = raw(|mut stream, _| async move { read_all(&mut stream).await }).await;
    let mut way = way();
    way.timeouts.connect_ms = 100;
    let uri = server.https("127.0.0.1", "/");
    assert_eq!(outcome(&fetch(), &way, get(uri)).await, Err(Code::UpstreamTimeout));
}

#[tokio::test]
async fn an_http_2_server_that_is_silent_is_asked_whether_it_is_there() {
    // Longer than the silence and the time for an answer, so that who answers pings is waited for until then.
    let first_byte_ms = 100_000;
    for (answers, expect) in [(true, Code::UpstreamTimeout), (false, Code::UpstreamBadResponse)] {
        let (ca, mut config) = certificate(&["up.test"]);
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
        let (told, mut asked) = tokio::sync::mpsc::channel(1);
        let server = raw(move |stream, _| {
            let (acceptor, told) = (acceptor.clone(), told.clone());
            async move {
                let Ok(tls) = acceptor.accept(stream).await else { return };
                let Ok(mut connection) = h2::server::handshake(tls).await else { return };
                let request = connection.accept().await;
                told.send(()).await.expect("heard");
                if answers {
                    drop(connection.accept().await);
                } else {
                    std::future::pending::<()>().await;
                }
                drop(request);
            }
        })
        .await;
        let mut way = way_tls(Some("up.test"), Some(&ca));
        way.timeouts.first_byte_ms = first_byte_ms;
        let fetch = fetch();
        let asking = tokio::spawn(async move { outcome(&fetch, &way, get(server.https("127.0.0.1", "/"))).await });
        asked.recv().await.expect("asked");
        tokio::time::pause();
        assert_eq!(asking.await.expect("no panic"), Err(expect), "answers {answers}");
        tokio::time::resume();
    }
}
