//! Clients that have to prove their address first: a relay between them and the listener sees that they were asked.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use eyot_front::Settings;
use tokio::net::UdpSocket;

use crate::harness::{Front, read, text};
use eyot_plan::arrival::Protocol;

/// Passes datagrams of one client on to `server` and back; the count is of the Retry packets that came back.
async fn relay(server: SocketAddr) -> (SocketAddr, Arc<AtomicUsize>) {
    let front = UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
    let back = UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
    back.connect(server).await.expect("loopback");
    let (address, retries) = (front.local_addr().expect("bound"), Arc::<AtomicUsize>::default());
    let count = Arc::clone(&retries);
    tokio::spawn(async move {
        let (mut up, mut down, mut client) = ([0; 65_536], [0; 65_536], None);
        loop {
            tokio::select! {
                Ok((bytes, from)) = front.recv_from(&mut up) => {
                    client = Some(from);
                    let _ = back.send(&up[..bytes]).await;
                }
                Ok(bytes) = back.recv(&mut down) => {
                    // A long header of the type Retry, whose other four bits mean nothing (RFC 9000, section 17.2.5).
                    count.fetch_add(usize::from(down[0] & 0xf0 == 0xf0 && down[1..5] == [0, 0, 0, 1]), Ordering::Relaxed);
                    let _ = front.send_to(&down[..bytes], client.expect("it spoke first")).await;
                }
            }
        }
    });
    (address, retries)
}

#[tokio::test]
async fn once_half_of_the_places_are_taken_a_client_proves_its_address_and_is_answered() {
    let in_all = Settings { connections_max: 4, ..Settings::default() };
    let of_one = Settings { connections_per_address_max: 4, ..Settings::default() };
    for settings in [in_all, of_one] {
        let front = Front::with(settings, |_| async { text("served") });
        let mut taken = Vec::new();
        for retries in [0, 0, 1, 1] {
            let (address, seen) = relay(front.tls).await;
            let config = Arc::new(front.trust(&["h3"]));
            let client = eyot_h3::client::connect(config, address, "a.net").await.expect("a connection");
            let mut client = crate::harness::Client::H3(client);
            let response = client.get("https://a.net/").await.expect("a response");
            assert_eq!(read(response).await.expect("a body"), "served");
            assert_eq!(seen.load(Ordering::Relaxed), retries, "with {} taken", taken.len());
            taken.push(client);
        }
        assert!(front.client_of(Protocol::H3, "a.net").await.is_err(), "a proven address is no place");
        drop(taken);
        front.ended().await;
    }
}

#[tokio::test]
async fn a_client_that_was_here_brings_what_it_was_given_and_need_not_prove_its_address() {
    let settings = Settings { connections_per_address_max: 4, ..Settings::default() };
    let front = Front::with(settings, |_| async { text("served") });
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(front.trust(&["h3"])).expect("TLS 1.3");
    // It keeps the tokens.
    let config = quinn::ClientConfig::new(Arc::new(tls));
    let mut taken = Vec::new();
    for _ in 0..4 {
        let (address, retries) = relay(front.tls).await;
        let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).expect("a socket");
        let connecting = endpoint.connect_with(config.clone(), address, "a.net").expect("a client");
        let quic = connecting.await.expect("a connection");
        let given = async {
            while quic.stats().frame_rx.new_token == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), given).await.expect("it is given tokens");
        assert_eq!(retries.load(Ordering::Relaxed), 0, "with {} taken", taken.len());
        taken.push((quic, endpoint));
    }
    drop(taken);
    front.ended().await;
}
