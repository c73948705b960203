//! What every engine does, as a table of cases. Each has stores of its own, so they may run side by side.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use eyot_bundle::name::Name;
use eyot_bundle::release::{Consistency, Engine, Store as Spec};
use eyot_state::{BATCH_BYTES_MAX, BATCH_KEYS_MAX, Bound, Error, KEY_BYTES_MAX, PAGE_KEYS, Store, Stores};

/// The stores of one engine, and of two nodes where it is of a fleet.
#[derive(Clone)]
pub(crate) struct Ground {
    pub(crate) engine: Engine,
    pub(crate) stores: Stores,
    pub(crate) other: Stores,
}

type Running = Pin<Box<dyn Future<Output = ()>>>;
type Case = (&'static str, fn(Ground) -> Running);

/// All of them. A name is that of the store, too.
pub(crate) const CASES: &[Case] = &[
    ("written", |ground| Box::pin(what_was_written_is_read(ground))),
    ("keys", |ground| Box::pin(a_key_may_hold_anything(ground))),
    ("apart", |ground| Box::pin(stores_are_apart(ground))),
    ("numbers", |ground| Box::pin(increments_are_counted(ground))),
    ("no-numbers", |ground| Box::pin(what_is_no_number_is_not_incremented(ground))),
    ("swaps", |ground| Box::pin(a_swap_needs_the_revision(ground))),
    ("races", |ground| Box::pin(no_update_is_lost_in_a_race(ground))),
    ("limits", |ground| Box::pin(what_is_over_a_limit_is_refused(ground))),
    ("full", |ground| Box::pin(a_full_store_takes_no_other_key(ground))),
    ("batches", |ground| Box::pin(many_at_once_are_in_their_order(ground))),
    ("pages", |ground| Box::pin(all_keys_are_on_the_pages(ground))),
    ("lives", |ground| Box::pin(a_value_ends_with_its_time(ground))),
    ("others", |ground| Box::pin(another_node_sees_what_was_written(ground))),
];

impl Ground {
    pub(crate) fn spec(&self) -> Spec {
        Spec {
            engine: self.engine,
            consistency: Consistency::ReadYourWrites,
            ttl_ms: None,
            value_max_bytes: 64 << 10,
            keys_max: 10_000,
        }
    }

    async fn store(&self, name: &str) -> Store {
        self.store_with(name, self.spec()).await
    }

    async fn store_with(&self, name: &str, spec: Spec) -> Store {
        opened(&self.stores, "shop", name, spec).await
    }
}

pub(crate) fn open(stores: &Stores, app: &str, store: &str, spec: Spec) -> Store {
    let name = |text: &str| text.parse::<Name>().expect("a name");
    let bound = Bound { app: name(app), store: name(store), spec, disk_bytes_max: 1 << 30 };
    stores.store(bound).expect("the engine is there")
}

/// One that answers: where several servers keep it, these choose one that leads first.
async fn opened(stores: &Stores, app: &str, store: &str, spec: Spec) -> Store {
    let store = open(stores, app, store, spec);
    until("it answers", async || store.exists("key".to_owned()).await.is_ok()).await;
    store
}

fn is_refused<T: std::fmt::Debug>(said: Result<T, Error>, text: &str) {
    match said {
        Err(Error::Refused(why)) if why.contains(text) => {}
        other => panic!("{other:?} instead of a refusal with `{text}`"),
    }
}

fn value(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

async fn what_was_written_is_read(ground: Ground) {
    let store = ground.store("written").await;
    let key = || "key".to_owned();
    assert_eq!(store.get(key()).await, Ok(None));
    assert_eq!(store.exists(key()).await, Ok(false));
    for round in 0..20 {
        let written = value(&format!("value {round}"));
        store.set(key(), written.clone()).await.expect("set");
        assert_eq!(store.get(key()).await, Ok(Some(written)), "round {round}");
        assert_eq!(store.exists(key()).await, Ok(true));
        store.delete(key()).await.expect("deleted");
        assert_eq!(store.get(key()).await, Ok(None), "round {round}");
    }
    store.delete("never there".to_owned()).await.expect("nothing to delete is no mistake");
    store.set(key(), Bytes::new()).await.expect("set");
    assert_eq!((store.get(key()).await, store.exists(key()).await), (Ok(Some(Bytes::new())), Ok(true)));
    let bytes = Bytes::from_iter(0..=255);
    store.set(key(), bytes.clone()).await.expect("set");
    assert_eq!(store.get(key()).await, Ok(Some(bytes)));
}

async fn a_key_may_hold_anything(ground: Ground) {
    let store = ground.store("keys").await;
    let longest = "k".repeat(KEY_BYTES_MAX);
    let keys = ["a.b", ".", "*", ">", "a b", "{a}", "a:b", "\0", "\n", "ä€😀", "A", "a", "%", "-", longest.as_str()];
    for key in keys {
        store.set(key.to_owned(), value(key)).await.expect("set");
    }
    for key in keys {
        assert_eq!(store.get(key.to_owned()).await, Ok(Some(value(key))), "{key:?}");
    }
    let found: BTreeSet<_> = all_keys(&store).await.into_iter().collect();
    assert_eq!(found, keys.map(str::to_owned).into_iter().collect());
}

async fn stores_are_apart(ground: Ground) {
    let names = [("a", "b-c"), ("a-b", "c"), ("a", "b"), ("b", "a"), ("a1", "b"), ("a", "b1")];
    for (app, store) in names {
        let store = opened(&ground.stores, app, store, ground.spec()).await;
        store.set("key".to_owned(), value(&format!("{app} {store:?}"))).await.expect("set");
    }
    for (app, name) in names {
        let store = opened(&ground.stores, app, name, ground.spec()).await;
        assert_eq!(store.get("key".to_owned()).await, Ok(Some(value(&format!("{app} {store:?}")))), "{app} {name}");
        assert_eq!(all_keys(&store).await, ["key"]);
    }
}

async fn increments_are_counted(ground: Ground) {
    let (store, other) = (ground.store("numbers").await, opened(&ground.other, "shop", "numbers", ground.spec()).await);
    let tasks = [store.clone(), other.clone(), store.clone(), other].map(|store| {
        tokio::spawn(async move {
            for _ in 0..25 {
                store.increment("key".to_owned(), 3).await.expect("counted");
            }
        })
    });
    for task in tasks {
        task.await.expect("no panic");
    }
    assert_eq!(store.increment("key".to_owned(), -1).await, Ok(299));
    assert_eq!(store.get("key".to_owned()).await, Ok(Some(value("299"))));
    let most = i64::MAX;
    assert_eq!(store.increment("large".to_owned(), most).await, Ok(most));
    is_refused(store.increment("large".to_owned(), 1).await, "64 bits");
    assert_eq!(store.increment("large".to_owned(), -1).await, Ok(most - 1));
}

async fn what_is_no_number_is_not_incremented(ground: Ground) {
    let store = ground.store("no-numbers").await;
    for text in ["", "a", "1.5", "9223372036854775808", "1 ", " 1", "+1", "01", "-0"] {
        store.set("key".to_owned(), value(text)).await.expect("set");
        is_refused(store.increment("key".to_owned(), 1).await, "no whole number");
        assert_eq!(store.get("key".to_owned()).await, Ok(Some(value(text))));
    }
}

async fn a_swap_needs_the_revision(ground: Ground) {
    let store = ground.store("swaps").await;
    let key = || "key".to_owned();
    assert_eq!(store.current(key()).await.expect("read").revision, 0);
    assert_eq!(store.swap(key(), 7, value("a")).await, Ok(false));
    assert_eq!(store.swap(key(), 0, value("a")).await, Ok(true));
    assert_eq!(store.swap(key(), 0, value("b")).await, Ok(false), "it has a value");
    let first = store.current(key()).await.expect("read");
    assert_eq!(first.value, Some(value("a")));
    store.set(key(), value("a")).await.expect("set");
    assert_eq!(store.swap(key(), first.revision, value("b")).await, Ok(false), "it is the same value, written again");
    let second = store.current(key()).await.expect("read");
    assert_eq!(store.swap(key(), second.revision, value("b")).await, Ok(true));
    assert_eq!(store.get(key()).await, Ok(Some(value("b"))));
    let third = store.current(key()).await.expect("read");
    store.delete(key()).await.expect("deleted");
    assert_eq!(store.swap(key(), third.revision, value("c")).await, Ok(false), "it is gone");
    assert_eq!(store.swap(key(), 0, value("d")).await, Ok(true));
    let fourth = store.current(key()).await.expect("read").revision;
    assert!(![0, first.revision, second.revision, third.revision].contains(&fourth), "no revision comes twice");
}

async fn no_update_is_lost_in_a_race(ground: Ground) {
    let (store, other) = (ground.store("races").await, opened(&ground.other, "shop", "races", ground.spec()).await);
    let tasks = [store.clone(), other.clone(), store.clone(), other].into_iter().enumerate().map(|(task, store)| {
        tokio::spawn(async move {
            for round in 0..15 {
                loop {
                    let now = store.current("key".to_owned()).await.expect("read");
                    let mut text = now.value.map_or_else(Vec::new, |value| value.to_vec());
                    text.extend_from_slice(format!("{task}/{round} ").as_bytes());
                    if store.swap("key".to_owned(), now.revision, text.into()).await.expect("asked") {
                        break;
                    }
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("no panic");
    }
    let text = store.get("key".to_owned()).await.expect("read").expect("a value");
    let found: BTreeSet<_> = text.split(|byte| *byte == b' ').filter(|word| !word.is_empty()).collect();
    assert_eq!(found.len(), 60, "{}", String::from_utf8_lossy(&text));
}

async fn what_is_over_a_limit_is_refused(ground: Ground) {
    let store = ground.store("limits").await;
    let most = vec![0; 64 << 10];
    store.set("key".to_owned(), most.clone().into()).await.expect("the largest value");
    let over = Bytes::from([most.as_slice(), &[0]].concat());
    is_refused(store.set("key".to_owned(), over.clone()).await, "takes 65536");
    is_refused(store.swap("key".to_owned(), 0, over).await, "takes 65536");
    is_refused(store.get(String::new()).await, "at least one byte");
    is_refused(store.set("k".repeat(KEY_BYTES_MAX + 1), value("")).await, "at most 1024");
    let many = |count: usize| (0..count).map(|number| number.to_string()).collect::<Vec<_>>();
    assert!(store.get_many(many(BATCH_KEYS_MAX)).await.is_ok());
    is_refused(store.get_many(many(BATCH_KEYS_MAX + 1)).await, "at most 256");
    is_refused(store.delete_many(many(BATCH_KEYS_MAX + 1)).await, "at most 256");
    let heavy = (0..=BATCH_BYTES_MAX / most.len()).map(|number| (number.to_string(), most.clone().into())).collect();
    is_refused(store.set_many(heavy).await, "fewer at once");
    is_refused(store.keys(Some("k".repeat(KEY_BYTES_MAX + 1))).await, "cursor");
}

async fn a_full_store_takes_no_other_key(ground: Ground) {
    let store = ground.store_with("full", Spec { keys_max: 3, ..ground.spec() }).await;
    for key in ["a", "b", "c"] {
        store.set(key.to_owned(), value("1")).await.expect("room");
    }
    is_refused(store.set("d".to_owned(), value("1")).await, "its 3 keys");
    is_refused(store.swap("d".to_owned(), 0, value("1")).await, "its 3 keys");
    is_refused(store.increment("d".to_owned(), 1).await, "its 3 keys");
    store.delete("d".to_owned()).await.expect("nothing to delete");
    store.set("a".to_owned(), value("2")).await.expect("it is there");
    assert_eq!(store.increment("b".to_owned(), 1).await, Ok(2));
    for round in 0..10 {
        store.delete("c".to_owned()).await.expect("deleted");
        store.set("c".to_owned(), value("3")).await.unwrap_or_else(|error| panic!("round {round}: {error}"));
    }
}

async fn many_at_once_are_in_their_order(ground: Ground) {
    let store = ground.store("batches").await;
    let keys = |count: usize| (0..count).map(|number| format!("k{number}")).collect::<Vec<_>>();
    let pairs = keys(100).into_iter().map(|key| (key.clone(), value(&key))).collect();
    store.set_many(pairs).await.expect("set");
    let mut asked = keys(120);
    asked.reverse();
    let expect: Vec<_> = (0..120).rev().map(|number| (number < 100).then(|| value(&format!("k{number}")))).collect();
    assert_eq!(store.get_many(asked).await, Ok(expect));
    let twice = vec![("k0".to_owned(), value("first")), ("k0".to_owned(), value("last"))];
    store.set_many(twice).await.expect("set");
    assert_eq!(store.get("k0".to_owned()).await, Ok(Some(value("last"))));
    store.delete_many(keys(99)).await.expect("deleted");
    assert_eq!(all_keys(&store).await, ["k99"]);
    assert_eq!((store.get_many(Vec::new()).await, store.set_many(Vec::new()).await), (Ok(Vec::new()), Ok(())));
}

async fn all_keys(store: &Store) -> Vec<String> {
    let (mut keys, mut cursor) = (Vec::new(), None);
    loop {
        let page = store.keys(cursor).await.expect("a page");
        assert!(page.keys.len() <= PAGE_KEYS, "{} keys on a page", page.keys.len());
        keys.extend(page.keys);
        cursor = page.cursor;
        if cursor.is_none() {
            return keys;
        }
    }
}

async fn all_keys_are_on_the_pages(ground: Ground) {
    let store = ground.store("pages").await;
    assert_eq!(all_keys(&store).await, Vec::<String>::new());
    let keys: Vec<_> = (0..2 * PAGE_KEYS + 7).map(|number| format!("key {number}")).collect();
    for keys in keys.chunks(BATCH_KEYS_MAX) {
        store.set_many(keys.iter().map(|key| (key.clone(), value("1"))).collect()).await.expect("set");
    }
    store.delete("key 3".to_owned()).await.expect("deleted");
    let expect: BTreeSet<_> = keys.iter().filter(|key| *key != "key 3").cloned().collect();
    let found = all_keys(&store).await;
    assert_eq!(found.len(), expect.len(), "none twice");
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expect);
}

async fn a_value_ends_with_its_time(ground: Ground) {
    let store = ground.store_with("lives", Spec { ttl_ms: Some(1_000), keys_max: 1, ..ground.spec() }).await;
    store.set("a".to_owned(), value("1")).await.expect("set");
    let before = store.current("a".to_owned()).await.expect("read").revision;
    let gone = async || store.get("a".to_owned()).await.expect("read").is_none();
    until("the value ends", gone).await;
    assert_eq!(store.swap("a".to_owned(), before, value("2")).await, Ok(false), "it is no value any more");
    assert_eq!(all_keys(&store).await, Vec::<String>::new());
    store.set("b".to_owned(), value("1")).await.expect("one that has ended takes no room");
    assert_eq!(store.get("b".to_owned()).await, Ok(Some(value("1"))));
    assert_eq!(store.swap("b".to_owned(), 0, value("2")).await, Ok(false));
}

async fn another_node_sees_what_was_written(ground: Ground) {
    let (store, other) = (ground.store("others").await, opened(&ground.other, "shop", "others", ground.spec()).await);
    for round in 0..20 {
        store.set("key".to_owned(), value(&format!("{round}"))).await.expect("set");
        let seen = async || other.get("key".to_owned()).await == Ok(Some(value(&format!("{round}"))));
        until("the other sees it", seen).await;
    }
    store.delete("key".to_owned()).await.expect("deleted");
    until("the other sees that", async || other.get("key".to_owned()).await == Ok(None)).await;
}

/// Waits until it is so.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    while !is_so().await {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}: not in 30 s");
        tick.tick().await;
    }
}

/// Runs all of them, one after another.
pub(crate) async fn conforms(ground: &Ground) {
    for (name, case) in CASES {
        println!("{:?}: {name}", ground.engine);
        case(ground.clone()).await;
    }
}
