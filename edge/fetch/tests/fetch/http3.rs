//! Servers that are asked over HTTP/3, and reached over TCP where nothing answers there.

use std::collections::HashSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use eyot_bundle::release::upstream::{Http, Queue};
use eyot_fetch::Fetch;
use eyot_h3::server::{Connection, Responder};
use eyot_h3::{Limits, RecvBody, server_transport};
use eyot_plan::arrival::{Connect, Interim};
use eyot_plan::body;
use eyot_plan::fault::{Code, Fault};
use eyot_plan::forward::CameBy;
use eyot_plan::way::{Bound, Way};
use futures_util::future::join_all;
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use quinn::crypto::rustls::QuicServerConfig;

use crate::harness::*;

/// A certificate for `127.0.0.1`, and the way that trusts it, asks for HTTP/3 and has much time to connect.
fn certified() -> (rustls::ServerConfig, Way) {
    let (ca, config) = certificate(&["127.0.0.1"]);
    let mut way = Way { http: Http::H3, ..way_tls(None, Some(&ca)) };
    way.timeouts.connect_ms = 60_000;
    (config, way)
}

/// A server over TCP that says so, and a socket for datagrams on the same port.
pub(crate) async fn beside_tcp(config: rustls::ServerConfig, alpn: &'static str) -> (Server, UdpSocket) {
    loop {
        let server = https(config.clone(), alpn, |_| async {
            Response::builder().header("connection", "close").body(body::full("tcp")).expect("a response")
        })
        .await;
        // Another test may have just that port for datagrams.
        if let Ok(socket) = UdpSocket::bind(server.address) {
            return (server, socket);
        }
    }
}

/// A server over QUIC: how many connections it has taken, and how many there are.
pub(crate) struct Quic {
    connections: Arc<AtomicUsize>,
    endpoint: quinn::Endpoint,
}

impl Quic {
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn open(&self) -> usize {
        self.endpoint.open_connections()
    }
}

/// An HTTP/3 server that answers each request by `answer`, and bears with few requests that are broken off.
pub(crate) fn quic<F>(
    config: rustls::ServerConfig,
    socket: UdpSocket,
    answer: impl Fn(Request<RecvBody>, Responder) -> F + Clone + Send + Sync + 'static,
) -> Quic
where
    F: Future<Output = ()> + Send + 'static,
{
    quic_until(config, socket, Arc::default(), answer)
}

/// The same; each `end` ends one connection.
fn quic_until<F>(
    mut config: rustls::ServerConfig,
    socket: UdpSocket,
    end: Arc<tokio::sync::Notify>,
    answer: impl Fn(Request<RecvBody>, Responder) -> F + Clone + Send + Sync + 'static,
) -> Quic
where
    F: Future<Output = ()> + Send + 'static,
{
    config.alpn_protocols = vec![eyot_h3::ALPN.to_vec()];
    let crypto = QuicServerConfig::try_from(config).expect("TLS 1.3");
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(server_transport(100)));
    let runtime = Arc::new(quinn::TokioRuntime);
    let endpoint = quinn::Endpoint::new(quinn::EndpointConfig::default(), Some(config), socket, runtime);
    let endpoint = endpoint.expect("an endpoint");
    let connections = Arc::new(AtomicUsize::new(0));
    let (counted, accepting) = (Arc::clone(&connections), endpoint.clone());
    tokio::spawn(async move {
        while let Some(incoming) = accepting.accept().await {
            let Ok(quinn) = incoming.await else { continue };
            counted.fetch_add(1, Ordering::SeqCst);
            let (answer, end) = (answer.clone(), Arc::clone(&end));
            tokio::spawn(async move {
                let limits = Limits { resets_max: 2, ..Limits::default() };
                let mut connection = Connection::new(quinn, limits).await.expect("a connection");
                loop {
                    tokio::select! {
                        accepted = connection.accept() => match accepted {
                            Ok(Some((request, responder))) => drop(tokio::spawn(answer(request, responder))),
                            _ => return,
                        },
                        () = end.notified() => return,
                    }
                }
            });
        }
    });
    Quic { connections, endpoint }
}

