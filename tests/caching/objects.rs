//! What functions keep by names of their own: who makes it, who finds it, and who never does.

use std::thread;

use crate::harness::app::App;
use crate::harness::client::{Ask, Protocol, ask, ask_all, unix};
use crate::harness::process::until;
use crate::harness::world::{Node, World, eyot, good};

/// Functions that keep what they are told to, in two apps on a node.
struct Keepers {
    world: World,
    shop: App,
    node: Node,
}

impl Keepers {
    fn new(of_node: &str) -> Self {
        let world = World::new();
        world.grant("shop", &["shop.test"], &[]);
        world.grant("other", &["other.test"], &[]);
        let of = |name: &str, host: &str| {
            App::new(name, &[host])
                .function("one", "given", "purge = true")
                .function("two", "given", "limits = { wall = \"2s\" }")
                .function("again", "given", "reuse = { requests = 100, idle = \"60s\" }")
                .route(host, "/one", "function = \"one\"")
                .route(host, "/two", "function = \"two\"")
                .route(host, "/again", "function = \"again\"")
                .written()
        };
        let (shop, other) = (of("shop", "shop.test"), of("other", "other.test"));
        world.publish(&shop);
        world.publish(&other);
        let node = world.node_with("a", of_node);
        node.wait_for_release(&world, "shop.test", "/", "shop/1");
        node.wait_for_release(&world, "other.test", "/", "other/1");
        Self { world, shop, node }
    }

    fn request(&self, host: &str, path: &str, script: &[&str]) -> Ask {
        Ask::get(&self.world, &self.node, Protocol::H2, host, path).method("POST").body(script.join("\n"))
    }

    /// What the function answers to these lines.
    fn told(&self, path: &str, script: &[&str]) -> Vec<String> {
        self.told_by("shop.test", path, script)
    }

    fn told_by(&self, host: &str, path: &str, script: &[&str]) -> Vec<String> {
        let answer = ask(self.request(host, path, script)).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.text().lines().map(str::to_owned).collect()
    }

    fn counted(&self, result: &str) -> f64 {
        let line = format!("eyot_cache_requests_total{{app=\"shop\",route=\"objects\",result=\"{result}\"}}");
        self.node.metric(&line)
    }
}

#[test]
fn what_a_function_keeps_by_a_name_is_found_by_all_of_its_app_and_by_no_other() {
    let mut house = Keepers::new("[cache]\ndisk = { path = \"http\", size = \"64MiB\" }\n");
    house.node.wait_for_disk(&house.world);
    let makes = ["lookup a", "insert 600000 0 said group length=11", "write seven", "write -of-it", "finish", "find a"];
    let kept = "Some(\"said Some(11) fresh seven-of-it\")";
    assert_eq!(house.told("/one", &makes), ["(None, true)", "()", "()", "()", "()", kept]);
    assert_eq!(house.told("/two", &["find a", "lookup a", "find b"]), [kept, &format!("({kept}, false)"), "None"]);
    assert_eq!(house.told_by("other.test", "/one", &["find a"]), ["None"]);
    assert_eq!((house.counted("hit"), house.counted("miss")), (3.0, 2.0));
    // Another release finds it too, and so does the node after a restart.
    house.world.publish(&house.shop);
    house.node.wait_for_release(&house.world, "shop.test", "/", "shop/2");
    assert_eq!(house.told("/one", &["find a"]), [kept]);
    until("it is on disk", || {
        let stats: serde_json::Value =
            serde_json::from_str(&unix(&house.world.path("a/admin.sock"), "/status/cache")).expect("JSON");
        stats["disk"]["objects"].as_u64().filter(|objects| *objects > 0)
    });
    house.node.restart();
    house.node.wait_for_release(&house.world, "shop.test", "/", "shop/2");
    until("it has heard what was purged", || (house.told("/one", &["find a"]) == [kept]).then_some(()));
}

#[test]
fn of_many_calls_that_look_up_a_name_at_once_one_makes_it() {
    let house = Keepers::new("");
    let makes = ["lookup a", "nap 300", "insert 600000 0", "write made", "finish"];
    let answers = ask_all((0..16).map(|_| house.request("shop.test", "/one", &makes)).collect());
    let mut makers = 0;
    for answer in answers {
        let told = answer.expect("an answer").text();
        let lines: Vec<_> = told.lines().collect();
        if lines[0] == "(None, true)" {
            makers += 1;
            assert_eq!(lines[1..], ["()", "()", "()", "()"], "{told}");
        } else {
            assert!(lines[0].ends_with("fresh made\"), false)"), "{told}");
            assert_eq!(lines[1..], ["no slot", "no slot", "no writer", "no writer"], "{told}");
        }
    }
    assert_eq!(makers, 1);
    assert_eq!((house.counted("miss"), house.counted("hit") + house.counted("collapsed")), (1.0, 15.0));
    // What is stale is given to all, and one makes it anew.
    assert_eq!(house.told("/one", &["lookup s", "insert 1 600000", "write old", "finish"])[3], "()");
    until("it is stale", || house.told("/one", &["find s"])[0].contains("stale").then_some(()));
    let stale = "Some(\" Some(3) stale old\")";
    let renews = ["lookup s", "insert 600000 0", "write new", "finish"];
    assert_eq!(house.told("/one", &renews), [&format!("({stale}, true)"), "()", "()", "()"]);
    assert_eq!(house.told("/one", &["find s"]), ["Some(\" Some(3) fresh new\")"]);
}

