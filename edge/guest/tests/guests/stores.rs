//! `wasi:keyvalue`: what a guest asks of a store reaches it, waits for free, and is bounded.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use eyot_guest::{Current, Page, Store, StoreError, Stores, Storing};
use eyot_plan::body;
use eyot_plan::fault::Code;
use tokio::sync::oneshot;

use crate::harness::{Ask, End, Settled, Share, end};

/// Values with their revisions, by key.
type Table = BTreeMap<String, (Bytes, u64)>;

/// A store in memory, which `shop` is bound to.
#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<Table>>);

impl Shelf {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().expect("not poisoned")
    }

    /// Does `work` when it is waited for, and not on a guest's thread.
    fn later<T: Send + 'static>(&self, work: impl FnOnce(&mut Table) -> T + Send + 'static) -> Storing<T> {
        let shelf = self.clone();
        Box::pin(async move {
            let thread = std::thread::current();
            assert!(!thread.name().unwrap_or_default().starts_with("eyot-guest"), "it is done for the guest");
            Ok(work(&mut shelf.table()))
        })
    }
}

impl Stores for Shelf {
    fn open(&self, name: &str) -> Option<Arc<dyn Store>> {
        match name {
            "shop" => Some(Arc::new(self.clone())),
            "away" => Some(fails(StoreError::Other("the store is away".to_owned()))),
            "denied" => Some(fails(StoreError::AccessDenied)),
            _ => None,
        }
    }
}

fn put(table: &mut Table, key: String, value: Bytes) {
    let revision = table.get(&key).map_or(0, |(_, revision)| *revision) + 1;
    table.insert(key, (value, revision));
}

impl Store for Shelf {
    fn get(&self, key: String) -> Storing<Option<Bytes>> {
        self.later(move |table| table.get(&key).map(|(value, _)| value.clone()))
    }

    fn set(&self, key: String, value: Bytes) -> Storing<()> {
        self.later(move |table| put(table, key, value))
    }

    fn delete(&self, key: String) -> Storing<()> {
        self.later(move |table| drop(table.remove(&key)))
    }

    fn exists(&self, key: String) -> Storing<bool> {
        self.later(move |table| table.contains_key(&key))
    }

    fn keys(&self, cursor: Option<String>) -> Storing<Page> {
        self.later(move |table| {
            let mut keys: Vec<_> = table.range(cursor.unwrap_or_default()..).map(|(key, _)| key.clone()).collect();
            let cursor = keys.get(2).cloned();
            keys.truncate(2);
            Page { keys, cursor }
        })
    }

    fn increment(&self, key: String, delta: i64) -> Storing<i64> {
        self.later(move |table| {
            let before = table.get(&key).and_then(|(value, _)| std::str::from_utf8(value).ok()?.parse::<i64>().ok());
            let sum = before.unwrap_or(0) + delta;
            put(table, key, sum.to_string().into());
            sum
        })
    }

    fn current(&self, key: String) -> Storing<Current> {
        self.later(move |table| {
            let found = table.get(&key).cloned();
            found.map(|(value, revision)| Current { value: Some(value), revision }).unwrap_or_default()
        })
    }

    fn swap(&self, key: String, revision: u64, value: Bytes) -> Storing<bool> {
        self.later(move |table| {
            let same = table.get(&key).map_or(0, |(_, revision)| *revision) == revision;
            if same {
                put(table, key, value);
            }
            same
        })
    }

    fn get_many(&self, keys: Vec<String>) -> Storing<Vec<Option<Bytes>>> {
        self.later(move |table| keys.iter().map(|key| table.get(key).map(|(value, _)| value.clone())).collect())
    }

    fn set_many(&self, pairs: Vec<(String, Bytes)>) -> Storing<()> {
        self.later(move |table| pairs.into_iter().for_each(|(key, value)| put(table, key, value)))
    }

    fn delete_many(&self, keys: Vec<String>) -> Storing<()> {
        self.later(move |table| keys.iter().for_each(|key| drop(table.remove(key))))
    }
}

/// A store that answers all it is asked in one way.
struct Always<F>(F);

/// There is none.
enum Never {}