/// Gives a request's body and trailers back after a hint, and tells in fields what the head was; `/none` is 204.
pub(crate) async fn echo(request: Request<RecvBody>, mut responder: Responder) {
    let hint = Response::builder().status(103).header("link", "</a.css>").body(()).expect("a hint");
    responder.inform(hint).await.expect("told");
    let (parts, body) = request.into_parts();
    let status = if parts.uri.path() == "/none" { StatusCode::NO_CONTENT } else { StatusCode::OK };
    let mut response = Response::builder().status(status).header("x-uri", parts.uri.to_string());
    if let Some(length) = parts.headers.get("content-length") {
        response = response.header("content-length", length);
    }
    // Whoever asks may leave before the end.
    drop(responder.send(response.body(body).expect("a response")).await);
}

fn request(method: Method, uri: &str, body: body::Body) -> Request<body::Body> {
    Request::builder().method(method).uri(uri).body(body).expect("a request")
}

#[tokio::test]
async fn requests_share_one_connection_over_quic_with_bodies_trailers_and_hints() {
    let (config, way) = certified();
    let (tcp, socket) = beside_tcp(config.clone(), "h2").await;
    let server = quic(config, socket, echo);
    let (fetch, uri) = (fetch(), tcp.https("127.0.0.1", "/a?b"));
    let hints = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&hints);
    let interim = Interim::new(move |head| told.lock().expect("no panic").push(head.headers()["link"].clone()));
    let trailers = [("x-sum".parse().expect("a name"), "1".parse().expect("a value"))].into_iter().collect();
    let sent = frames(vec![
        Ok(Frame::data(Bytes::from(vec![b'a'; 1 << 20]))),
        Ok(Frame::data(Bytes::from_static(b"z"))),
        Ok(Frame::trailers(trailers)),
    ]);
    let response = fetch.send_informed(&way, request(Method::POST, &uri, sent), &interim).await.expect("an answer");
    assert_eq!(response.headers()["x-uri"], uri.as_str());
    assert_eq!(response.extensions().get(), Some(&CameBy(Version::HTTP_3)));
    let whole = response.into_body().collect().await.expect("whole");
    assert_eq!(whole.trailers().map(|trailers| trailers["x-sum"].clone()), Some("1".parse().expect("a value")));
    assert_eq!(whole.to_bytes().len(), (1 << 20) + 1);
    assert_eq!(*hints.lock().expect("no panic"), ["</a.css>"]);
    let asking = (0..50).map(|_| outcome(&fetch, &way, request(Method::PUT, &uri, body::full("hello"))));
    assert!(join_all(asking).await.into_iter().all(|found| found == ok("hello")));
    assert_eq!((server.connections(), tcp.connections(), fetch.idle()), (1, 0, 1));
}

#[tokio::test]
async fn answers_without_a_body_and_readers_that_know_the_length_break_nothing_off() {
    let (config, way) = certified();
    let (tcp, socket) = beside_tcp(config.clone(), "h2").await;
    let server = quic(config, socket, echo);
    let fetch = fetch();
    for _ in 0..20 {
        let (root, none) = (tcp.https("127.0.0.1", "/"), tcp.https("127.0.0.1", "/none"));
        assert_eq!(outcome(&fetch, &way, request(Method::HEAD, &root, body::empty())).await, ok(""));
        assert_eq!(outcome(&fetch, &way, get(&none)).await, Ok((204, String::new())));
        let response = fetch.send(&way, request(Method::POST, &root, body::full("hello"))).await.expect("an answer");
        let mut body = response.into_body();
        let mut read = 0;
        while read < 5 {
            let frame = body.frame().await.expect("more").expect("good");
            read += frame.data_ref().map_or(0, Bytes::len);
        }
    }
    // A server ends who breaks off more than two.
    assert_eq!((server.connections(), tcp.connections()), (1, 0));
}

