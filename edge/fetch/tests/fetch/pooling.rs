//! Which connections are kept, shared, tried again, and how many there may be.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use eyot_fetch::Resolver;
use eyot_plan::body;
use eyot_plan::fault::Code;
use futures_util::future::join_all;
use hickory_proto::op::Message;
use http::{Method, Request, Response};
use tokio::io::AsyncWriteExt;
use tokio::net::UdpSocket;
use tokio::sync::{Notify, mpsc};

use crate::harness::*;

const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood";

#[tokio::test]
async fn a_connection_is_kept_for_the_same_app_policy_and_place_only() {
    let (server, fetch) = (says(GOOD).await, fetch());
    let mut narrow = way();
    narrow.private.truncate(1);
    let by_name = format!("http://localhost:{}/", server.address.port());
    for (way, uri, connections) in [
        (way(), server.http("/"), 1),
        (way(), server.http("/else"), 1),
        (way_of("b", &["127.0.0.0/8", "::1/128"]), server.http("/"), 2),
        (narrow, server.http("/"), 3),
        (way_tls(Some("x.test"), None), server.http("/"), 4),
        (way(), by_name, 5),
        (way(), server.http("/"), 5),
    ] {
        assert_eq!(outcome(&fetch, &way, get(&uri)).await, ok("good"));
        until(|| fetch.idle() == connections).await;
        assert_eq!(server.connections(), connections, "{uri}");
    }
}

/// A server that answers the first request of each connection, counts the second and closes without a word.
async fn closes_on_the_second() -> (Server, Arc<AtomicUsize>) {
    let dropped = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&dropped);
    let server = raw(move |mut stream, _| {
        let count = Arc::clone(&count);
        async move {
            read_head(&mut stream).await.expect("a head");
            stream.write_all(GOOD).await.expect("written");
            if read_head(&mut stream).await.is_some() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        }
    })
    .await;
    (server, dropped)
}

#[tokio::test]
async fn a_kept_connection_that_closes_is_tried_again_only_where_that_is_safe() {
    for (method, body, again) in [
        (Method::GET, "", true),
        (Method::DELETE, "", true),
        (Method::POST, "", false),
        (Method::PUT, "x", false),
        (Method::POST, "x", false),
    ] {
        let ((server, dropped), fetch) = (closes_on_the_second().await, fetch());
        assert_eq!(outcome(&fetch, &way(), get(server.http("/"))).await, ok("good"));
        until(|| fetch.idle() == 1).await;
        let body = if body.is_empty() { body::empty() } else { body::full(body) };
        let request = Request::builder().method(&method).uri(server.http("/")).body(body).expect("a request");
        let expect = if again { ok("good") } else { Err(Code::UpstreamBadResponse) };
        assert_eq!(outcome(&fetch, &way(), request).await, expect, "{method}");
        assert_eq!((dropped.load(Ordering::SeqCst), server.connections()), (1, 1 + usize::from(again)), "{method}");
    }
}