fn never<T: 'static>(Always(say): &Always<impl Fn() -> Storing<Never>>) -> Storing<T> {
    let said = say();
    Box::pin(async move { said.await.map(|never| match never {}) })
}

impl<F: Fn() -> Storing<Never> + Send + Sync> Store for Always<F> {
    fn get(&self, _key: String) -> Storing<Option<Bytes>> {
        never(self)
    }

    fn set(&self, _key: String, _value: Bytes) -> Storing<()> {
        never(self)
    }

    fn delete(&self, _key: String) -> Storing<()> {
        never(self)
    }

    fn exists(&self, _key: String) -> Storing<bool> {
        never(self)
    }

    fn keys(&self, _cursor: Option<String>) -> Storing<Page> {
        never(self)
    }

    fn increment(&self, _key: String, _delta: i64) -> Storing<i64> {
        never(self)
    }

    fn current(&self, _key: String) -> Storing<Current> {
        never(self)
    }

    fn swap(&self, _key: String, _revision: u64, _value: Bytes) -> Storing<bool> {
        never(self)
    }

    fn get_many(&self, _keys: Vec<String>) -> Storing<Vec<Option<Bytes>>> {
        never(self)
    }

    fn set_many(&self, _pairs: Vec<(String, Bytes)>) -> Storing<()> {
        never(self)
    }

    fn delete_many(&self, _keys: Vec<String>) -> Storing<()> {
        never(self)
    }
}

/// A store that answers all it is asked with this error.
fn fails(error: StoreError) -> Arc<dyn Store> {
    Arc::new(Always(move || -> Storing<Never> { Box::pin(std::future::ready(Err(error.clone()))) }))
}

/// A call of a guest that does what these lines say.
fn given(lines: &str) -> Ask {
    Ask::new("given").body(body::full(lines.to_owned()))
}

/// What the guest answers to each line, on these stores.
async fn asked(stores: &Arc<Shelf>, script: &[(&str, &str)]) {
    let lines: Vec<_> = script.iter().map(|(line, _)| *line).collect();
    let answer = given(&lines.join("\n")).stores(stores).send().await.expect("an answer");
    let told: Vec<_> = answer.text().lines().collect();
    for ((line, expect), told) in script.iter().zip(told) {
        assert_eq!(told, *expect, "{line}");
    }
}

#[tokio::test]
async fn a_store_that_the_release_binds_is_read_and_written() {
    let script = [
        ("open other", "failed: Error::NoSuchStore"),
        ("open shop", "()"),
        ("get a", "None"),
        ("set a one", "()"),
        ("get a", "Some(\"one\")"),
        ("exists a", "true"),
        ("delete a", "()"),
        ("delete a", "()"),
        ("exists a", "false"),
        ("set-many a=1 b=2 c=3", "()"),
        ("keys", "([\"a\", \"b\"], Some(\"c\"))"),
        ("keys c", "([\"c\"], None)"),
        ("get-many c x a", "[Some((\"c\", \"3\")), None, Some((\"a\", \"1\"))]"),
        ("delete-many a x", "()"),
        ("increment b 40", "42"),
        ("increment n -1", "-1"),
    ];
    let shelf = Arc::new(Shelf::default());
    asked(&shelf, &script).await;
    asked(&shelf, &[("open shop", "()"), ("get n", "Some(\"-1\")"), ("exists a", "false")]).await;
}

#[tokio::test]
async fn a_swap_that_comes_too_late_gives_a_handle_of_what_is_there_now() {
    let script = [
        ("open shop", "()"),
        ("cas a", "()"),
        ("current", "None"),
        ("set a 1", "()"),
        ("swap 2", "changed meanwhile"),
        ("current", "Some(\"1\")"),
        ("swap 2", "swapped"),
        ("get a", "Some(\"2\")"),
        ("cas a", "()"),
        ("delete a", "()"),
        ("swap 3", "changed meanwhile"),
        ("current", "None"),
        ("swap 3", "swapped"),
    ];
    asked(&Arc::default(), &script).await;
}

