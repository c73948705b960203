//! Hostile functions, served by a real node: each ends as the contract says, and a neighbour's requests all succeed.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::harness::app::App;
use crate::harness::client::{Ask, PROTOCOLS, Protocol, ask, ask_all};
use crate::harness::process::until;
use crate::harness::size::size;
use crate::harness::upstream::Upstream;
use crate::harness::world::{Node, World};

/// How a request ends.
enum End {
    /// This fault instead of an answer; or, if the head was on its way before the fault, the answer breaks off.
    Either(u16, &'static str),
    /// The answer breaks off after a good head.
    Broken,
    /// This fault instead of an answer.
    Fault(u16, &'static str),
}

const TIGHT: &str = "limits = { cpu = \"50ms\", wall = \"2s\", idle = \"1s\", memory = \"16MiB\" }";

/// Guest, path, how it ends.
const TABLE: &[(&str, &str, End)] = &[
    ("spin", "/", End::Fault(503, "cpu_budget_exceeded")),
    ("allocate", "/", End::Fault(503, "memory_exceeded")),
    ("grow-tables", "/", End::Fault(503, "memory_exceeded")),
    ("recurse", "/", End::Fault(502, "function_trapped")),
    ("never-answer", "/", End::Fault(502, "function_gave_no_response")),
    ("answer-twice", "/", End::Either(502, "function_trapped")),
    ("half-then-trap", "/later", End::Broken),
    ("leak", "/later", End::Broken),
    ("endless-body", "/", End::Broken),
    ("slow-body", "/", End::Broken),
    ("endless-headers", "/", End::Fault(502, "response_too_large")),
    ("sleep", "/", End::Fault(504, "wall_time_exceeded")),
    ("fill", "/", End::Fault(503, "cpu_budget_exceeded")),
    ("spin-start", "/", End::Fault(503, "cpu_budget_exceeded")),
    ("many-fetches", "/", End::Fault(503, "subrequests_exceeded")),
    ("exit", "/", End::Fault(502, "function_gave_no_response")),
];

/// A node with the hostile app, each guest at a host of its own, and a neighbour beside it.
fn house(upstream: &Upstream) -> (World, Node) {
    let world = World::new();
    let port = upstream.address.port();
    world.grant("shop", &["*.shop.test"], &["--private", &format!("127.0.0.1/32={port}")]);
    world.grant("books", &["books.test"], &[]);
    let mut hostile = App::new("shop", &["*.shop.test"]);
    for (guest, _, _) in TABLE {
        // What fills its memory has to have some, or it ends for another reason.
        let tight = if *guest == "fill" { TIGHT.replace("16MiB", "128MiB") } else { TIGHT.to_owned() };
        let target = format!("egress = [\"*\"]\nenv = {{ SPIN = \"1\", TARGET = \"127.0.0.1:{port}\" }}\n{tight}");
        let answer = format!("function = \"{guest}\"");
        hostile = hostile.function(guest, guest, &target).route(&format!("{guest}.shop.test"), "/*", &answer);
    }
    world.publish(&hostile.written());
    let neighbour = App::new("books", &["books.test"]).function("hello", "hello", "");
    world.publish(&neighbour.route("books.test", "/*", "function = \"hello\"").written());
    let node = world.node("a");
    node.wait_for_release(&world, "books.test", "/", "books/1");
    until("the hostile app is there", || {
        let answer = node.ask(&world, Protocol::H2, "nothing.shop.test", "/");
        (answer.code() == "no_route").then_some(())
    });
    (world, node)
}

/// A neighbour that asks without pause until it is dropped, and fails the test if one of its requests does.
struct Neighbour<'a> {
    stop: &'a AtomicBool,
}

impl Drop for Neighbour<'_> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn beside_a_neighbour(world: &World, node: &Node, hostile: impl FnOnce()) {
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) || answered.load(Ordering::Relaxed) < size().neighbour_calls {
                let answer = node.ask(world, Protocol::H3, "books.test", "/");
                assert_eq!(answer.status, 200, "the neighbour: {}", answer.text());
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
        let _neighbour = Neighbour { stop: &stop };
        hostile();
    });
    println!("the neighbour was answered {} times", answered.load(Ordering::Relaxed));
    assert!(node.metric("eyot_panics_total") < 1.0, "{}", node.admin("/metrics").text());
}

#[test]
fn hostile_functions_end_as_the_contract_says_while_a_neighbour_is_answered() {
    let upstream = Upstream::start();
    let (world, node) = house(&upstream);
    beside_a_neighbour(&world, &node, || {
        for (guest, path, end) in TABLE {
            for protocol in PROTOCOLS {
                meets(&world, &node, protocol, guest, path, end);
            }
        }
    });
    for (_, _, end) in TABLE {
        let (End::Either(_, code) | End::Fault(_, code)) = end else { continue };
        let counted = node.admin("/metrics").text().lines().any(|line| {
            line.starts_with("eyot_faults_total{app=\"shop\"") && line.contains(&format!("code=\"{code}\""))
        });
        assert!(counted, "no metric for {code}");
    }
}

#[test]
fn a_crowd_of_calls_that_allocate_at_once_ends_within_the_apps_share_while_a_neighbour_is_answered() {
    let upstream = Upstream::start();
    let (world, node) = house(&upstream);
    beside_a_neighbour(&world, &node, || {
        let crowd: Vec<_> =
            (0..size().crowd).map(|_| Ask::get(&world, &node, Protocol::H2, "allocate.shop.test", "/")).collect();
        for answer in ask_all(crowd) {
            let answer = answer.expect("an answer");
            let code = answer.code();
            let ends =
                ["memory_exceeded", "cpu_budget_exceeded", "wall_time_exceeded", "allowance_spent", "overloaded"];
            assert!(ends.contains(&code.as_str()), "{} `{code}`", answer.status);
        }
    });
}

fn meets(world: &World, node: &Node, protocol: Protocol, guest: &str, path: &str, end: &End) {
    let answer = ask(Ask::get(world, node, protocol, &format!("{guest}.shop.test"), path));
    match (end, answer) {
        (End::Fault(status, code), Ok(answer)) => {
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (*status, *code),
                "{protocol:?} {guest}: {}",
                answer.text()
            );
        }
        (End::Either(status, code), Ok(answer)) => {
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (*status, *code),
                "{protocol:?} {guest}: {}",
                answer.text()
            );
        }
        (End::Either(..), Err(error)) => assert!(error.contains("broke off"), "{protocol:?} {guest}: {error}"),
        (End::Broken, Err(error)) => assert!(error.contains("after the head 200"), "{protocol:?} {guest}: {error}"),
        (End::Broken, Ok(answer)) => panic!("{protocol:?} {guest}: ended well with {}", answer.status),
        (End::Fault(_, code), Err(error)) => panic!("{protocol:?} {guest}: `{error}` instead of {code}"),
    }
}

#[test]
fn a_request_that_comes_round_again_and_again_is_ended_by_the_loop_guard() {
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
    let seen = node.ask(&world, Protocol::H2, "shop.test", "/echo");
    let own = seen.header("x-saw-cdn-loop").expect("its mark").to_owned();
    let looped = std::iter::repeat_n(own.as_str(), 9).collect::<Vec<_>>().join(", ");
    let answer = ask(Ask::get(&world, &node, Protocol::H2, "shop.test", "/echo").header("cdn-loop", &looped))
        .expect("an answer");
    assert_eq!((answer.status, answer.code().as_str()), (508, "loop_detected"), "{own}");
}
