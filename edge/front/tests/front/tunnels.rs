//! WebSockets over each protocol: one arrival, and bytes both ways.

use std::sync::Arc;

use bytes::Bytes;
use eyot_front::Settings;
use eyot_plan::arrival::{Arrival, Connect, Protocol};
use eyot_plan::body::{self, Body};
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use http_body_util::channel::Channel;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::harness::{BoxError, Front, nothing};

const TUNNELS: [Protocol; 3] = [Protocol::H1, Protocol::H2, Protocol::H3];

/// Sends back what comes; `/close` ends after the first piece, `/refuse` refuses, `/created` says what it may not.
async fn echo(arrival: Arrival) -> Response<Body> {
    let request = arrival.request;
    assert_eq!((request.method(), arrival.connect), (&Method::GET, Some(Connect::WebSocket)));
    assert_eq!(request.headers()["sec-websocket-version"], "13");
    for name in ["sec-websocket-key", "sec-websocket-accept", "connection", "upgrade"] {
        assert!(!request.headers().contains_key(name), "{name}");
    }
    let protocol = request.headers()["sec-websocket-protocol"].clone();
    let path = request.uri().path().to_owned();
    let mut from = request.into_body();
    let mut response = match path.as_str() {
        "/refuse" => Response::builder().status(403).body(body::full("no")).expect("a response"),
        "/created" => Response::builder().status(201).body(body::full("no")).expect("a response"),
        "/close" => {
            let first = async move { from.frame().await.expect("a piece") };
            Response::new(http_body_util::StreamBody::new(futures_util::stream::once(first)).boxed_unsync())
        }
        _ => Response::new(from),
    };
    response.headers_mut().insert("sec-websocket-protocol", protocol);
    response.headers_mut().insert("content-length", "2".parse().expect("a value"));
    response
}

/// A tunnel of any protocol, from the client's side.
enum Tunnel {
    H1(Box<TlsStream<TcpStream>>),
    H2(h2::SendStream<Bytes>, h2::RecvStream),
    H3(http_body_util::channel::Sender<Bytes, BoxError>, eyot_h3::RecvBody),
}

const UPGRADE: &str = "host: a.net\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
    sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: chat\r\n\r\n";

/// One head of HTTP/1.1.
async fn head(stream: &mut TlsStream<TcpStream>) -> String {
    let mut said = Vec::new();
    while !said.ends_with(b"\r\n\r\n") {
        said.push(stream.read_u8().await.expect("a head"));
    }
    String::from_utf8(said).expect("text")
}

fn connect<B>(path: &str, body: B) -> Request<B> {
    let request = Request::connect(format!("https://a.net{path}")).header("sec-websocket-version", "13");
    request.header("sec-websocket-protocol", "chat").body(body).expect("a request")
}

