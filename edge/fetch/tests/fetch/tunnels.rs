//! Tunnels: opened over both versions, bytes both ways, how they end, and what is not taken for one.

use std::sync::Arc;

use eyot_plan::body;
use eyot_plan::fault::{Code, Fault};
use eyot_plan::way::Way;
use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot};

use crate::harness::*;
use crate::sockets::*;

#[tokio::test]
async fn a_tunnel_over_http_1_is_opened_as_a_websocket_and_passes_bytes_both_ways_until_one_side_ends() {
    let (server, heads) = echoes().await;
    let (fetch, way) = (fetch(), way());
    for round in 1..=2 {
        let (client, body) = client();
        client.send(data("early")).expect("listened to");
        let mut response = open(&fetch, &way, server.http("/chat?x=y"), body).await.expect("an answer");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
        for name in ["connection", "upgrade", "sec-websocket-accept", "content-length"] {
            assert!(!response.headers().contains_key(name), "{name}");
        }
        comes(response.body_mut(), "helloearly").await;
        client.send(data("more")).expect("listened to");
        comes(response.body_mut(), "more").await;
        drop(client);
        comes(response.body_mut(), "bye").await;
        assert!(response.body_mut().frame().await.is_none());
        assert_eq!((fetch.idle(), server.connections()), (0, round), "its connection is used for nothing else");
    }
    let heads = heads.lock().expect("no panic");
    let head = heads[0].to_ascii_lowercase();
    assert!(head.starts_with("get /chat?x=y http/1.1\r\n"), "{head}");
    for line in ["connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13", "x-own: 1"] {
        assert_eq!(head.matches(&format!("{line}\r\n")).count(), 1, "{line} in {head}");
    }
    assert_eq!(head.matches("\r\nhost: ").count(), 1, "{head}");
    assert!(!head.contains("content-length") && !head.contains("transfer-encoding") && !head.contains("theirs"));
    let key = |head: &str| head.lines().find(|line| line.starts_with("sec-websocket-key: ")).map(str::to_owned);
    assert_ne!(key(&heads[0]), key(&heads[1]), "each its own key");
}

#[tokio::test]
async fn what_is_no_acceptance_opens_no_tunnel() {
    let good = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n";
    for (head, expect) in [
        ("HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", None),
        ("HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: bm8=\r\n\r\n", None),
        ("HTTP/1.1 101 X\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n", None),
        ("HTTP/1.1 101 X\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n", None),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno", None),
        ("HTTP/1.1 204 OK\r\n\r\n", None),
        ("HTTP/1.1 403 No\r\ncontent-length: 2\r\nx-why: 1\r\n\r\nno", Some((403, "no"))),
        (
            "HTTP/1.1 426 No\r\nupgrade: websocket\r\ntransfer-encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
            Some((426, "no")),
        ),
        ("HTTP/1.1 302 No\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n", Some((302, ""))),
        ("HTTP/1.1 101 X\r\n{good}\r\n", Some((200, "end"))),
    ] {
        let head = head.replace("{good}", good);
        let server = raw(move |mut stream, _| {
            let head = head.clone();
            async move {
                let asked = read_head(&mut stream).await.expect("a head");
                let accept = accepting(&asked);
                let accept = accept.split("Accept: ").nth(1).and_then(|rest| rest.lines().next()).expect("one");
                let said = head.replace("{accept}", accept);
                stream.write_all(said.as_bytes()).await.expect("written");
                if said.contains(" 101 ") {
                    stream.write_all(b"end").await.expect("written");
                } else {
                    read_all(&mut stream).await;
                }
            }
        })
        .await;
        let (fetch, (client, body)) = (fetch(), client());
        client.send(data("never to be seen")).expect("listened to");
        let answered = match open(&fetch, &way(), server.http("/"), body).await {
            Ok(response) => {
                assert!(!response.headers().contains_key("upgrade"));
                let status = response.status().as_u16();
                let text = response.into_body().collect().await.expect("a whole body").to_bytes();
                Some((status, String::from_utf8_lossy(&text).into_owned()))
            }
            Err(fault) => {
                assert_eq!(fault.code, Code::UpstreamBadResponse);
                None
            }
        };
        assert_eq!(answered, expect.map(|(status, text)| (status, text.to_owned())));
    }
}

