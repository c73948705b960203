//! What a server of HTTP/2 is told, and what is not believed of one: heads and lengths, frame by frame.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use eyot_plan::body::{self, Body};
use eyot_plan::fault::Code;
use eyot_plan::way::Way;
use http::{Request, Response};
use http_body::Frame;

use crate::harness::*;

type Seen = Arc<Mutex<Vec<String>>>;

/// A server of HTTP/2 that keeps each request as text, whether it had a body, and answers with these fields and `ok`.
async fn telling(fields: &'static [(&'static str, &'static str)]) -> (Server, Way, Seen) {
    let (ca, mut config) = certificate(&["up.test"]);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let seen = Seen::default();
    let keep = Arc::clone(&seen);
    let server = raw(move |stream, _| {
        let (acceptor, keep) = (acceptor.clone(), Arc::clone(&keep));
        async move {
            let Ok(tls) = acceptor.accept(stream).await else { return };
            let Ok(mut connection) = h2::server::handshake(tls).await else { return };
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                let mut said = format!("{} {}\n", request.method(), request.uri());
                for (name, value) in request.headers() {
                    said.push_str(&format!("{name}: {}\n", value.to_str().expect("text")));
                }
                said.push_str(if request.body().is_end_stream() { "no body" } else { "a body" });
                keep.lock().expect("no panic").push(said);
                let head = fields.iter().fold(Response::builder(), |head, (name, value)| head.header(*name, *value));
                if let Ok(mut stream) = respond.send_response(head.body(()).expect("a head"), false) {
                    drop(stream.send_data(Bytes::from_static(b"ok"), true));
                }
            }
        }
    })
    .await;
    (server, way_tls(Some("up.test"), Some(&ca)), seen)
}

fn pieces() -> Body {
    frames(vec![Ok(Frame::data(Bytes::from_static(b"a"))), Ok(Frame::data(Bytes::from_static(b"bc")))])
}

#[tokio::test]
async fn a_server_of_http_2_is_told_one_authority_one_length_at_most_and_nothing_of_another_connection() {
    let (server, way, seen) = telling(&[]).await;
    let fetch = fetch();
    type Fields = &'static [(&'static str, &'static str)];
    type Row = (&'static str, Fields, fn() -> Body, &'static [&'static str]);
    let table: [Row; 8] = [
        ("GET", &[], body::empty, &["no body"]),
        ("HEAD", &[], body::empty, &["no body"]),
        ("POST", &[], body::empty, &["content-length: 0", "no body"]),
        ("POST", &[], || body::full("abc"), &["content-length: 3", "a body"]),
        ("POST", &[], pieces, &["a body"]),
        ("PUT", &[("content-length", "3")], pieces, &["content-length: 3", "a body"]),
        ("GET", &[("content-length", "0")], body::empty, &["content-length: 0", "no body"]),
        (
            "GET",
            &[
                ("host", "evil.test"),
                ("connection", "x-hop, close"),
                ("x-hop", "1"),
                ("transfer-encoding", "chunked"),
                ("keep-alive", "1"),
                ("upgrade", "h2c"),
                ("proxy-connection", "1"),
                ("te", "gzip"),
                ("expect", "100-continue"),
            ],
            body::empty,
            &["no body"],
        ),
    ];
    for (method, fields, body, expect) in table {
        let request = Request::builder().method(method).uri(server.https("127.0.0.1", "/a?b"));
        let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let response = fetch.send(&way, request.body(body()).expect("a request")).await.expect("an answer");
        assert_eq!(response.status(), 200);
        drop(response);
        let said = seen.lock().expect("no panic").pop().expect("one");
        let uri = server.https("127.0.0.1", "/a?b");
        let asked = format!("{method} {uri}");
        let mut expect = [&[asked.as_str(), "te: trailers"], expect].concat();
        let mut lines: Vec<_> = said.lines().collect();
        lines.sort_unstable();
        expect.sort_unstable();
        assert_eq!(lines, expect, "{method} {fields:?}");
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_length_of_http_2_that_is_not_the_bodys_is_a_bad_response() {
    for (fields, expect) in [
        (&[("content-length", "2")][..], ok("ok")),
        (&[("content-length", "1")], Err(Code::UpstreamBadResponse)),
        (&[("content-length", "3")], Err(Code::UpstreamBadResponse)),
        (&[("content-length", "2"), ("content-length", "3")], Err(Code::UpstreamBadResponse)),
        (&[("content-length", "+2")], Err(Code::UpstreamBadResponse)),
    ] {
        let (server, way, _) = telling(fields).await;
        let ended = outcome(&fetch(), &way, get(server.https("127.0.0.1", "/"))).await;
        assert_eq!(ended, expect, "{fields:?}");
    }
}
