//! Servers of these tests, each on a port of its own, and the ways to them.

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use eyot_bundle::grant::PrivateNet;
use eyot_bundle::release::upstream::{Timeouts, UpstreamTls};
use eyot_fetch::{Fetch, Options, Resolver};
use eyot_plan::body::{self, Body};
use eyot_plan::fault::{Code, Fault};
use eyot_plan::way::Way;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{RData, Record, RecordType};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Notify;

/// A client with everything at its default.
pub(crate) fn fetch() -> Fetch {
    fetch_with(|_| {})
}

/// A client with options of the test's own. Its resolver asks nobody, unless the test names a server.
pub(crate) fn fetch_with(change: impl FnOnce(&mut Options)) -> Fetch {
    let mut options = Options { resolver: Resolver::Servers(Vec::new()), ..Options::default() };
    change(&mut options);
    Fetch::new(options).expect("the options are good")
}

/// The way of app `a`, which may reach loopback.
pub(crate) fn way() -> Way {
    way_of("a", &["127.0.0.0/8", "::1/128"])
}

/// The way of an app that may reach these networks.
pub(crate) fn way_of(app: &str, nets: &[&str]) -> Way {
    let net = |net: &&str| PrivateNet { net: net.parse().expect("a network"), ports: Vec::new() };
    let app = app.parse().expect("a name");
    Way::new(app, nets.iter().map(net).collect(), Timeouts::default())
}

/// The same way with authorities and a name of its own.
pub(crate) fn way_tls(name: Option<&str>, ca: Option<&str>) -> Way {
    let (name, ca) = (name.map(str::to_owned), ca.map(str::to_owned));
    Way { tls: Some(UpstreamTls { name, ca, ..UpstreamTls::default() }), ..way() }
}

/// A `GET` without body.
pub(crate) fn get(uri: impl AsRef<str>) -> Request<Body> {
    Request::get(uri.as_ref()).body(body::empty()).expect("a request")
}

/// What came of a request: its status and text, or the code it ended in.
pub(crate) async fn outcome(fetch: &Fetch, way: &Way, request: Request<Body>) -> Result<(u16, String), Code> {
    let response = fetch.send(way, request).await.map_err(|fault| fault.code)?;
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.map_err(|fault: Fault| fault.code)?.to_bytes();
    Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
}

/// A good answer.
pub(crate) fn ok(text: &str) -> Result<(u16, String), Code> {
    Ok((200, text.to_owned()))
}

/// A server: where it is, and how many connections it has taken.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Server {
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn http(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn https(&self, host: &str, path: &str) -> String {
        format!("https://{host}:{}{path}", self.address.port())
    }
}

/// A TCP server whose every connection is handled by `handle`, told its number from 0.
pub(crate) async fn raw<F>(handle: impl Fn(TcpStream, usize) -> F + Send + Sync + 'static) -> Server
where
    F: Future<Output = ()> + Send + 'static,
{
    raw_on("127.0.0.1", handle).await
}

/// The same, on an address of the test's choice.
pub(crate) async fn raw_on<F>(ip: &str, handle: impl Fn(TcpStream, usize) -> F + Send + Sync + 'static) -> Server
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((ip, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(handle(stream, count.fetch_add(1, Ordering::SeqCst)));
        }
    });
    Server { address, connections }
}

/// Reads one request's head. None: the client closed.
pub(crate) async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

/// Reads until the client closes.
pub(crate) async fn read_all(stream: &mut (impl AsyncRead + Unpin)) {
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
}