#[tokio::test]
async fn what_a_store_refuses_is_told_in_its_words() {
    let away = "failed: Error::Other(\"the store is away\")";
    let script = [
        ("open denied", "()"),
        ("get a", "failed: Error::AccessDenied"),
        ("open away", "()"),
        ("get a", away),
        ("set a 1", away),
        ("delete a", away),
        ("exists a", away),
        ("keys", away),
        ("increment a 1", away),
        ("cas a", away),
        ("get-many a", away),
        ("set-many a=1", away),
        ("delete-many a", away),
    ];
    asked(&Arc::default(), &script).await;
}

#[tokio::test]
async fn what_the_host_keeps_for_a_guest_is_bounded_and_the_apps() {
    let shelf = Arc::new(Shelf::default());
    for key in ["a", "b", "c", "d", "e"] {
        put(&mut shelf.table(), key.to_owned(), vec![b'v'; 1 << 20].into());
    }
    let share = Arc::<Share>::default();
    let held = "open shop\ncas a\ncas a\ncas a\ncas a\ncas a\nget e\ncurrent";
    let answer = given(held).stores(&shelf).share(&share).send().await.expect("an answer");
    let told: Vec<_> = answer.text().lines().skip(4).collect();
    let full = "failed: Error::Other(\"values of over 4194304 bytes are held by one call\")";
    assert_eq!(told, ["()", full, "Some(\"1048576 bytes\")", "Some(\"1048576 bytes\")"]);
    share.settled().await;
    assert_eq!(share.memory_bytes.load(Ordering::SeqCst), 0, "all of it is given back");
    let many = "open shop\nget-many a b c d\nget-many a b c d e\nget-many a";
    let answer = given(many).stores(&shelf).send().await.expect("an answer");
    let told: Vec<_> = answer.text().lines().collect();
    assert!(told[1].starts_with("[Some") && told[2] == full && told[3].starts_with("[Some"), "{told:?}");
    let poor = Arc::new(Share { memory_bytes_max: Some(4 << 20), ..Share::default() });
    let answer = given("open shop\ncas a\ncas a\ncas a\ncas a").stores(&shelf).share(&poor).send().await;
    assert!(answer.expect("an answer").text().contains("the app's memory on this node is used up"));
}

#[tokio::test]
async fn a_call_asks_its_stores_a_thousand_times_and_holds_four_thousand_of_them() {
    let shelf = Arc::new(Shelf::default());
    let lines = format!("open shop\n{}", "exists a\n".repeat(1_001));
    let answer = given(&lines).stores(&shelf).send().await.expect("an answer");
    let told: Vec<_> = answer.text().lines().skip(1).collect();
    assert_eq!(told.iter().filter(|line| **line == "false").count(), 1_000);
    assert_eq!(told[1_000], "failed: Error::Other(\"one call asks its stores at most 1000 times\")");
    let answer = given(&"open shop\n".repeat(5_000)).stores(&shelf).send().await;
    assert_eq!(end(answer), End::Instead(Code::FunctionTrapped));
}

#[tokio::test]
async fn a_store_that_hangs_costs_nothing_and_is_given_up_with_the_call() {
    struct Hanging(Mutex<Option<oneshot::Sender<()>>>);
    impl Stores for Hanging {
        fn open(&self, _name: &str) -> Option<Arc<dyn Store>> {
            let held = Mutex::new(self.0.lock().expect("not poisoned").take());
            Some(Arc::new(Always(move || -> Storing<Never> {
                let held = held.lock().expect("not poisoned").take();
                Box::pin(async move {
                    let _held = held;
                    std::future::pending().await
                })
            })))
        }
    }
    let (sender, dropped) = oneshot::channel();
    let stores = Arc::new(Hanging(Mutex::new(Some(sender))));
    let ask = given("open shop\nget a").stores(&stores).limits(|limits| limits.wall_ms = 200);
    let meter = Arc::clone(&ask.meter);
    assert_eq!(end(ask.send().await), End::Instead(Code::WallTimeExceeded));
    dropped.await.expect_err("what the store was asked is dropped");
    assert!(meter.cpu_us() < 150_000, "{} us", meter.cpu_us());
}
