//! An upstream's own bound on the connections to a server, and the line of those who wait for one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use eyot_bundle::release::upstream::Queue;
use eyot_plan::body;
use eyot_plan::fault::Code;
use eyot_plan::way::{Bound, Way};
use futures_util::future::join_all;
use http::Response;
use tokio::sync::Semaphore;

use crate::harness::*;

fn bounded(way: Way, connections_max: u32, length: u32, wait_ms: u64) -> Way {
    Way { bound: Some(Bound { connections_max, queue: Queue { length, wait_ms } }), ..way }
}

/// A server that answers one request for each permit it is given, and counts what it was asked.
async fn held() -> (Server, Arc<Semaphore>, Arc<AtomicUsize>) {
    let (permits, asked) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let (taken, counted) = (Arc::clone(&permits), Arc::clone(&asked));
    let server = http(move |_| {
        let (taken, counted) = (Arc::clone(&taken), Arc::clone(&counted));
        async move {
            counted.fetch_add(1, Ordering::SeqCst);
            taken.acquire().await.expect("it is open").forget();
            Response::new(body::full("good"))
        }
    })
    .await;
    (server, permits, asked)
}

#[tokio::test]
async fn requests_over_the_bound_stand_in_line_and_go_on_over_the_connections_that_are_there() {
    let (server, permits, asked) = held().await;
    let (fetch, way) = (fetch(), bounded(way(), 2, 8, 60_000));
    let asking: Vec<_> = (0..10)
        .map(|_| {
            let (fetch, way, uri) = (fetch.clone(), way.clone(), server.http("/"));
            tokio::spawn(async move { outcome(&fetch, &way, get(uri)).await })
        })
        .collect();
    until(|| asked.load(Ordering::SeqCst) == 2).await;
    // Two are under way and eight wait: the line is full.
    assert_eq!(outcome(&fetch, &way, get(server.http("/"))).await, Err(Code::AllowanceSpent));
    permits.add_permits(10);
    for asked in asking {
        assert_eq!(asked.await.expect("no panic"), ok("good"));
    }
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn who_waits_too_long_in_line_is_told_and_who_leaves_it_makes_room() {
    let (server, permits, asked) = held().await;
    let fetch = fetch();
    let (first, second) = (bounded(way(), 1, 1, 60_000), bounded(way(), 1, 1, 50));
    let under_way = tokio::spawn({
        let (fetch, way, uri) = (fetch.clone(), first.clone(), server.http("/"));
        async move { outcome(&fetch, &way, get(uri)).await }
    });
    until(|| asked.load(Ordering::SeqCst) == 1).await;
    for _ in 0..3 {
        assert_eq!(outcome(&fetch, &second, get(server.http("/"))).await, Err(Code::AllowanceSpent));
    }
    // Another server has a line of its own, and so has who is not bounded.
    let other = says("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood").await;
    assert_eq!(outcome(&fetch, &second, get(other.http("/"))).await, ok("good"));
    permits.add_permits(2);
    assert_eq!(outcome(&fetch, &way(), get(server.http("/"))).await, ok("good"));
    assert_eq!(under_way.await.expect("no panic"), ok("good"));
}

#[tokio::test]
async fn a_connection_that_ends_makes_room_for_the_next_in_line() {
    let server = raw(|mut stream, number| async move {
        read_head(&mut stream).await.expect("a head");
        let said = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{number}");
        tokio::io::AsyncWriteExt::write_all(&mut stream, said.as_bytes()).await.expect("written");
    })
    .await;
    let (fetch, way) = (fetch(), bounded(way(), 1, 32, 60_000));
    let outcomes = join_all((0..20).map(|_| outcome(&fetch, &way, get(server.http("/"))))).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok((200, _)))), "{outcomes:?}");
    assert_eq!(server.connections(), 20);
}

#[tokio::test]
async fn one_connection_of_http_2_carries_all_who_wait_for_it() {
    let (ca, config) = certificate(&["up.test"]);
    let server = https(config, "h2", |_| async {
        tokio::task::yield_now().await;
        Response::new(body::full("good"))
    })
    .await;
    let fetch = fetch_with(|options| options.streams_max = 3);
    let way = bounded(way_tls(Some("up.test"), Some(&ca)), 1, 64, 60_000);
    let outcomes = join_all((0..40).map(|_| outcome(&fetch, &way, get(server.https("127.0.0.1", "/"))))).await;
    assert!(outcomes.into_iter().all(|outcome| outcome == ok("good")));
    assert_eq!(server.connections(), 1);
}