#[test]
fn a_slot_passes_on_when_its_call_ends_and_what_was_half_written_is_broken() {
    let house = Keepers::new("");
    // It naps for longer than it may, with the slot in hand; and another with half of a body written.
    for (begins, reads) in [
        (&["lookup a", "nap 60000"][..], None),
        (&["lookup b", "insert 60000 0", "write half", "nap 60000"], Some("broken after 4 bytes")),
    ] {
        let name = begins[0].split(' ').nth(1).expect("a name");
        let (dies, waits) = thread::scope(|scope| {
            let dies = scope.spawn(|| ask(house.request("shop.test", "/two", begins)).expect("an answer"));
            until("it has the slot", || (flights(&house) > 0).then_some(()));
            let waits = scope.spawn(|| house.told("/one", &[&format!("lookup {name}")]));
            (dies.join().expect("asked"), waits.join().expect("asked"))
        });
        assert_eq!(dies.status, 504, "{}", dies.text());
        match reads {
            None => assert_eq!(waits, ["(None, true)"]),
            Some(broken) => assert!(waits[0].contains(broken), "{waits:?}"),
        }
        until("another one has the turn", || has_turn(&house, "/one", name));
    }
    // An instance that serves again and has forgotten its handles holds nothing either.
    let forgets = ["lookup c", "forget", "lookup d", "insert 60000 0", "forget"];
    assert_eq!(house.told("/again", &forgets), ["(None, true)", "forgotten", "(None, true)", "()", "forgotten"]);
    for name in ["c", "d"] {
        until("another one has the turn", || has_turn(&house, "/again", name));
    }
    until("nobody has a slot", || (flights(&house) == 0).then_some(()));
}

/// Whether a lookup gives the turn to make what is not there; what broke off may be there for a moment.
fn has_turn(house: &Keepers, path: &str, name: &str) -> Option<()> {
    (house.told(path, &[&format!("lookup {name}")]) == ["(None, true)"]).then_some(())
}

/// Slots that are held.
fn flights(house: &Keepers) -> u64 {
    let stats = unix(&house.world.path("a/admin.sock"), "/status/cache");
    let stats: serde_json::Value = serde_json::from_str(&stats).expect("JSON");
    stats["apps"]["shop"]["flights"].as_u64().expect("a number")
}

#[test]
fn what_is_asked_wrongly_is_told_and_nothing_is_kept_of_it() {
    let house = Keepers::new("");
    let long = "n".repeat(241);
    let (invalid, mut rows) = ("failed: \"invalid\"", 0);
    for (script, told) in [
        (
            vec![format!("lookup {long}"), format!("find {long}"), format!("take-out {long}")],
            vec![invalid, invalid, invalid],
        ),
        (vec!["lookup a".into(), "lookup a".into()], vec!["(None, true)", "failed: \"held\""]),
        (
            vec!["lookup a".into(), "insert 1000 0".into(), "lookup a".into()],
            vec!["(None, true)", "()", "failed: \"held\""],
        ),
        (
            vec!["lookup a".into(), "insert 99999999999 0".into(), "lookup a".into()],
            vec!["(None, true)", invalid, "(None, true)"],
        ),
        (vec!["lookup a".into(), "insert 1 0 m*5000".into()], vec!["(None, true)", invalid]),
        (
            vec!["lookup a".into(), "insert 1 0 m length=99999999999".into()],
            vec!["(None, true)", "failed: \"too-large\""],
        ),
        (
            vec!["lookup a".into(), "insert 1 0 m length=3".into(), "write four".into(), "finish".into()],
            vec!["(None, true)", "()", "()", "failed: \"too-large\""],
        ),
        (
            vec!["lookup a".into(), "insert 1 0 m length=5".into(), "write four".into(), "finish".into()],
            vec!["(None, true)", "()", "()", "failed: \"too-large\""],
        ),
    ] {
        // Each of another name: what was given up may be there for a moment, as broken.
        rows += 1;
        let lines: Vec<_> = script.iter().map(|line| line.replace(" a", &format!(" a{rows}"))).collect();
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        assert_eq!(house.told("/one", &lines), told, "{script:?}");
        assert_eq!(house.told("/one", &[&format!("find a{rows}")]), ["None"]);
    }
    let many: Vec<_> = (0..65).map(|n| format!("lookup n{n}")).collect();
    let told = house.told("/one", &many.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(told[..64].iter().all(|it| it == "(None, true)") && told[64] == "failed: \"too-many\"", "{told:?}");
}

#[test]
fn what_is_kept_by_a_name_is_purged_by_it_and_by_its_keys() {
    let house = Keepers::new("");
    let makes = |name: &str| {
        let told =
            house.told("/one", &[&format!("lookup {name}"), "insert 600000 600000 said group", "write x", "finish"]);
        assert_eq!(told[3], "()", "{told:?}");
    };
    let is_kept = |name: &str| house.told("/two", &[&format!("find {name}")])[0] != "None";
    makes("a");
    assert_eq!(house.told("/two", &["take-out a"]), ["failed: \"not-permitted\""]);
    assert!(is_kept("a"));
    assert!(!house.told("/one", &["take-out a"])[0].contains("not-permitted"));
    assert!(!is_kept("a"));
    for key in ["object:b", "group"] {
        makes("b");
        assert!(is_kept("b"));
        let mut purge = eyot();
        purge.args(["cache", "purge", "--app", "shop", "--tag", key, "--admin"]).arg(house.world.path("a/admin.sock"));
        good(purge);
        assert!(!is_kept("b"), "{key}");
    }
    makes("c");
    assert!(!house.told("/one", &["take-out c soft"])[0].contains("not-permitted"));
    assert!(house.told("/two", &["find c"])[0].contains("x\")"), "it is given");
    assert!(house.told("/one", &["lookup c"])[0].ends_with("true)"), "while one makes it anew");
}
