//! Upstreams whose servers fail, over real sockets: who is asked, how often, and what the client gets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::targets::{loopback, upstream};
use super::*;

/// What a server does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    /// Answers with this status, its name, and an end.
    Answers(u16),
    /// Ends the connection without a word.
    Resets,
    /// Says nothing.
    Waits,
}

/// A server that does as it is told, and counts what it was asked.
struct Server {
    url: String,
    does: watch::Sender<Does>,
    asked: Arc<AtomicUsize>,
}

impl Server {
    async fn start(name: &'static str, does: Does) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let (does, told) = watch::channel(does);
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, name, told.clone(), Arc::clone(&counted)));
            }
        });
        Self { url, does, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: TcpStream, name: &str, does: watch::Receiver<Does>, asked: Arc<AtomicUsize>) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else { return };
            head.push(byte);
        }
        asked.fetch_add(1, Ordering::SeqCst);
        let does = *does.borrow();
        match does {
            Does::Answers(status) => {
                let said = format!("HTTP/1.1 {status} Said\r\ncontent-length: {}\r\n\r\n{name}", name.len());
                if stream.write_all(said.as_bytes()).await.is_err() {
                    return;
                }
            }
            Does::Resets => return,
            Does::Waits => std::future::pending().await,
        }
    }
}

/// A release with one upstream of these servers, and more said of it.
fn released(house: &House, number: u64, servers: &[&Server], more: &Value) {
    let mut api = json!({"servers": servers.iter().map(|server| &server.url).collect::<Vec<_>>()});
    for (key, value) in more.as_object().expect("a table") {
        api[key] = value.clone();
    }
    let route = json!({"id": "api", "host": "shop.test", "path": "/*", "target": {"upstream": "api"}});
    house.granted(number, &json!({"routes": [route], "upstreams": {"api": api}}), &loopback());
}

/// A house with such a release.
fn with(servers: &[&Server], more: &Value) -> House {
    let house = house();
    released(&house, 1, servers, more);
    house
}

/// The status and the text of an answer, or its code.
async fn said(response: Response<Body>) -> (u16, String) {
    let status = response.status().as_u16();
    let text = text(response).await;
    let code = serde_json::from_str::<Value>(&text).ok().and_then(|it| it["code"].as_str().map(str::to_owned));
    (status, code.unwrap_or(text))
}

fn is(status: u16, text: &str) -> (u16, String) {
    (status, text.to_owned())
}

/// Ports at which nobody listens any more.
async fn dead(count: usize) -> Vec<String> {
    let mut listeners = Vec::new();
    for _ in 0..count {
        listeners.push(TcpListener::bind("127.0.0.1:0").await.expect("loopback"));
    }
    listeners.iter().map(|listener| format!("http://{}", listener.local_addr().expect("bound"))).collect()
}

#[tokio::test]
async fn a_request_is_tried_at_three_servers_of_its_upstream_and_at_no_more() {
    for (dead_first, status, tried) in [(2, 200, 2), (3, 502, 3), (5, 502, 3)] {
        let house = house();
        let mut servers = dead(dead_first).await;
        servers.push(format!("http://{}", upstream().await));
        let route = json!({"id": "api", "host": "shop.test", "path": "/*", "target": {"upstream": "api"}});
        let api = json!({"servers": servers, "balance": "failover"});
        house.granted(1, &json!({"routes": [route], "upstreams": {"api": api}}), &loopback());
        let response = house.get("/").await;
        assert_eq!(response.status(), status, "{dead_first} dead");
        assert_eq!(text(response).await.contains("\"upstream_unreachable\""), status == 502);
        let tries = r#"eyot_upstream_requests_total{app="shop",upstream="api",result="upstream_unreachable"}"#;
        house.counts(&format!("{tries} {tried}\n"));
    }
}