#[tokio::test]
async fn a_fresh_connection_that_closes_is_not_tried_again() {
    let server = raw(|mut stream, _| async move { drop(read_head(&mut stream).await) }).await;
    assert_eq!(outcome(&fetch(), &way(), get(server.http("/"))).await, Err(Code::UpstreamBadResponse));
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_response_that_has_begun_is_never_asked_for_again() {
    let server = raw(|mut stream, _| async move {
        read_head(&mut stream).await.expect("a head");
        stream.write_all(GOOD).await.expect("written");
        read_head(&mut stream).await.expect("another");
        stream.write_all(b"HTTP/1.1 2").await.expect("written");
    })
    .await;
    let fetch = fetch();
    assert_eq!(outcome(&fetch, &way(), get(server.http("/"))).await, ok("good"));
    until(|| fetch.idle() == 1).await;
    assert_eq!(outcome(&fetch, &way(), get(server.http("/"))).await, Err(Code::UpstreamBadResponse));
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_connection_with_bytes_left_over_is_not_kept() {
    let server = says(
        b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngoodHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil".to_vec(),
    )
    .await;
    let fetch = fetch();
    for _ in 0..3 {
        assert_eq!(outcome(&fetch, &way(), get(server.http("/"))).await, ok("good"));
    }
}

#[tokio::test]
async fn no_more_than_the_bound_is_kept_and_nothing_longer_than_its_time() {
    let (told, mut closed) = mpsc::channel(8);
    let server = raw(move |mut stream, _| {
        let told = told.clone();
        async move {
            while read_head(&mut stream).await.is_some() {
                stream.write_all(GOOD).await.expect("written");
            }
            told.send(()).await.expect("heard");
        }
    })
    .await;
    let fetch = fetch_with(|options| (options.idle_per_key_max, options.pool_idle_ms) = (2, 50));
    let way = way();
    let all = (0..5).map(|_| outcome(&fetch, &way, get(server.http("/"))));
    assert!(join_all(all).await.into_iter().all(|outcome| outcome == ok("good")));
    // Some over the bound, the rest over their time.
    for _ in 0..server.connections() {
        closed.recv().await.expect("closed");
    }
    assert_eq!(fetch.idle(), 0);
}

#[tokio::test]
async fn an_app_at_its_bound_waits_and_is_told_and_others_go_on() {
    let server = says("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx").await;
    let good = says(GOOD).await;
    let fetch = fetch_with(|options| options.connections_per_app_max = 1);
    let mut way = way();
    way.timeouts.connect_ms = 100;
    let held = fetch.send(&way, get(server.http("/"))).await.expect("an answer");
    assert_eq!(outcome(&fetch, &way, get(good.http("/"))).await, Err(Code::AllowanceSpent));
    assert_eq!(outcome(&fetch, &way_of("b", &["127.0.0.0/8"]), get(good.http("/"))).await, ok("good"));
    drop(held);
    way.timeouts.connect_ms = 10_000;
    for server in [&good, &says(GOOD).await, &good] {
        assert_eq!(outcome(&fetch, &way, get(server.http("/"))).await, ok("good"), "an idle one makes room");
    }
}

#[tokio::test]
async fn an_app_makes_so_many_connections_at_once_and_others_go_on() {
    const MADE_MAX: usize = 64;
    // One that takes connections and is silent in TLS, and a resolver that is silent.
    let silent = raw(|stream, _| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let resolver = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let server = resolver.local_addr().expect("bound");
    for by_name in [false, true] {
        let good = says(GOOD).await;
        let fetch = fetch_with(|options| options.resolver = Resolver::Servers(vec![server]));
        let held: Vec<_> = (0..MADE_MAX)
            .map(|number| {
                let (fetch, mut way) = (fetch.clone(), way());
                way.timeouts.connect_ms = 60_000;
                let uri = if by_name { format!("http://n{number}.test/") } else { silent.https("127.0.0.1", "/") };
                tokio::spawn(async move { fetch.send(&way, get(uri)).await.map(drop) })
            })
            .collect();
        if by_name {
            let mut asked = HashSet::new();
            while asked.len() < MADE_MAX {
                asked.insert(asked_name(&resolver).await);
            }
        } else {
            until(|| silent.connections() == MADE_MAX).await;
        }
        let mut waits = way();
        waits.timeouts.connect_ms = 100;
        assert_eq!(outcome(&fetch, &waits, get(good.http("/"))).await, Err(Code::AllowanceSpent), "{by_name}");
        assert_eq!(outcome(&fetch, &way_of("b", &["127.0.0.0/8"]), get(good.http("/"))).await, ok("good"));
        assert_eq!(good.connections(), 1);
        held.iter().for_each(tokio::task::JoinHandle::abort);
        assert_eq!(outcome(&fetch, &way(), get(good.http("/"))).await, ok("good"), "{by_name}");
    }
}

/// The name that the next question is about.
async fn asked_name(resolver: &UdpSocket) -> String {
    let mut buffer = [0; 4096];
    let length = resolver.recv(&mut buffer).await.expect("a question");
    Message::from_vec(&buffer[..length]).expect("a question").queries[0].name().to_string()
}

#[tokio::test]
async fn a_full_node_says_so() {
    let server = says("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx").await;
    let fetch = fetch_with(|options| options.connections_max = 1);
    let _held = fetch.send(&way(), get(server.http("/"))).await.expect("an answer");
    let mut other = way_of("b", &["127.0.0.0/8"]);
    other.timeouts.connect_ms = 100;
    assert_eq!(outcome(&fetch, &other, get(server.http("/"))).await, Err(Code::Overloaded));
}

#[tokio::test]
async fn requests_at_once_share_an_http_2_connection_up_to_its_streams() {
    for (streams_max, connections) in [(100, 1), (2, 4)] {
        let (ca, config) = certificate(&["up.test"]);
        let server = https(config, "h2", |_| async {
            tokio::task::yield_now().await;
            Response::new(body::full("good"))
        })
        .await;
        let fetch = fetch_with(|options| options.streams_max = streams_max);
        let way = way_tls(Some("up.test"), Some(&ca));
        let ask = || outcome(&fetch, &way, get(server.https("127.0.0.1", "/")));
        assert_eq!(ask().await, ok("good"));
        for _ in 0..3 {
            let outcomes = join_all((0..40).map(|_| ask())).await;
            assert!(outcomes.into_iter().all(|outcome| outcome == ok("good")));
        }
        if connections == 1 {
            assert_eq!(server.connections(), 1);
        }
        until(|| fetch.idle() <= connections).await;
    }
}

#[tokio::test]
async fn a_kept_http_2_connection_that_dies_is_replaced_only_where_that_is_safe() {
    for (method, body, again) in [(Method::GET, "", true), (Method::POST, "x", false)] {
        let (ca, config) = certificate(&["up.test"]);
        let (asked, dead) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let (count, kill) = (Arc::clone(&asked), Arc::clone(&dead));
        let answer = move |_| {
            let (number, kill) = (count.fetch_add(1, Ordering::SeqCst), Arc::clone(&kill));
            async move {
                if number == 1 {
                    kill.notify_one();
                    std::future::pending::<()>().await;
                }
                Response::new(body::full("good"))
            }
        };
        let server = https_until(config, "h2", dead, answer).await;
        let (fetch, way) = (fetch(), way_tls(Some("up.test"), Some(&ca)));
        assert_eq!(outcome(&fetch, &way, get(server.https("127.0.0.1", "/"))).await, ok("good"));
        let body = if body.is_empty() { body::empty() } else { body::full(body) };
        let request = Request::builder().method(&method).uri(server.https("127.0.0.1", "/")).body(body);
        let expect = if again { ok("good") } else { Err(Code::UpstreamBadResponse) };
        assert_eq!(outcome(&fetch, &way, request.expect("a request")).await, expect, "{method}");
        assert_eq!(asked.load(Ordering::SeqCst), 2 + usize::from(again), "{method}");
    }
}
