//! The engine `node`: the cases of all engines, and what is its own.

#![expect(clippy::panic, clippy::print_stdout, reason = "a test fails by a panic, and says which cases it tried")]

#[path = "../../../tests/stores/cases.rs"]
mod cases;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use cases::{Ground, open};
use eyot_bundle::release::{Consistency, Engine, Store as Spec};
use eyot_state::{Clock, Error, Line, Options, Stores};

fn stores_at(folder: &Path, clock: Clock) -> Stores {
    let options = Options { file: folder.join("stores.redb"), nats: None, redis: None, clock };
    Stores::new(options).expect("stores")
}

async fn opened(folder: &Path) -> Stores {
    let stores = stores_at(folder, Clock::system());
    stores.open_here().await.expect("opened");
    stores
}

fn spec() -> Spec {
    Spec {
        engine: Engine::Node,
        consistency: Consistency::Linearizable,
        ttl_ms: None,
        value_max_bytes: 1 << 20,
        keys_max: 1_000_000,
    }
}

fn key(number: usize) -> String {
    format!("key {number}")
}

#[tokio::test(flavor = "multi_thread")]
async fn it_conforms() {
    let folder = tempfile::tempdir().expect("a folder");
    let stores = opened(folder.path()).await;
    cases::conforms(&Ground { engine: Engine::Node, other: stores.clone(), stores }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_conforms_when_another_process_has_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let (there, here) = (opened(folder.path()).await, stores_at(folder.path(), Clock::system()));
    let (ours, theirs) = Line::pair().expect("a pair");
    here.lend(ours);
    tokio::spawn(async move { there.answer(theirs).await });
    cases::conforms(&Ground { engine: Engine::Node, other: here.clone(), stores: here }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_when_it_is_opened_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let stores = opened(folder.path()).await;
    let store = open(&stores, "shop", "carts", spec());
    for number in 0..100 {
        store.set(key(number), Bytes::from(key(number))).await.expect("set");
    }
    let revision = store.current(key(7)).await.expect("read").revision;
    stores.close_here().await;
    let again = opened(folder.path()).await;
    let store = open(&again, "shop", "carts", spec());
    for number in 0..100 {
        assert_eq!(store.get(key(number)).await, Ok(Some(Bytes::from(key(number)))));
    }
    assert_eq!(store.current(key(7)).await.expect("read").revision, revision);
    store.set(key(7), Bytes::new()).await.expect("set");
    assert!(store.current(key(7)).await.expect("read").revision > revision);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_file_changes_hands_and_back_every_read_is_answered_and_no_acknowledged_write_is_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let old = opened(folder.path()).await;
    let store = open(&old, "shop", "carts", spec());
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut acknowledged = 0;
                for _ in 0..200 {
                    match store.increment("count".to_owned(), 1).await {
                        Ok(_) => acknowledged += 1,
                        // It was under way where the file was when that ended: it may be counted or not.
                        Err(Error::Unavailable(_)) => {}
                        Err(refused) => panic!("{refused}"),
                    }
                    store.get("count".to_owned()).await.expect("what only reads is asked again");
                }
                acknowledged
            })
        })
        .collect();
    for _ in 0..5 {
        let new = stores_at(folder.path(), Clock::system());
        let (ours, theirs) = Line::pair().expect("a pair");
        old.close_here().await;
        old.lend(ours);
        new.open_here().await.expect("it was let go of");
        let answers = tokio::spawn({
            let new = new.clone();
            async move { new.answer(theirs).await }
        });
        let mine = open(&new, "shop", "carts", spec());
        mine.increment("mine".to_owned(), 1).await.expect("counted");
        // As when an upgrade is taken back, once what is under way there is answered.
        while !calls.iter().all(tokio::task::JoinHandle::is_finished) && store.get("mine".to_owned()).await.is_err() {}
        new.close_here().await;
        old.open_here().await.expect("it was let go of");
        answers.abort();
    }
    let mut acknowledged = 0;
    for call in calls {
        acknowledged += call.await.expect("no read failed");
    }
    let counted = store.increment("count".to_owned(), 0).await.expect("counted");
    assert!((acknowledged..=1_600).contains(&counted), "{counted} of {acknowledged} that were acknowledged");
    assert_eq!(store.increment("mine".to_owned(), 0).await, Ok(5));
}