#[tokio::test]
async fn an_end_that_comes_late_is_waited_for_by_who_wants_nothing_more() {
    let (mut config, way) = certified();
    let (tcp, socket) = beside_tcp(config.clone(), "h2").await;
    config.alpn_protocols = vec![eyot_h3::ALPN.to_vec()];
    let crypto = QuicServerConfig::try_from(config).expect("TLS 1.3");
    let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let runtime = Arc::new(quinn::TokioRuntime);
    let endpoint = quinn::Endpoint::new(quinn::EndpointConfig::default(), Some(config), socket, runtime);
    let endpoint = endpoint.expect("an endpoint");
    let (told, mut ends) = tokio::sync::mpsc::unbounded_channel();
    let left = Arc::new(tokio::sync::Notify::new());
    let was_left = Arc::clone(&left);
    // Five bytes and their end; to HEAD, which is the first, the end alone. Each end comes when the client has left.
    tokio::spawn(async move {
        let mut is_head = true;
        let connection = endpoint.accept().await.expect("a client").await.expect("a handshake");
        while let Ok((mut send, mut recv)) = connection.accept_bi().await {
            recv.read_to_end(1 << 16).await.expect("a request");
            let head = Response::builder().header("content-length", 5).body(()).expect("a head").into_parts().0;
            let mut said = eyot_h3::core::encode::response(&head).expect("encoded").frame;
            if !std::mem::take(&mut is_head) {
                eyot_h3::core::encode::data(5, &mut said);
                said.extend_from_slice(b"hello");
            }
            send.write_all(&said).await.expect("written");
            was_left.notified().await;
            send.finish().expect("not stopped");
            told.send(send.stopped().await).expect("the test listens");
        }
    });
    let fetch = fetch();
    for method in [Method::HEAD, Method::GET] {
        let request = request(method.clone(), &tcp.https("127.0.0.1", "/"), body::empty());
        let mut body = fetch.send(&way, request).await.expect("an answer").into_body();
        if method == Method::GET {
            assert_eq!(body.frame().await.expect("data").expect("good").into_data().expect("data"), "hello");
        }
        drop(body);
        left.notify_one();
        assert!(matches!(ends.recv().await, Some(Ok(None))), "{method}: it was broken off");
    }
    assert_eq!(tcp.connections(), 0);
}

#[tokio::test]
async fn a_server_that_is_silent_over_quic_is_asked_over_tcp_and_left_alone_there_for_a_while() {
    let (config, mut way) = certified();
    let (tcp, socket) = beside_tcp(config, "http/1.1").await;
    way.timeouts.connect_ms = 4_000;
    let fetch = fetch();
    for connections in 1..=3 {
        assert_eq!(outcome(&fetch, &way, get(tcp.https("127.0.0.1", "/"))).await, ok("tcp"));
        assert_eq!(tcp.connections(), connections);
    }
    let mut from = HashSet::new();
    socket.set_nonblocking(true).expect("a socket");
    while let Ok((_, client)) = socket.recv_from(&mut [0; 2048]) {
        from.insert(client);
    }
    assert_eq!(from.len(), 1, "one connection was tried");
}

