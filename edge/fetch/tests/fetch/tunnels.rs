//! Tunnels: opened over both versions, bytes both ways, how they end, and what is not taken for one.

use std::future::poll_fn;
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use eyot_fetch::Fetch;
use eyot_plan::arrival::{Connect, Interim};
use eyot_plan::body::{self, Body};
use eyot_plan::fault::{Code, Fault};
use eyot_plan::way::Way;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use crate::harness::*;

type Client = mpsc::UnboundedSender<Result<Frame<Bytes>, Fault>>;

/// What a client sends into a tunnel, as the test goes on.
fn client() -> (Client, Body) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let source =
        futures_util::stream::unfold(receiver, |mut from| async move { from.recv().await.map(|it| (it, from)) });
    (sender, StreamBody::new(source).boxed_unsync())
}

fn data(text: &'static str) -> Result<Frame<Bytes>, Fault> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

async fn open(fetch: &Fetch, way: &Way, uri: String, body: Body) -> Result<Response<Body>, Fault> {
    let request = Request::get(uri)
        .header("sec-websocket-protocol", "chat")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "theirs")
        .header("content-length", "7")
        .header("x-own", "1")
        .body(body)
        .expect("a request");
    fetch.tunnel(way, request, Connect::WebSocket, &Interim::none()).await
}

/// Reads until this has come down.
async fn comes(body: &mut Body, text: &str) {
    let mut got = Vec::new();
    while got.len() < text.len() {
        let frame = body.frame().await.expect("more").expect("no fault");
        got.extend_from_slice(frame.data_ref().expect("data"));
    }
    assert_eq!(String::from_utf8_lossy(&got), text);
}

/// The head with which a server accepts the key in this request.
fn accepting(head: &str) -> String {
    let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).expect("a key");
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = STANDARD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()));
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    )
}

/// Gives bytes back until the client's side ends, then says so and ends.
async fn give_back(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) => break,
            Ok(read) => stream.write_all(&buffer[..read]).await.expect("written"),
            Err(_) => return,
        }
    }
    let _ = stream.write_all(b"bye").await;
}

type Heads = Arc<Mutex<Vec<String>>>;

/// A server of WebSockets over HTTP/1.1, and the heads it saw.
async fn echoes() -> (Server, Heads) {
    let heads = Heads::default();
    let seen = Arc::clone(&heads);
    let server = raw(move |mut stream, _| {
        let seen = Arc::clone(&seen);
        async move {
            let head = read_head(&mut stream).await.expect("a head");
            // The first bytes come with the head.
            let hello = format!("{}hello", accepting(&head));
            seen.lock().expect("no panic").push(head);
            stream.write_all(hello.as_bytes()).await.expect("written");
            give_back(stream).await;
        }
    })
    .await;
    (server, heads)
}

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

/// What a server of HTTP/2 does with what is asked.
#[derive(Clone, Copy, PartialEq)]
enum Takes {
    Tunnels,
    Nothing,
}

/// A server of HTTP/2 over TLS that tells each request's method, protocol and fields, and gives bytes back; `refuse` is
/// refused with 403. Where it takes no tunnels it speaks HTTP/1.1 to who offers nothing else.
async fn echoes_h2(takes: Takes) -> (Server, Way, Heads) {
    let (ca, mut config) = certificate(&["up.test"]);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let heads = Heads::default();
    let seen = Arc::clone(&heads);
    let server = raw(move |stream, _| {
        let (acceptor, seen) = (acceptor.clone(), Arc::clone(&seen));
        async move {
            let Ok(mut tls) = acceptor.accept(stream).await else { return };
            if tls.get_ref().1.alpn_protocol() == Some(b"h2") {
                return serve_h2(tls, takes, seen).await;
            }
            let head = read_head(&mut tls).await.expect("a head");
            tls.write_all(accepting(&head).as_bytes()).await.expect("written");
            seen.lock().expect("no panic").push(head);
            let (mut read, mut write) = tokio::io::split(tls);
            drop(tokio::io::copy(&mut read, &mut write).await);
        }
    })
    .await;
    (server, way_tls(Some("up.test"), Some(&ca)), heads)
}

async fn serve_h2(tls: tokio_rustls::server::TlsStream<TcpStream>, takes: Takes, seen: Heads) {
    let mut builder = h2::server::Builder::new();
    if takes == Takes::Tunnels {
        builder.enable_connect_protocol();
    }
    let mut connection = builder.handshake::<_, Bytes>(tls).await.expect("HTTP/2");
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let protocol = request.extensions().get::<h2::ext::Protocol>().map(|it| it.as_str().to_owned());
        let said = format!("{} {protocol:?} {} {:?}", request.method(), request.uri(), request.headers());
        seen.lock().expect("no panic").push(said);
        if request.uri().path() == "/refuse" {
            let mut stream = respond.send_response(Response::builder().status(403).body(()).expect("one"), false);
            stream.as_mut().expect("open").send_data(Bytes::from_static(b"no"), true).expect("open");
            continue;
        }
        let mut send = respond.send_response(Response::new(()), false).expect("open");
        tokio::spawn(async move {
            let mut body = request.into_body();
            while let Some(Ok(bytes)) = poll_fn(|cx| body.poll_data(cx)).await {
                drop(body.flow_control().release_capacity(bytes.len()));
                drop(send.send_data(bytes, false));
            }
            drop(send.send_data(Bytes::from_static(b"bye"), true));
        });
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
    let refused = open(&fetch, &way, server.https("127.0.0.1", "/refuse"), client().1).await.expect("an answer");
    assert_eq!(refused.status(), 403);
    assert_eq!(refused.into_body().collect().await.expect("a body").to_bytes(), "no");
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
        let (_client, body) = self::client();
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