/// A server that reads a head, writes these bytes, and closes when the client does.
pub(crate) async fn says(bytes: impl Into<Vec<u8>>) -> Server {
    let bytes: Arc<[u8]> = bytes.into().into();
    raw(move |mut stream, _| {
        let bytes = Arc::clone(&bytes);
        async move {
            while read_head(&mut stream).await.is_some() {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

/// A certificate for these names, signed by itself: PEM of it, and what a server needs.
pub(crate) fn certificate(names: &[&str]) -> (String, rustls::ServerConfig) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a certificate and its key");
    (made.cert.pem(), config)
}

/// An HTTPS server that speaks this protocol only (`h2`, `http/1.1`) and answers by `answer`.
pub(crate) async fn https<F>(
    config: rustls::ServerConfig,
    alpn: &'static str,
    answer: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
) -> Server
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    https_until(config, alpn, Arc::default(), answer).await
}

/// The same; each `dead` cuts one connection without a word.
pub(crate) async fn https_until<F>(
    mut config: rustls::ServerConfig,
    alpn: &'static str,
    dead: Arc<Notify>,
    answer: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
) -> Server
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    raw(move |stream, _| {
        let (acceptor, answer, dead) = (acceptor.clone(), answer.clone(), Arc::clone(&dead));
        async move {
            if let Ok(tls) = acceptor.accept(stream).await {
                tokio::select! {
                    () = serve(tls, alpn == "h2", answer) => {}
                    () = dead.notified() => {}
                }
            }
        }
    })
    .await
}

/// A plain HTTP/1.1 server that answers by `answer`.
pub(crate) async fn http<F>(answer: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static) -> Server
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    raw(move |stream, _| serve(stream, false, answer.clone())).await
}

/// Answers what comes on a stream.
pub(crate) async fn serve<S, F>(stream: S, h2: bool, answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let service = service_fn(move |request| {
        let response = answer(request);
        async move { Ok::<_, Infallible>(response.await) }
    });
    let io = TokioIo::new(stream);
    // How a connection ends is the client's to say in these tests.
    if h2 {
        drop(hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await);
    } else {
        drop(hyper::server::conn::http1::Builder::new().serve_connection(io, service).await);
    }
}

/// Gives a request's body and trailers back, and tells in fields what the head was.
pub(crate) async fn echo(request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let mut response = Response::builder().header("trailer", "x-sum").header("x-uri", parts.uri.to_string());
    for (name, value) in &parts.headers {
        response = response.header(format!("x-saw-{name}"), value);
    }
    let body = body.map_err(|error| Fault::new(Code::BadRequest).because(error)).boxed_unsync();
    response.body(body).expect("a response")
}

/// A body of these frames.
pub(crate) fn frames(frames: Vec<Result<http_body::Frame<Bytes>, Fault>>) -> Body {
    http_body_util::StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync()
}

/// A DNS server that answers by name and by how often that name was asked for; none: no such name. Time to live is 0.
pub(crate) async fn dns(answer: impl Fn(&str, usize) -> Option<Vec<IpAddr>> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let address = socket.local_addr().expect("bound");
    tokio::spawn(async move {
        let mut asked = std::collections::HashMap::<(String, RecordType), usize>::new();
        let mut buffer = [0; 4096];
        while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
            let Ok(query) = Message::from_vec(&buffer[..length]) else { continue };
            let Some(question) = query.queries.first().cloned() else { continue };
            let name = question.name().to_string().to_ascii_lowercase();
            let times = asked.entry((name.clone(), question.query_type())).or_default();
            let found = answer(name.trim_end_matches('.'), *times);
            *times += 1;
            let mut message = Message::response(query.metadata.id, query.metadata.op_code);
            if found.is_none() {
                message.metadata.response_code = ResponseCode::NXDomain;
            }
            message.add_query(question.clone());
            for ip in found.unwrap_or_default() {
                let data = match ip {
                    IpAddr::V4(ip) => RData::A(A(ip)),
                    IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
                };
                if data.record_type() == question.query_type() {
                    message.add_answer(Record::from_rdata(question.name().clone(), 0, data));
                }
            }
            let bytes = message.to_vec().expect("a message");
            socket.send_to(&bytes, client).await.expect("sent");
        }
    });
    address
}

/// Waits until something is so, by giving others their turn.
pub(crate) async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::task::yield_now().await;
    }
}
