//! Tests of a running node: its sockets, its admin, its end.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use eyot_bundle::sign::{self, Header, Holders, Key, RootRoles};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use super::*;
use crate::config::Environment;

/// A config whose files are all there and whose origin is not.
fn config(folder: &Path) -> Config {
    let certified = rcgen::generate_simple_self_signed(["shop.test".to_owned()]).expect("a certificate");
    let key = Key::generate().expect("a key");
    let one = || Holders::one(key.public());
    let roles = RootRoles { root: one(), targets: one(), snapshot: one(), timestamp: one() };
    let header = Header { version: 1, expires: "2036-01-01T00:00:00Z".parse().expect("a time") };
    let root = sign::root(header, &roles, &[&key]).expect("a root");
    for (name, bytes) in [
        ("shop.pem", certified.cert.pem().as_bytes()),
        ("shop.key", certified.signing_key.serialize_pem().as_bytes()),
        ("root.json", &root),
        ("token", b"abcdefghijklmnopqrst"),
    ] {
        std::fs::write(folder.join(name), bytes).expect("written");
    }
    let source = r#"
        [node]
        id = "test-1"
        state = "state"
        [listen]
        https = ["127.0.0.1:0"]
        http = ["127.0.0.1:0"]
        admin = ["127.0.0.1:0", "FOLDER/admin.sock"]
        [tls]
        certificates = [{ chain = "shop.pem", key = "./shop.key" }]
        [origin]
        urls = ["https://127.0.0.1:1"]
        ca = "shop.pem"
        root = "root.json"
        token = "./token"
        [functions]
        slots = 2
        threads = 1
        compile = { cache = "cache" }
        [log]
        access = "off"
    "#;
    let source = source.replace("FOLDER", folder.to_str().expect("text"));
    let file = folder.join("node.toml");
    Config::parse_in(&Environment::default(), file.to_str().expect("text"), &source).expect("a good config")
}

/// The status and body of one request over `stream`.
async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, line: &str) -> (u16, String) {
    let request = format!("{line} HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head[9..12].parse().expect("a status"), body.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_its_origin_listens_tells_how_it_is_and_ends_when_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = config(folder.path());
    let sockets = Sockets::bind(&config.listen).expect("loopback");
    let (told, running) = oneshot::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let node =
        tokio::spawn(run(config, sockets, move |running| drop(told.send(running)), async move { drop(stopped.await) }));
    let running = running.await.expect("it listens");
    let tcp = || async {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.connect(running.admin[0]).await.expect("its admin")
    };
    let file = folder.path().join("admin.sock");
    let unix = || async { UnixStream::connect(&file).await.expect("its admin") };
    assert_eq!(std::fs::metadata(&file).expect("a socket").permissions().mode() & 0o777, 0o660);
    assert_eq!(ask(tcp().await, "GET /healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(ask(tcp().await, "GET /readyz").await.0, 503);
    assert_eq!(ask(tcp().await, "GET /status").await.0, 404);
    let (status, metrics) = ask(tcp().await, "GET /metrics").await;
    assert_eq!(status, 200);
    for line in [
        "eyot_slots{state=\"free\"} 2",
        "eyot_slots{state=\"kept\"} 0",
        "eyot_connections{protocol=\"h3\"} 0",
        "eyot_datagrams_relayed_total{result=\"passed\"} 0",
        "eyot_build_info{",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    let (status, document) = ask(unix().await, "GET /status").await;
    let document: Value = serde_json::from_str(&document).expect("JSON");
    assert_eq!((status, &document["node"], &document["ready"]), (200, &"test-1".into(), &false.into()));
    assert_eq!((&document["sync"]["ledger"], &document["steering"]), (&"ok".into(), &"kernel".into()));
    let (_, certificates) = ask(unix().await, "GET /status/certs").await;
    assert!(certificates.contains("shop.test"), "{certificates}");
    assert_eq!(ask(unix().await, "POST /drain").await.0, 200);
    assert!(running.node.ready.is_draining());
    assert_eq!(ask(unix().await, "POST /undrain").await.0, 200);
    running.reload();
    let plain = tokio::net::TcpSocket::new_v4().expect("a socket").connect(running.http[0]).await.expect("listening");
    assert_eq!(ask(plain, "GET /x").await.0, 308);
    drop(stop);
    node.await.expect("no panic").expect("it ends well");
    assert!(!file.exists());
}

#[tokio::test]
async fn how_long_clients_are_waited_for_is_what_the_config_says_and_else_the_listeners_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = config(folder.path());
    let counts = Arc::<Counts>::default();
    let waits = |settings: &eyot_front::Settings| {
        let times = [settings.header_timeout, settings.body_idle, settings.send_idle];
        let idle = [settings.connection_idle, settings.tunnel_idle];
        (times, idle, [settings.body_rate_bytes_min, settings.send_rate_bytes_min])
    };
    let usual = waits(&settings(&config, &counts).expect("good settings"));
    assert_eq!(usual, waits(&eyot_front::Settings::default()));
    config.limits.clients = config::Clients {
        header_timeout_ms: 1_000,
        body_idle_ms: 2_000,
        body_rate_bytes: 3,
        send_idle_ms: 4_000,
        send_rate_bytes: 5,
        connection_idle_ms: 6_000,
        tunnel_idle_ms: 7_000,
    };
    let told = ([1, 2, 4].map(Duration::from_secs), [6, 7].map(Duration::from_secs), [3, 5]);
    assert_eq!(waits(&settings(&config, &counts).expect("good settings")), told);
}

#[test]
fn what_functions_have_together_is_half_of_the_machine_or_what_the_config_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = config(folder.path());
    let info = std::fs::read_to_string("/proc/meminfo").expect("procfs");
    let total = info.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("MemTotal");
    assert_eq!(capacity(&config).memory_bytes, total * 1024 / 2);
    assert_eq!((capacity(&config).slots, capacity(&config).threads), (2, 1));
    config.functions.memory_bytes_max = Some(1 << 30);
    config.functions.threads = 0;
    let cores = std::thread::available_parallelism().expect("it is known").get();
    assert_eq!((capacity(&config).memory_bytes, capacity(&config).threads), (1 << 30, cores));
}
