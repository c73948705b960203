//! Upgrades while functions write to a store, take messages and run on a schedule: nothing of that is lost, and nothing is
//! done twice.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use serde_json::json;

use super::house::{House, house_with};
use super::load::Load;
use crate::events::said;
use crate::harness::app::App;
use crate::harness::client::{Answer, Ask, Protocol, ask};
use crate::harness::nats::Nats;
use crate::harness::process::until;
use crate::harness::size::size;

const WRITERS: usize = 3;
/// The seconds between two times of the schedules.
const STEP: i64 = 3;

fn with_state(app: App) -> App {
    app.function("given", "given", "stores = { carts = \"carts\" }\nlimits = { cpu = \"5s\", wall = \"60s\" }")
        .function("order", "event", "env = { NAME = \"order\" }\nlimits = { cpu = \"1s\", wall = \"60s\" }")
        .function("tick", "event", "env = { NAME = \"tick\" }\nlimits = { cpu = \"1s\", wall = \"60s\" }")
        .function("all", "event", "env = { NAME = \"all\" }\nlimits = { cpu = \"1s\", wall = \"60s\" }")
        .route("shop.test", "/state", "function = \"given\"")
        .table("[stores.carts]\nengine = \"node\"\nconsistency = \"linearizable\"")
        .table("[[queues]]\nengine = \"nats\"\nsubject = \"orders.>\"\nfunction = \"order\"\nconcurrency = 8")
        .table(&format!("[[schedules]]\ncron = \"*/{STEP} * * * * *\"\nrun = \"once\"\nfunction = \"tick\""))
        .table(&format!("[[schedules]]\ncron = \"*/{STEP} * * * * *\"\nrun = \"each-node\"\nfunction = \"all\""))
}

fn tell(ca: &[u8], port: u16, lines: &str) -> Result<Answer, String> {
    ask(Ask::trusting(ca, port, Protocol::H2, "shop.test", "/state").method("POST").body(lines.to_owned()))
}

/// Those who count in a store, and send a message for each count that was acknowledged.
struct Writers {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    /// What each was told when that was no count.
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Writers {
    fn on(house: &House, nats: &Nats) -> Self {
        let (stop, acknowledged) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let threads = (0..WRITERS).map(|writer| {
            let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
            let (ca, port) = (fs::read(house.world.ca()).expect("the CA"), house.node.port);
            let mut client = nats.connect();
            std::thread::spawn(move || {
                let mut failed = Vec::new();
                for round in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let lines = format!("open carts\nincrement count 1\nset w-{writer} {round}\nget w-{writer}\n");
                    match tell(&ca, port, &lines).map(|answer| answer.text()) {
                        Ok(text) if text.ends_with(&format!("\n()\nSome(\"{round}\")\n")) => {
                            client.publish("shop.orders.new", &[], &format!("m-{writer}-{round}"));
                            acknowledged.fetch_add(1, Ordering::Relaxed);
                        }
                        other => failed.push(format!("{other:?}")),
                    }
                }
                failed
            })
        });
        let threads = threads.collect();
        Self { stop, acknowledged, threads }
    }

    fn more(&self, count: usize) {
        let to = self.acknowledged.load(Ordering::Relaxed) + count;
        until("they write", || (self.acknowledged.load(Ordering::Relaxed) >= to).then_some(()));
    }

    /// Ends them: none was ever told anything but a count. How many there were.
    fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let failed: Vec<_> = self.threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect();
        assert!(failed.is_empty(), "{failed:#?}");
        self.acknowledged.load(Ordering::Relaxed)
    }
}

/// How often each of these was begun.
fn times<'a>(all: impl Iterator<Item = &'a str>) -> BTreeMap<String, usize> {
    let mut times = BTreeMap::new();
    for one in all {
        *times.entry(one.to_owned()).or_default() += 1;
    }
    times
}

/// Every time of the schedule, from the first to the last that was begun, was begun once.
fn is_whole(log: &str, name: &str) -> usize {
    let all = said(log, &format!("begun {name} at events.eyot.internal io.eyot.schedule "));
    let times = times(all.iter().filter_map(|words| words.split(' ').next()));
    assert!(times.values().all(|count| *count == 1), "{name}: {times:?}");
    let seconds: Vec<i64> =
        times.keys().map(|time| time.parse::<jiff::Timestamp>().expect("a time").as_second()).collect();
    assert!(seconds.windows(2).all(|two| two[1] - two[0] == STEP), "{name}: {times:?}");
    seconds.len()
}

#[test]
fn upgrades_in_a_row_lose_no_write_no_message_and_no_time_of_a_schedule_and_do_none_of_them_twice() {
    let nats = Nats::new();
    let stores = format!("[stores]\nnats = {{ url = \"{}\" }}\n", nats.url());
    let house = house_with(&["--engine", "nats"], with_state, &stores);
    // Before its queue is there, nobody acknowledges a message.
    let connected = "eyot_queue_connected{app=\"shop\",route=\"queue:orders.>\"}";
    until("messages are taken", || (house.node.metric(connected) == 1.0).then_some(()));
    let (load, writers) = (Load::on(&house), Writers::on(&house, &nats));
    writers.more(20);
    let mut serves = house.serves();
    for round in 0..size().upgrades {
        let next = house.upgraded();
        assert_ne!(next, serves, "round {round}");
        writers.more(20);
        load.more(20);
        serves = next;
    }
    let acknowledged = writers.end();
    load.end(&house);
    let mut client = nats.connect();
    until("every message is done", || {
        let info = client.api("STREAM.INFO.eyot-shop", &json!({}));
        (info["state"]["messages"] == 0).then_some(())
    });
    let ca = fs::read(house.world.ca()).expect("the CA");
    let counted = tell(&ca, house.node.port, "open carts\nincrement count 0\n").expect("an answer").text();
    assert_eq!(counted, format!("()\n{acknowledged}\n"), "each count once");
    let log = house.node.process.log();
    let done = said(&log, "done io.eyot.queue ");
    let done = times(done.iter().filter_map(|words| words.split(' ').next()));
    let begun = log.matches("begun order at events.eyot.internal io.eyot.queue ").count();
    assert_eq!((done.len(), begun), (acknowledged, acknowledged), "each message once: {done:?}");
    let ticks = ["tick", "all"].map(|name| is_whole(&log, name));
    println!("{acknowledged} writes and messages, {ticks:?} times of schedules, {} upgrades", size().upgrades);
}