/// A client of HTTP/2 that knows of tunnels.
async fn http_2(front: &Front) -> h2::client::SendRequest<Bytes> {
    let stream = front.raw("a.net", "h2").await.expect("TLS");
    let (sender, mut connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    // RFC 8441, section 3: the server says that it takes them.
    let settings = std::future::poll_fn(|cx| {
        let _ = std::future::Future::poll(std::pin::Pin::new(&mut connection), cx);
        if sender.is_extended_connect_protocol_enabled() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    });
    settings.await;
    tokio::spawn(connection);
    sender
}

impl Tunnel {
    /// Opens one; the status, if it is refused.
    async fn open(front: &Front, protocol: Protocol, path: &str) -> Result<Self, u16> {
        match protocol {
            Protocol::H1 => {
                let mut stream = front.raw("a.net", "http/1.1").await.expect("TLS");
                stream.write_all(format!("GET {path} HTTP/1.1\r\n{UPGRADE}").as_bytes()).await.expect("it is read");
                let said = head(&mut stream).await.to_ascii_lowercase();
                if !said.starts_with("http/1.1 101 ") {
                    assert!(said.contains("\r\nconnection: close\r\n"), "{said}");
                    return Err(said[9..12].parse().expect("a status"));
                }
                for field in
                    ["sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=", "upgrade: websocket", "connection: upgrade"]
                {
                    assert!(said.contains(field), "{said}");
                }
                assert!(said.contains("sec-websocket-protocol: chat") && !said.contains("content-length"), "{said}");
                Ok(Self::H1(Box::new(stream)))
            }
            Protocol::H2 => {
                let mut sender = http_2(front).await;
                let mut request = connect(path, ());
                request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
                let (response, up) = sender.send_request(request, false).expect("it is sent");
                let response = response.await.expect("a response");
                if response.status() != 200 {
                    return Err(response.status().as_u16());
                }
                assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
                assert!(!response.headers().contains_key("content-length"));
                Ok(Self::H2(up, response.into_body()))
            }
            Protocol::H3 => {
                let config = Arc::new(front.trust(&["h3"]));
                let client = eyot_h3::client::connect(config, front.tls, "a.net").await.expect("HTTP/3");
                let (up, body) = Channel::<Bytes, BoxError>::new(1);
                let mut request = connect(path, body);
                request.extensions_mut().insert(eyot_h3::Protocol::WEBSOCKET);
                let response = client.send(request).await.expect("a response");
                match response.status().as_u16() {
                    200 => Ok(Self::H3(up, response.into_body())),
                    status => Err(status),
                }
            }
        }
    }

    async fn send(&mut self, data: &'static [u8]) {
        match self {
            Self::H1(stream) => stream.write_all(data).await.expect("it is read"),
            Self::H2(up, _) => up.send_data(Bytes::from_static(data), false).expect("it is open"),
            Self::H3(up, _) => up.send_data(Bytes::from_static(data)).await.expect("it is open"),
        }
    }

    /// The next so many bytes; fewer at the end.
    async fn read(&mut self, bytes: usize) -> Result<Vec<u8>, BoxError> {
        let mut said = Vec::new();
        while said.len() < bytes {
            let piece = match self {
                Self::H1(stream) => {
                    let mut piece = vec![0; bytes - said.len()];
                    let read = stream.read(&mut piece).await?;
                    piece.truncate(read);
                    Bytes::from(piece)
                }
                Self::H2(_, down) => down.data().await.transpose()?.unwrap_or_default(),
                Self::H3(_, down) => match down.frame().await.transpose()? {
                    Some(frame) => frame.into_data().unwrap_or_default(),
                    None => Bytes::new(),
                },
            };
            if piece.is_empty() {
                break;
            }
            said.extend_from_slice(&piece);
        }
        Ok(said)
    }
}

#[tokio::test]
async fn a_websocket_carries_both_ways_over_each_protocol_and_ends_with_the_answers_side() {
    let front = Front::answering(echo);
    for protocol in TUNNELS {
        let mut tunnel = Tunnel::open(&front, protocol, "/").await.expect("it is accepted");
        for word in [&b"one"[..], b"another", b"GET / HTTP/1.1\r\nhost: a.net\r\n\r\n"] {
            tunnel.send(word).await;
            assert_eq!(tunnel.read(word.len()).await.expect("an echo"), word, "{protocol:?}");
        }
        let mut tunnel = Tunnel::open(&front, protocol, "/close").await.expect("it is accepted");
        tunnel.send(b"last").await;
        assert_eq!(tunnel.read(100).await.expect("an end"), b"last", "{protocol:?}");
    }
    front.ended().await;
}

#[tokio::test]
async fn a_websocket_is_refused_by_any_other_answer_and_what_follows_is_no_request() {
    let front = Front::answering(echo);
    for protocol in TUNNELS {
        for (path, expect) in [("/refuse", 403), ("/created", 500)] {
            assert_eq!(Tunnel::open(&front, protocol, path).await.err(), Some(expect), "{protocol:?} {path}");
        }
    }
    let mut stream = front.raw("a.net", "http/1.1").await.expect("TLS");
    let both = format!("GET /refuse HTTP/1.1\r\n{UPGRADE}GET /smuggled HTTP/1.1\r\n{UPGRADE}");
    stream.write_all(both.as_bytes()).await.expect("it is read");
    let mut said = String::new();
    let _ = stream.read_to_string(&mut said).await;
    assert_eq!(said.matches("HTTP/1.1 ").count(), 1, "{said}");
    front.ended().await;
}

#[tokio::test]
async fn a_handshake_of_another_version_is_told_the_right_one() {
    let front = Front::answering(echo);
    for wrong in [UPGRADE.replace("version: 13", "version: 8"), UPGRADE.replace("dGhl", "")] {
        let mut stream = front.raw("a.net", "http/1.1").await.expect("TLS");
        stream.write_all(format!("GET / HTTP/1.1\r\n{wrong}").as_bytes()).await.expect("it is read");
        let said = head(&mut stream).await.to_ascii_lowercase();
        assert!(said.starts_with("http/1.1 400 ") && said.contains("sec-websocket-version: 13\r\n"), "{said}");
    }
    front.ended().await;
}

#[tokio::test]
async fn another_protocol_is_answered_501_and_a_plain_connect_405() {
    let front = Front::answering(echo);
    let mut sender = http_2(&front).await.ready().await.expect("it is open");
    let request = Request::connect("a.net:443").body(()).expect("a request");
    let (response, _up) = sender.send_request(request, false).expect("it is sent");
    assert_eq!(response.await.expect("a response").status(), 405);
    let mut request = connect("/", ());
    request.extensions_mut().insert(h2::ext::Protocol::from_static("connect-udp"));
    let (response, _up) = sender.send_request(request, false).expect("it is sent");
    assert_eq!(response.await.expect("a response").status(), 501);
    let config = Arc::new(front.trust(&["h3"]));
    let client = eyot_h3::client::connect(config, front.tls, "a.net").await.expect("HTTP/3");
    let mut request = connect("/", nothing());
    request.extensions_mut().insert(eyot_h3::Protocol::from_bytes(b"connect-udp").expect("a token"));
    assert_eq!(client.send(request).await.expect("a response").status(), 501);
    front.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_through_which_nothing_passes_is_ended() {
    let idle = Settings::default().tunnel_idle;
    let front = Front::answering(echo);
    for protocol in TUNNELS {
        let mut tunnel = Tunnel::open(&front, protocol, "/").await.expect("it is accepted");
        // Silence that is not too long, on a connection that carries nothing else.
        tokio::time::sleep(idle * 9 / 10).await;
        tunnel.send(b"word").await;
        assert_eq!(tunnel.read(4).await.expect("an echo"), b"word");
        let end = tunnel.read(1).await;
        assert!(end.as_ref().map_or(true, Vec::is_empty), "{protocol:?} {end:?}");
    }
    front.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_goes_on_while_it_drains_and_is_cut_at_the_end() {
    for protocol in TUNNELS {
        let mut front = Front::answering(echo);
        let mut tunnel = Tunnel::open(&front, protocol, "/").await.expect("it is accepted");
        front.stop();
        tokio::time::sleep(Settings::default().drain / 2).await;
        tunnel.send(b"still").await;
        assert_eq!(tunnel.read(5).await.expect("an echo"), b"still", "{protocol:?}");
        front.ended().await;
        let end = tunnel.read(1).await;
        assert!(end.as_ref().map_or(true, Vec::is_empty), "{protocol:?} {end:?}");
    }
}