#[tokio::test]
async fn a_tunnel_over_http_2_is_a_stream_of_its_own_beside_others() {
    let (server, way, heads) = echoes_h2(Takes::Tunnels).await;
    let fetch = fetch();
    for _ in 0..2 {
        let (client, body) = client();
        let mut response = open(&fetch, &way, server.https("127.0.0.1", "/chat"), body).await.expect("an answer");
        assert_eq!(response.status(), 200);
        client.send(data("one")).expect("listened to");
        comes(response.body_mut(), "one").await;
        let beside = outcome(&fetch, &way, get(server.https("127.0.0.1", "/page"))).await;
        assert_eq!(beside, ok("bye"), "a request beside it");
        drop(client);
        comes(response.body_mut(), "bye").await;
        assert!(response.body_mut().frame().await.is_none());
    }
    let (client, body) = client();
    client.send(data("nothing of it leaves")).expect("listened to");
    let refused = open(&fetch, &way, server.https("127.0.0.1", "/refuse"), body).await.expect("an answer");
    assert_eq!(refused.status(), 403);
    assert_eq!(refused.into_body().collect().await.expect("a body").to_bytes(), "no, after 0");
    assert_eq!(server.connections(), 1);
    let heads = heads.lock().expect("no panic");
    let said = &heads[0];
    assert!(said.starts_with("CONNECT Some(\"websocket\") https://127.0.0.1:"), "{said}");
    assert!(said.contains("sec-websocket-version") && said.contains("x-own"), "{said}");
    for name in ["sec-websocket-key", "content-length", "\"te\"", "upgrade", "connection"] {
        assert!(!said.contains(name), "{name} in {said}");
    }
}

#[tokio::test]
async fn a_server_whose_http_2_takes_no_tunnels_is_asked_over_http_1() {
    let (server, way, heads) = echoes_h2(Takes::Nothing).await;
    let fetch = fetch();
    for connections in [2, 3] {
        let (client, body) = client();
        let mut response = open(&fetch, &way, server.https("127.0.0.1", "/chat"), body).await.expect("an answer");
        client.send(data("one")).expect("listened to");
        comes(response.body_mut(), "one").await;
        // The first was asked over HTTP/2 for its settings, the second not again.
        assert_eq!(server.connections(), connections);
    }
    assert!(heads.lock().expect("no panic").iter().all(|head| head.starts_with("GET /chat HTTP/1.1\r\n")));
}

#[tokio::test]
async fn a_client_that_breaks_off_or_leaves_ends_the_upstreams_side() {
    let (told, mut heard) = mpsc::channel(4);
    let server = raw(move |mut stream, _| {
        let told = told.clone();
        async move {
            let head = read_head(&mut stream).await.expect("a head");
            stream.write_all(accepting(&head).as_bytes()).await.expect("written");
            read_all(&mut stream).await;
            told.send("ended").await.expect("heard");
        }
    })
    .await;
    let (h2_server, h2_way, _) = echoes_h2(Takes::Tunnels).await;
    let fetch = fetch();
    for (uri, way) in [(server.http("/"), way()), (h2_server.https("127.0.0.1", "/"), h2_way)] {
        let (client, body) = client();
        let mut response = open(&fetch, &way, uri.clone(), body).await.expect("an answer");
        client.send(Err(Fault::new(Code::ClientTimeout))).expect("listened to");
        let fault = response.body_mut().frame().await.expect("an end").expect_err("it was broken off");
        assert_eq!(fault.code, Code::ClientTimeout, "{uri}");
        let (_client, body) = crate::sockets::client();
        drop(open(&fetch, &way, uri, body).await.expect("an answer"));
    }
    for _ in 0..2 {
        assert_eq!(heard.recv().await, Some("ended"));
    }
}