#[tokio::test]
async fn a_process_that_ends_leaves_reads_to_the_next_and_tells_those_who_write() {
    let folder = tempfile::tempdir().expect("a folder");
    let here = stores_at(folder.path(), Clock::system());
    let store = open(&here, "shop", "carts", spec());
    let (ours, theirs) = Line::pair().expect("a pair");
    here.lend(ours);
    let writes = tokio::spawn({
        let store = store.clone();
        async move { store.set(key(1), Bytes::new()).await }
    });
    let reads = tokio::spawn({
        let store = store.clone();
        async move { store.get(key(1)).await }
    });
    // What was asked is never answered.
    theirs.readable().await.expect("a line");
    drop(theirs);
    assert!(matches!(writes.await.expect("no panic"), Err(Error::Unavailable(_)) | Ok(())));
    here.open_here().await.expect("opened");
    assert_eq!(reads.await.expect("no panic"), Ok(None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_ends_by_the_clock_and_its_room_is_given_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let now = Arc::new(AtomicU64::new(1_000_000));
    let clock = Arc::clone(&now);
    let stores = stores_at(folder.path(), Clock::new(move || clock.load(Ordering::Relaxed)));
    stores.open_here().await.expect("opened");
    let store = open(&stores, "shop", "carts", Spec { ttl_ms: Some(60_000), keys_max: 3_000, ..spec() });
    for number in 0..3_000 / 100 {
        let pairs = (0..100).map(|more| (key(number * 100 + more), Bytes::from_static(b"1"))).collect();
        store.set_many(pairs).await.expect("set");
    }
    now.fetch_add(59_999, Ordering::Relaxed);
    assert_eq!(store.exists(key(0)).await, Ok(true));
    assert!(store.set(key(3_000), Bytes::new()).await.is_err(), "it is full");
    now.fetch_add(1, Ordering::Relaxed);
    assert_eq!(store.exists(key(0)).await, Ok(false));
    let pairs = (0..200).map(|more| (key(10_000 + more), Bytes::from_static(b"1"))).collect();
    store.set_many(pairs).await.expect("what has ended takes no room");
    assert_eq!(store.keys(None).await.expect("a page").keys.len(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_keeps_no_more_bytes_than_its_share_and_others_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let stores = opened(folder.path()).await;
    let bound = |app: &str, store: &str| eyot_state::Bound {
        app: app.parse().expect("a name"),
        store: store.parse().expect("a name"),
        spec: spec(),
        disk_bytes_max: 1 << 20,
    };
    let [one, two] = ["one", "two"].map(|store| stores.store(bound("shop", store)).expect("the engine"));
    let value = Bytes::from(vec![7; 400 << 10]);
    one.set(key(1), value.clone()).await.expect("room");
    two.set(key(1), value.clone()).await.expect("room");
    let refused = two.set(key(2), value.clone()).await;
    assert!(matches!(&refused, Err(Error::Refused(why)) if why.contains("1048576")), "{refused:?}");
    two.set(key(1), value.clone()).await.expect("it is there");
    stores
        .store(bound("shop-2", "one"))
        .expect("the engine")
        .set(key(1), value.clone())
        .await
        .expect("another's share");
    one.delete(key(1)).await.expect("deleted");
    two.set(key(2), value).await.expect("room again");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_floods_the_writer_does_not_hold_up_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let stores = opened(folder.path()).await;
    let (loud, quiet) = (open(&stores, "loud", "s", spec()), open(&stores, "quiet", "s", spec()));
    let value = Bytes::from(vec![7; 256 << 10]);
    let done = Arc::new(AtomicU64::new(0));
    let flood: Vec<_> = (0..400)
        .map(|number| {
            let (loud, value, done) = (loud.clone(), value.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                // Those that wait too long are told so.
                let _ = loud.set(key(number), value).await;
                done.fetch_add(1, Ordering::Relaxed);
            })
        })
        .collect();
    cases::until("the flood has begun", async || done.load(Ordering::Relaxed) > 0).await;
    for number in 0..3 {
        quiet.set(key(number), Bytes::new()).await.expect("set");
    }
    let ended = done.load(Ordering::Relaxed);
    assert!(ended < 400, "three commits came before the end of the flood: {ended}");
    for task in flood {
        task.await.expect("no panic");
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_is_said_and_asks_are_answered_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let one = opened(folder.path()).await;
    let two = stores_at(folder.path(), Clock::system());
    let error = two.open_here().await.expect_err("it is another's").to_string();
    assert!(error.contains("stores.redb"), "{error}");
    let said = open(&two, "shop", "carts", spec()).get(key(1)).await;
    assert!(matches!(said, Err(Error::Unavailable(_))), "{said:?}");
    one.close_here().await;
    two.open_here().await.expect("let go of");
    assert_eq!(open(&two, "shop", "carts", spec()).get(key(1)).await, Ok(None));
    std::fs::write(folder.path().join("torn"), vec![7; 8192]).expect("written");
    let torn =
        Stores::new(Options { file: folder.path().join("torn"), nats: None, redis: None, clock: Clock::system() });
    assert!(torn.expect("stores").open_here().await.is_err());
}
