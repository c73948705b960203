//! What goes through to upstreams byte by byte: nothing that two readers could understand differently, over HTTP/1.1 and
//! HTTP/2, and hints on their way back.

use std::net::SocketAddr;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::targets::loopback;
use super::*;

/// An upstream that keeps what each connection sends until its request is whole, and says `answer`.
async fn raw(answer: &'static str) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let seen = Arc::<Mutex<Vec<String>>>::default();
    let keep = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let keep = Arc::clone(&keep);
            tokio::spawn(async move {
                let mut said = Vec::new();
                while !is_whole(&String::from_utf8_lossy(&said)) {
                    said.push(stream.read_u8().await.expect("more"));
                }
                keep.lock().expect("no panic").push(String::from_utf8(said).expect("text"));
                stream.write_all(answer.as_bytes()).await.expect("written");
            });
        }
    });
    (address, seen)
}

/// Whether this is a whole request: a head, and the body that its framing says.
fn is_whole(said: &str) -> bool {
    let Some((head, body)) = said.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    match length {
        Some(length) => body.len() == length.parse::<usize>().expect("a number"),
        None if head.contains("transfer-encoding: chunked") => {
            body.ends_with("0\r\n\r\n") || body.ends_with("\r\n\r\n")
        }
        None => true,
    }
}

fn to(server: SocketAddr) -> Value {
    json!({"routes": [{"id": "api", "host": "shop.test", "path": "/*", "target": {"upstream": "api"}}],
        "upstreams": {"api": {"servers": [format!("http://{server}")]}}})
}

fn pieces(pieces: &[&'static str]) -> Body {
    let frame = |piece: &&'static str| Ok(http_body::Frame::data(bytes::Bytes::from_static(piece.as_bytes())));
    let frames: Vec<_> = pieces.iter().map(frame).collect();
    StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync()
}

#[tokio::test]
async fn an_upstream_of_http_1_sees_one_host_one_framing_and_who_passed_it_on() {
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    type Fields = &'static [(&'static str, &'static str)];
    // Method, fields, body; what it must have once, and what it must lack.
    type Row = (&'static str, Fields, &'static [&'static str], &'static [&'static str], &'static [&'static str]);
    let table: [Row; 8] = [
        ("GET", &[], &[], &[], &["content-length", "transfer-encoding", "expect"]),
        ("HEAD", &[], &[], &[], &["content-length", "transfer-encoding"]),
        ("POST", &[("content-length", "4")], &["a", "bcd"], &["content-length: 4\r\n"], &["transfer-encoding"]),
        ("POST", &[], &["a", "bcd"], &["transfer-encoding: chunked\r\n"], &["content-length"]),
        ("GET", &[("te", "trailers"), ("x-own", "1")], &[], &["te: trailers\r\n", "x-own: 1\r\n"], &[]),
        ("GET", &[("te", "gzip;q=1, trailers")], &[], &["te: trailers\r\n"], &["gzip"]),
        (
            "GET",
            &[("via", "1.0 fred"), ("forwarded", "for=6.6.6.6")],
            &[],
            &["via: 1.0 fred\r\n", "via: 3 eyot\r\n"],
            &["6.6.6.6"],
        ),
        (
            "GET",
            &[
                ("connection", "x-hop"),
                ("x-hop", "1"),
                ("keep-alive", "1"),
                ("upgrade", "h2c"),
                ("proxy-connection", "a"),
                ("transfer-encoding", "chunked"),
                ("host", "evil.test"),
                ("expect", "100-continue"),
                ("eyot-x", "1"),
            ],
            &[],
            &[],
            &["x-hop", "keep-alive", "upgrade", "proxy-", "transfer-encoding", "evil", "expect", "eyot-x"],
        ),
    ];
    for (method, fields, body, has, lacks) in table {
        let (server, seen) = raw(ok).await;
        let house = house();
        house.granted(1, &to(server), &loopback());
        let request = Request::builder().method(method).uri("https://shop.test/a%2fb/?q");
        let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let body = if body.is_empty() { body::empty() } else { pieces(body) };
        let response = house.ask(request, body).await;
        assert_eq!(response.status(), 200, "{method} {fields:?}");
        let said = seen.lock().expect("no panic").join("--");
        assert!(said.starts_with(&format!("{method} /a%2fb/?q HTTP/1.1\r\n")), "{said}");
        for (line, count) in [
            (format!("\r\nhost: {server}\r\n"), 1),
            ("\r\nhost:".to_owned(), 1),
            ("\r\nforwarded: for=203.0.113.7;host=\"shop.test\";proto=https\r\n".to_owned(), 1),
            ("\r\nforwarded:".to_owned(), 1),
            ("\r\nx-forwarded-for: 203.0.113.7\r\n".to_owned(), 1),
            ("\r\nconnection: te\r\n".to_owned(), 1),
            ("\r\nconnection:".to_owned(), 1),
        ] {
            assert_eq!(said.matches(&line).count(), count, "{line} in {said}");
        }
        has.iter().for_each(|has| assert_eq!(said.matches(has).count(), 1, "{has} in {said}"));
        lacks.iter().for_each(|lacks| assert!(!said.contains(lacks), "{lacks} in {said}"));
    }
}

#[tokio::test]
async fn an_answer_to_head_has_its_length_and_no_body_and_a_425_of_an_upstream_passes() {
    for (method, answer, status, length) in [
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", 200, Some("9")),
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbody", 200, Some("4")),
        ("GET", "HTTP/1.1 425 Too Early\r\ncontent-length: 0\r\n\r\n", 425, Some("0")),
        ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 502, None),
        ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc", 502, None),
        ("GET", "HTTP/1.1 101 OK\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", 502, None),
    ] {
        let (server, _) = raw(answer).await;
        let house = house();
        house.granted(1, &to(server), &loopback());
        let response = house.ask(Request::builder().method(method).uri("https://shop.test/"), body::empty()).await;
        let seen = response.headers().get("content-length").map(|value| value.to_str().expect("text"));
        assert_eq!((response.status().as_u16(), seen), (status, length), "{answer}");
        let text = text(response).await;
        assert_eq!(text.is_empty(), status != 502, "{answer}: {text}");
    }
}

#[tokio::test]
async fn eight_hints_of_an_upstream_pass_and_say_nothing_that_is_the_nodes_to_say() {
    let hint = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\nalt-svc: x\r\neyot-x: 1\r\nx-request-id: 1\r\n\r\n";
    let answer = format!("HTTP/1.1 100 Continue\r\n\r\n{}HTTP/1.1 204 OK\r\n\r\n", hint.repeat(9)).leak();
    let (server, _) = raw(answer).await;
    let house = house();
    house.granted(1, &to(server), &loopback());
    let told = Arc::<Mutex<Vec<_>>>::default();
    let tell = Arc::clone(&told);
    let interim = Interim::new(move |head| tell.lock().expect("no panic").push(head));
    let request = arrival(Request::get("https://shop.test/"), body::empty());
    let response = house.node.answer(Box::new(Arrival { interim, ..request })).await;
    assert_eq!(response.status(), 204);
    let told = told.lock().expect("no panic");
    assert_eq!(told.len(), 8);
    for head in told.iter() {
        let fields: Vec<_> = head.headers().keys().map(http::HeaderName::as_str).collect();
        assert_eq!((head.status().as_u16(), fields), (103, vec!["link"]));
    }
}
