//! A listener to ask, and clients of all protocols to ask it with.

use std::convert::Infallible;
use std::future::Future;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use eyot_front::{Addresses, Certificates, Ending, Error, Files, Settings, Sockets};
use eyot_plan::arrival::{Answer, Arrival, Protocol};
use eyot_plan::body::{self, Body};
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, KeyPair};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use socket2::Socket;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) const ALL: [Protocol; 3] = [Protocol::H1, Protocol::H2, Protocol::H3];

type Answering = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// Answers with a closure, and counts what it was asked.
struct Asked {
    handler: Box<dyn Fn(Arrival) -> Answering + Send + Sync>,
    arrivals: Arc<AtomicUsize>,
}

impl Answer for Asked {
    async fn answer(&self, arrival: Box<Arrival>) -> Response<Body> {
        self.arrivals.fetch_add(1, Ordering::Relaxed);
        (self.handler)(*arrival).await
    }
}

/// A listener for `a.net`, `127.0.0.1` (one certificate) and `b.net` (another).
pub(crate) struct Front {
    pub(crate) tls: SocketAddr,
    pub(crate) plain: SocketAddr,
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) arrivals: Arc<AtomicUsize>,
    folder: TempDir,
    stop: Option<oneshot::Sender<Ending>>,
    running: JoinHandle<Result<(), Error>>,
}

impl Front {
    /// Starts listening with the default settings.
    pub(crate) fn answering<F, R>(handler: F) -> Self
    where
        F: Fn(Arrival) -> R + Send + Sync + 'static,
        R: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::with(Settings::default(), handler)
    }

    /// Starts listening.
    pub(crate) fn with<F, R>(settings: Settings, handler: F) -> Self
    where
        F: Fn(Arrival) -> R + Send + Sync + 'static,
        R: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::on(listening(1), settings, handler)
    }

    /// Starts listening on bound sockets; the first is where clients go.
    pub(crate) fn on<F, R>(sockets: Sockets, settings: Settings, handler: F) -> Self
    where
        F: Fn(Arrival) -> R + Send + Sync + 'static,
        R: Future<Output = Response<Body>> + Send + 'static,
    {
        let folder = TempDir::new().expect("a folder");
        let files = [certify(&folder, "a", &["a.net", "*.a.net", "127.0.0.1"]), certify(&folder, "b", &["b.net"])];
        let certificates = Certificates::load(&files).expect("good files");
        Self::of((folder, certificates), sockets, settings, handler)
    }

    /// Waits until it has ended, and starts another one with its certificates.
    pub(crate) async fn followed<F, R>(mut self, sockets: Sockets, handler: F) -> Self
    where
        F: Fn(Arrival) -> R + Send + Sync + 'static,
        R: Future<Output = Response<Body>> + Send + 'static,
    {
        self.stop();
        self.running.await.expect("no panic").expect("no error");
        Self::of((self.folder, self.certificates), sockets, Settings::default(), handler)
    }

    fn of<F, R>(
        (folder, certificates): (TempDir, Arc<Certificates>),
        sockets: Sockets,
        settings: Settings,
        handler: F,
    ) -> Self
    where
        F: Fn(Arrival) -> R + Send + Sync + 'static,
        R: Future<Output = Response<Body>> + Send + 'static,
    {
        let (tls, plain) = (sockets.tls_addresses()[0], sockets.plain_addresses()[0]);
        let arrivals = Arc::default();
        let answer =
            Asked { handler: Box::new(move |arrival| Box::pin(handler(arrival))), arrivals: Arc::clone(&arrivals) };
        let (stop, stopped) = oneshot::channel();
        let running =
            tokio::spawn(eyot_front::run(sockets, Arc::clone(&certificates), settings, Arc::new(answer), async move {
                stopped.await.unwrap_or(Ending::Stop)
            }));
        Self { tls, plain, certificates, arrivals, folder, stop: Some(stop), running }
    }

    /// Writes a new certificate over the one of `a.net`.
    pub(crate) fn renew(&self, names: &[&str]) {
        certify(&self.folder, "a", names);
    }

    pub(crate) fn certificate(&self, file: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.folder.path().join(format!("{file}.pem"))).expect("a certificate")
    }

    /// A client's TLS that trusts the certificates as they are now.
    pub(crate) fn trust(&self, protocols: &[&str]) -> rustls::ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates([self.certificate("a"), self.certificate("b")]);
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions");
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }

    /// A TLS connection to `name`, for raw bytes.
    pub(crate) async fn raw(&self, name: &str, protocol: &str) -> std::io::Result<TlsStream<TcpStream>> {
        self.raw_with(self.trust(&[protocol]), name).await
    }

    async fn raw_with(&self, config: rustls::ClientConfig, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, tcp(self.tls).await?).await
    }

    /// A client that speaks `protocol`, which has TCP, to `a.net` on a connection that is there.
    pub(crate) async fn client_on(&self, protocol: Protocol, stream: TcpStream) -> Result<Client, BoxError> {
        let config = self.trust(&[if protocol == Protocol::H2 { "h2" } else { "http/1.1" }]);
        let name = ServerName::try_from("a.net").expect("a name");
        Client::on(protocol, TlsConnector::from(Arc::new(config)).connect(name, stream).await?).await
    }

    /// A QUIC connection to `a.net`, for raw bytes on its streams.
    pub(crate) async fn quic(&self) -> quinn::Connection {
        let tls = quinn::crypto::rustls::QuicClientConfig::try_from(self.trust(&["h3"])).expect("TLS 1.3");
        let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).expect("a socket");
        let config = quinn::ClientConfig::new(Arc::new(tls));
        endpoint.connect_with(config, self.tls, "a.net").expect("a name").await.expect("QUIC")
    }

    /// A client that speaks `protocol` to `a.net`.
    pub(crate) async fn client(&self, protocol: Protocol) -> Client {
        self.client_of(protocol, "a.net").await.expect("a connection")
    }

    /// A client that speaks `protocol` to `name`.
    pub(crate) async fn client_of(&self, protocol: Protocol, name: &str) -> Result<Client, BoxError> {
        self.client_with(protocol, name, self.trust(&[])).await
    }

    /// The same with a TLS of its own.
    pub(crate) async fn client_with(
        &self,
        protocol: Protocol,
        name: &str,
        mut config: rustls::ClientConfig,
    ) -> Result<Client, BoxError> {
        config.alpn_protocols = vec![match protocol {
            Protocol::H1 => b"http/1.1".to_vec(),
            Protocol::H2 => b"h2".to_vec(),
            Protocol::H3 => b"h3".to_vec(),
        }];
        match protocol {
            Protocol::H1 | Protocol::H2 => Client::on(protocol, self.raw_with(config, name).await?).await,
            Protocol::H3 => Ok(Client::H3(eyot_h3::client::connect(Arc::new(config), self.tls, name).await?)),
        }
    }

    /// Asks the listener to end.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// Tells the listener that another one has its sockets now.
    pub(crate) fn hand_over(&mut self) {
        let told = self.stop.take().map(|stop| stop.send(Ending::HandedOver));
        assert_eq!(told, Some(Ok(())), "it listens");
    }

    /// Waits until it has.
    pub(crate) async fn ended(mut self) {
        self.stop();
        self.running.await.expect("no panic").expect("no error");
    }
}