#[tokio::test]
async fn a_server_that_is_not_trusted_is_trusted_over_neither() {
    let ((config, _), (_, way)) = (certified(), certified());
    let (tcp, socket) = beside_tcp(config.clone(), "h2").await;
    let server = quic(config, socket, echo);
    assert_eq!(outcome(&fetch(), &way, get(tcp.https("127.0.0.1", "/"))).await, Err(Code::UpstreamTls));
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn no_datagram_goes_where_nothing_may_go() {
    let (config, way) = certified();
    let (tcp, socket) = beside_tcp(config, "h2").await;
    socket.set_nonblocking(true).expect("a socket");
    let port = tcp.address.port();
    let closed = Way { private: Vec::new(), ..way.clone() };
    let own = |ip: [u8; 4]| fetch_with(|options| options.own = vec![SocketAddr::from((ip, port))]);
    let rows: [(Fetch, &Way); 3] = [(fetch(), &closed), (own([127, 0, 0, 1]), &way), (own([0, 0, 0, 0]), &way)];
    for (fetch, way) in rows {
        assert_eq!(outcome(&fetch, way, get(tcp.https("127.0.0.1", "/"))).await, Err(Code::EgressDenied));
    }
    let came = socket.recv_from(&mut [0; 2048]);
    assert_eq!(came.expect_err("nothing").kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn a_connection_that_the_server_ends_is_followed_by_a_new_one_whatever_is_sent() {
    let (config, way) = certified();
    let (tcp, socket) = beside_tcp(config.clone(), "h2").await;
    let end = Arc::new(tokio::sync::Notify::new());
    let server = quic_until(config, socket, Arc::clone(&end), echo);
    let (fetch, uri) = (fetch(), tcp.https("127.0.0.1", "/"));
    for connections in 1..=3 {
        assert_eq!(outcome(&fetch, &way, request(Method::POST, &uri, body::full("hello"))).await, ok("hello"));
        assert_eq!((server.connections(), tcp.connections()), (connections, 0));
        end.notify_one();
        until(|| server.open() == 0).await;
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_and_one_that_never_comes_end_in_their_faults() {
    let (config, mut way) = certified();
    let (tcp, socket) = beside_tcp(config.clone(), "h2").await;
    let _server = quic(config, socket, |request, responder| async move {
        match request.uri().path() {
            "/part" => {
                let part = [Ok(Frame::data(Bytes::from_static(b"part"))), Err(Fault::new(Code::InternalError))];
                let body = StreamBody::new(futures_util::stream::iter(part));
                drop(responder.send(Response::builder().header("content-length", 9).body(body).expect("one")).await);
            }
            "/reset" => drop(responder),
            _ => std::future::pending().await,
        }
    });
    way.timeouts.first_byte_ms = 300;
    let fetch = fetch();
    for (path, expect) in
        [("/part", Code::UpstreamBadResponse), ("/reset", Code::UpstreamBadResponse), ("/never", Code::UpstreamTimeout)]
    {
        assert_eq!(outcome(&fetch, &way, get(tcp.https("127.0.0.1", path))).await, Err(expect), "{path}");
    }
    assert_eq!(tcp.connections(), 0);
}

#[tokio::test]
async fn a_tunnel_is_opened_over_tcp() {
    let (config, way) = certified();
    let (tcp, socket) = beside_tcp(config.clone(), "http/1.1").await;
    let server = quic(config, socket, echo);
    let fetch = fetch();
    let uri = tcp.https("127.0.0.1", "/");
    assert_eq!(outcome(&fetch, &way, request(Method::POST, &uri, body::full("hello"))).await, ok("hello"));
    let tunnel = fetch.tunnel(&way, get(&uri), Connect::WebSocket, &Interim::none()).await;
    // It answers as if it were no opening, which is its refusal.
    assert_eq!(tunnel.map(|_| ()).map_err(|fault| fault.code), Err(Code::UpstreamBadResponse));
    assert_eq!((server.connections(), tcp.connections()), (1, 1));
}

#[tokio::test]
async fn requests_stand_in_line_for_a_stream_where_there_is_one_connection() {
    let (config, way) = certified();
    let (tcp, socket) = beside_tcp(config.clone(), "h2").await;
    let server = quic(config, socket, echo);
    let fetch = fetch_with(|options| options.streams_max = 2);
    let bound = Some(Bound { connections_max: 1, queue: Queue { length: 64, wait_ms: 60_000 } });
    let (way, uri) = (Way { bound, ..way }, tcp.https("127.0.0.1", "/"));
    let asking = (0..40).map(|_| outcome(&fetch, &way, request(Method::PUT, &uri, body::full("hello"))));
    assert!(join_all(asking).await.into_iter().all(|found| found == ok("hello")));
    assert_eq!((server.connections(), tcp.connections()), (1, 0));
}
