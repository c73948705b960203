//! Good exchanges: bodies, trailers, heads, and who is told when one side leaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use eyot_plan::body;
use eyot_plan::fault::{Code, Fault};
use http::{HeaderMap, Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use crate::harness::*;

/// The same echo over both versions, with the ways to them.
async fn echoes() -> [(String, eyot_plan::way::Way); 3] {
    let (ca, config) = certificate(&["up.test"]);
    let plain = http(echo).await;
    let h1 = https(config.clone(), "http/1.1", echo).await;
    let h2 = https(config, "h2", echo).await;
    let tls = || way_tls(Some("up.test"), Some(&ca));
    [(plain.http(""), way()), (h1.https("127.0.0.1", ""), tls()), (h2.https("127.0.0.1", ""), tls())]
}

fn trailers(name: &'static str, value: &'static str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert(name, value.parse().expect("a value"));
    trailers
}

#[tokio::test]
async fn a_body_and_its_trailers_pass_both_ways_over_both_versions() {
    let fetch = fetch();
    for (base, way) in echoes().await {
        for pieces in [0, 1, 500] {
            let piece = || Ok(Frame::data(Bytes::from(vec![7; 16 << 10])));
            let mut sent: Vec<_> = (0..pieces).map(|_| piece()).collect();
            sent.push(Ok(Frame::trailers(trailers("x-sum", "9"))));
            let request = Request::post(format!("{base}/a?b=c")).header("trailer", "x-sum").body(frames(sent));
            let response = fetch.send(&way, request.expect("a request")).await.expect("an answer");
            let back = response.into_body().collect().await.expect("a whole body");
            assert_eq!(back.trailers(), Some(&trailers("x-sum", "9")), "{base}");
            let back = back.to_bytes();
            assert!(back.len() == pieces * (16 << 10) && back.iter().all(|byte| *byte == 7), "{base} {pieces}");
        }
    }
}

#[tokio::test]
async fn a_head_arrives_with_its_host_and_without_what_was_for_one_hop() {
    let fetch = fetch();
    for (base, way) in echoes().await {
        let request = Request::get(&base)
            .header("host", "other.test")
            .header("connection", "x-hop")
            .header("x-hop", "1")
            .header("x-kept", "1")
            .header("upgrade", "websocket")
            .header("expect", "100-continue")
            .body(body::empty());
        let response = fetch.send(&way, request.expect("a request")).await.expect("an answer");
        let saw =
            |name: &str| response.headers().get(format!("x-saw-{name}")).map(|value| value.to_str().expect("text"));
        let authority = base.split("//").nth(1).expect("an authority");
        if base.starts_with("http:") {
            assert_eq!((saw("host"), saw("connection")), (Some(authority), Some("te")));
        }
        assert_eq!([saw("x-kept"), saw("te")], [Some("1"), Some("trailers")], "{base}");
        assert_eq!([saw("x-hop"), saw("upgrade"), saw("expect"), saw("content-length")], [None; 4], "{base}");
        assert!(response.headers()["x-uri"].to_str().expect("text").ends_with('/'), "{base}");
        assert!(!response.headers().contains_key("transfer-encoding"), "{base}");
    }
}

#[tokio::test]
async fn a_response_that_has_no_body_ends_at_once_and_keeps_its_length() {
    for (method, head, status, length) in [
        (Method::HEAD, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", 200, Some("5")),
        (Method::GET, "HTTP/1.1 204 No Content\r\n\r\n", 204, None),
        (Method::GET, "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", 304, Some("5")),
        (Method::GET, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200, Some("0")),
        (Method::GET, "HTTP/1.1 302 Found\r\nlocation: /else\r\ncontent-length: 0\r\n\r\n", 302, Some("0")),
        (
            Method::GET,
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 204 N\r\n\r\n",
            204,
            None,
        ),
    ] {
        let (server, fetch) = (says(head).await, fetch());
        for _ in 0..2 {
            let request = Request::builder().method(&method).uri(server.http("/")).body(body::empty());
            let response = fetch.send(&way(), request.expect("a request")).await.expect("an answer");
            let seen = response.headers().get("content-length").map(|value| value.to_str().expect("text").to_owned());
            assert_eq!((response.status().as_u16(), seen.as_deref()), (status, length), "{head}");
            assert_eq!(response.into_body().collect().await.expect("no body").to_bytes(), "", "{head}");
            until(|| fetch.idle() == 1).await;
        }
        assert_eq!(server.connections(), 1, "{head}");
    }
}

#[tokio::test]
async fn a_fault_of_the_requests_own_body_is_told_as_it_is() {
    let fetch = fetch();
    for (base, way) in echoes().await {
        let broken = vec![Ok(Frame::data(Bytes::from_static(b"ab"))), Err(Fault::new(Code::ClientTimeout))];
        let request = Request::post(&base).body(frames(broken)).expect("a request");
        assert_eq!(outcome(&fetch, &way, request).await, Err(Code::ClientTimeout), "{base}");
        for length in ["1", "3"] {
            let wrong = frames(vec![Ok(Frame::data(Bytes::from_static(b"ab")))]);
            let request = Request::post(&base).header("content-length", length).body(wrong).expect("a request");
            assert_eq!(outcome(&fetch, &way, request).await, Err(Code::BadRequest), "{base} {length}");
        }
    }
}

#[tokio::test]
async fn an_upstream_that_takes_nothing_is_late_and_little_is_buffered_for_it() {
    let server = raw(|stream, _| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let given = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&given);
    let endless = futures_util::stream::repeat_with(move || {
        count.fetch_add(64 << 10, Ordering::SeqCst);
        Ok(Frame::data(Bytes::from_static(&[0; 64 << 10])))
    });
    let request = Request::post(server.http("/")).body(StreamBody::new(endless).boxed_unsync()).expect("a request");
    let mut way = way();
    way.timeouts.between_bytes_ms = 200;
    assert_eq!(outcome(&fetch(), &way, request).await, Err(Code::UpstreamTimeout));
    // What the kernel's socket buffers hold, and one buffer of ours.
    assert!(given.load(Ordering::SeqCst) < 32 << 20);
}

#[tokio::test]
async fn a_slow_client_is_not_the_upstreams_fault() {
    let server = http(echo).await;
    let (sender, receiver) = mpsc::channel::<Result<Frame<Bytes>, Fault>>(1);
    let source =
        futures_util::stream::unfold(receiver, |mut from| async move { from.recv().await.map(|it| (it, from)) });
    let request = Request::post(server.http("/")).body(StreamBody::new(source).boxed_unsync()).expect("a request");
    let mut way = way();
    (way.timeouts.first_byte_ms, way.timeouts.between_bytes_ms) = (50, 50);
    let slow = tokio::spawn(async move {
        for _ in 0..5 {
            tokio::time::sleep(std::time::Duration::from_millis(60)).await;
            sender.send(Ok(Frame::data(Bytes::from_static(b"x")))).await.expect("taken");
        }
    });
    assert_eq!(outcome(&fetch(), &way, request).await, ok("xxxxx"));
    slow.await.expect("sent");
}

#[tokio::test]
async fn a_request_or_body_that_is_dropped_closes_its_http_1_connection() {
    let (told, mut closed) = mpsc::channel(1);
    let server = raw(move |mut stream, _| {
        let told = told.clone();
        async move {
            let head = read_head(&mut stream).await.expect("a head");
            if head.starts_with("GET /body") {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx").await.expect("written");
            } else {
                told.send("asked").await.expect("heard");
            }
            read_all(&mut stream).await;
            told.send("closed").await.expect("heard");
        }
    })
    .await;
    let fetch = fetch();
    let response = fetch.send(&way(), get(server.http("/body"))).await.expect("an answer");
    drop(response);
    assert_eq!(closed.recv().await, Some("closed"));
    let (asking, way) = (fetch.clone(), way());
    let request = get(server.http("/future"));
    let asked = tokio::spawn(async move { asking.send(&way, request).await.map(drop) });
    assert_eq!(closed.recv().await, Some("asked"));
    asked.abort();
    assert_eq!(closed.recv().await, Some("closed"));
    assert_eq!(fetch.idle(), 0);
}

/// Says when it is dropped.
struct Told(mpsc::Sender<&'static str>);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.try_send("dropped").expect("somebody listens");
    }
}

#[tokio::test]
async fn a_request_or_body_that_is_dropped_resets_its_http_2_stream_and_no_other() {
    let (told, mut heard) = mpsc::channel(8);
    let (ca, config) = certificate(&["up.test"]);
    let server = https(config, "h2", move |request| {
        let told = told.clone();
        async move {
            if request.uri().path() == "/good" {
                return Response::new(body::full("good"));
            }
            let guard = Told(told.clone());
            told.send("asked").await.expect("heard");
            if request.uri().path() == "/head" {
                std::future::pending::<()>().await;
            }
            let endless = futures_util::stream::unfold(guard, |guard| async move {
                tokio::task::yield_now().await;
                Some((Ok(Frame::data(Bytes::from_static(b"x"))), guard))
            });
            Response::new(StreamBody::new(endless).boxed_unsync())
        }
    })
    .await;
    let (fetch, way) = (fetch(), way_tls(Some("up.test"), Some(&ca)));
    let good = || get(server.https("127.0.0.1", "/good"));
    assert_eq!(outcome(&fetch, &way, good()).await, ok("good"));
    let mut response = fetch.send(&way, get(server.https("127.0.0.1", "/body"))).await.expect("an answer");
    assert!(response.body_mut().frame().await.expect("a frame").is_ok());
    assert_eq!(heard.recv().await, Some("asked"));
    drop(response);
    assert_eq!(heard.recv().await, Some("dropped"));
    let (asking, that) = (fetch.clone(), way.clone());
    let request = get(server.https("127.0.0.1", "/head"));
    let asked = tokio::spawn(async move { asking.send(&that, request).await.map(drop) });
    assert_eq!(heard.recv().await, Some("asked"));
    asked.abort();
    assert_eq!(heard.recv().await, Some("dropped"));
    assert_eq!(outcome(&fetch, &way, good()).await, ok("good"));
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn what_can_not_be_sent_is_refused() {
    let (server, fetch) = (http(echo).await, fetch());
    let request = |method: Method, uri: String| Request::builder().method(method).uri(uri);
    for (built, expect) in [
        (request(Method::CONNECT, server.http("/")), Code::EgressDenied),
        (request(Method::GET, format!("ftp://{}/", server.address)), Code::EgressDenied),
        (request(Method::GET, "/".to_owned()), Code::EgressDenied),
        (request(Method::GET, format!("http://u@{}/", server.address)), Code::BadRequest),
        (request(Method::POST, server.http("/")).header("content-length", "+1"), Code::BadRequest),
        (request(Method::POST, server.http("/")).header("content-length", "1, 1"), Code::BadRequest),
        (
            request(Method::POST, server.http("/")).header("content-length", "1").header("content-length", "2"),
            Code::BadRequest,
        ),
    ] {
        let request = built.body(body::full("x")).expect("a request");
        assert_eq!(outcome(&fetch, &way(), request).await, Err(expect));
    }
    assert_eq!(server.connections(), 0);
}
