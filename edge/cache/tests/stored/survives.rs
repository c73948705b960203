//! What comes back from the disk.

use bytes::Bytes;
use http::{HeaderMap, Method};

use crate::tool::{DAY, NOW_MS, Up, bytes, node, read, request};

const MEMORY: u64 = 64 << 20;

#[tokio::test]
async fn what_was_kept_answers_after_a_restart_whatever_its_size_and_trailers() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut first = node(folder.path(), MEMORY).await;
    let lengths = [0, 1, 70_000, 1 << 20, (1 << 20) + 1, 3_000_000];
    let trailed = HeaderMap::from_iter([(http::HeaderName::from_static("x-sum"), "7".parse().expect("a value"))]);
    let ups: Vec<_> = lengths.iter().map(|length| Up::new(DAY, &bytes(9, *length))).collect();
    let ups: Vec<_> =
        ups.into_iter().flat_map(|up| [up.clone(), Up { trailers: Some(trailed.clone()), ..up }]).collect();
    for (number, up) in ups.iter().enumerate() {
        assert!(first.get(up, &format!("/{number}")).await.is(&up.body));
    }
    first.until(|stats| stats.objects == ups.len()).await;
    for round in 0..2 {
        first.close().await;
        first = node(folder.path(), MEMORY).await;
        for (number, up) in ups.iter().enumerate() {
            let asked = up.asked();
            let got = first.get(up, &format!("/{number}")).await;
            assert!(got.is(&up.body) && got.trailers == up.trailers, "{number} in round {round}");
            assert_eq!((up.asked(), got.headers["etag"].as_bytes()), (asked, &b"\"1\""[..]));
            assert!(got.headers.contains_key("age"));
        }
        let bytes = first.rooms.room("shop").expect("a room").stats().bytes;
        assert!(bytes < 3 << 20 && bytes > 2 << 20, "what is small is in memory, what is large is not: {bytes}");
    }
}

#[tokio::test]
async fn variants_and_apps_are_told_apart_on_disk_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut node_now = node(folder.path(), MEMORY).await;
    let varying = |seed| Up::new(&[("cache-control", "max-age=600"), ("vary", "x-kind")], &bytes(seed, 500));
    let cases = [("shop", "a"), ("shop", "b"), ("news", "a"), ("news", "b")];
    let ups: Vec<_> = (0..4).map(varying).collect();
    for _ in 0..2 {
        for (up, (app, kind)) in ups.iter().zip(cases) {
            assert!(node_now.get_of(app, up, "/", &[("x-kind", kind)]).await.is(&up.body), "{app} {kind}");
            assert_eq!(up.asked(), 1);
        }
        node_now.until(|stats| stats.objects == 4).await;
        node_now.close().await;
        node_now = node(folder.path(), MEMORY).await;
    }
    let other = varying(9);
    assert!(node_now.get_of("shop", &other, "/", &[("x-kind", "c")]).await.is(&other.body));
    assert_eq!(other.asked(), 1);
}

#[tokio::test]
async fn a_body_larger_than_memory_takes_comes_back_from_disk_also_in_parts() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = node(folder.path(), 1 << 20).await;
    let up = Up::new(DAY, &bytes(3, 5_000_017));
    assert!(node.get(&up, "/").await.is(&up.body));
    node.until(|stats| stats.objects == 1).await;
    assert!(node.get(&up, "/").await.is(&up.body));
    for (from, to) in [(0, 0), (65_535, 65_536), (65_536, 131_071), (1, 5_000_016), (5_000_016, 5_000_016)] {
        let range = format!("bytes={from}-{to}");
        let got = node.get_of("shop", &up, "/", &[("range", &range)]).await;
        assert_eq!(got.status, 206, "{range}");
        assert!(got.is(&up.body[from..=to]), "{range}");
        assert_eq!(got.headers["content-range"], format!("bytes {from}-{to}/5000017"));
    }
    let whole = node.answer("shop", &up, request(Method::GET, "/", &[])).await.result.expect("an answer");
    assert_eq!(http_body::Body::size_hint(whole.body()).exact(), Some(5_000_017));
    assert_eq!((up.asked(), node.rooms.room("shop").expect("a room").stats().bytes), (1, 0));
}

#[tokio::test]
async fn what_passes_is_stored_to_its_end_though_its_reader_has_left_and_never_if_it_dies() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = node(folder.path(), 1 << 20).await;
    let good = Up::new(DAY, &bytes(3, 5_000_000));
    let length = [DAY, &[("content-length", "6000000")]].concat();
    let bad = [Up { dies: true, ..Up::new(DAY, &good.body) }, Up::new(&length, &good.body)];
    for up in &bad {
        let got = node.get(up, "/bad").await;
        assert!(got.end.is_err() && up.body.starts_with(&got.body));
    }
    drop(node.answer("shop", &good, request(Method::GET, "/", &[])).await);
    node.until(|stats| stats.objects == 1).await;
    assert!(node.get(&good, "/").await.is(&good.body));
    assert_eq!(good.asked(), 1);
    assert!(node.get(&good, "/bad").await.is(&good.body));
    assert_eq!(good.asked(), 2);
}

