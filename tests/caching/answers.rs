//! What is kept and what answers, as clients and the upstream see it.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::app::App;
use crate::harness::client::{Answer, Ask, PROTOCOLS, Protocol, ask, ask_all};
use crate::harness::process::{free_port, until};
use crate::harness::scripted::{Made, Scripted, Seen};
use crate::harness::world::{Node, World, eyot, good};

pub(super) struct House {
    pub(super) world: World,
    pub(super) node: Node,
    pub(super) upstream: Scripted,
}

/// A node before an upstream that answers so; `route`: more lines of the one route there is.
pub(super) fn house(route: &str, answer: impl Fn(&Seen, usize) -> Made + Send + Sync + 'static) -> House {
    house_with(route, |text, _| text, answer).0
}

/// The same with a changed `node.toml`; the port is one more that is free.
pub(super) fn house_with(
    route: &str,
    edit: impl FnOnce(String, u16) -> String,
    answer: impl Fn(&Seen, usize) -> Made + Send + Sync + 'static,
) -> (House, u16) {
    let (world, upstream) = (World::new(), Scripted::start(answer));
    let private = format!("127.0.0.1/32={}", upstream.address.port());
    assert!(world.grant("shop", &["shop.test", "*.shop.test"], &["--private", &private]).status.success());
    let app = App::new("shop", &["shop.test", "*.shop.test"])
        .upstream("api", &upstream.url(), "")
        .route("shop.test", "/ready", "respond = { status = 200 }")
        .route("shop.test", "/*", &format!("upstream = \"api\"\n{route}"))
        .route("*.shop.test", "/*", &format!("upstream = \"api\"\n{route}"))
        .written();
    world.publish(&app);
    let more = free_port();
    let node = world.node_edited("a", free_port(), |text| edit(text, more));
    node.wait_for_release(&world, "shop.test", "/ready", "shop/1");
    (House { world, node, upstream }, more)
}

impl House {
    pub(super) fn get(&self, protocol: Protocol, path: &str) -> Ask {
        Ask::get(&self.world, &self.node, protocol, "shop.test", path)
    }

    pub(super) fn answer(&self, path: &str) -> Answer {
        answer(self.get(Protocol::H2, path))
    }

    fn purge(&self, what: &[&str]) {
        let mut purge = eyot();
        purge.args(["purge", "--name", "shop", "--origin", &self.world.origin_url(), "--ca"]).arg(self.world.ca());
        good({
            purge.arg("--key").arg(self.world.path("keys/publisher.key")).args(what);
            purge
        });
    }
}

pub(super) fn answer(asked: Ask) -> Answer {
    ask(asked).unwrap_or_else(|error| panic!("{error}"))
}

/// What an answer says of the cache.
pub(super) fn status(answer: &Answer) -> &str {
    answer.header("cache-status").unwrap_or_default()
}

#[test]
fn an_answer_is_kept_once_for_all_protocols_and_says_so() {
    let house =
        house("", |seen, nth| Made::of(format!("{} {nth}", seen.path)).control("max-age=600").field("etag", "\"a\""));
    let first = house.answer("/a?b=c");
    assert_eq!(first.text(), "/a?b=c 0");
    let said = status(&first);
    assert!(said.starts_with("eyot; fwd=uri-miss; ttl=") && said.ends_with("; stored"), "{said}");
    for protocol in PROTOCOLS {
        let hit = answer(house.get(protocol, "/a?b=c"));
        assert_eq!((hit.status, hit.text().as_str()), (200, "/a?b=c 0"), "{protocol:?}");
        assert!(status(&hit).starts_with("eyot; hit; ttl="), "{protocol:?}: {}", status(&hit));
        assert!(hit.header("age").is_some(), "{protocol:?}");
        let part = answer(house.get(protocol, "/a?b=c").header("range", "bytes=1-3"));
        assert_eq!((part.status, part.text().as_str()), (206, "a?b"), "{protocol:?}");
        assert_eq!(part.header("content-range"), Some("bytes 1-3/8"));
        let had = answer(house.get(protocol, "/a?b=c").header("if-none-match", "\"a\""));
        assert_eq!((had.status, had.body.len()), (304, 0), "{protocol:?}");
        let head = answer(house.get(protocol, "/a?b=c").method("HEAD"));
        assert_eq!((head.status, head.body.len(), head.header("content-length")), (200, 0, Some("8")), "{protocol:?}");
    }
    assert_eq!(house.upstream.seen("/a?b=c").len(), 1, "{:?}", house.upstream.asked());
    let hits = house.node.metric("eyot_cache_requests_total{app=\"shop\",route=\"shop.test/*\",result=\"hit\"}");
    assert!(hits >= 12.0, "{hits}");
}

