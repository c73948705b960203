//! Balancers that say who their client is.

use core::time::Duration;

use eyot_front::{Plain, Settings};
use eyot_plan::body;
use http::Response;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;

use crate::harness::{Front, tcp};

/// A front that believes loopback, or nobody, and answers with who asked.
fn front(believes: bool, per_address: u32) -> Front {
    let peers = if believes { vec!["127.0.0.0/8".parse().expect("a network")] } else { Vec::new() };
    let settings = Settings {
        plain: Plain::Serve,
        proxy_peers: peers,
        connections_per_address_max: per_address,
        ..Settings::default()
    };
    Front::with(settings, |arrival| async move { Response::new(body::full(arrival.client.to_string())) })
}

const REQUEST: &str = "GET / HTTP/1.1\r\nhost: a.net\r\nconnection: close\r\n\r\n";

/// Sends `first` and a request in the clear; all that comes back.
async fn ask(front: &Front, first: &str) -> String {
    let mut stream = tcp(front.plain).await.expect("a listener");
    let own = stream.local_addr().expect("bound").to_string();
    // It may be closed already.
    let _ = stream.write_all(format!("{first}{REQUEST}").as_bytes()).await;
    let mut response = Vec::new();
    let _ = stream.read_to_end(&mut response).await;
    String::from_utf8_lossy(&response).replace(&own, "itself")
}

const CLIENT: &str = "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n";

#[tokio::test]
async fn a_balancer_names_its_client_and_one_that_does_not_is_closed() {
    for (believes, first, expect) in [
        (true, CLIENT, "192.0.2.1:56324"),
        (true, "PROXY UNKNOWN\r\n", "itself"),
        (true, "PROXY TCP4 192.0.2.1\r\n", ""),
        (true, "", ""), // the request is no header
        (false, "", "itself"),
        (false, CLIENT, "400"), // nobody asked
    ] {
        let front = front(believes, 256);
        let response = ask(&front, first).await;
        assert!(response.contains(expect) && response.is_empty() == expect.is_empty(), "{first:?}: {response}");
        front.ended().await;
    }
}

#[tokio::test]
async fn the_header_comes_before_tls() {
    let front = front(true, 256);
    let mut stream = tcp(front.tls).await.expect("a listener");
    stream.write_all(CLIENT.as_bytes()).await.expect("written");
    let name = rustls_pki_types::ServerName::try_from("a.net").expect("a name");
    let connector = TlsConnector::from(std::sync::Arc::new(front.trust(&["http/1.1"])));
    let mut stream = connector.connect(name, stream).await.expect("TLS");
    stream.write_all(REQUEST.as_bytes()).await.expect("written");
    let mut response = String::new();
    stream.read_to_string(&mut response).await.expect("a response");
    assert!(response.ends_with("192.0.2.1:56324"), "{response}");
    front.ended().await;
}

#[tokio::test]
async fn what_one_address_may_have_is_counted_for_the_client_and_not_for_its_balancer() {
    let front = front(true, 1);
    let plain = front.plain;
    let open = |client: &'static str| async move {
        let mut stream = tcp(plain).await.expect("a listener");
        let head = format!("PROXY TCP4 {client} 198.51.100.1 1 443\r\nGET / HTTP/1.1\r\nhost: a.net\r\n\r\n");
        let _ = stream.write_all(head.as_bytes()).await;
        let mut first = [0; 12];
        (stream.read_exact(&mut first).await.is_ok(), stream)
    };
    let (mut held, mut answered) = (Vec::new(), Vec::new());
    for client in ["192.0.2.1", "192.0.2.2", "192.0.2.1"] {
        let (is_answered, stream) = open(client).await;
        answered.push(is_answered);
        held.push(stream);
    }
    assert_eq!(answered, [true, true, false]);
    drop(held);
    front.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_balancer_that_says_nothing_is_closed_when_a_head_would_be() {
    let front = front(true, 256);
    let began = tokio::time::Instant::now();
    let mut stream = tcp(front.plain).await.expect("a listener");
    stream.write_all(b"PROXY ").await.expect("written");
    let mut nothing = Vec::new();
    stream.read_to_end(&mut nothing).await.expect("closed");
    assert!(nothing.is_empty() && began.elapsed() >= Settings::default().header_timeout);
    front.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_balancer_that_has_connected_may_name_its_client_when_another_process_has_taken_over() {
    let mut front = front(true, 256);
    let mut stream = tcp(front.plain).await.expect("a listener");
    tokio::time::sleep(Duration::from_secs(1)).await;
    front.hand_over();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let _ = stream.write_all(format!("{CLIENT}{REQUEST}").as_bytes()).await;
    let mut response = String::new();
    let _ = stream.read_to_string(&mut response).await;
    assert!(response.ends_with("192.0.2.1:56324"), "{response:?}");
    front.ended().await;
}
