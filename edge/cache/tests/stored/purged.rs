//! What was purged or ended while it was on disk.

use std::path::Path;

use eyot_cache::purges::{Hash, How, What};
use http::Method;

use crate::tool::{NOW_MS, Node, Up, bytes, node, node_with, request, url};

const MEMORY: u64 = 64 << 20;
const TAGGED: &[(&str, &str)] =
    &[("cache-control", "max-age=86400, stale-while-revalidate=86400"), ("surrogate-key", "one two")];

/// Keeps `/` and `/other`, small and large, on disk, and opens it anew.
async fn kept(folder: &Path, length: usize) -> (Node, Up) {
    let up = Up::new(TAGGED, &bytes(1, length));
    let first = node(folder, MEMORY).await;
    for path in ["/", "/other"] {
        assert!(first.get(&up, path).await.is(&up.body));
    }
    first.until(|stats| stats.objects == 2).await;
    first.close().await;
    (node(folder, MEMORY).await, up)
}

#[tokio::test]
async fn what_is_purged_on_disk_is_gone_or_stale_there_also_for_the_next_process() {
    let key = What::Named(Hash::key("shop", "two"));
    let other_key = What::Named(Hash::key("shop", "three"));
    for length in [1000, 2_000_000] {
        for (what, both) in [(url("/"), false), (key, true), (What::App, true), (other_key, false)] {
            for how in [How::Hard, How::Doubt, How::Soft] {
                let folder = tempfile::tempdir().expect("a folder");
                let (second, up) = kept(folder.path(), length).await;
                second.purge(what, how);
                second.close().await;
                let third = node(folder.path(), MEMORY).await;
                let new = Up::new(TAGGED, &bytes(2, length));
                let got = third.get(&new, "/").await;
                let (meant, is_soft) = (what != other_key, how == How::Soft);
                assert!(got.is(if meant && !is_soft { &new.body } else { &up.body }), "{what:?} {how:?}");
                let other = third.get(&new, "/other").await;
                assert!(other.is(if both && !is_soft { &new.body } else { &up.body }), "{what:?} {how:?}");
                if meant && is_soft {
                    while new.asked() == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                assert_eq!(new.asked() > 0, meant, "{what:?} {how:?}");
            }
        }
    }
}

#[tokio::test]
async fn with_another_journal_nothing_on_disk_answers() {
    let folder = tempfile::tempdir().expect("a folder");
    let (second, up) = kept(folder.path(), 1000).await;
    second.close().await;
    std::fs::remove_dir_all(folder.path().join("journal")).expect("removed");
    let third = node_with(folder.path(), MEMORY, eyot_cache::disk::Options::new(1 << 30), NOW_MS + 1000).await;
    let new = Up::new(TAGGED, &bytes(2, 1000));
    assert!(third.get(&new, "/").await.is(&new.body));
    assert_eq!((new.asked(), up.asked()), (1, 2));
}

#[tokio::test]
async fn what_an_unsafe_request_ended_is_not_on_disk_and_comes_back_with_no_restart() {
    for length in [1000, 2_000_000] {
        let folder = tempfile::tempdir().expect("a folder");
        let (second, up) = kept(folder.path(), length).await;
        let done = Up::new(&[], &bytes(9, 3));
        assert!(second.answer("shop", &done, request(Method::POST, "/", &[])).await.result.is_ok());
        assert_eq!(second.disk.stats().objects, 1);
        let new = Up::new(TAGGED, &bytes(2, length));
        assert!(second.get(&new, "/").await.is(&new.body));
        assert!(second.get(&new, "/other").await.is(&up.body));
        second.until(|stats| stats.objects == 2).await;
        second.close().await;
        let third = node(folder.path(), MEMORY).await;
        assert!(third.get(&up, "/").await.is(&new.body));
        assert!(third.answer("shop", &done, request(Method::DELETE, "/", &[])).await.result.is_ok());
        third.close().await;
        let fourth = node(folder.path(), MEMORY).await;
        let last = Up::new(TAGGED, &bytes(3, length));
        assert!(fourth.get(&last, "/").await.is(&last.body));
    }
}

#[tokio::test]
async fn what_was_stored_after_an_end_of_the_same_process_is_found_and_what_was_before_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = node(folder.path(), 1 << 20).await;
    let (old, new) = (Up::new(TAGGED, &bytes(1, 2_000_000)), Up::new(TAGGED, &bytes(2, 2_000_000)));
    let done = Up::new(&[], &bytes(9, 3));
    // Its fill began before the end, and its body comes after it.
    let begun = node.answer("shop", &old, request(Method::GET, "/", &[])).await.result.expect("an answer");
    assert!(node.answer("shop", &done, request(Method::POST, "/", &[])).await.result.is_ok());
    assert!(crate::tool::read(begun.into_body()).await.2.is_ok());
    assert!(node.get(&new, "/").await.is(&new.body));
    node.until(|stats| stats.objects == 1).await;
    assert!(node.get(&old, "/").await.is(&new.body));
    assert_eq!((old.asked(), new.asked()), (1, 1));
}

#[tokio::test]
async fn what_was_ended_while_it_came_is_not_there_after_a_restart_either() {
    for length in [1000, 2_000_000] {
        let folder = tempfile::tempdir().expect("a folder");
        let first = node(folder.path(), 1 << 20).await;
        let (old, new) = (Up::new(TAGGED, &bytes(1, length)), Up::new(TAGGED, &bytes(2, length)));
        let begun = first.answer("shop", &old, request(Method::GET, "/", &[])).await.result.expect("an answer");
        let done = Up::new(&[], &bytes(9, 3));
        assert!(first.answer("shop", &done, request(Method::POST, "/", &[])).await.result.is_ok());
        assert!(crate::tool::read(begun.into_body()).await.2.is_ok());
        while first.rooms.room("shop").expect("a room").stats().flights > 0 {
            tokio::task::yield_now().await;
        }
        first.close().await;
        let second = node(folder.path(), 1 << 20).await;
        assert!(second.get(&new, "/").await.is(&new.body), "{length}");
    }
}

#[tokio::test]
async fn what_an_earlier_process_stored_under_other_keys_of_a_url_is_ended_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let headers = vec![http::HeaderName::from_static("x-kind")];
    let key = eyot_plan::cache::key::Rules { headers, ..Default::default() };
    let rules = eyot_plan::cache::Rules { key, ..Default::default() };
    let (up, done) = (Up::new(TAGGED, &bytes(1, 1000)), Up::new(&[], &bytes(9, 3)));
    let ask = |method, kind| request(method, "/", &[("x-kind", kind)]);
    let first = node(folder.path(), MEMORY).await;
    // It has counted further than the next will when that ends it.
    for _ in 0..5 {
        assert!(first.answer_by(rules.clone(), "shop", &done, ask(Method::POST, "b")).await.result.is_ok());
    }
    let kept = first.answer_by(rules.clone(), "shop", &up, ask(Method::GET, "a")).await.result.expect("an answer");
    assert!(crate::tool::read(kept.into_body()).await.0 == up.body);
    first.until(|stats| stats.objects == 1).await;
    first.close().await;
    let second = node(folder.path(), MEMORY).await;
    assert!(second.answer_by(rules.clone(), "shop", &done, ask(Method::POST, "b")).await.result.is_ok());
    assert_eq!(second.disk.stats().objects, 1);
    assert!(second.answer_by(rules, "shop", &up, ask(Method::GET, "a")).await.result.is_ok());
    assert_eq!(up.asked(), 2);
}
