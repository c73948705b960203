//! Handshakes that nobody takes: first packets of real clients, sent to an endpoint that is not listened on.

use std::collections::HashMap;
use std::net::UdpSocket;

use futures_util::FutureExt as _;
use quinn::crypto::rustls::QuicClientConfig;
use rcgen::{CertificateParams, KeyPair};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use tempfile::TempDir;
use tokio::net::UdpSocket as Udp;

use super::*;
use crate::certificates::{Certificates, Files};
use crate::settings::TlsSettings;
use crate::tls::Waiting;

/// A datagram that begins a handshake is padded to this (RFC 9000, section 14.1).
const DATAGRAM_BYTES: usize = 1200;

/// An endpoint with a place for `waiting`.
fn waits(folder: &TempDir, waiting: &Waiting) -> Endpoint {
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(["a.net".to_owned()]).expect("a name").self_signed(&key).expect("one");
    let (chain_file, key_file) = (folder.path().join("a.pem"), folder.path().join("a.key"));
    std::fs::write(&chain_file, certificate.pem()).expect("a file");
    std::fs::write(&key_file, key.serialize_pem()).expect("a file");
    let certificates =
        Certificates::load(&[Files { chain: chain_file, key: key_file, ocsp: None }]).expect("good files");
    let keys = Keys::random().expect("randomness");
    let tls =
        Tls::new(certificates, TlsSettings::default(), transport(&Settings::default()), waiting, &keys).expect("TLS");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    endpoint(&tls, &keys, &Turn::new(false), Slot { socket, slot: 0, relayed: None }).expect("an endpoint")
}

/// The first datagrams of this many clients, each as it came over the wire.
async fn first_flights(count: usize) -> Vec<Vec<u8>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config =
        rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
    let mut config = config.expect("a version").with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    config.alpn_protocols = vec![b"h3".to_vec()];
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).expect("TLS 1.3")));
    let client = Endpoint::client(([127, 0, 0, 1], 0).into()).expect("a socket");
    let trap = Udp::bind("127.0.0.1:0").await.expect("loopback");
    let to = trap.local_addr().expect("bound");
    let connect = |_| client.connect_with(config.clone(), to, "a.net").expect("a name");
    let _clients: Vec<_> = (0..count).map(connect).collect();
    let mut flights = HashMap::new();
    let mut buffer = [0; 2048];
    while flights.len() < count {
        let bytes = trap.recv(&mut buffer).await.expect("a datagram");
        // By the identifier that the client chose for the server (RFC 9000, section 17.2).
        let id = buffer[6..6 + usize::from(buffer[5])].to_vec();
        flights.entry(id).or_insert_with(|| buffer[..bytes].to_vec());
    }
    flights.into_values().collect()
}

/// Waits until the endpoint has seen all that was sent before: it answers a version that it does not speak (RFC 9000,
/// section 6.1), in its turn.
async fn seen(socket: &Udp) {
    let mut strange = [0; DATAGRAM_BYTES];
    strange[..6].copy_from_slice(&[0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8]);
    strange[14] = 8;
    socket.send(&strange).await.expect("sent");
    let mut said = [0; 2048];
    while socket.recv(&mut said).await.expect("an answer") < 5 || said[1..5] != [0; 4] {}
}

async fn client_of(endpoint: &Endpoint) -> Udp {
    let socket = Udp::bind("127.0.0.1:0").await.expect("loopback");
    socket.connect(endpoint.local_addr().expect("bound")).await.expect("loopback");
    socket
}

/// The handshakes that wait, taken out.
fn taken(endpoint: &Endpoint) -> Vec<Incoming> {
    std::iter::from_fn(|| endpoint.accept().now_or_never().flatten()).collect()
}

#[tokio::test]
async fn so_many_handshakes_wait_and_one_more_is_not_heard_until_one_is_taken() {
    let folder = TempDir::new().expect("a folder");
    let endpoint = waits(&folder, &Waiting { handshakes_max: 2, ..Waiting::default() });
    let socket = client_of(&endpoint).await;
    let flights = first_flights(3).await;
    for flight in &flights {
        socket.send(flight).await.expect("sent");
    }
    seen(&socket).await;
    let mut waiting = taken(&endpoint);
    assert_eq!(waiting.len(), 2);
    waiting.pop().expect("one of two").ignore();
    socket.send(&flights[2]).await.expect("sent");
    seen(&socket).await;
    waiting.extend(taken(&endpoint));
    assert_eq!(waiting.len(), 2, "it asks again, and there is a place");
    waiting.into_iter().for_each(Incoming::ignore);
}

#[tokio::test]
async fn what_comes_for_handshakes_that_wait_is_kept_up_to_a_bound_of_each_and_of_all() {
    const SENT: usize = 100;
    let default = Waiting::default();
    let small = Waiting { bytes_max: 20_000, ..Waiting::default() };
    let (each, all) = (default.bytes_each_max, small.bytes_max);
    for (waiting, clients, kept_max) in [(default, 1, each), (small, 3, all)] {
        let folder = TempDir::new().expect("a folder");
        let endpoint = waits(&folder, &waiting);
        let socket = client_of(&endpoint).await;
        let flights = first_flights(clients).await;
        for _ in 0..SENT {
            for flight in &flights {
                socket.send(flight).await.expect("sent");
            }
            seen(&socket).await;
        }
        let incoming = taken(&endpoint);
        assert_eq!(incoming.len(), clients);
        let kept = incoming.into_iter().map(|incoming| {
            let connecting = incoming.accept().expect("a sound packet");
            let (quic, _) = connecting.into_0rtt().unwrap_or_else(|_| panic!("a server may always"));
            // The first is not counted: it is the handshake itself.
            quic.stats().udp_rx.datagrams * DATAGRAM_BYTES as u64
        });
        let kept: u64 = kept.sum();
        assert!(kept <= kept_max && kept + DATAGRAM_BYTES as u64 > kept_max, "{kept} of {kept_max}");
    }
}
