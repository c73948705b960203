//! Endpoints of two generations on one port, and clients of quinn.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, ConnectionError, Endpoint};
use rcgen::{CertificateParams, KeyPair};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;

use super::*;
use crate::certificates::{Certificates, Files};
use crate::drain::Late;
use crate::h3;
use crate::settings::Settings;
use crate::sockets::{Addresses, Sockets};
use crate::tls::{Tls, Waiting};
use crate::turn::Turn;

/// Sockets of a generation.
const COUNT: usize = 4;
const CLIENTS: usize = 40;

/// A port whose generations of endpoints all give back what they are sent on a stream.
struct Port {
    address: SocketAddr,
    sockets: Sockets,
    tls: Tls,
    keys: Keys,
    client: quinn::ClientConfig,
}

/// What one process of a line is: its part of the port.
struct Process {
    mine: Generation,
    steering: Steering,
    endpoints: Vec<Endpoint>,
    /// Connections that each endpoint took.
    taken: Vec<Arc<AtomicUsize>>,
    counts: Arc<Counts>,
    turn: Arc<Turn>,
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
        let mut roots = RootCertStore::empty();
        roots.add(own.der().clone()).expect("a certificate");
        let client = rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13]);
        let mut client = client.expect("a version").with_root_certificates(roots).with_no_client_auth();
        client.alpn_protocols = vec![b"h3".to_vec()];
        let client = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(client).expect("TLS 1.3")));
        let address = sockets.tls[0].local_addr().expect("bound");
        Self { address, sockets, tls, keys, client }
    }

    /// The process that begins, or the one after `before`.
    fn process(&self, before: Option<&Process>) -> Process {
        let mine = before.map_or(Generation::Even, |before| before.mine.next());
        let line = before.and_then(|before| before.steering.successor(before.mine).expect("there may be another"));
        let udp = self.sockets.try_clone().expect("room").udp;
        let steering = Steering::new(udp, line.map_or_else(Relay::default, Relay::by)).expect("sockets");
        let counts = Arc::<Counts>::default();
        let (mut endpoints, mut taken, turn) = (Vec::new(), Vec::new(), Turn::new(true));
        for slot in steering.take(mine, before.is_some(), &counts).expect("its half") {
            let endpoint = h3::endpoint(&self.tls, &self.keys, &turn, slot).expect("an endpoint");
            taken.push(Arc::<AtomicUsize>::default());
            tokio::spawn(echo(endpoint.clone(), Arc::clone(&taken[taken.len() - 1])));
            endpoints.push(endpoint);
        }
        Process { mine, steering, endpoints, taken, counts, turn }
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
}

impl Process {
    /// It takes over from `before`, which drains.
    fn takes_over_from(&self, before: &Self) {
        before.steering.steer(self.mine, Other::Drains).expect("it can be left");
        self.steering.steer(self.mine, Other::Drains).expect("it can be taken over");
    }

    /// How many connections its endpoints have taken, all of which have a part.
    fn taken(&self) -> usize {
        let all: Vec<_> = self.taken.iter().map(|taken| taken.load(Ordering::SeqCst)).collect();
        assert!(all.iter().all(|taken| *taken > 0) || all.iter().all(|taken| *taken == 0), "{all:?}");
        all.iter().sum()
    }

