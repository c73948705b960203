//! One answer, whichever protocol brought the request and whoever's client sent it.

use bytes::Bytes;
use eyot_bundle::digest::Digest;
use eyot_link::error::Error;
use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};

use crate::harness::app::App;
use crate::harness::client::{Ask, PROTOCOLS, Protocol, ask};
use crate::harness::peers::{self, Seen, aioquic, pycurl};
use crate::harness::size::size;
use crate::harness::upstream::Upstream;
use crate::harness::world::{Node, World};

/// The body that goes once over each protocol, whatever the size of the run, in bytes.
const LARGE_BYTES: usize = 100 << 20;

struct House {
    world: World,
    node: Node,
    _upstream: Upstream,
}

/// A node whose `/echo` is a function and whose `/up/echo` is an upstream.
fn house() -> House {
    let (world, upstream) = (World::new(), Upstream::start());
    let private = format!("127.0.0.1/32={}", upstream.address.port());
    assert!(world.grant("shop", &["shop.test"], &["--private", &private, "--cpu", "30s"]).status.success());
    let limits = "limits = { cpu = \"30s\", wall = \"60s\", memory = \"32MiB\", body = \"100MiB\" }";
    let app = App::new("shop", &["shop.test"])
        .function("echo", "echo", limits)
        .upstream("api", &upstream.url(), "")
        .route("shop.test", "/echo", "function = \"echo\"")
        .route("shop.test", "/up/*", "upstream = \"api\"")
        .route("shop.test", "/fixed", "respond = { status = 203, headers = { x-fixed = \"yes\" }, body = \"fixed\" }")
        .route("shop.test", "/moved/*", "redirect = { to = \"https://www.shop.test{path}{query}\", status = 308 }")
        .written();
    world.publish(&app);
    let node = world.node_with("a", "[limits]\ncpu = \"30s\"\nwall = \"300s\"\n");
    node.wait_for_release(&world, "shop.test", "/fixed", "shop/1");
    House { world, node, _upstream: upstream }
}

#[test]
fn a_function_and_an_upstream_answer_the_same_over_all_protocols_with_bodies_of_all_sizes_and_trailers() {
    let house = house();
    for path in ["/echo", "/up/echo"] {
        for protocol in PROTOCOLS {
            for bytes in [0, 1 << 10, 1 << 20] {
                let body = peers::body(bytes);
                let request =
                    Ask::get(&house.world, &house.node, protocol, "shop.test", path).method("POST").body(body.clone());
                let answer = ask(request).unwrap_or_else(|error| panic!("{protocol:?} {path} {bytes}: {error}"));
                assert_eq!((answer.status, answer.body == body), (200, true), "{protocol:?} {path} {bytes}");
            }
            trailers_come_back(&house, protocol, path);
        }
    }
}

fn trailers_come_back(house: &House, protocol: Protocol, path: &str) {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("42"));
    let frames: [Result<Frame<Bytes>, Error>; 2] =
        [Ok(Frame::data(Bytes::from_static(b"body"))), Ok(Frame::trailers(trailers))];
    let body = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
    let request = Ask::get(&house.world, &house.node, protocol, "shop.test", path).method("POST");
    let request = request.header("trailer", "x-sum").header("te", "trailers").stream(body);
    let answer = ask(request).unwrap_or_else(|error| panic!("{protocol:?} {path}: {error}"));
    let sum = answer.trailers.as_ref().and_then(|trailers| trailers.get("x-sum"));
    assert_eq!(
        (&answer.body[..], sum.map(HeaderValue::as_bytes)),
        (&b"body"[..], Some(&b"42"[..])),
        "{protocol:?} {path}"
    );
}

