//! Servers that are killed, that hang, and that come back: nothing that was acknowledged is lost, whoever asks meanwhile is
//! told so in time, and it goes on by itself.

use std::ops::RangeFrom;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use eyot_state::{ANSWER_WITHIN, Error, Store};
use serde_json::json;
use tokio::task::JoinHandle;

use super::cases::{open, until};
use super::server::{Fleet, Server, stores};
use crate::harness::redis::Redis;

/// Tasks that write, and how much before a server is taken away from them.
const WRITERS: usize = 4;
const WRITTEN: usize = 200;

fn key(number: usize) -> String {
    format!("key {number}")
}

fn value(number: usize) -> Bytes {
    number.to_string().into()
}

/// Everything that a store can be asked: how each ended.
async fn asked(store: &Store) -> Vec<(&'static str, Result<(), Error>)> {
    let first = || key(0);
    let (get, exists, keys, current, many) = tokio::join!(
        store.get(first()),
        store.exists(first()),
        store.keys(None),
        store.current(first()),
        store.get_many(vec![first()]),
    );
    let (set, increment, swap, set_many, delete_many) = tokio::join!(
        store.set("asked".to_owned(), value(0)),
        store.increment("asked for".to_owned(), 1),
        store.swap("asked too".to_owned(), 1, value(1)),
        store.set_many(vec![("asked as well".to_owned(), value(0))]),
        store.delete_many(vec!["asked no more".to_owned()]),
    );
    vec![
        ("get", get.map(drop)),
        ("exists", exists.map(drop)),
        ("keys", keys.map(drop)),
        ("current", current.map(drop)),
        ("get_many", many.map(drop)),
        ("set", set),
        ("increment", increment.map(drop)),
        ("swap", swap.map(drop)),
        ("set_many", set_many),
        ("delete_many", delete_many),
    ]
}

/// Each is answered, by an error that does not say where the engine is.
async fn all_are_told(store: &Store) {
    let all = tokio::time::timeout(ANSWER_WITHIN * 20, asked(store)).await.expect("nothing hangs");
    for (verb, said) in all {
        match said {
            Err(Error::Unavailable(why)) => {
                assert!(!why.contains("127.0.0.1") && !why.contains("://"), "{verb}: {why}")
            }
            other => panic!("{verb}: {other:?}"),
        }
    }
}

/// Waits until it answers everything.
async fn is_back(store: &Store) {
    let answers = async || asked(store).await.iter().all(|(_, said)| said.is_ok());
    until("it answers everything again", answers).await;
}

/// What was acknowledged to a task that writes and counts until it is told that it cannot.
struct Written {
    keys: Vec<usize>,
    counted: i64,
}

fn write(store: &Store, numbers: RangeFrom<usize>, all: &Arc<AtomicUsize>) -> JoinHandle<Written> {
    let (store, all) = (store.clone(), Arc::clone(all));
    tokio::spawn(async move {
        let mut written = Written { keys: Vec::new(), counted: 0 };
        for number in numbers {
            if store.set(key(number), value(number)).await.is_err() {
                break;
            }
            written.keys.push(number);
            if store.increment("count".to_owned(), 1).await.is_err() {
                break;
            }
            written.counted += 1;
            all.fetch_add(1, Ordering::Relaxed);
        }
        written
    })
}

/// Takes something away from those who write, and looks for all that was acknowledged to them, as `store` sees it then.
async fn under_writes(writers: [&Store; WRITERS], store: &Store, take_away: impl FnOnce(), bring_back: impl FnOnce()) {
    store.set("before".to_owned(), value(1)).await.expect("set");
    let revision = store.current("before".to_owned()).await.expect("read").revision;
    let all = Arc::<AtomicUsize>::default();
    let tasks: Vec<_> =
        writers.iter().enumerate().map(|(number, store)| write(store, number * 1_000_000.., &all)).collect();
    until("they write", async || all.load(Ordering::Relaxed) >= WRITTEN).await;
    take_away();
    let (mut keys, mut counted) = (Vec::new(), 0);
    for task in tasks {
        let written = tokio::time::timeout(ANSWER_WITHIN * 20, task).await.expect("nothing hangs").expect("no panic");
        keys.extend(written.keys);
        counted += written.counted;
    }
    bring_back();
    until("it answers again", async || store.exists(key(0)).await.is_ok()).await;
    for number in &keys {
        assert_eq!(store.get(key(*number)).await, Ok(Some(value(*number))), "of {} acknowledged", keys.len());
    }
    // The last one of each was not acknowledged, and may have been done.
    let count = store.increment("count".to_owned(), 0).await.expect("counted");
    let most = counted + i64::try_from(WRITERS).expect("few");
    assert!((counted..=most).contains(&count), "{count} instead of {counted}");
    assert_eq!(store.swap("before".to_owned(), revision, value(2)).await, Ok(true), "revisions are what they were");
    println!("{} keys and {counted} increments were acknowledged", keys.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_acknowledged_is_there_when_it_was_killed_under_writes_and_started_again() {
    for mut server in [Server::redis(), Server::nats()] {
        let ground = server.ground();
        let [store, other] = [&ground.stores, &ground.other].map(|stores| open(stores, "shop", "kept", ground.spec()));
        let server = std::cell::RefCell::new(&mut server);
        let (kill, restart) = (|| server.borrow_mut().process().kill(), || server.borrow_mut().restart());
        under_writes([&store, &other, &store, &other], &store, kill, restart).await;
        is_back(&other).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_three_servers_of_nats_acknowledged_is_there_when_the_one_that_led_is_killed() {
    let mut fleet = Fleet::new().await;
    let (ground, stores) = (fleet.ground(), fleet.stores());
    let store = open(&stores, "shop", "kept", ground.spec());
    until("it answers", async || store.set("before".to_owned(), value(0)).await.is_ok()).await;
    let info = fleet.servers()[0].connect().api("STREAM.INFO.KV_eyot_shop_kept", &json!({}));
    let leader = info["cluster"]["leader"].as_str().unwrap_or_else(|| panic!("{info}"));
    assert_eq!(info["config"]["num_replicas"], 3, "{info}");
    let leader: usize = leader.trim_start_matches('n').parse().expect("a number");
    let kill = || fleet.servers()[leader].kill();
    under_writes([&store; WRITERS], &store, kill, || {}).await;
    is_back(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_away_or_hangs_is_told_in_time_and_asked_again_when_it_is_back() {
    for mut server in [Server::redis(), Server::nats()] {
        let ground = server.ground();
        let [store, other] = [&ground.stores, &ground.other].map(|stores| open(stores, "shop", "away", ground.spec()));
        server.process().kill();
        all_are_told(&store).await;
        server.restart();
        is_back(&store).await;
        is_back(&other).await;
        server.process().signal("STOP");
        all_are_told(&store).await;
        server.process().signal("CONT");
        is_back(&store).await;
        server.process().kill();
        all_are_told(&other).await;
        server.restart();
        is_back(&store).await;
        is_back(&other).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_wrong_is_told_without_being_shown() {
    let server = Redis::new();
    let wrong = eyot_state::Redis { url: server.url(), password: Some("wrong horse".to_owned()) };
    assert!(!format!("{wrong:?}").contains("horse"));
    let server = Server::Redis(server);
    let store = open(&stores(None, Some(wrong)), "shop", "shut", server.ground().spec());
    let said = store.get(key(0)).await.expect_err("it is shut");
    assert!(matches!(said, Error::Unavailable(_)) && !said.to_string().contains("horse"), "{said}");
}