    /// It ends, as [`crate::run`] does.
    async fn end(self) {
        for endpoint in &self.endpoints {
            h3::close(endpoint, Late::Refused).await;
        }
        self.steering.end();
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
    let is_refused = std::env::var_os(REFUSED).is_some();
    let port = Port::new();
    let first = port.process(None);
    assert_eq!(first.counts.is_relaying(), is_refused, "the kernel steers unless it refuses to");
    let old = port.connect().await;
    assert_eq!(first.taken(), CLIENTS);
    assert_eq!(move_all(&old).await, CLIENTS, "each stays with its endpoint");

    let second = port.process(Some(&first));
    assert_eq!(move_all(&old).await, CLIENTS, "another process that is only prepared is nothing to them");
    second.takes_over_from(&first);
    let new = port.connect().await;
    assert_eq!((first.taken(), second.taken()), (CLIENTS, CLIENTS));
    assert_eq!(move_all(&old).await, CLIENTS, "they stay with the generation that drains");
    assert_eq!(move_all(&new).await, CLIENTS);

    let dropped = (first.counts.relay_dropped(), second.counts.relay_dropped());
    assert_eq!(dropped, (0, 0), "there was room and somebody for all");
    first.end().await;
    assert_eq!(move_all(&new).await, CLIENTS, "the end of the old ones is nothing to the new");
    second.steering.steer(second.mine, Other::Gone).expect("it is alone");
    assert_eq!(move_all(&new).await, CLIENTS);

    let third = port.process(Some(&second));
    third.takes_over_from(&second);
    let newest = port.connect().await;
    assert_eq!((second.taken(), third.taken()), (CLIENTS, CLIENTS), "one upgrade follows another");
    assert_eq!((move_all(&new).await, move_all(&newest).await), (CLIENTS, CLIENTS));
    let relayed = [&second, &third].map(|process| process.counts.relayed() > 0);
    assert_eq!(relayed, [is_refused; 2]);
    if !is_refused {
        falls(&second, &third, &newest).await;
        assert_eq!(move_all(&new).await, CLIENTS, "who was not with it does not notice");
    }
}

/// The one that took over falls: its clients are told by the one that takes back.
async fn falls(old: &Process, new: &Process, clients: &[(Endpoint, Connection)]) {
    for endpoint in &new.endpoints {
        endpoint.rebind(UdpSocket::bind("127.0.0.1:0").expect("loopback")).expect("it hears nobody any more");
    }
    old.steering.steer(old.mine, Other::Gone).expect("it takes back");
    old.turn.alone();
    for (_, connection) in clients {
        assert!(!lives(connection).await);
        let why = connection.closed().await;
        assert!(matches!(why, ConnectionError::Reset), "{why}");
    }
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
    let mut child = Command::new(std::env::current_exe().expect("this test"));
    child.env(UNPRIVILEGED, "1");
    let is_root = std::fs::read_to_string("/proc/self/status").expect("procfs").contains("\nUid:\t0\t");
    if is_root {
        child.uid(NOBODY).gid(NOBODY);
    }
    play(child, "no_privilege_is_needed_to_steer");
}

/// Set in the process that plays the story where the kernel takes no program.
const REFUSED: &str = "EYOT_TEST_REFUSED";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_kernel_takes_no_program_the_processes_pass_datagrams_on_and_nothing_else_differs() {
    if std::env::var_os(REFUSED).is_some() {
        return story().await;
    }
    let launcher = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/harness/peers/refuse_steering.py");
    let mut child = Command::new("python3");
    child.arg(launcher).arg(std::env::current_exe().expect("this test")).env(REFUSED, "1");
    play(child, "where_the_kernel_takes_no_program_the_processes_pass_datagrams_on_and_nothing_else_differs");
}

/// Plays one test of this file in a process of its own.
fn play(mut child: Command, test: &str) {
    child.args([&format!("steer::tests::live::{test}"), "--exact", "--nocapture"]);
    let output = child.output().expect("run");
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}");
    assert!(told.contains("1 passed"), "it was played: {told}");
}

#[tokio::test]
async fn an_address_with_one_socket_cannot_be_shared_by_two_generations() {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let addresses = Addresses { https: vec![any], udp_sockets: 1, generations: 1, ..Addresses::default() };
    let udp = Sockets::bind(&addresses).expect("loopback").udp;
    let steering = Steering::new(udp, Relay::default()).expect("sockets");
    assert!(steering.steer(Generation::Odd, Other::Drains).is_err());
    assert!(steering.successor(Generation::Even).is_err());
    let counts = Arc::<Counts>::default();
    let slots = steering.take(Generation::Even, false, &counts).expect("one");
    assert_eq!(slots.iter().map(|slot| slot.slot).collect::<Vec<_>>(), [0]);
    assert!(!counts.is_relaying(), "there is nobody to relay to");
}
