//! Endpoints of two generations on one port, and clients of quinn.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, Endpoint};
use rcgen::{CertificateParams, KeyPair};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;

use super::*;
use crate::certificates::{Certificates, Files};
use crate::settings::Settings;
use crate::sockets::{Addresses, Sockets};
use crate::tls::{Tls, Waiting};
use crate::{h3, steer};

/// Sockets of a generation.
const COUNT: usize = 4;
const CLIENTS: usize = 40;

/// A port with two generations of endpoints, all of which give back what they are sent on a stream.
struct Port {
    address: SocketAddr,
    steering: Steering,
    /// Connections that each endpoint took.
    taken: Vec<Arc<AtomicUsize>>,
    client: quinn::ClientConfig,
}

impl Port {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let key = KeyPair::generate().expect("a key");
        let own = CertificateParams::new(["a.net".to_owned()]).expect("a name").self_signed(&key).expect("one");
        let (chain, key_file) = (folder.path().join("a.pem"), folder.path().join("a.key"));
        std::fs::write(&chain, own.pem()).expect("a file");
        std::fs::write(&key_file, key.serialize_pem()).expect("a file");
        let certificates = Certificates::load(&[Files { chain, key: key_file, ocsp: None }]).expect("good files");
        let keys = Keys::random().expect("randomness");
        let settings = Settings::default();
        let tls = Tls::new(certificates, settings.tls.clone(), h3::transport(&settings), &Waiting::default(), &keys);
        let tls = tls.expect("TLS");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let addresses = Addresses { https: vec![any], udp_sockets: COUNT, generations: 2, ..Addresses::default() };
        let sockets = Sockets::bind(&addresses).expect("loopback");
        let steering = Steering::new(sockets.udp).expect("sockets");
        let mut taken = Vec::new();
        for generation in [Generation::Even, Generation::Odd] {
            for slot in steering.take(generation, true).expect("its half") {
                let endpoint = h3::endpoint(&tls, &keys, slot).expect("an endpoint");
                taken.push(Arc::<AtomicUsize>::default());
                tokio::spawn(echo(endpoint, Arc::clone(&taken[taken.len() - 1])));
            }
        }
        let mut roots = RootCertStore::empty();
        roots.add(own.der().clone()).expect("a certificate");
        let client = rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13]);
        let mut client = client.expect("a version").with_root_certificates(roots).with_no_client_auth();
        client.alpn_protocols = vec![b"h3".to_vec()];
        let client = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(client).expect("TLS 1.3")));
        Self { address: sockets.tls[0].local_addr().expect("bound"), steering, taken, client }
    }

    /// Clients, each on a socket of its own.
    async fn connect(&self) -> Vec<(Endpoint, Connection)> {
        let connect = || async {
            let client = Endpoint::client(([127, 0, 0, 1], 0).into()).expect("a socket");
            let connection = client.connect_with(self.client.clone(), self.address, "a.net").expect("a name");
            (client, connection.await.expect("it is taken"))
        };
        futures_util::future::join_all((0..CLIENTS).map(|_| connect())).await
    }

    /// How many connections each generation has taken.
    fn taken(&self) -> [Vec<usize>; 2] {
        let all: Vec<_> = self.taken.iter().map(|taken| taken.load(Ordering::SeqCst)).collect();
        [all[..COUNT].to_vec(), all[COUNT..].to_vec()]
    }
}

async fn echo(endpoint: Endpoint, taken: Arc<AtomicUsize>) {
    while let Some(incoming) = endpoint.accept().await {
        taken.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(async move {
            let Ok(connection) = incoming.await else { return };
            while let Ok((mut send, mut recv)) = connection.accept_bi().await {
                let Ok(bytes) = recv.read_to_end(64).await else { return };
                let _ = send.write_all(&bytes).await;
                let _ = send.finish();
            }
        });
    }
}

/// Whether the connection still carries a stream both ways.
async fn lives(connection: &Connection) -> bool {
    let exchange = async {
        let (mut send, mut recv) = connection.open_bi().await.ok()?;
        send.write_all(b"still there").await.ok()?;
        send.finish().ok()?;
        recv.read_to_end(64).await.ok()
    };
    exchange.await.is_some_and(|bytes| bytes == b"still there")
}

/// Gives every client another address, and says how many connections are still alive then.
async fn move_all(clients: &[(Endpoint, Connection)]) -> usize {
    let mut living = 0;
    for (client, connection) in clients {
        client.rebind(UdpSocket::bind("127.0.0.1:0").expect("loopback")).expect("another socket");
        living += usize::from(lives(connection).await);
    }
    living
}

async fn story() {
    let port = Port::new();
    port.steering.steer(Generation::Even, Other::Gone).expect("the kernel takes the program");
    let old = port.connect().await;
    let [even, odd] = port.taken();
    assert_eq!((even.iter().sum::<usize>(), odd.iter().sum::<usize>()), (CLIENTS, 0));
    assert!(even.iter().all(|taken| *taken > 0), "all endpoints have a part: {even:?}");
    assert_eq!(move_all(&old).await, CLIENTS, "each stays with its endpoint");

    port.steering.steer(Generation::Odd, Other::Drains).expect("the kernel takes another");
    let new = port.connect().await;
    let [even, odd] = port.taken();
    assert_eq!((even.iter().sum::<usize>(), odd.iter().sum::<usize>()), (CLIENTS, CLIENTS));
    assert!(odd.iter().all(|taken| *taken > 0), "all endpoints have a part: {odd:?}");
    assert_eq!(move_all(&old).await, CLIENTS, "they stay with the generation that drains");
    assert_eq!(move_all(&new).await, CLIENTS);

    port.steering.steer(Generation::Odd, Other::Gone).expect("the kernel takes a third");
    assert_eq!(move_all(&new).await, CLIENTS, "the end of the old ones is nothing to the new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_stay_with_their_endpoints_and_new_ones_begin_at_the_generation_that_serves() {
    story().await;
}

/// Set in the process that plays the story without privileges.
const UNPRIVILEGED: &str = "EYOT_TEST_UNPRIVILEGED";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_privilege_is_needed_to_steer() {
    const NOBODY: u32 = 65_534;
    if std::env::var_os(UNPRIVILEGED).is_some() {
        return story().await;
    }
    let this = "steer::tests::live::no_privilege_is_needed_to_steer";
    let mut child = Command::new(std::env::current_exe().expect("this test"));
    child.args([this, "--exact", "--nocapture"]).env(UNPRIVILEGED, "1");
    let is_root = std::fs::read_to_string("/proc/self/status").expect("procfs").contains("\nUid:\t0\t");
    if is_root {
        child.uid(NOBODY).gid(NOBODY);
    }
    let output = child.output().expect("run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "it was played");
}

#[test]
fn an_address_with_one_socket_cannot_be_shared_by_two_generations() {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let addresses = Addresses { https: vec![any], udp_sockets: 1, generations: 1, ..Addresses::default() };
    let steering = Steering::new(Sockets::bind(&addresses).expect("loopback").udp).expect("sockets");
    assert!(!steering.has_two_generations());
    assert!(steering.steer(Generation::Odd, Other::Drains).is_err());
    let slots = steering.take(Generation::Even, false).expect("one");
    assert_eq!(slots.iter().map(|slot| slot.slot).collect::<Vec<_>>(), [0]);
    let _: &[steer::Slot] = &slots;
}
