//! The one way out: what an upstream is told, and what an app may not reach.

mod mutual;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::harness::app::App;
use crate::harness::client::{Ask, Protocol, ask};
use crate::harness::faulty::Faulty;
use crate::harness::process::until;
use crate::harness::upstream::Upstream;
use crate::harness::world::{Node, World};

#[test]
fn an_upstream_sees_who_passed_the_request_on_and_none_of_what_a_client_made_up() {
    let (world, upstream) = (World::new(), Upstream::start());
    let private = format!("127.0.0.1/32={}", upstream.address.port());
    world.grant("shop", &["shop.test"], &["--private", &private]);
    let app = App::new("shop", &["shop.test"])
        .upstream("api", &upstream.url(), "")
        .route("shop.test", "/*", "upstream = \"api\"")
        .written();
    world.publish(&app);
    let node = world.node("a");
    node.wait_for_release(&world, "shop.test", "/", "shop/1");
    let request = Ask::get(&world, &node, Protocol::H3, "shop.test", "/echo")
        .header("x-forwarded-for", "6.6.6.6")
        .header("forwarded", "for=6.6.6.6")
        .header("eyot-secret", "mine")
        .header("x-kept", "kept");
    let answer = ask(request).expect("an answer");
    assert_eq!((answer.status, answer.header("x-saw-x-kept")), (200, Some("kept")));
    assert!(
        answer.header("x-saw-forwarded").is_some_and(|value| value.contains("127.0.0.1") && !value.contains("6.6.6.6"))
    );
    assert!(!answer.header("x-saw-x-forwarded-for").is_some_and(|value| value.contains("6.6.6.6")));
    assert_eq!(answer.header("x-saw-eyot-secret"), None);
    assert!(
        answer.header("x-saw-via").is_some()
            && answer.header("x-saw-cdn-loop").is_some_and(|value| value.contains("eyot"))
    );
}

#[test]
fn what_the_grant_does_not_list_is_not_connected_to() {
    let (world, upstream) = (World::new(), Upstream::start());
    world.grant("shop", &["shop.test"], &[]);
    let port = upstream.address.port();
    let app = App::new("shop", &["shop.test"])
        .function("fetch", "fetch", "egress = [\"*\"]")
        .upstream("loopback", &upstream.url(), "")
        .upstream("name", &format!("http://localhost:{port}"), "")
        .upstream("mapped", &format!("http://[::ffff:127.0.0.1]:{port}"), "")
        .upstream("metadata", "http://169.254.169.254", "timeouts = { connect = \"1s\" }")
        .route("shop.test", "/loopback", "upstream = \"loopback\"")
        .route("shop.test", "/name", "upstream = \"name\"")
        .route("shop.test", "/mapped", "upstream = \"mapped\"")
        .route("shop.test", "/metadata", "upstream = \"metadata\"")
        .route("shop.test", "/fetch", "function = \"fetch\"")
        .written();
    world.publish(&app);
    let node = world.node("a");
    node.wait_for_release(&world, "shop.test", "/metadata", "shop/1");
    for path in ["/loopback", "/name", "/mapped", "/metadata"] {
        let answer = node.ask(&world, Protocol::H2, "shop.test", path);
        assert_eq!((answer.status, answer.code().as_str()), (502, "egress_denied"), "{path}");
    }
    for url in [upstream.url(), format!("http://localhost:{port}/"), "http://169.254.169.254/".to_owned()] {
        let answer =
            ask(Ask::get(&world, &node, Protocol::H3, "shop.test", "/fetch").header("x-url", &url)).expect("an answer");
        assert_eq!(answer.status, 502, "{url}: {}", answer.text());
    }
    assert_eq!(upstream.asked(), 0, "a denied address was asked");
}

/// A server that answers with the line that its connection began with, before the first request.
fn proxied() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || tell(&stream));
        }
    });
    address
}

/// Answers what comes on a connection, until the client is gone.
fn tell(stream: &TcpStream) -> Option<()> {
    let (mut reader, mut began) = (BufReader::new(stream), String::new());
    reader.read_line(&mut began).ok()?;
    loop {
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        }
        let (mut stream, text) = (stream, began.trim_end());
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len()).ok()?;
    }
}

#[test]
fn a_server_that_wants_it_is_told_the_clients_address_before_anything_else() {
    let (world, address) = (World::new(), proxied());
    world.grant("shop", &["shop.test"], &["--private", &format!("127.0.0.1/32={}", address.port())]);
    let app = App::new("shop", &["shop.test"])
        .upstream("api", &format!("http://{address}"), "proxy_protocol = \"v1\"")
        .route("shop.test", "/*", "upstream = \"api\"")
        .written();
    world.publish(&app);
    let node = world.node("a");
    node.wait_for_release(&world, "shop.test", "/", "shop/1");
    for protocol in [Protocol::H1, Protocol::H2, Protocol::H3] {
        let answer = node.ask(&world, protocol, "shop.test", "/");
        let text = answer.text();
        assert!(answer.status == 200 && text.starts_with("PROXY TCP4 127.0.0.1 0.0.0.0 "), "{protocol:?}: {text}");
    }
}