#[tokio::test]
async fn what_a_server_may_have_handled_is_tried_again_only_if_twice_is_as_good_as_once() {
    for (method, body, expect, asked) in [
        ("GET", "", is(200, "b"), (1, 1)),
        ("DELETE", "", is(200, "b"), (1, 1)),
        ("POST", "", is(502, "upstream_bad_response"), (1, 0)),
        // Its body is gone.
        ("PUT", "1", is(502, "upstream_bad_response"), (1, 0)),
    ] {
        let (a, b) = (Server::start("a", Does::Resets).await, Server::start("b", Does::Answers(200)).await);
        let house = with(&[&a, &b], &json!({"balance": "failover"}));
        let body = if body.is_empty() { body::empty() } else { body::full(body) };
        let request = Request::builder().method(method).uri("https://shop.test/");
        assert_eq!(said(house.ask(request, body).await).await, expect, "{method}");
        assert_eq!((a.asked(), b.asked()), asked, "{method}");
    }
}

#[tokio::test]
async fn a_status_is_tried_again_where_the_release_says_so_and_the_last_one_is_passed_on() {
    let (a, b) = (Server::start("a", Does::Answers(503)).await, Server::start("b", Does::Answers(200)).await);
    let house = with(&[&a, &b], &json!({"balance": "failover", "retries": {"on": ["503"]}}));
    assert_eq!(said(house.get("/").await).await, is(200, "b"));
    let post = Request::post("https://shop.test/");
    assert_eq!(said(house.ask(post, body::empty()).await).await, is(503, "a"));
    b.does.send_replace(Does::Answers(503));
    assert_eq!(said(house.get("/").await).await.0, 503);
    let by_default = with(&[&a, &b], &json!({"balance": "failover"}));
    let before = b.asked();
    assert_eq!(said(by_default.get("/").await).await, is(503, "a"));
    assert_eq!(b.asked(), before);
}

#[tokio::test]
async fn an_upstream_that_resets_everything_sees_a_fifth_more_requests_and_no_storm() {
    const REQUESTS: usize = 200;
    let servers = [Server::start("a", Does::Resets).await, Server::start("b", Does::Resets).await];
    let house = with(&[&servers[0], &servers[1]], &json!({"retries": {"attempts": 5}}));
    for _ in 0..REQUESTS {
        assert_eq!(said(house.get("/").await).await, is(502, "upstream_bad_response"));
    }
    let asked = servers[0].asked() + servers[1].asked();
    // Beside a fifth there is the floor: ten, and one more each second.
    assert!(asked > REQUESTS && asked <= REQUESTS * 13 / 10 + 10, "{asked}");
}

#[tokio::test]
async fn a_slow_server_is_overtaken_by_a_second_one_where_that_does_no_harm() {
    let (a, b) = (Server::start("a", Does::Waits).await, Server::start("b", Does::Answers(200)).await);
    let house = with(&[&a, &b], &json!({"balance": "failover", "hedge": {"after_ms": 20}}));
    assert_eq!(said(house.get("/").await).await, is(200, "b"));
    assert_eq!((a.asked(), b.asked()), (1, 1));
    a.does.send_replace(Does::Answers(200));
    let post = Request::post("https://shop.test/");
    assert_eq!(said(house.ask(post, body::empty()).await).await, is(200, "a"));
    // A second one that fails does not end the first.
    let (a, b) = (Server::start("a", Does::Waits).await, Server::start("b", Does::Resets).await);
    let more = json!({"balance": "failover", "hedge": {"after_ms": 20}, "timeouts": {"first_byte_ms": 200}});
    let house = with(&[&a, &b], &more);
    assert_eq!(said(house.get("/").await).await, is(504, "upstream_timeout"));
    assert_eq!((a.asked(), b.asked()), (1, 1));
}

