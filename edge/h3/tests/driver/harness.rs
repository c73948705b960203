//! A server with a handler, our client, and raw QUIC peers that say what they like.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use eyot_h3::server::{Connection, Responder};
use eyot_h3::{ALPN, Limits, RecvBody, client, client_transport, server_transport};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Endpoint, RecvStream, SendStream, ServerConfig, VarInt};
use rustls_pki_types::PrivatePkcs8KeyDer;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// A test that is stuck fails with this, instead of hanging.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Requests at once on a connection of [`serve`].
pub(crate) const REQUESTS_MAX: u32 = 100;

/// A certificate for `localhost`, for both sides.
pub(crate) struct Tls {
    pub(crate) server: rustls::ServerConfig,
    pub(crate) client: rustls::ClientConfig,
}

pub(crate) fn tls() -> Tls {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let mut server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    server.alpn_protocols = vec![ALPN.to_vec()];
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Tls { server, client }
}

fn local() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// A QUIC endpoint that waits for clients.
pub(crate) fn listen(tls: &Tls) -> Endpoint {
    listen_with(tls, |_| {})
}

/// The same, with what else it needs.
pub(crate) fn listen_with(tls: &Tls, more: impl FnOnce(&mut ServerConfig)) -> Endpoint {
    let crypto = QuicServerConfig::try_from(tls.server.clone()).unwrap();
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(server_transport(REQUESTS_MAX)));
    more(&mut config);
    Endpoint::server(config, local()).unwrap()
}

/// The next connection of an endpoint.
pub(crate) async fn next(endpoint: &Endpoint) -> quinn::Connection {
    endpoint.accept().await.unwrap().await.unwrap()
}

/// A server that runs a handler for each request of its first connection; its task gives how the connection ended.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Tls,
    pub(crate) ended: JoinHandle<Result<(), eyot_h3::Error>>,
    /// Told once to begin the drain.
    pub(crate) drain: Arc<Notify>,
}

/// Starts a server.
pub(crate) fn serve<H, F>(limits: Limits, handler: H) -> Server
where
    H: Fn(Request<RecvBody>, Responder) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let tls = tls();
    let endpoint = listen(&tls);
    let address = endpoint.local_addr().unwrap();
    let drain = Arc::new(Notify::new());
    let asked = Arc::clone(&drain);
    let ended = tokio::spawn(async move {
        let mut connection = Connection::new(next(&endpoint).await, limits).await?;
        loop {
            tokio::select! {
                request = connection.accept() => match request? {
                    Some((request, responder)) => drop(tokio::spawn(handler(request, responder))),
                    None => return Ok(()),
                },
                () = asked.notified() => connection.drain(),
            }
        }
    });
    Server { address, tls, ended, drain }
}

impl Server {
    /// Our client.
    pub(crate) async fn client(&self) -> client::Connection {
        client::connect(Arc::new(self.tls.client.clone()), self.address, "localhost").await.unwrap()
    }

    /// A QUIC client that knows no HTTP/3.
    pub(crate) async fn raw(&self) -> quinn::Connection {
        raw(&self.tls, self.address).await
    }

    /// How the connection ended at the server.
    pub(crate) async fn end(self) -> Result<(), eyot_h3::Error> {
        tokio::time::timeout(PATIENCE, self.ended).await.expect("the connection ends").unwrap()
    }
}

/// A QUIC client that knows no HTTP/3.
pub(crate) async fn raw(tls: &Tls, address: SocketAddr) -> quinn::Connection {
    raw_with(tls, address, |honest| Arc::new(honest)).await
}

/// The same, with TLS of the test's own making.
pub(crate) async fn raw_with(
    tls: &Tls,
    address: SocketAddr,
    made: impl FnOnce(QuicClientConfig) -> Arc<dyn quinn::crypto::ClientConfig>,
) -> quinn::Connection {
    connecting(config_with(tls, made), address).await.unwrap()
}

/// What a QUIC client that knows no HTTP/3 is made of.
pub(crate) fn config(tls: &Tls) -> ClientConfig {
    config_with(tls, |honest| Arc::new(honest))
}

fn config_with(tls: &Tls, made: impl FnOnce(QuicClientConfig) -> Arc<dyn quinn::crypto::ClientConfig>) -> ClientConfig {
    let mut config = tls.client.clone();
    config.alpn_protocols = vec![ALPN.to_vec()];
    let mut config = ClientConfig::new(made(QuicClientConfig::try_from(config).unwrap()));
    config.transport_config(Arc::new(client_transport()));
    config
}

/// A client on its way.
pub(crate) fn connecting(config: ClientConfig, address: SocketAddr) -> quinn::Connecting {
    let endpoint = Endpoint::client(local()).unwrap();
    endpoint.connect_with(config, address, "localhost").unwrap()
}

/// Our client, for a raw server.
pub(crate) async fn client_of(tls: &Tls, address: SocketAddr) -> client::Connection {
    try_client_of(tls, address).await.unwrap()
}

/// The same, if it comes to that.
pub(crate) async fn try_client_of(tls: &Tls, address: SocketAddr) -> Result<client::Connection, eyot_h3::Error> {
    client::connect(Arc::new(tls.client.clone()), address, "localhost").await
}

/// Our client, with limits of one's own, for a raw server.
pub(crate) async fn client_with(tls: &Tls, address: SocketAddr, limits: Limits) -> client::Connection {
    let socket = std::net::UdpSocket::bind(local()).unwrap();
    client::connect_on(socket, Arc::new(tls.client.clone()), address, "localhost", limits).await.unwrap()
}