#[tokio::test]
async fn an_open_tunnel_has_no_time_in_all_and_ends_when_both_sides_are_silent() {
    let (plain, _) = echoes().await;
    let (secure, tls, _) = echoes_h2(Takes::Tunnels).await;
    for (uri, way) in [(plain.http("/"), way()), (secure.https("127.0.0.1", "/"), tls)] {
        let mut way = way;
        (way.timeouts.total_ms, way.timeouts.between_bytes_ms) = (5_000, 5_000);
        way.timeouts.tunnel_idle_ms = 20_000;
        let fetch = fetch();
        let (client, body) = client();
        let mut response = open(&fetch, &way, uri.clone(), body).await.expect("an answer");
        if uri.starts_with("http:") {
            comes(response.body_mut(), "hello").await;
        }
        tokio::time::pause();
        for _ in 0..3 {
            tokio::time::sleep(std::time::Duration::from_millis(15_000)).await;
            client.send(data("x")).expect("listened to");
            comes(response.body_mut(), "x").await;
        }
        let fault = response.body_mut().frame().await.expect("an end").expect_err("silence");
        assert_eq!(fault.code, Code::UpstreamTimeout, "{uri}");
        assert!(response.body_mut().frame().await.is_none());
        tokio::time::resume();
    }
}

#[tokio::test]
async fn what_passes_one_way_only_keeps_a_tunnel_open_too() {
    let every = std::time::Duration::from_secs(15);
    for upstream_talks in [true, false] {
        let server = raw(move |mut stream, _| async move {
            let head = read_head(&mut stream).await.expect("a head");
            stream.write_all(accepting(&head).as_bytes()).await.expect("written");
            for _ in 0..3 * usize::from(upstream_talks) {
                tokio::time::sleep(every).await;
                stream.write_all(b"x").await.expect("written");
            }
            read_all(&mut stream).await;
        })
        .await;
        let (client, body) = client();
        let mut way = way();
        way.timeouts.tunnel_idle_ms = 20_000;
        let mut response = open(&fetch(), &way, server.http("/"), body).await.expect("an answer");
        tokio::time::pause();
        for _ in 0..3 {
            if upstream_talks {
                comes(response.body_mut(), "x").await;
            } else {
                client.send(data("x")).expect("listened to");
                let silent = tokio::time::timeout(every, response.body_mut().frame()).await;
                assert!(silent.is_err(), "it ended");
            }
        }
        let fault = response.body_mut().frame().await.expect("an end").expect_err("silence");
        assert_eq!(fault.code, Code::UpstreamTimeout);
        tokio::time::resume();
    }
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_an_opening_is_late() {
    let (go, stop) = oneshot::channel::<()>();
    let stop = Arc::new(tokio::sync::Mutex::new(stop));
    let server = raw(move |stream, _| {
        let stop = Arc::clone(&stop);
        async move {
            let _ = (&mut *stop.lock().await).await;
            drop(stream);
        }
    })
    .await;
    for change in [|way: &mut Way| way.timeouts.first_byte_ms = 50, |way: &mut Way| way.timeouts.total_ms = 50] {
        let mut way = way();
        change(&mut way);
        let fault = open(&fetch(), &way, server.http("/"), client().1).await.map(drop).expect_err("late");
        assert_eq!(fault.code, Code::UpstreamTimeout);
    }
    drop(go);
}

#[tokio::test]
async fn an_open_tunnel_holds_a_connection_of_its_app() {
    let (server, _) = echoes().await;
    let fetch = fetch_with(|options| options.connections_per_app_max = 1);
    let mut way = way();
    way.timeouts.connect_ms = 50;
    let held = open(&fetch, &way, server.http("/"), client().1).await.expect("an answer");
    let other = outcome(&fetch, &way, get(server.http("/"))).await;
    assert_eq!(other, Err(Code::AllowanceSpent));
    drop(held);
    way.timeouts.connect_ms = 10_000;
    open(&fetch, &way, server.http("/"), body::empty()).await.expect("there is room again");
}