/// Opens a TCP connection, as any client would.
#[allow(clippy::disallowed_methods, reason = "a client of the tests, not a way out")]
pub(crate) async fn tcp(address: SocketAddr) -> std::io::Result<TcpStream> {
    TcpStream::connect(address).await
}

/// Sockets on loopback: so many with TLS, and one without.
pub(crate) fn listening(https: usize) -> Sockets {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let addresses = Addresses { https: vec![any; https], http: vec![any], udp_sockets: 1, generations: 1 };
    Sockets::bind(&addresses).expect("loopback")
}

fn certify(folder: &TempDir, file: &str, names: &[&str]) -> Files {
    let key = KeyPair::generate().expect("a key");
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    let certificate = CertificateParams::new(names).expect("names").self_signed(&key).expect("a certificate");
    let (chain_file, key_file) = (folder.path().join(format!("{file}.pem")), folder.path().join(format!("{file}.key")));
    std::fs::write(&chain_file, certificate.pem()).expect("a file");
    std::fs::write(&key_file, key.serialize_pem()).expect("a file");
    Files { chain: chain_file, key: key_file, ocsp: None }
}

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type AnyBody = UnsyncBoxBody<Bytes, BoxError>;

/// One connection of a client; with TCP, its socket too.
pub(crate) enum Client {
    H1(hyper::client::conn::http1::SendRequest<AnyBody>, Socket),
    H2(hyper::client::conn::http2::SendRequest<AnyBody>, Socket),
    H3(eyot_h3::client::Connection),
}

impl Client {
    /// On a connection over TCP.
    async fn on(protocol: Protocol, stream: TlsStream<TcpStream>) -> Result<Self, BoxError> {
        let socket = Socket::from(stream.get_ref().0.as_fd().try_clone_to_owned()?);
        if protocol == Protocol::H2 {
            let http = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
            let (sender, connection) = http.await?;
            tokio::spawn(connection);
            return Ok(Self::H2(sender, socket));
        }
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self::H1(sender, socket))
    }

    /// Sends a request whose URI is absolute; over HTTP/1.1 as origin form with `Host`.
    pub(crate) async fn send(&mut self, mut request: Request<AnyBody>) -> Result<Response<AnyBody>, BoxError> {
        match self {
            Self::H1(sender, _) => {
                let uri = request.uri().clone();
                let host = uri.authority().expect("an absolute URI").as_str().parse()?;
                request.headers_mut().entry("host").or_insert(host);
                *request.uri_mut() = uri.path_and_query().expect("a path").as_str().parse()?;
                sender.ready().await?;
                Ok(sender.send_request(request).await?.map(|body| body.map_err(Into::into).boxed_unsync()))
            }
            Self::H2(sender, _) => {
                sender.ready().await?;
                Ok(sender.send_request(request).await?.map(|body| body.map_err(Into::into).boxed_unsync()))
            }
            Self::H3(connection) => {
                Ok(connection.send(request).await?.map(|body| body.map_err(Into::into).boxed_unsync()))
            }
        }
    }

    pub(crate) async fn get(&mut self, uri: &str) -> Result<Response<AnyBody>, BoxError> {
        self.send(Request::get(uri).body(nothing()).expect("a request")).await
    }

    /// Leaves, as a client that is killed.
    pub(crate) fn leave(self) {
        self.cutter()();
    }

    /// What ends the connection, to be called while a request is under way.
    pub(crate) fn cutter(&self) -> Box<dyn FnOnce() + Send> {
        match self {
            Self::H1(_, socket) | Self::H2(_, socket) => {
                let socket = socket.try_clone().expect("a socket");
                Box::new(move || drop(socket.shutdown(Shutdown::Both)))
            }
            Self::H3(connection) => {
                let connection = connection.clone();
                Box::new(move || connection.close())
            }
        }
    }
}

pub(crate) fn nothing() -> AnyBody {
    Empty::new().map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// `200` with a text.
pub(crate) fn text(text: &'static str) -> Response<Body> {
    Response::new(body::full(text))
}

/// The whole of a body, as text.
pub(crate) async fn read(response: Response<AnyBody>) -> Result<String, BoxError> {
    let bytes = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(bytes.to_vec())?)
}
