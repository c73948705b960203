//! Whom TLS believes.

use eyot_plan::body;
use eyot_plan::fault::Code;
use http::Response;

use crate::harness::*;

async fn hello(_: http::Request<hyper::body::Incoming>) -> Response<body::Body> {
    Response::new(body::full("hello"))
}

#[tokio::test]
async fn only_the_right_name_under_a_trusted_authority_is_spoken_to() {
    let (ca, config) = certificate(&["up.test", "127.0.0.1"]);
    let (other, _) = certificate(&["up.test", "127.0.0.1"]);
    let server = https(config, "h2", hello).await;
    let at_ip = server.https("127.0.0.1", "/");
    let at_name = server.https("localhost", "/");
    let refused = Err(Code::UpstreamTls);
    for (uri, name, authority, expect) in [
        (&at_ip, None, Some(ca.as_str()), ok("hello")),
        (&at_ip, Some("up.test"), Some(ca.as_str()), ok("hello")),
        (&at_name, Some("up.test"), Some(ca.as_str()), ok("hello")),
        (&at_name, Some("up.test."), Some(ca.as_str()), ok("hello")),
        (&at_name, None, Some(ca.as_str()), refused.clone()),
        (&at_ip, Some("down.test"), Some(ca.as_str()), refused.clone()),
        (&at_ip, Some("not a name"), Some(ca.as_str()), refused.clone()),
        (&at_ip, None, Some(other.as_str()), refused.clone()),
        (&at_ip, None, Some("no certificate"), refused.clone()),
        (&at_ip, None, None, refused.clone()),
    ] {
        let result = outcome(&fetch(), &way_tls(name, authority), get(uri)).await;
        assert_eq!(result, expect, "{uri} {name:?}");
    }
}

#[tokio::test]
async fn an_authority_of_the_node_is_believed_beside_the_public_ones() {
    let (ca, config) = certificate(&["127.0.0.1"]);
    let server = https(config, "http/1.1", hello).await;
    let fetch = fetch_with(|options| options.ca = Some(ca));
    assert_eq!(outcome(&fetch, &way(), get(server.https("127.0.0.1", "/"))).await, ok("hello"));
    let bad = eyot_fetch::Options { ca: Some("none".to_owned()), ..Default::default() };
    assert!(matches!(eyot_fetch::Fetch::new(bad), Err(eyot_fetch::Error::Authorities(_))));
}

#[tokio::test]
async fn a_server_without_tls_or_that_hangs_up_in_it_fails_tls() {
    let plain = says("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let garbage = raw(|mut stream, _| async move {
        drop(tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await);
        read_all(&mut stream).await;
    })
    .await;
    let gone = raw(|stream, _| async move { drop(stream) }).await;
    let mut way = way();
    way.timeouts.connect_ms = 1_000;
    for (server, expect) in [(plain, Code::UpstreamTimeout), (garbage, Code::UpstreamTls), (gone, Code::UpstreamTls)] {
        assert_eq!(outcome(&fetch(), &way, get(server.https("127.0.0.1", "/"))).await, Err(expect));
    }
}

#[tokio::test]
async fn time_to_connect_is_not_counted_as_time_to_the_first_byte() {
    let (ca, mut config) = certificate(&["127.0.0.1"]);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let server = raw(move |stream, _| {
        let acceptor = acceptor.clone();
        async move {
            tokio::time::sleep(std::time::Duration::from_millis(600)).await;
            let mut tls = acceptor.accept(stream).await.expect("a handshake");
            read_head(&mut tls).await.expect("a head");
            let said = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nup";
            tokio::io::AsyncWriteExt::write_all(&mut tls, said).await.expect("written");
        }
    })
    .await;
    let mut way = way_tls(None, Some(&ca));
    (way.timeouts.connect_ms, way.timeouts.first_byte_ms) = (20_000, 500);
    assert_eq!(outcome(&fetch(), &way, get(server.https("127.0.0.1", "/"))).await, ok("up"));
}

#[tokio::test]
async fn sessions_are_resumed_and_what_no_longer_fits_is_made_anew() {
    use rustls::HandshakeKind::{Full, Resumed};
    let (ca, mut config) = certificate(&["*.up.test"]);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let (told, mut kinds) = tokio::sync::mpsc::unbounded_channel();
    let server = raw(move |stream, _| {
        let (acceptor, told) = (acceptor.clone(), told.clone());
        async move {
            let mut tls = acceptor.accept(stream).await.expect("a handshake");
            told.send(tls.get_ref().1.handshake_kind()).expect("the test listens");
            read_head(&mut tls).await.expect("a head");
            let said = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nup";
            tokio::io::AsyncWriteExt::write_all(&mut tls, said).await.expect("written");
        }
    })
    .await;
    let fetch = fetch();
    // A server's sessions are its name's, so each name is another server; all have one configuration.
    let others = (1..=33).map(|number| (number, Full));
    for (number, kind) in [(0, Full), (0, Resumed)].into_iter().chain(others).chain([(33, Resumed), (0, Full)]) {
        let way = way_tls(Some(&format!("n{number}.up.test")), Some(&ca));
        assert_eq!(outcome(&fetch, &way, get(server.https("127.0.0.1", "/"))).await, ok("up"));
        assert_eq!(kinds.recv().await, Some(Some(kind)), "n{number}");
    }
}
