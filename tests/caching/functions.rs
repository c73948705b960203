//! What functions answer, and what they ask for, through the cache; and what an operator sees of it.

use serde_json::Value;

use crate::harness::app::App;
use crate::harness::client::{Ask, Protocol};
use crate::harness::scripted::{Made, Scripted};
use crate::harness::world::{World, eyot, good};

use super::answers::{answer, status};

#[test]
fn what_a_function_answers_is_kept_where_its_route_says_so_and_what_it_asks_for_always() {
    let (world, upstream) = (
        World::new(),
        Scripted::start(|seen, nth| {
            let made = Made::of(format!("{} {nth}", seen.path));
            if seen.path.starts_with("/kept") { made.control("max-age=600") } else { made.control("no-store") }
        }),
    );
    let private = format!("127.0.0.1/32={}", upstream.address.port());
    world.grant("shop", &["shop.test"], &["--private", &private]);
    world.grant("other", &["other.test"], &["--private", &private]);
    let of = |name: &str, host: &str| {
        App::new(name, &[host])
            .function("one", "fetch", "egress = [\"*\"]")
            .function("two", "fetch", "egress = [\"*\"]")
            .route(host, "/one", "function = \"one\"")
            .route(host, "/two", "function = \"two\"")
            .route(host, "/answers", "function = \"one\"\ncache = { mode = \"function\", ttl = \"10m\" }")
            .written()
    };
    let (shop, other) = (of("shop", "shop.test"), of("other", "other.test"));
    world.publish(&shop);
    world.publish(&other);
    let node = world.node("a");
    let fetch = |host: &str, path: &str, what: &str| {
        let asked = Ask::get(&world, &node, Protocol::H3, host, path);
        answer(asked.header("x-url", &format!("{}{what}", upstream.url())))
    };
    node.wait_for_release(&world, "shop.test", "/", "shop/1");
    node.wait_for_release(&world, "other.test", "/", "other/1");
    // What they ask for: once for all functions of an app, and never for another app's.
    for path in ["/one", "/two", "/one"] {
        let given = fetch("shop.test", path, "/kept");
        assert_eq!(
            (given.status, given.text().as_str(), given.header("cache-status")),
            (200, "/kept 0", None),
            "{path}"
        );
    }
    assert_eq!(fetch("other.test", "/one", "/kept").text(), "/kept 1");
    assert_eq!(
        (fetch("shop.test", "/one", "/not").text(), fetch("shop.test", "/one", "/not").text()),
        ("/not 0".into(), "/not 1".into())
    );
    let counted = |result: &str| {
        node.metric(&format!("eyot_cache_requests_total{{app=\"shop\",route=\"fetch\",result=\"{result}\"}}"))
    };
    assert_eq!((counted("hit"), counted("miss")), (2.0, 2.0));
    // What they answer.
    let first = fetch("shop.test", "/answers", "/not");
    assert_eq!(first.text(), "/not 2");
    let calls = || node.metric("eyot_function_calls_total{app=\"shop\",function=\"one\",release=\"1\"}");
    let before = calls();
    let hit = fetch("shop.test", "/answers", "/not");
    assert_eq!(hit.text(), "/not 2");
    assert!(status(&hit).starts_with("eyot; hit"), "{}", status(&hit));
    assert_eq!(calls(), before, "it was not called");
    looked_at(&world, node.port);
    // Another component has nothing of this one's.
    std::fs::copy(crate::harness::guests::path("hello"), shop.component("one")).expect("the component");
    world.publish(&shop);
    node.wait_for_release(&world, "shop.test", "/", "shop/2");
    let other = fetch("shop.test", "/answers", "/not");
    assert!(!other.text().starts_with("/not"), "{}", other.text());
}

#[test]
fn a_function_says_for_how_long_its_answer_is_kept_and_by_which_keys_it_is_purged() {
    let world = World::new();
    world.grant("shop", &["shop.test"], &[]);
    let app = App::new("shop", &["shop.test"])
        .function("keeps", "keeps", "")
        .function("relayed", "relay", "calls = [\"keeps\"]")
        .route("shop.test", "/keeps/*", "function = \"relayed\"\ncache = \"function\"")
        .route("shop.test", "/kept", "function = \"keeps\"\ncache = \"function\"")
        .route("shop.test", "/not", "function = \"keeps\"")
        .written();
    world.publish(&app);
    let node = world.node("a");
    node.wait_for_release(&world, "shop.test", "/not", "shop/1");
    let get = |path: &str| answer(Ask::get(&world, &node, Protocol::H3, "shop.test", path));
    let first = get("/kept?ms=600000&key=product-9");
    assert_eq!((first.header("cache-control"), first.header("surrogate-key")), (Some("no-store"), None));
    assert!(status(&first).contains("stored") && status(&first).contains("ttl="), "{}", status(&first));
    let again = get("/kept?ms=600000&key=product-9");
    assert_eq!(again.text(), first.text(), "{}", status(&again));
    for path in ["/kept?ms=0", "/kept", "/not?ms=600000"] {
        assert_ne!(get(path).text(), get(path).text(), "{path}");
    }
    // What a function says that another one calls counts for nothing: its answer is that one's to use.
    let through = |nth| get(&format!("/keeps/?ms=600000&nth={nth}"));
    let (first_through, second_through) = (through(1), through(1));
    assert_eq!((first_through.status, second_through.status), (200, 200), "{}", first_through.text());
    assert_ne!(first_through.text(), second_through.text(), "{}", status(&second_through));
    let mut purge = eyot();
    purge.args(["cache", "purge", "--app", "shop", "--tag", "product-9", "--admin"]).arg(world.path("a/admin.sock"));
    good(purge);
    assert_ne!(get("/kept?ms=600000&key=product-9").text(), first.text());
}

/// What `eyot cache` says of it, and takes out.
fn looked_at(world: &World, port: u16) {
    let cache = |words: &[&str]| {
        let mut cache = eyot();
        cache.args(["--json", "cache"]).args(words).arg("--admin").arg(world.path("a/admin.sock"));
        let told = good(cache);
        serde_json::from_str::<Value>(&told).unwrap_or_else(|error| panic!("{error}: {told}"))
    };
    let stats = cache(&["stats"]);
    assert_eq!(stats["apps"]["shop"]["objects"], 2, "{stats}");
    let url = format!("https://shop.test:{port}/answers");
    let found = cache(&["lookup", &url]);
    assert_eq!(
        (&found["app"], &found["kept"][0]["status"], &found["kept"][0]["verdict"]),
        (&"shop".into(), &200.into(), &"fresh".into()),
        "{found}"
    );
    assert!(found["kept"][0]["ttl"].as_i64().is_some_and(|ttl| (500..=600).contains(&ttl)), "{found}");
    cache(&["purge", "--app", "shop", "--url", &url]);
    let found = cache(&["lookup", &url]);
    assert_eq!(found["kept"][0]["verdict"], "purged", "{found}");
}
