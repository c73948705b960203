//! What nodes of one region ask upstreams for those of all others: once for all, told to nobody else, purged everywhere, and
//! no worse than without when they are away.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use eyot_link::tls::Authorities;

use crate::harness::app::App;
use crate::harness::client::{Answer, Ask, PROTOCOLS, Protocol, unix_asks};
use crate::harness::process::until;
use crate::harness::scripted::{Made, Scripted};
use crate::harness::world::{Node, World, eyot, good};

use super::answers::{answer, status};

/// A route that changes answers as they leave.
const DRESSED: &str = "upstream = \"api\"
headers = { response = { add = { x-dressed = \"once\" }, remove = [\"x-inside\"] } }
compress = true";

/// Two nodes that have a third one ask the upstream.
struct Shielded {
    world: World,
    upstream: Scripted,
    nodes: [Node; 3],
    version: Arc<AtomicUsize>,
}

impl Shielded {
    fn new() -> Self {
        let version = Arc::new(AtomicUsize::new(1));
        let now = Arc::clone(&version);
        let upstream = Scripted::start(move |seen, _| {
            let made = Made::of(format!("{} version {}", seen.path, now.load(Ordering::Relaxed)));
            let made = made
                .field("surrogate-key", "all")
                .field("eyot-keys", "00")
                .field("eyot-shield", "answered")
                .field("x-inside", "1");
            if seen.path.starts_with("/not") { made.control("no-store") } else { made.control("max-age=6000") }
        });
        let world = World::new();
        world.grant("shop", &["shop.test"], &["--private", &format!("127.0.0.1/32={}", upstream.address.port())]);
        let shielding = format!("[shielding]\nca = \"{}\"\n", world.ca().display());
        let nodes = ["a", "b", "c"].map(|id| world.node_with(id, &shielding));
        nodes.iter().for_each(|node| world.identify(&node.id));
        fleet(&world, &["set-shield", "c", &format!("127.0.0.1:{}", nodes[2].port)]);
        let app = App::new("shop", &["shop.test"])
            .upstream("api", &upstream.url(), "shield = \"ap-test\"\ntimeouts = { connect = \"60s\" }")
            .route("shop.test", "/*", "upstream = \"api\"")
            .route("shop.test", "/dressed/*", DRESSED)
            .written();
        world.publish(&app);
        let house = Self { world, upstream, nodes, version };
        for node in &house.nodes {
            node.wait_for_release(&house.world, "shop.test", "/not", "shop/1");
        }
        let [a, b, _] = &house.nodes;
        for node in [a, b] {
            let mut nth = 0;
            until("it has another one ask", || {
                nth += 1;
                house.get(node, &format!("/not/{nth}"));
                (shielded(node, "answered") > 0.0).then_some(())
            });
            until("it watches", || node.status(&house.world)["sync"]["parent"].as_str().map(drop));
        }
        house
    }

    /// `GET https://shop.test<path>`, whichever node it is.
    fn get(&self, node: &Node, path: &str) -> Answer {
        answer(self.asks(node, Protocol::H2, path))
    }

    fn asks(&self, node: &Node, protocol: Protocol, path: &str) -> Ask {
        let ca = std::fs::read(self.world.ca()).expect("the CA");
        let at = SocketAddr::from(([127, 0, 0, 1], node.port));
        Ask::url(&format!("https://shop.test{path}"), protocol, Authorities::Pem(ca), at)
    }

    fn asked(&self, path: &str) -> usize {
        self.upstream.asked().get(path).copied().unwrap_or_default()
    }
}

fn shielded(node: &Node, result: &str) -> f64 {
    node.metric(&format!("eyot_shield_requests_total{{app=\"shop\",upstream=\"api\",result=\"{result}\"}}"))
}

fn fleet(world: &World, words: &[&str]) {
    let mut fleet = eyot();
    fleet.arg("fleet").args(words).arg("--keys").arg(world.path("keys")).args(["--origin", &world.origin_url()]);
    good(fleet);
}

#[test]
fn one_node_asks_for_all_and_its_answer_is_kept_and_purged_wherever_it_went() {
    let house = Shielded::new();
    let [a, b, c] = &house.nodes;
    for (node, path) in [(a, "/one"), (b, "/one"), (a, "/one"), (b, "/one"), (c, "/one"), (c, "/two"), (a, "/two")] {
        let told = house.get(node, path);
        assert_eq!(told.text(), format!("{path} version 1"), "{}: {}", node.id, status(&told));
        let internal = told.headers.keys().find(|name| name.as_str().starts_with("eyot-") && *name != "eyot-release");
        assert_eq!((internal, told.header("surrogate-key")), (None, None), "{}", node.id);
    }
    assert_eq!((house.asked("/one"), house.asked("/two")), (1, 1));
    assert!(status(&house.get(a, "/one")).starts_with("eyot; hit"));
    assert!(house.get(a, "/one").header("age").is_some());
    assert_eq!(shielded(c, "answered"), 0.0, "it asks nobody else");
    // What the upstream is told is the client's, and nothing of what nodes tell each other.
    let seen = house.upstream.seen("/one").remove(0);
    assert_eq!(seen.headers["x-forwarded-for"], "127.0.0.1");
    assert_eq!(seen.headers["x-forwarded-host"], "shop.test");
    assert_eq!(seen.headers["x-forwarded-proto"], "https");
    assert_eq!(seen.headers.get_all("via").iter().count(), 2, "it came through two nodes");
    assert!(!seen.headers.keys().any(|name| name.as_str().starts_with("eyot-")), "{:?}", seen.headers);
    // What is not only read goes straight.
    let posted = answer(house.asks(a, Protocol::H2, "/posted").method("POST"));
    assert_eq!((posted.status, house.upstream.seen("/posted")[0].headers.get_all("via").iter().count()), (200, 1));
    // What is purged here alone, or changed through here, the other node may not know: it asks anew for who does.
    house.version.store(10, Ordering::Relaxed);
    let (socket, query) = (house.world.path("a/admin.sock"), "/purge?app=shop&url=https://shop.test/one");
    let purged = unix_asks(&socket, "POST", query);
    assert_eq!(purged.0, 200, "{}", purged.1);
    assert_eq!(house.get(a, "/one").text(), "/one version 10");
    house.version.store(11, Ordering::Relaxed);
    assert_eq!(answer(house.asks(b, Protocol::H2, "/one").method("POST")).status, 200);
    assert_eq!(house.get(b, "/one").text(), "/one version 11");
    let before = house.asked("/two");
    // By a key that only the upstream named.
    house.version.store(2, Ordering::Relaxed);
    let mut purge = eyot();
    purge.args(["purge", "--tag", "all", "--wait", "60", "--name", "shop", "--origin", &house.world.origin_url()]);
    purge.arg("--ca").arg(house.world.ca()).arg("--key").arg(house.world.path("keys/publisher.key"));
    good(purge);
    for node in &house.nodes {
        assert_eq!(house.get(node, "/two").text(), "/two version 2", "{}", node.id);
    }
    assert_eq!(house.asked("/two"), before + 1);
}

#[test]
fn what_a_route_does_to_answers_is_done_once_by_the_node_that_its_client_asks() {
    let house = Shielded::new();
    let [a, _, c] = &house.nodes;
    for (node, path) in [(a, "/dressed/1"), (c, "/dressed/1"), (c, "/dressed/2"), (a, "/dressed/2")] {
        for _ in 0..2 {
            let told = house.get(node, path);
            let dressed: Vec<_> = told.headers.get_all("x-dressed").iter().map(|value| value.as_bytes()).collect();
            assert_eq!((dressed, told.header("x-inside")), (vec![&b"once"[..]], None), "{} {path}", node.id);
        }
    }
    assert!(shielded(a, "answered") > 0.0);
}

#[test]
fn nobody_but_a_node_of_the_fleet_is_taken_for_one() {
    let house = Shielded::new();
    let [_, _, c] = &house.nodes;
    let before = house.upstream.asked().values().sum::<usize>();
    let long = "A".repeat(30_000);
    for field in ["", "answered", "e30.AAAA", "eyJmcm9tIjoiYSJ9.AAAA", &long] {
        for protocol in PROTOCOLS {
            let told = answer(house.asks(c, protocol, "/never").header("eyot-shield", field));
            assert_eq!((told.status, told.code().as_str()), (403, "forbidden"), "{protocol:?} {field:.20}");
        }
    }
    let twice = house.asks(c, Protocol::H1, "/never").header("eyot-shield", "a.b").header("eyot-shield", "a.b");
    assert_eq!(answer(twice).status, 403);
    // What only nodes say to each other does nothing where somebody else says it.
    let told = answer(house.asks(c, Protocol::H2, "/plain").header("eyot-keys", "00"));
    assert_eq!((told.status, told.header("eyot-keys"), told.header("eyot-shield")), (200, None, None));
    assert_eq!(house.upstream.asked().values().sum::<usize>(), before + 1);
}

#[test]
fn where_no_other_node_answers_the_upstream_is_asked_and_what_one_may_not_know_yet_is_not_taken_from_it() {
    let mut house = Shielded::new();
    assert_eq!(house.get(&house.nodes[0], "/kept").text(), "/kept version 1");
    // It comes back without having heard of any purge, and hears of none.
    let config = house.world.path("c.toml");
    let text = std::fs::read_to_string(&config).expect("its configuration");
    std::fs::write(&config, text.replace(&house.world.origin_url(), "https://127.0.0.1:1")).expect("written");
    house.nodes[2].restart();
    let [a, b, c] = &house.nodes;
    c.wait_for_release(&house.world, "shop.test", "/not", "shop/1");
    let told = house.get(b, "/kept");
    assert_eq!((told.text().as_str(), house.asked("/kept")), ("/kept version 1", 2), "{}", status(&told));
    assert!(shielded(b, "refused") > 0.0);
    // It is put out: who was named by the fleet's document is no node any more.
    fleet(&house.world, &["set-shield", "c"]);
    until("it is asked no more", || {
        let before = shielded(a, "answered") + shielded(a, "refused");
        house.get(a, "/not/again");
        (shielded(a, "answered") + shielded(a, "refused") == before).then_some(())
    });
    fleet(&house.world, &["set-shield", "c", &format!("127.0.0.1:{}", c.port)]);
    for node in [a, b] {
        let before = shielded(node, "answered") + shielded(node, "refused");
        until("it is asked again", || {
            house.get(node, "/not/again");
            (shielded(node, "answered") + shielded(node, "refused") > before).then_some(())
        });
    }
    house.nodes[2].process.kill();
    let [a, b, _] = &house.nodes;
    for node in [a, b] {
        let told = house.get(node, &format!("/alone/{}", node.id));
        assert_eq!((told.status, told.text()), (200, format!("/alone/{} version 1", node.id)));
        assert!(shielded(node, "unreachable") > 0.0);
    }
}
