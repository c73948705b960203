//! Servers of tunnels over both versions, and the client's side of one.

use std::future::poll_fn;
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use eyot_fetch::Fetch;
use eyot_plan::arrival::{Connect, Interim};
use eyot_plan::body::Body;
use eyot_plan::fault::Fault;
use eyot_plan::way::Way;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::harness::*;

pub(crate) type Client = mpsc::UnboundedSender<Result<Frame<Bytes>, Fault>>;

/// What a client sends into a tunnel, as the test goes on.
pub(crate) fn client() -> (Client, Body) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let source =
        futures_util::stream::unfold(receiver, |mut from| async move { from.recv().await.map(|it| (it, from)) });
    (sender, StreamBody::new(source).boxed_unsync())
}

pub(crate) fn data(text: &'static str) -> Result<Frame<Bytes>, Fault> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

pub(crate) async fn open(fetch: &Fetch, way: &Way, uri: String, body: Body) -> Result<Response<Body>, Fault> {
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
pub(crate) async fn comes(body: &mut Body, text: &str) {
    let mut got = Vec::new();
    while got.len() < text.len() {
        let frame = body.frame().await.expect("more").expect("no fault");
        got.extend_from_slice(frame.data_ref().expect("data"));
    }
    assert_eq!(String::from_utf8_lossy(&got), text);
}

/// The head with which a server accepts the key in this request.
pub(crate) fn accepting(head: &str) -> String {
    let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).expect("a key");
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = STANDARD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()));
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    )
}

/// Gives bytes back until the client's side ends, then says so and ends.
pub(crate) async fn give_back(mut stream: TcpStream) {
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

pub(crate) type Heads = Arc<Mutex<Vec<String>>>;

/// A server of WebSockets over HTTP/1.1, and the heads it saw.
pub(crate) async fn echoes() -> (Server, Heads) {
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

/// What a server of HTTP/2 does with what is asked.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Takes {
    Tunnels,
    Nothing,
}

/// A server of HTTP/2 over TLS that tells each request's method, protocol and fields, and gives bytes back; `refuse` is
/// refused with 403. Where it takes no tunnels it speaks HTTP/1.1 to who offers nothing else.
pub(crate) async fn echoes_h2(takes: Takes) -> (Server, Way, Heads) {
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

pub(crate) async fn serve_h2(tls: tokio_rustls::server::TlsStream<TcpStream>, takes: Takes, seen: Heads) {
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
            let refusal = Response::builder().status(403).body(()).expect("one");
            let mut stream = respond.send_response(refusal, false).expect("open");
            tokio::spawn(async move {
                // What was sent up by then, until the end of it, stands in the answer.
                let (mut body, mut bytes) = (request.into_body(), 0);
                while let Some(Ok(piece)) = poll_fn(|cx| body.poll_data(cx)).await {
                    bytes += piece.len();
                }
                drop(stream.send_data(format!("no, after {bytes}").into(), true));
            });
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