#[tokio::test]
async fn what_was_asked_for_anew_is_fresh_on_disk_too() {
    let folder = tempfile::tempdir().expect("a folder");
    for length in [1000, 2_000_000] {
        let (path, later) = (format!("/{length}"), NOW_MS + 700_000);
        let fields = [("cache-control", "max-age=600"), ("etag", "\"1\"")];
        let up = Up::new(&fields, &bytes(1, length));
        let first = node(folder.path(), MEMORY).await;
        let stored = first.disk.stats().objects;
        assert!(first.get(&up, &path).await.is(&up.body));
        first.until(|stats| stats.objects == stored + 1).await;
        first.close().await;
        let second = node(folder.path(), MEMORY).await;
        let stale = Up { now_ms: later, ..up.clone() };
        assert!(second.get(&stale, &path).await.is(&up.body));
        assert_eq!(up.asked(), 2);
        second.close().await;
        let third = node(folder.path(), MEMORY).await;
        assert!(third.get(&Up { now_ms: later + 500_000, ..up.clone() }, &path).await.is(&up.body));
        assert_eq!(up.asked(), 2, "{length}");
        third.close().await;
    }
}

#[tokio::test]
async fn what_is_of_no_use_soon_is_not_stored_and_ends_what_it_replaces() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = node(folder.path(), MEMORY).await;
    let kept = Up::new(&[("cache-control", "max-age=10")], &bytes(1, 10));
    let brief = Up { now_ms: NOW_MS + 20_000, ..Up::new(&[("cache-control", "max-age=9")], &bytes(2, 10)) };
    assert!(first.get(&kept, "/").await.is(&kept.body));
    first.until(|stats| stats.objects == 1).await;
    assert!(first.get(&brief, "/").await.is(&brief.body));
    first.until(|stats| stats.objects == 0).await;
    assert!(first.get(&brief, "/").await.is(&brief.body));
    assert_eq!(brief.asked(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_who_ask_for_what_is_on_disk_read_it_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let up = Up::new(DAY, &bytes(1, 500_000));
    let first = node(folder.path(), MEMORY).await;
    assert!(first.get(&up, "/").await.is(&up.body));
    first.until(|stats| stats.objects == 1).await;
    first.close().await;
    let second = std::sync::Arc::new(node(folder.path(), MEMORY).await);
    let ask = |_| {
        let (node, up) = (std::sync::Arc::clone(&second), up.clone());
        tokio::spawn(async move { node.get(&up, "/").await.is(&up.body) })
    };
    let all = futures_util::future::join_all((0..50).map(ask)).await;
    assert!(all.into_iter().all(|good| good.expect("no panic")));
    assert_eq!((up.asked(), second.rooms.common().disk_stats().expect("a disk").hits), (1, 1));
}

#[tokio::test]
async fn a_reader_reads_on_though_the_disk_is_taken_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = node(folder.path(), 1 << 20).await;
    let up = Up::new(DAY, &bytes(3, 3_000_000));
    assert!(node.get(&up, "/").await.is(&up.body));
    node.until(|stats| stats.objects == 1).await;
    let response = node.answer("shop", &up, request(Method::GET, "/", &[])).await.result.expect("an answer");
    node.rooms.common().take_disk().expect("a disk").close().await;
    let (body, _, end) = read(response.into_body()).await;
    assert!(end.is_ok() && body == up.body);
    assert!(node.rooms.common().disk_stats().is_none() && node.rooms.common().take_disk().is_none());
    assert!(node.get(&up, "/").await.is(&Bytes::copy_from_slice(&up.body)));
    assert_eq!(up.asked(), 2);
}

#[tokio::test]
async fn a_room_that_gives_memory_to_another_holds_no_more_than_it_has_and_answers_from_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = node(folder.path(), 1 << 20).await;
    let up = Up::new(DAY, &bytes(1, 20_000));
    for (app, round) in [("shop", 1), ("news", 2), ("shop", 3), ("news", 4)] {
        for number in 0..45 {
            assert!(node.get_of(app, &up, &format!("/{number}"), &[]).await.is(&up.body), "{app} {number}");
        }
        node.until(|stats| stats.objects == 45 * round.min(2)).await;
        node.rooms.balance();
        let bytes: u64 = node.rooms.stats().iter().map(|(_, stats)| stats.bytes).sum();
        assert!(bytes <= 1 << 20 && bytes > 512 << 10, "{bytes} in round {round}");
        assert_eq!(up.asked(), 45 * round.min(2) as u64, "what is not in memory is on disk");
    }
}