#[test]
fn many_who_ask_at_once_are_one_request_and_what_is_not_kept_holds_nobody_up() {
    let house = house("", |seen, _| {
        let control = if seen.path.starts_with("/kept") { "max-age=600" } else { "no-store" };
        let made = Made::of("x".repeat(300_000)).control(control);
        if seen.path.ends_with("held") { made.held() } else { made }
    });
    let asks = |path: &str| (0..24).map(|n| house.get(PROTOCOLS[n % 3], path)).collect::<Vec<_>>();
    let answers = std::thread::scope(|scope| {
        let all = scope.spawn(|| ask_all(asks("/kept/held")));
        until("it is asked", || (!house.upstream.seen("/kept/held").is_empty()).then_some(()));
        house.upstream.let_go();
        all.join().expect("no panic")
    });
    for answer in answers {
        let answer = answer.expect("an answer");
        assert_eq!((answer.status, answer.body.len()), (200, 300_000));
    }
    assert_eq!(house.upstream.seen("/kept/held").len(), 1, "one flight");
    for answer in ask_all(asks("/private")) {
        let answer = answer.expect("an answer");
        assert_eq!((answer.status, answer.body.len()), (200, 300_000));
    }
    assert_eq!(house.upstream.seen("/private").len(), 24, "each for itself");
}

#[test]
fn what_is_stale_answers_while_it_is_asked_for_anew_and_where_there_is_an_error() {
    let house = house("", |seen, nth| {
        let made = Made::of(format!("{nth}")).field("etag", format!("\"{nth}\""));
        match (seen.path.as_str(), nth) {
            ("/while", _) => made.control("max-age=0, stale-while-revalidate=600"),
            ("/error", 0) => made.control("max-age=0, stale-if-error=600"),
            ("/strict", 0) => made.control("max-age=0, must-revalidate"),
            _ => Made::of("broken").status(503),
        }
    });
    assert_eq!(house.answer("/while").text(), "0");
    let stale = house.answer("/while");
    assert_eq!(stale.text(), "0", "it answers at once");
    assert!(status(&stale).starts_with("eyot; hit; ttl=-"), "{}", status(&stale));
    until("it is asked for anew", || (house.answer("/while").text() != "0").then_some(()));
    let anew = &house.upstream.seen("/while")[1];
    assert_eq!(anew.headers.get("if-none-match").map(|tag| tag.as_bytes()), Some(&b"\"0\""[..]));
    assert_eq!(house.answer("/error").text(), "0");
    let stands_in = house.answer("/error");
    assert_eq!((stands_in.status, stands_in.text().as_str()), (200, "0"));
    assert!(status(&stands_in).contains("fwd=stale; fwd-status=503"), "{}", status(&stands_in));
    assert_eq!(house.answer("/strict").text(), "0");
    assert_eq!(house.answer("/strict").status, 503, "never stale");
}