/// Waits until the house says that as many of its servers are healthy.
async fn healthy(house: &House, expect: usize) {
    let count = || house.node.upstreams.render().lines().filter(|line| line.ends_with("\"} 1")).count();
    tokio::time::timeout(Duration::from_secs(60), async {
        while count() != expect {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("not {expect}:\n{}", house.node.upstreams.render()));
}

#[tokio::test]
async fn servers_that_probes_find_down_are_not_asked_until_they_are_found_well_also_in_a_new_release() {
    let (a, b) = (Server::start("a", Does::Answers(500)).await, Server::start("b", Does::Answers(204)).await);
    let health = json!({"path": "/up", "interval_ms": 1_000, "timeout_ms": 60_000, "expect": "200-299",
        "healthy": 1, "unhealthy": 1});
    let more = json!({"health": health, "balance": "failover"});
    let house = with(&[&a, &b], &more);
    healthy(&house, 1).await;
    let line = format!("eyot_upstream_healthy{{app=\"shop\",upstream=\"api\",server=\"{}\"}} 0\n", a.url);
    assert!(house.node.upstreams.render().contains(&line));
    assert_eq!(said(house.get("/").await).await, is(204, ""));
    b.does.send_replace(Does::Resets);
    healthy(&house, 0).await;
    assert_eq!(said(house.get("/").await).await, is(503, "no_healthy_upstream"));
    // Another release of the same upstream, and one that says more of it.
    released(&house, 2, &[&a, &b], &more);
    assert_eq!(said(house.get("/").await).await, is(503, "no_healthy_upstream"));
    let mut more = more;
    more["slow_start_ms"] = json!(1_000);
    released(&house, 3, &[&a, &b], &more);
    assert_eq!(said(house.get("/").await).await, is(503, "no_healthy_upstream"));
    a.does.send_replace(Does::Answers(200));
    healthy(&house, 1).await;
    assert_eq!(said(house.get("/").await).await, is(200, "a"));
}

#[tokio::test]
async fn probes_end_with_the_last_release_that_names_their_upstream() {
    let a = Server::start("a", Does::Answers(200)).await;
    let health = json!({"path": "/", "interval_ms": 1_000, "timeout_ms": 60_000, "expect": "200", "healthy": 1,
        "unhealthy": 1});
    let house = with(&[&a], &json!({"health": health}));
    healthy(&house, 1).await;
    house.release(2, &fixed());
    // The entry before it is gone with its last request, and all that was its.
    healthy(&house, 2).await;
    assert!(!house.node.upstreams.render().contains(&a.url));
}

#[tokio::test]
async fn a_server_that_fails_is_left_alone_and_the_last_one_is_asked_all_the_same() {
    let (a, b) = (Server::start("a", Does::Answers(502)).await, Server::start("b", Does::Answers(200)).await);
    let more = json!({"balance": "failover", "passive": {"failures": 3, "eject_ms": 3_600_000}});
    let house = with(&[&a, &b], &more);
    for expect in [is(502, "a"), is(502, "a"), is(502, "a"), is(200, "b"), is(200, "b")] {
        assert_eq!(said(house.get("/").await).await, expect);
    }
    healthy(&house, 1).await;
    b.does.send_replace(Does::Answers(503));
    for _ in 0..3 {
        assert_eq!(said(house.get("/").await).await, is(503, "b"));
    }
    healthy(&house, 0).await;
    a.does.send_replace(Does::Answers(200));
    assert_eq!(said(house.get("/").await).await, is(200, "a"), "no probe said that it is down");
}

#[tokio::test]
async fn an_open_breaker_answers_for_its_upstream() {
    let a = Server::start("a", Does::Answers(503)).await;
    let breaker = json!({"failures_percent": 50, "requests": 5, "window_ms": 600_000, "open_ms": 600_000});
    let house = with(&[&a], &json!({"breaker": breaker}));
    for _ in 0..5 {
        assert_eq!(said(house.get("/").await).await, is(503, "a"));
    }
    let response = house.get("/").await;
    assert!(response.headers()["retry-after"].to_str().is_ok_and(|after| after == "600" || after == "599"));
    assert_eq!((said(response).await, a.asked()), (is(503, "no_healthy_upstream"), 5));
}

#[tokio::test]
async fn the_same_key_goes_to_the_same_server() {
    let servers = [
        Server::start("a", Does::Answers(200)).await,
        Server::start("b", Does::Answers(200)).await,
        Server::start("c", Does::Answers(200)).await,
    ];
    let more = json!({"balance": "hash", "hash": "header:x-user"});
    let house = with(&[&servers[0], &servers[1], &servers[2]], &more);
    let mut seen = std::collections::BTreeSet::new();
    for user in 0..20 {
        let ask = || Request::get("https://shop.test/").header("x-user", user.to_string());
        let first = said(house.ask(ask(), body::empty()).await).await.1;
        for _ in 0..3 {
            assert_eq!(said(house.ask(ask(), body::empty()).await).await.1, first, "{user}");
        }
        seen.insert(first);
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
}