/// A world with an app of one upstream of one server, and a node that serves it.
fn faulty(server: &Faulty, more: &str) -> (World, Node) {
    let world = World::new();
    let private = format!("127.0.0.1/32={}", server.address.port());
    world.grant("shop", &["shop.test"], &["--private", &private]);
    let app = App::new("shop", &["shop.test"])
        .upstream("api", &server.url(), more)
        .route("shop.test", "/*", "upstream = \"api\"")
        .written();
    world.publish(&app);
    let node = world.node("a");
    node.wait_for_release(&world, "shop.test", "/", "shop/1");
    (world, node)
}

/// Times that a busy machine keeps, but for the one that is waited for.
const HASTY: &str = "timeouts = { connect = \"60s\", first_byte = \"1s\" }\npassive = { failures = 0 }";

#[test]
fn whatever_an_upstream_does_wrong_the_client_sees_the_error_contract_over_every_protocol() {
    let server = Faulty::start();
    let (world, node) = faulty(&server, HASTY);
    for protocol in [Protocol::H1, Protocol::H2, Protocol::H3] {
        for (path, status, code) in [
            ("/slow", 504, "upstream_timeout"),
            ("/reset", 502, "upstream_bad_response"),
            ("/endless", 502, "upstream_bad_response"),
            ("/noise", 502, "upstream_bad_response"),
            ("/twice", 502, "upstream_bad_response"),
        ] {
            let answer = node.ask(&world, protocol, "shop.test", path);
            assert_eq!((answer.status, answer.code().as_str()), (status, code), "{protocol:?} {path}");
            let told = answer.header("proxy-status").unwrap_or_default().to_owned();
            assert!(told.starts_with("eyot; error=") && told.contains(code), "{protocol:?} {path}: {told}");
        }
        // The head is out: what is left is not to end as if it were whole.
        for path in ["/part", "/short"] {
            let answer = ask(Ask::get(&world, &node, protocol, "shop.test", path));
            assert!(answer.is_err(), "{protocol:?} {path}: {answer:?}");
        }
        let old = node.ask(&world, protocol, "shop.test", "/old");
        assert_eq!((old.status, old.text().as_str(), old.header("x-old")), (200, "old", Some("1")), "{protocol:?}");
        assert_eq!(old.header("via"), Some("1.0 eyot"), "{protocol:?}");
        let well = node.ask(&world, protocol, "shop.test", "/well");
        assert_eq!((well.status, well.text().as_str()), (200, "well"), "{protocol:?}");
    }
    let broken = r#"eyot_faults_total{app="shop",route="shop.test/*",code="upstream_bad_response",side="upstream"}"#;
    assert!(node.metric(broken) >= 6.0 * 3.0, "{}", node.admin("/metrics").text());
    assert!(node.metric("eyot_panics_total") < 1.0);
}

#[test]
fn a_server_that_dies_is_found_down_and_found_well_again_when_it_comes_back() {
    let server = Faulty::start();
    let address = server.address;
    let health = "health = { path = \"/well\", interval = \"1s\", timeout = \"60s\", healthy = 2, unhealthy = 2 }";
    let (world, node) = faulty(&server, &format!("timeouts = {{ connect = \"60s\" }}\n{health}"));
    let line = format!("eyot_upstream_healthy{{app=\"shop\",upstream=\"api\",server=\"http://{address}\"}}");
    let healthy = |expect: bool| {
        until("the server's health", || ((node.metric(&line) > 0.5) == expect).then_some(()));
    };
    healthy(true);
    assert_eq!(node.ask(&world, Protocol::H3, "shop.test", "/").text(), "well");
    drop(server);
    let answer = node.ask(&world, Protocol::H3, "shop.test", "/");
    assert!([502, 503].contains(&answer.status), "{}", answer.text());
    healthy(false);
    let answer = node.ask(&world, Protocol::H3, "shop.test", "/");
    assert_eq!((answer.status, answer.code().as_str()), (503, "no_healthy_upstream"));
    let server = Faulty::start_at(address);
    healthy(true);
    assert_eq!(node.ask(&world, Protocol::H3, "shop.test", "/").text(), "well");
    assert!(server.asked() >= 3, "two probes and a request");
}

#[test]
fn a_server_that_resets_every_request_sees_no_storm_of_them() {
    const REQUESTS: u64 = 100;
    let server = Faulty::start();
    let (world, node) = faulty(&server, "timeouts = { connect = \"60s\" }\nretries = { attempts = 5 }");
    let (before, began) = (server.asked(), std::time::Instant::now());
    for _ in 0..REQUESTS {
        let answer = node.ask(&world, Protocol::H2, "shop.test", "/reset");
        assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_bad_response"));
    }
    let asked = server.asked() - before;
    // A fifth more, ten at first, one more each second, and what the requests before had saved.
    let most = REQUESTS * 12 / 10 + 10 + began.elapsed().as_secs() + 2;
    assert!(asked > REQUESTS && asked <= most, "{asked}, not {most}");
}