/// A network between one client and a server, in which what the client sends can get lost, and what the server sends be
/// held back.
pub(crate) struct Between {
    /// Where the client connects to.
    pub(crate) address: SocketAddr,
    muted: Arc<AtomicBool>,
    holding: Arc<AtomicBool>,
    released: Arc<Notify>,
    passing: JoinHandle<()>,
}

impl Between {
    pub(crate) async fn new(server: SocketAddr) -> Self {
        let (near, far) = (UdpSocket::bind(local()).await.unwrap(), UdpSocket::bind(local()).await.unwrap());
        far.connect(server).await.unwrap();
        let (address, muted) = (near.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let (holding, released) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
        let (is_muted, is_holding, release) = (Arc::clone(&muted), Arc::clone(&holding), Arc::clone(&released));
        let passing = tokio::spawn(async move {
            let (mut up, mut down, mut client) = ([0; 65_536], [0; 65_536], address);
            let mut held = Vec::new();
            loop {
                tokio::select! {
                    Ok((length, from)) = near.recv_from(&mut up) => {
                        client = from;
                        if !is_muted.load(Ordering::Relaxed) {
                            let _ = far.send(&up[..length]).await;
                        }
                    }
                    Ok(length) = far.recv(&mut down) => {
                        if is_holding.load(Ordering::Relaxed) {
                            held.push(down[..length].to_vec());
                        } else {
                            let _ = near.send_to(&down[..length], client).await;
                        }
                    }
                    () = release.notified() => for datagram in held.drain(..) {
                        let _ = near.send_to(&datagram, client).await;
                    },
                }
            }
        });
        Self { address, muted, holding, released, passing }
    }

    /// From now on what the server sends waits.
    pub(crate) fn hold(&self) {
        self.holding.store(true, Ordering::Relaxed);
    }

    /// What waits goes on, and waits no more.
    pub(crate) fn release(&self) {
        self.holding.store(false, Ordering::Relaxed);
        self.released.notify_one();
    }

    /// From now on nothing of the client arrives.
    pub(crate) fn mute(&self) {
        self.muted.store(true, Ordering::Relaxed);
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        self.passing.abort();
    }
}

/// A request without a body.
pub(crate) fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(format!("https://localhost{path}")).body(Full::default()).unwrap()
}

/// A request with a body.
pub(crate) fn post(path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(format!("https://localhost{path}")).body(Full::new(body.into())).unwrap()
}

/// Answers with the request's body, streamed, and its trailers.
pub(crate) async fn echo(request: Request<RecvBody>, responder: Responder) {
    let _ = responder.send(Response::new(request.into_body())).await;
}

/// Answers with the request's body, once all of it is there.
pub(crate) async fn gather(request: Request<RecvBody>, responder: Responder) {
    if let Ok(body) = request.into_body().collect().await {
        let _ = responder.send(Response::new(Full::new(body.to_bytes()))).await;
    }
}

/// The whole body.
pub(crate) async fn text(response: Response<RecvBody>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The code with which the peer closed the connection.
pub(crate) async fn closed(connection: &quinn::Connection) -> u64 {
    match tokio::time::timeout(PATIENCE, connection.closed()).await.expect("the connection is closed") {
        quinn::ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
        other => panic!("not closed by the application: {other}"),
    }
}

/// Opens a request stream with these bytes on it; `fin` ends it.
pub(crate) async fn request(connection: &quinn::Connection, bytes: &[u8], fin: bool) -> (SendStream, RecvStream) {
    let (mut send, recv) = connection.open_bi().await.expect("a stream");
    // The peer may have stopped or closed already: that is what the test then sees.
    let _ = send.write_all(bytes).await;
    if fin {
        let _ = send.finish();
    }
    (send, recv)
}

/// Opens a unidirectional stream with these bytes on it.
pub(crate) async fn uni(connection: &quinn::Connection, bytes: &[u8]) -> SendStream {
    let mut send = connection.open_uni().await.unwrap();
    let _ = send.write_all(bytes).await;
    send
}

/// The code with which the peer reset the stream.
pub(crate) async fn reset(recv: &mut RecvStream) -> u64 {
    let result = tokio::time::timeout(PATIENCE, recv.read_to_end(1 << 20)).await.expect("the stream ends");
    match result {
        Err(quinn::ReadToEndError::Read(quinn::ReadError::Reset(code))) => code.into_inner(),
        other => panic!("not reset: {other:?}"),
    }
}

/// The code with which the peer stopped the stream.
pub(crate) async fn stopped(send: &SendStream) -> Option<u64> {
    let result = tokio::time::timeout(PATIENCE, send.stopped()).await.expect("the stream ends");
    result.unwrap().map(VarInt::into_inner)
}

/// A frame.
pub(crate) fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap() | 0x4000;
    [&[kind][..], &length.to_be_bytes(), payload].concat()
}

/// A literal field line.
pub(crate) fn line(name: &str, value: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for (text, bits, flags) in [(name, 3, 0x20), (value, 7, 0)] {
        eyot_h3::core::integer::write(text.len(), bits, flags, &mut out);
        out.extend_from_slice(text.as_bytes());
    }
    out
}

/// A HEADERS frame.
pub(crate) fn headers(fields: &[(&str, &str)]) -> Vec<u8> {
    let lines: Vec<u8> = fields.iter().flat_map(|(name, value)| line(name, value)).collect();
    frame(1, &[&[0, 0][..], &lines].concat())
}

/// A HEADERS frame that opens a tunnel.
pub(crate) fn tunnel_head() -> Vec<u8> {
    let connect = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":path", "/")];
    headers(&[&connect[..], &[(":authority", "localhost")]].concat())
}

/// A HEADERS frame of a good request, with these fields besides.
pub(crate) fn head(method: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let pseudo = [(":method", method), (":scheme", "https"), (":authority", "localhost"), (":path", "/")];
    headers(&[&pseudo[..], more].concat())
}
