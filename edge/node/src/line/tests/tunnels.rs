//! WebSockets through the line: to an upstream's real socket, and nowhere else.

use std::net::SocketAddr;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::targets::{loopback, route};
use super::*;

/// An upstream that takes each WebSocket and gives its bytes back, with the fields it was asked with before them.
async fn echoes() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(echo(stream));
        }
    });
    address
}

async fn echo(stream: TcpStream) {
    let mut stream = BufReader::new(stream);
    let (mut head, mut accept) = (String::new(), String::new());
    while !head.ends_with("\r\n\r\n") {
        let at = head.len();
        stream.read_line(&mut head).await.expect("a head");
        if let Some(key) = head[at..].trim().strip_prefix("sec-websocket-key: ") {
            let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
            accept = STANDARD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()));
        }
    }
    let said = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: {accept}\r\nalt-svc: h3=\":1\"\r\n\r\n{head}"
    );
    stream.write_all(said.as_bytes()).await.expect("written");
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        stream.write_all(&buffer[..read]).await.expect("written");
    }
}

fn opening(path: &str, body: Body) -> Arrival {
    let request = Request::get(format!("https://shop.test{path}")).header("sec-websocket-version", "13");
    Arrival { connect: Some(Connect::WebSocket), ..arrival(request, body) }
}

#[tokio::test]
async fn a_websocket_passes_through_to_an_upstream_whatever_it_weighs_and_is_on_record_with_its_bytes() {
    let house = house();
    let upstreams = json!({"api": {"servers": ["http://127.0.0.1:1", format!("http://{}", echoes().await)]}});
    let to = json!({"id": "api", "host": "shop.test", "path": "/*", "target": {"upstream": "api"}});
    house.granted(1, &json!({"routes": [to], "upstreams": upstreams}), &loopback());
    // More than the body of a request may have.
    let (pieces, piece) = (101, bytes::Bytes::from(vec![7; 1 << 20]));
    let sent = futures_util::stream::iter((0..pieces).map(move |_| Ok(http_body::Frame::data(piece.clone()))));
    let response = house.node.answer(Box::new(opening("/chat", StreamBody::new(sent).boxed_unsync()))).await;
    assert_eq!(response.status(), 200);
    assert!(!response.headers().contains_key("alt-svc") && response.headers().contains_key("x-request-id"));
    let back = response.into_body().collect().await.expect("a whole tunnel").to_bytes();
    let head_bytes = back.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    assert_eq!(back.len() - head_bytes, pieces << 20);
    let head = std::str::from_utf8(&back[..head_bytes]).expect("text");
    for line in
        ["GET /chat HTTP/1.1\r\n", "upgrade: websocket\r\n", "via: 3 eyot\r\n", "cdn-loop: eyot; fleet=eyot\r\n"]
    {
        assert_eq!(head.matches(line).count(), 1, "{line} in {head}");
    }
    let told = house.node.telemetry.render();
    let counted = |name: &str| {
        let line = told.lines().find_map(|line| line.strip_prefix(&format!("{name}{{app=\"shop\",route=\"api\"}} ")));
        line.and_then(|count| count.parse::<f64>().ok())
    };
    assert_eq!(counted("eyot_request_bytes_total"), Some((pieces << 20) as f64), "{told}");
    assert_eq!(counted("eyot_response_bytes_total"), Some(back.len() as f64), "{told}");
}

#[tokio::test]
async fn a_websocket_is_refused_where_nothing_could_speak_it() {
    let house = house();
    let functions = json!({"hello": house.function("hello", &[])});
    let at = |path: &str, target: Value| json!({"id": path, "host": "shop.test", "path": path, "target": target});
    let mut open = at("/open", json!({"upstream": "none"}));
    open["on_fault"] = json!("open");
    open["fallback"] = json!({"respond": {"status": 200, "body": "no tunnel"}});
    let routes = json!([
        route("/function", "hello"),
        open,
        at("/fixed", json!({"respond": {"status": 200}})),
        at("/moved", json!({"redirect": {"to": "/x", "status": 308}}))
    ]);
    let upstreams = json!({"none": {"servers": ["http://127.0.0.1:1"]}});
    house.granted(1, &json!({"routes": routes, "functions": functions, "upstreams": upstreams}), &loopback());
    for (path, status, code) in [
        ("/function", 400, "bad_request"),
        ("/fixed", 400, "bad_request"),
        ("/moved", 400, "bad_request"),
        ("/open", 502, "upstream_unreachable"),
    ] {
        let response = house.node.answer(Box::new(opening(path, body::empty()))).await;
        assert_eq!(response.status(), status, "{path}");
        assert!(text(response).await.contains(&format!("\"{code}\"")), "{path}");
    }
    assert!(!house.node.telemetry.render().contains("eyot_function_calls_total{app=\"shop\""));
}

#[tokio::test]
async fn a_tunnel_of_a_release_that_is_four_releases_old_is_ended() {
    let house = house();
    let upstreams = json!({"api": {"servers": [format!("http://{}", echoes().await)]}});
    let to = json!({"id": "api", "host": "shop.test", "path": "/*", "target": {"upstream": "api"}});
    let parts = json!({"routes": [to], "upstreams": upstreams});
    house.granted(1, &parts, &loopback());
    let silent = StreamBody::new(futures_util::stream::pending()).boxed_unsync();
    let mut response = house.node.answer(Box::new(opening("/chat", silent))).await;
    response.body_mut().frame().await.expect("a frame").expect("the head it gave back");
    let reading = tokio::spawn(response.into_body().collect());
    let held: Vec<_> = (2..=5)
        .map(|number| {
            house.granted(number, &parts, &loopback());
            house.node.snapshots.find("shop.test").ok().expect("it serves")
        })
        .collect();
    let fault = reading.await.expect("no panic").map(drop).expect_err("it was ended");
    assert_eq!((fault.code, held.len()), (Code::NotReady, 4));
}
