//! Nodes with engines: what their functions see of stores, and releases that a node cannot keep stores for.

use crate::harness::app::App;
use crate::harness::client::{Ask, Protocol, ask};
use crate::harness::nats::Nats;
use crate::harness::process::until;
use crate::harness::redis::Redis;
use crate::harness::world::{Node, World};

/// What the function says to these lines, a line each.
fn told(world: &World, node: &Node, lines: &[&str]) -> Vec<String> {
    let asks = Ask::get(world, node, Protocol::H2, "shop.test", "/").method("POST").body(lines.join("\n"));
    let answer = ask(asks).unwrap_or_else(|error| panic!("{lines:?}: {error}"));
    assert_eq!(answer.status, 200, "{lines:?}: {}", answer.text());
    answer.text().lines().map(str::to_owned).collect()
}

/// An app with a store of each of these engines, called like it; `/fixed` asks none.
fn app(engines: &[&str]) -> App {
    let names: Vec<_> = engines.iter().map(|engine| format!("{engine} = \"{engine}\"")).collect();
    let more = format!("stores = {{ {} }}\nlimits = {{ cpu = \"5s\", wall = \"60s\" }}", names.join(", "));
    let app = App::new("shop", &["shop.test"]).function("given", "given", &more);
    let tables = engines.iter().map(|engine| format!("[stores.{engine}]\nengine = \"{engine}\""));
    let app = tables.fold(app, |app, table| app.table(&table));
    app.route("shop.test", "/fixed", "respond = { status = 200, body = \"fixed\" }")
        .route("shop.test", "/*", "function = \"given\"")
        .written()
}

const ENGINES: [&str; 3] = ["node", "nats", "redis"];

#[test]
fn functions_of_two_nodes_share_what_the_engines_of_the_fleet_keep_and_each_has_its_own_beside_it() {
    let (world, mut nats, mut redis) = (World::new(), Nats::new(), Redis::new());
    world.grant("shop", &["shop.test"], &["--engine", "nats", "--engine", "redis"]);
    world.publish(&app(&ENGINES));
    let password = world.path("redis-password");
    std::fs::write(&password, Redis::PASSWORD).expect("a password");
    let stores = format!(
        "[stores]\nnats = {{ url = \"{}\" }}\nredis = {{ url = \"{}\", password = \"{}\" }}\n",
        nats.url(),
        redis.url(),
        password.display()
    );
    let nodes = ["a", "b"].map(|id| world.node_with(id, &stores));
    nodes.iter().for_each(|node| node.wait_for_release(&world, "shop.test", "/fixed", "shop/1"));
    let [a, b] = &nodes;
    for engine in ENGINES {
        let open = format!("open {engine}");
        let own = told(&world, a, &[&open, "set key 1", "get key", "increment key 2", "cas key", "swap 7", "get key"]);
        assert_eq!(own, ["()", "()", "Some(\"1\")", "3", "()", "swapped", "Some(\"7\")"], "{engine}");
        let seen = if engine == "node" { "None" } else { "Some(\"7\")" };
        assert_eq!(told(&world, b, &[&open, "get key"]), ["()", seen], "{engine}");
    }
    // Both are taken away: who asks them is told so without their addresses, all else goes on.
    nats.kill();
    redis.process.kill();
    for engine in ["nats", "redis"] {
        let said = told(&world, a, &[&format!("open {engine}"), "get key", "set key 8"]);
        for line in &said[1..] {
            assert!(line.starts_with("failed: Error::Other(") && line.contains("cannot be reached now"), "{line}");
            assert!(!line.contains("127.0.0.1"), "{line}");
        }
    }
    assert_eq!(told(&world, a, &["open node", "get key"]), ["()", "Some(\"7\")"]);
    assert_eq!(a.ask(&world, Protocol::H2, "shop.test", "/fixed").text(), "fixed");
    nats.restart();
    redis.restart();
    for engine in ["nats", "redis"] {
        let open = format!("open {engine}");
        for node in &nodes {
            until("it is asked again", || told(&world, node, &[&open, "exists key"])[1].eq("true").then_some(()));
        }
        // What failed may have been done.
        let value = told(&world, b, &[&open, "get key"]).remove(1);
        assert!(["Some(\"7\")", "Some(\"8\")"].contains(&value.as_str()), "{engine}: {value}");
    }
    for node in &nodes {
        assert!(!node.process.log().contains(Redis::PASSWORD), "{}", node.id);
    }
}

#[test]
fn a_release_whose_store_needs_an_engine_that_a_node_does_not_have_is_refused_there_alone() {
    let (world, nats) = (World::new(), Nats::new());
    world.grant("shop", &["shop.test"], &["--engine", "nats", "--engine", "redis"]);
    let first = world.publish(&app(&["node"]));
    let with = world.node_with("a", &format!("[stores]\nnats = {{ url = \"{}\" }}\n", nats.url()));
    let without = world.node("b");
    for node in [&with, &without] {
        node.wait_for_release(&world, "shop.test", "/fixed", &format!("shop/{first}"));
    }
    let second = world.publish(&app(&["nats"]));
    with.wait_for_release(&world, "shop.test", "/fixed", &format!("shop/{second}"));
    let refused = |node: &Node, release: u64| {
        until("it is refused", || {
            let status = node.status(&world)["sync"]["apps"]["shop"].clone();
            (status["refused"]["release"] == release).then_some(status)
        })
    };
    let status = refused(&without, second);
    assert_eq!((&status["refused"]["reason"], &status["active"]), (&"incompatible".into(), &first.into()), "{status}");
    let detail = status["refused"]["detail"].as_str().unwrap_or_default();
    assert_eq!(detail, "the store `nats` needs the engine `nats`, which this node does not have");
    let answer = without.ask(&world, Protocol::H2, "shop.test", "/fixed");
    assert_eq!(answer.header("eyot-release"), Some(format!("shop/{first}").as_str()));
}

#[test]
fn what_an_engine_cannot_keep_and_an_engine_that_the_operator_did_not_open_are_refused_at_publish() {
    let world = World::new();
    world.grant("shop", &["shop.test"], &["--engine", "nats"]);
    for (table, why) in [
        ("engine = \"nats\"\nconsistency = \"linearizable\"", "cannot keep `linearizable`"),
        ("engine = \"redis\"\nconsistency = \"linearizable\"", "cannot keep `linearizable`"),
        ("engine = \"redis\"", "eyot app add --replace --engine redis"),
        ("engine = \"nats\"\nvalue_max = \"2MiB\"", "value_max"),
        ("engine = \"node\"\nkeys_max = 10_000_001", "keys_max"),
        ("engine = \"node\"\nttl = \"10ms\"", "a life of 10 ms"),
    ] {
        let app = App::new("shop", &["shop.test"])
            .function("given", "given", "stores = { carts = \"carts\" }")
            .table(&format!("[stores.carts]\n{table}"))
            .route("shop.test", "/*", "function = \"given\"")
            .written();
        let told = world.try_publish(&app).expect_err(table);
        assert!(told.contains(why), "{table}: {told}");
    }
}
