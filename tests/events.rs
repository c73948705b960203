//! What nobody asks for: schedules run by one node of three, messages of queues, and that the public can send neither.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::harness::app::App;
use crate::harness::client::{Ask, PROTOCOLS, ask, unix_asks};
use crate::harness::nats::{Connection, Nats};
use crate::harness::process::until;
use crate::harness::size::size;
use crate::harness::world::{Node, World};

/// The words between `before` and the dot that ends them, of all that functions said.
pub(crate) fn said(log: &str, before: &str) -> Vec<String> {
    log.split(before).skip(1).filter_map(|rest| Some(rest.split_once('.')?.0.to_owned())).collect()
}

/// The times of a schedule that were begun, and by which nodes.
fn begun(logs: &[(String, String)], name: &str) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (node, log) in logs {
        for time in said(log, &format!("begun {name} at events.eyot.internal io.eyot.schedule ")) {
            all.entry(time).or_default().push(node.clone());
        }
    }
    all
}

/// What the nodes have logged so far.
fn logs(nodes: &[Node]) -> Vec<(String, String)> {
    nodes.iter().map(|node| (node.id.clone(), node.process.log())).collect()
}

#[test]
fn a_schedule_of_the_fleet_fires_once_for_three_nodes_also_when_one_dies() {
    let world = World::new();
    world.grant("shop", &["shop.test"], &[]);
    let app = App::new("shop", &["shop.test"])
        .function("tick", "event", "env = { NAME = \"tick\" }")
        .function("slow", "event", "env = { NAME = \"slow\", MODE = \"slow\" }\nlimits = { wall = \"50s\" }")
        .function("all", "event", "env = { NAME = \"all\" }")
        .route("shop.test", "/*", "respond = { status = 200 }")
        .table("[[schedules]]\ncron = \"* * * * * *\"\nrun = \"once\"\nfunction = \"tick\"")
        .table("[[schedules]]\ncron = \"* * * * *\"\nrun = \"once\"\nfunction = \"slow\"")
        .table("[[schedules]]\ncron = \"*/2 * * * * *\"\nrun = \"each-node\"\nfunction = \"all\"")
        .written();
    world.publish(&app);
    let mut nodes: Vec<Node> = ["a", "b", "c"].map(|id| world.node(id)).into();
    let times = |nodes: &[Node]| begun(&logs(nodes), "tick").len();
    until("the schedule has fired", || (times(&nodes) >= 5).then_some(()));
    // Whoever runs the slow one dies in the middle of it, and another takes it up.
    let (time, holder) = until("the slow one is run", || {
        let all = begun(&logs(&nodes), "slow");
        all.into_iter().next().map(|(time, by)| (time, by[0].clone()))
    });
    let dies = nodes.iter().position(|node| node.id == holder).expect("one of them");
    nodes[dies].process.kill();
    let before = times(&nodes);
    let all = until("another node takes it up", || {
        Some(begun(&logs(&nodes), "slow")).filter(|all| all.get(&time).is_some_and(|by| by.len() > 1))
    });
    assert_eq!((all[&time].len(), all[&time][0] != all[&time][1]), (2, true), "{all:?}");
    until("the schedule goes on", || (times(&nodes) >= before + 5).then_some(()));
    // Those that live say that they have run it; no time was run twice, and none by two nodes.
    let ticks = begun(&logs(&nodes), "tick");
    let twice: Vec<_> = ticks.iter().filter(|(_, by)| by.len() > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    let each = begun(&logs(&nodes), "all");
    let by_all = each.values().filter(|by| by.iter().collect::<BTreeSet<_>>().len() == 3).count();
    assert!(by_all > 0, "no time of `each-node` was run by all three: {each:?}");
    assert!(each.values().all(|by| by.len() <= 3), "{each:?}");
    let live = nodes.iter().find(|node| node.id != holder).expect("two live");
    let route = "eyot_schedule_times_total{app=\"shop\",route=\"schedule:* * * * * * UTC\"";
    assert!(live.metric(route) > 0.0);
    println!("{} times by {:?}", ticks.len(), ticks.values().flatten().collect::<BTreeSet<_>>());
}

/// A process that took over, which is nobody's child.
struct Heir(u64);

impl Heir {
    fn kill(&self) {
        let _ = Command::new("kill").args(["-KILL", &self.0.to_string()]).output();
    }
}

impl Drop for Heir {
    fn drop(&mut self) {
        self.kill();
    }
}

#[test]
fn no_time_of_a_schedule_is_begun_twice_by_a_node_whose_process_is_replaced_killed_and_started_again() {
    let world = World::new();
    world.grant("shop", &["shop.test"], &[]);
    let app = App::new("shop", &["shop.test"])
        .function("tick", "event", "env = { NAME = \"tick\" }")
        .function("all", "event", "env = { NAME = \"all\" }")
        .route("shop.test", "/*", "respond = { status = 200 }")
        .table("[[schedules]]\ncron = \"* * * * * *\"\nrun = \"once\"\nfunction = \"tick\"")
        .table("[[schedules]]\ncron = \"* * * * * *\"\nrun = \"each-node\"\nfunction = \"all\"")
        .written();
    world.publish(&app);
    let mut node = world.node("a");
    let begun_of = |logs: &[(String, String)]| ["tick", "all"].map(|name| begun(logs, name));
    let more = |node: &Node, count: usize| {
        let before = begun_of(&logs(std::slice::from_ref(node))).map(|times| times.len());
        until("both are run on", || {
            let now = begun_of(&logs(std::slice::from_ref(node))).map(|times| times.len());
            (now[0] >= before[0] + count && now[1] >= before[1] + count).then_some(())
        });
    };
    more(&node, 3);
    let socket = world.path("a/admin.sock");
    assert_eq!(unix_asks(&socket, "POST", "/upgrade").0 / 100, 2);
    let own = u64::from(node.process.id());
    let heir = until("another process has taken over", || {
        let state: serde_json::Value = serde_json::from_str(&unix_asks(&socket, "GET", "/status/upgrade").1).ok()?;
        state["pid"].as_u64().filter(|pid| *pid != own).map(Heir)
    });
    more(&node, 3);
    heir.kill();
    node.process.kill();
    let mut all = logs(std::slice::from_ref(&node));
    node.restart();
    more(&node, 3);
    all.extend(logs(std::slice::from_ref(&node)));
    for times in begun_of(&all) {
        let twice: Vec<_> = times.iter().filter(|(_, by)| by.len() > 1).collect();
        assert!(twice.is_empty(), "{twice:?}");
        assert!(times.len() >= 9, "{times:?}");
    }
}

#[test]
fn the_public_cannot_send_an_event() {
    let world = World::new();
    world.grant("shop", &["shop.test"], &[]);
    let app = App::new("shop", &["shop.test"])
        .function("tick", "event", "env = { NAME = \"tick\" }")
        .route("shop.test", "/*", "function = \"tick\"")
        .table("[[schedules]]\ncron = \"0 0 1 1 *\"\nfunction = \"tick\"")
        .written();
    let number = world.publish(&app);
    let node = world.node("a");
    node.wait_for_release(&world, "shop.test", "/", &format!("shop/{number}"));
    for protocol in PROTOCOLS {
        for host in ["events.eyot.internal", "tick.function.eyot.internal"] {
            let forged = Ask::get(&world, &node, protocol, host, "/").method("POST").body("{}");
            let forged =
                ["ce-id", "ce-type", "ce-source", "ce-time"].iter().fold(forged, |ask, it| ask.header(it, "forged"));
            let answer = ask(forged).unwrap_or_else(|error| panic!("{protocol:?} {host}: {error}"));
            assert_eq!((answer.status, answer.code().as_str()), (421, "misdirected"), "{protocol:?} {host}");
        }
    }
    assert!(!node.process.log().contains("begun tick at events.eyot.internal"));
    assert!(node.process.log().contains("begun tick at shop.test"), "the function itself can be asked");
}

#[test]
fn a_message_is_worked_on_at_its_first_try_after_its_queue_was_empty_for_a_while() {
    let world = World::new();
    world.grant("shop", &["shop.test"], &["--engine", "nats"]);
    let nats = Nats::new();
    let app = App::new("shop", &["shop.test"])
        .function("order", "event", "env = { NAME = \"order\" }")
        .route("shop.test", "/*", "respond = { status = 200 }")
        .table("[[queues]]\nengine = \"nats\"\nsubject = \"orders.>\"\nfunction = \"order\"")
        .written();
    world.publish(&app);
    let node = world.node_with("a", &format!("[stores]\nnats = {{ url = \"{}\" }}\n", nats.url()));
    let connected = "eyot_queue_connected{app=\"shop\",route=\"queue:orders.>\"}";
    until("messages are taken", || (node.metric(connected) == 1.0).then_some(()));
    nats.connect().hears_a_heartbeat();
    nats.connect().publish("shop.orders.new", &[], "m-0");
    until("it is done", || node.process.log().contains("done io.eyot.queue m-0 ").then_some(()));
    let log = node.process.log();
    let tries: Vec<_> = log.lines().filter(|line| line.contains("begun order at ")).collect();
    assert!(tries.len() == 1 && tries[0].contains(" 1 m-0."), "{tries:?}");
}

/// What an app's stream holds, by subject.
fn held(nats: &mut Connection) -> BTreeMap<String, u64> {
    let info = nats.api("STREAM.INFO.eyot-shop", &json!({ "subjects_filter": "shop.>" }));
    serde_json::from_value(info["state"]["subjects"].clone()).unwrap_or_default()
}

#[test]
fn every_message_of_a_queue_is_worked_on_or_a_dead_letter_whoever_dies_meanwhile() {
    let world = World::new();
    world.grant("shop", &["shop.test"], &["--engine", "nats"]);
    let mut nats = Nats::new();
    let app = App::new("shop", &["shop.test"])
        .function("order", "event", "env = { MODE = \"luck\" }")
        .route("shop.test", "/*", "respond = { status = 200 }")
        .table(
            "[[queues]]\nengine = \"nats\"\nsubject = \"orders.>\"\nfunction = \"order\"\nconcurrency = 8\nattempts = 3\n\
             backoff = [\"10ms\", \"100ms\"]\ndead_letter = \"orders-dead\"",
        )
        .written();
    world.publish(&app);
    let stores = format!("[stores]\nnats = {{ url = \"{}\" }}\n", nats.url());
    let mut nodes: Vec<Node> = ["a", "b", "c"].map(|id| world.node_with(id, &stores)).into();
    let connected = "eyot_queue_connected{app=\"shop\",route=\"queue:orders.>\"}";
    until("all take messages", || nodes.iter().all(|node| node.metric(connected) == 1.0).then_some(()));
    let count = size().messages;
    let mut client = nats.connect();
    for number in 0..count {
        client.publish(
            &format!("shop.orders.{}", number % 7),
            &[("Content-Type", "text/plain")],
            &format!("m-{number}"),
        );
    }
    // Another app's subject is no business of this one.
    until("some are done", || {
        let left: u64 =
            held(&mut client).iter().filter(|(subject, _)| *subject != "shop.orders-dead").map(|(_, n)| n).sum();
        (left < count as u64 * 3 / 4).then_some(())
    });
    nodes[2].process.kill();
    nats.kill();
    nats.restart();
    let mut client = nats.connect();
    let dead = until("all are done or dead", || {
        let held = held(&mut client);
        let only_dead = held.keys().all(|subject| subject == "shop.orders-dead");
        only_dead.then(|| held.get("shop.orders-dead").copied().unwrap_or(0))
    });
    let done: BTreeSet<String> = nodes
        .iter()
        .flat_map(|node| said(&node.process.log(), "done io.eyot.queue "))
        .filter_map(|words| words.split(' ').find(|word| word.starts_with("m-")).map(str::to_owned))
        .collect();
    let mut letters = BTreeMap::new();
    let mut next = 1;
    for _ in 0..dead {
        let ask = json!({ "seq": next, "next_by_subj": "shop.orders-dead" });
        let letter = client.api("STREAM.MSG.GET.eyot-shop", &ask)["message"].clone();
        next = letter["seq"].as_u64().unwrap_or_else(|| panic!("{letter}")) + 1;
        let text = |name: &str| {
            let bytes = STANDARD.decode(letter[name].as_str().unwrap_or_default()).expect("base64");
            String::from_utf8(bytes).expect("text")
        };
        letters.insert(text("data"), text("hdrs"));
    }
    let all: BTreeSet<String> = (0..count).map(|number| format!("m-{number}")).collect();
    let ended: BTreeSet<String> = done.iter().cloned().chain(letters.keys().cloned()).collect();
    let lost: Vec<_> = all.difference(&ended).collect();
    assert!(lost.is_empty(), "{} of {count} are lost: {lost:?}", lost.len());
    assert_eq!(letters.len() as u64, dead, "no letter is there twice");
    for (message, head) in &letters {
        assert!(head.contains("Eyot-Attempts: 3") && head.contains("Eyot-Function: order"), "{message}: {head}");
        assert!(
            head.contains("Eyot-Subject: orders.") && head.contains("Content-Type: text/plain"),
            "{message}: {head}"
        );
        let known = ["status 500", "function_trapped", "lost at its last try"];
        assert!(known.iter().any(|reason| head.contains(reason)), "{message}: {head}");
    }
    assert!(dead > 0, "some had no luck three times");
    println!("{count} messages: {} done, {} dead", done.len(), letters.len());
}