#[test]
fn clients_of_others_get_the_same_answers_in_memory_that_does_not_grow_with_the_body() {
    let house = house();
    let ca = house.world.ca();
    let resident_before = resident_bytes(house.node.process.id());
    for bytes in [0, 1 << 10, size().body_bytes] {
        let expect = Digest::of(&peers::body(bytes)).to_string();
        for path in ["/echo", "/up/echo"] {
            let url = format!("https://shop.test:{}{path}", house.node.port);
            let good = |seen: &Seen, protocol: &str| {
                let facts =
                    (seen.error.as_deref(), seen.status, seen.protocol.as_str(), seen.bytes, seen.sha256.as_str());
                assert_eq!(
                    facts,
                    (None, 200, protocol, bytes as u64, expect.as_str()),
                    "{url} {bytes}: {:?}",
                    seen.headers
                );
            };
            for protocol in ["h3", "h2", "h1"] {
                good(&pycurl(protocol, &ca, &url, "POST", bytes), protocol);
            }
            let seen = aioquic(&ca, &url, "POST", bytes, &["x-sum=42"]);
            good(&seen, "h3");
            assert_eq!(seen.trailers.get("x-sum").map(String::as_str), Some("42"), "{url} {bytes}");
        }
    }
    // Large enough in every size of the tests that a body held whole would show.
    let url = format!("https://shop.test:{}/up/echo", house.node.port);
    for protocol in ["h3", "h2", "h1"] {
        let seen = pycurl(protocol, &ca, &url, "POST", LARGE_BYTES);
        assert_eq!((seen.error.as_deref(), seen.status, seen.bytes), (None, 200, LARGE_BYTES as u64), "{protocol}");
    }
    let grown = resident_bytes(house.node.process.id()).saturating_sub(resident_before);
    println!("the node's peak grew by {} KiB over bodies of {} KiB", grown >> 10, LARGE_BYTES >> 10);
    assert!(grown < 64 << 20, "{grown} bytes");
}

/// The peak of a process' resident memory, in bytes.
fn resident_bytes(id: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{id}/status")).expect("a running process");
    let line = text.lines().find(|line| line.starts_with("VmHWM:")).expect("a peak");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number");
    kib << 10
}

#[test]
fn fixed_answers_redirects_heads_and_faults_are_the_same_over_all_protocols() {
    let house = house();
    for protocol in PROTOCOLS {
        let get = |path: &str| house.node.ask(&house.world, protocol, "shop.test", path);
        let fixed = get("/fixed");
        assert_eq!(
            (fixed.status, fixed.header("x-fixed"), &fixed.body[..]),
            (203, Some("yes"), &b"fixed"[..]),
            "{protocol:?}"
        );
        assert!(fixed.header("x-request-id").is_some());
        let moved = get("/moved/a/b?c=d");
        assert_eq!(
            (moved.status, moved.header("location")),
            (308, Some("https://www.shop.test/moved/a/b?c=d")),
            "{protocol:?}"
        );
        let none = get("/nothing-here");
        assert_eq!((none.status, none.code().as_str()), (404, "no_route"), "{protocol:?}");
        assert_eq!(none.header("proxy-status"), Some("eyot; error=destination_not_found; details=\"no_route\""));
        let head =
            ask(Ask::get(&house.world, &house.node, protocol, "shop.test", "/fixed").method("HEAD")).expect("a head");
        assert_eq!((head.status, head.body.len(), head.header("content-length")), (203, 0, Some("5")), "{protocol:?}");
        let large = Ask::get(&house.world, &house.node, protocol, "shop.test", "/echo")
            .header("x-large", &"x".repeat(70 << 10));
        match (protocol, ask(large).map(|answer| (answer.status, answer.code()))) {
            // Over HTTP/3 the node says what it takes, and a client that listens does not send more.
            (Protocol::H3, Err(error)) => assert!(error.contains("larger than the peer takes"), "{error}"),
            (_, answered) => assert_eq!(answered, Ok((431, "headers_too_large".to_owned())), "{protocol:?}"),
        }
    }
    assert!(
        house
            .node
            .ask(&house.world, Protocol::H2, "shop.test", "/fixed")
            .header("alt-svc")
            .is_some_and(|value| value.starts_with("h3="))
    );
}