#[test]
fn what_died_on_its_way_is_an_error_for_all_and_is_not_kept() {
    let house = house("", |_, nth| {
        let made = Made::of("x".repeat(100_000)).control("max-age=600");
        if nth == 0 { made.broken() } else { made }
    });
    for protocol in PROTOCOLS {
        let path = format!("/{protocol:?}");
        let told = ask(house.get(protocol, &path));
        assert!(told.is_err(), "{protocol:?}: {told:?}");
        let next = answer(house.get(protocol, &path));
        assert_eq!((next.status, next.body.len()), (200, 100_000), "{protocol:?}");
        assert!(status(&next).contains("stored"), "{protocol:?}: {}", status(&next));
    }
    let broken = house.node.metric("eyot_cache_fill_errors_total{app=\"shop\",route=\"shop.test/*\"}");
    assert_eq!(broken, 3.0, "one for each protocol");
}

#[test]
fn what_is_purged_answers_no_more_under_each_of_its_names() {
    let count = AtomicUsize::new(0);
    let house = house("cache = { query = { keep = [\"id\"] } }", move |_, _| {
        Made::of(format!("{}", count.fetch_add(1, Ordering::Relaxed)))
            .control("max-age=600")
            .field("surrogate-key", "all product-9")
    });
    let path = "/p?id=1&utm=x";
    let asked = |number: &str| {
        until(&format!("answer {number}"), || (house.answer(path).text() == number).then_some(()));
    };
    asked("0");
    let other = house.answer("/p?utm=other&id=1");
    assert_eq!((other.text().as_str(), other.header("surrogate-key")), ("0", None), "the filter makes them one");
    house.purge(&["--url", &format!("https://shop.test:{}/p?utm=third&id=1", house.node.port)]);
    until("another form of it was purged", || (house.answer("/p?id=1").text() != "0").then_some(()));
    let before = house.answer(path).text();
    house.purge(&["--tag", "product-9"]);
    until("its key was purged", || (house.answer(path).text() != before).then_some(()));
    let before = house.answer(path).text();
    house.purge(&["--all"]);
    until("the app was purged", || (house.answer(path).text() != before).then_some(()));
}

#[test]
fn an_unsafe_request_ends_what_is_kept_of_its_url() {
    let house = house("", |seen, nth| match seen.method.as_str() {
        "POST" => Made::of("done").field("location", "/b"),
        _ => Made::of(format!("{nth}")).control("max-age=600"),
    });
    for path in ["/a", "/b"] {
        assert_eq!((house.answer(path).text(), house.answer(path).text()), ("0".to_owned(), "0".to_owned()));
    }
    assert_eq!(answer(house.get(Protocol::H2, "/a").method("POST").body("x")).text(), "done");
    assert_eq!(house.answer("/a").text(), "2", "its own");
    assert_eq!(house.answer("/b").text(), "1", "and the one that its answer names");
}

#[test]
fn a_part_of_what_is_too_large_to_be_kept_is_asked_for_as_a_part() {
    let whole = "0123456789".repeat(20_000);
    let house = house_with(
        "",
        |text, _| format!("{text}\n[cache]\nmemory = \"1MiB\"\n"),
        move |seen, _| {
            let made = Made::of(whole.clone()).control("max-age=600").field("etag", "\"a\"");
            match seen.headers.get("range").map(|range| range.as_bytes()) {
                Some(b"bytes=150000-150009") => Made::of(whole[150_000..150_010].to_owned())
                    .status(206)
                    .control("max-age=600")
                    .field("content-range", "bytes 150000-150009/200000"),
                _ => made,
            }
        },
    )
    .0;
    for protocol in PROTOCOLS {
        let path = format!("/{protocol:?}");
        for asked in [2, 3] {
            let part = answer(house.get(protocol, &path).header("range", "bytes=150000-150009"));
            assert_eq!((part.status, part.text().as_str()), (206, "0123456789"), "{protocol:?}: {}", status(&part));
            assert_eq!(house.upstream.seen(&path).len(), asked, "the whole is tried once: {}", status(&part));
        }
    }
}
