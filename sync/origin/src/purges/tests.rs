//! The log over heads: what is told is durable, and an app that purges too often purges all of itself.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::heads::redb::RedbHeads;

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn key_of(value: &str) -> PurgeRequest {
    PurgeRequest { kind: Kind::Key, value: value.to_owned(), soft: false }
}

fn heads(folder: &tempfile::TempDir) -> RedbHeads {
    RedbHeads::open(&folder.path().join("heads.redb")).expect("a file")
}

#[tokio::test]
async fn what_was_answered_is_told_to_nodes_of_the_next_process_too_and_numbers_only_grow() {
    let folder = tempfile::tempdir().expect("a folder");
    let apps = [name("blog"), name("shop")];
    let mut at: Option<Since> = None;
    let mut given = Vec::new();
    for round in 0..3 {
        let heads = heads(&folder);
        let purges = Purges::open(&heads, &apps).await.expect("a log");
        let told = purges.since(at.as_ref(), false);
        if let (Some(at), Some(told)) = (&at, &told) {
            assert_eq!((told.missed, &told.log), (false, &at.log));
            let values: Vec<_> = told.purges.iter().map(|purge| purge.value.as_str()).collect();
            assert_eq!(values, [format!("b{}", round - 1), format!("c{}", round - 1)], "those it was not told");
        }
        for (app, value) in [("shop", 'a'), ("blog", 'b'), ("shop", 'c')] {
            let done = purges.purge(&heads, &name(app), &key_of(&format!("{value}{round}"))).await.expect("done");
            assert!(!done.widened);
            given.push(done.purge);
            // A node that was told the first of each process, and then went away.
            if value == 'a' {
                let log = purges.since(None, false).expect("a log").log;
                at = Some(Since { log, n: done.purge });
            }
        }
    }
    assert!(given.windows(2).all(|pair| pair[0] < pair[1]), "{given:?}");
}

#[tokio::test(start_paused = true)]
async fn after_a_hundred_purges_at_once_all_others_of_a_second_are_one_of_the_whole_app() {
    let folder = tempfile::tempdir().expect("a folder");
    let heads = heads(&folder);
    let purges = Purges::open(&heads, &[]).await.expect("a log");
    let (shop, blog) = (name("shop"), name("blog"));
    for n in 0..100 {
        assert!(!purges.purge(&heads, &shop, &key_of(&n.to_string())).await.expect("done").widened);
    }
    let first = purges.purge(&heads, &shop, &key_of("x")).await.expect("done");
    assert!(first.widened);
    // Now many at once: one purge that began after all of them asked.
    let mut asked = tokio::task::JoinSet::new();
    for n in 0..300 {
        let (heads, purges, shop) = (heads.clone(), purges.clone(), shop.clone());
        asked.spawn(async move { purges.purge(&heads, &shop, &key_of(&format!("y{n}"))).await });
    }
    let (done, denied): (Vec<_>, Vec<_>) = asked.join_all().await.into_iter().partition(Result::is_ok);
    let denied: Vec<_> = denied.into_iter().filter_map(Result::err).map(|denied| denied.code()).collect();
    assert_eq!(denied, ["rate"; 44], "more than 256 do not wait");
    let done: Vec<Purged> = done.into_iter().flatten().collect();
    assert!(done.iter().all(|done| done.widened && done.purge > first.purge));
    assert_eq!(done.iter().map(|done| done.purge).collect::<std::collections::BTreeSet<_>>().len(), 1);
    let told = purges.since(None, false).expect("a log");
    let at = Since { log: told.log, n: first.purge - 1 };
    let told = purges.since(Some(&at), false).expect("news").purges;
    assert!(told.iter().all(|purge| purge.kind == Kind::App && !purge.soft) && !told.is_empty(), "{told:?}");
    assert!(!purges.purge(&heads, &blog, &key_of("x")).await.expect("done").widened, "another app is not held up");
}

#[tokio::test(start_paused = true)]
async fn after_a_hundred_at_once_ten_purges_a_second_are_told_apart() {
    let pace = Pace::default();
    let taken = |most: usize| (0..most).take_while(|_| pace.has_room()).count();
    assert_eq!(taken(1_000), 100);
    for (ms, expect) in [(99, 0), (1, 1), (1_000, 10), (60_000, 100)] {
        tokio::time::advance(std::time::Duration::from_millis(ms)).await;
        assert_eq!(taken(1_000), expect, "after {ms} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hard_purge_is_never_answered_by_a_soft_one_nor_by_one_that_began_before() {
    let pace = Arc::new(Pace::default());
    let count = Arc::new(AtomicU64::new(0));
    let ask = |soft: bool| {
        let (pace, count) = (Arc::clone(&pace), Arc::clone(&count));
        async move {
            let purge = || async {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                Ok(count.fetch_add(1, Ordering::Relaxed) + 1)
            };
            pace.together(soft, purge).await.expect("done")
        }
    };
    let (a, b, c) = tokio::join!(ask(true), ask(true), ask(false));
    assert_eq!((a, b, c), (1, 2, 3), "the second asked before the first began or not at all");
    let late = async {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        ask(false).await
    };
    let (d, e) = tokio::join!(ask(false), late);
    assert_eq!((d, e), (4, 4), "it began after both asked");
}
