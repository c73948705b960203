//! Servers that are told who the client is, before the first byte of HTTP or TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use eyot_bundle::release::upstream::{ProxyProtocol, Queue};
use eyot_plan::body;
use eyot_plan::proxied::Proxied;
use eyot_plan::way::{Bound, Way};
use http::Response;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::harness::*;

/// A way that tells of this client; none: it asks for itself.
fn way_for(way: &Way, version: ProxyProtocol, client: Option<&str>) -> Way {
    let client = client.map(|text| text.parse::<SocketAddr>().expect("an address"));
    Way { proxied: Some(Proxied { version, client, port: 8443 }), ..way.clone() }
}

/// What a connection begins with, and not one byte more.
async fn header(stream: &mut TcpStream) -> Vec<u8> {
    let mut header = vec![0; 12];
    stream.read_exact(&mut header).await.expect("a header");
    if header.starts_with(b"PROXY ") {
        while !header.ends_with(b"\r\n") {
            header.push(stream.read_u8().await.expect("a line"));
        }
        return header;
    }
    let mut rest = [0; 4];
    stream.read_exact(&mut rest).await.expect("a header");
    let mut addresses = vec![0; usize::from(u16::from_be_bytes([rest[2], rest[3]]))];
    stream.read_exact(&mut addresses).await.expect("addresses");
    header.extend(rest.into_iter().chain(addresses));
    header
}

/// A server that answers with what its connection began with.
async fn told(tls: Option<(rustls::ServerConfig, &'static str)>) -> Server {
    let is_h2 = tls.as_ref().is_some_and(|(_, alpn)| *alpn == "h2");
    let acceptor = tls.map(|(mut config, alpn)| {
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        tokio_rustls::TlsAcceptor::from(Arc::new(config))
    });
    raw(move |mut stream, _| {
        let acceptor = acceptor.clone();
        async move {
            let began = String::from_utf8_lossy(&header(&mut stream).await).into_owned();
            let answer = move |_| std::future::ready(Response::new(body::full(began.clone())));
            match acceptor {
                None => serve(stream, is_h2, answer).await,
                Some(acceptor) => serve(acceptor.accept(stream).await.expect("TLS"), is_h2, answer).await,
            }
        }
    })
    .await
}

fn text(way: &Way) -> String {
    String::from_utf8_lossy(&way.proxied.expect("a header").header()).into_owned()
}

#[tokio::test]
async fn each_connection_begins_with_its_client_before_tls() {
    let (ca, config) = certificate(&["127.0.0.1"]);
    let plain = told(None).await;
    let (h1, h2) = (told(Some((config.clone(), "http/1.1"))).await, told(Some((config, "h2"))).await);
    let trusting = way_tls(None, Some(&ca));
    for (way, uri) in [
        (way(), plain.http("/")),
        (trusting.clone(), h1.https("127.0.0.1", "/")),
        (trusting, h2.https("127.0.0.1", "/")),
    ] {
        for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
            for client in [Some("192.0.2.7:5000"), Some("[2001:db8::7]:5000"), None] {
                let way = way_for(&way, version, client);
                assert_eq!(outcome(&fetch(), &way, get(&uri)).await, ok(&text(&way)), "{uri} {version:?} {client:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_connection_carries_only_requests_of_the_client_it_began_with() {
    let (ca, config) = certificate(&["127.0.0.1"]);
    for alpn in ["h2", "http/1.1"] {
        let server = told(Some((config.clone(), alpn))).await;
        let fetch = fetch();
        for (client, connections) in [
            (Some("192.0.2.7:5000"), 1),
            (Some("192.0.2.7:5001"), 2),
            (Some("192.0.2.8:5000"), 3),
            (None, 4),
            (Some("192.0.2.7:5000"), 4),
            (Some("192.0.2.8:5000"), 4),
            (None, 4),
        ] {
            let way = way_for(&way_tls(None, Some(&ca)), ProxyProtocol::V2, client);
            assert_eq!(outcome(&fetch, &way, get(server.https("127.0.0.1", "/"))).await, ok(&text(&way)));
            until(|| fetch.idle() == server.connections()).await;
            assert_eq!(server.connections(), connections, "{alpn} {client:?}");
        }
    }
}

#[tokio::test]
async fn clients_are_bounded_together_and_what_is_idle_of_one_makes_room_for_the_next() {
    let (ca, config) = certificate(&["127.0.0.1"]);
    let bound = Some(Bound { connections_max: 1, queue: Queue { length: 8, wait_ms: 60_000 } });
    for alpn in ["h2", "http/1.1"] {
        let server = told(Some((config.clone(), alpn))).await;
        let fetch = fetch();
        for (client, connections) in [("192.0.2.7:1", 1), ("192.0.2.7:2", 2), ("192.0.2.7:2", 2), ("192.0.2.7:1", 3)] {
            let way = way_for(&Way { bound, ..way_tls(None, Some(&ca)) }, ProxyProtocol::V1, Some(client));
            assert_eq!(outcome(&fetch, &way, get(server.https("127.0.0.1", "/"))).await, ok(&text(&way)));
            until(|| fetch.idle() == 1).await;
            assert_eq!(server.connections(), connections, "{alpn} {client}");
        }
    }
}
