//! A front for clients that know HTTP/1.1 alone: each of their requests goes to a node over HTTP/2 or 3, with nothing added
//! and nothing kept; interim heads come through, too.

use std::convert::Infallible;
use std::error::Error;
use std::future::poll_fn;
use std::io::Write as _;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use eyot_link::tls::{self, Authorities};
use futures_util::stream;
use http::{Request, Response, StatusCode, Uri, Version};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;

use super::client::Protocol;
use super::world::{Node, World};

type Broken = Box<dyn Error + Send + Sync>;
type Answer = UnsyncBoxBody<Bytes, Broken>;

/// Where requests go.
#[derive(Clone)]
struct To {
    host: String,
    node: SocketAddr,
    protocol: Protocol,
    config: Arc<ClientConfig>,
}

/// A running front; it ends with its owner.
pub(crate) struct Front {
    pub(crate) port: u16,
    _runtime: tokio::runtime::Runtime,
}

impl Front {
    /// A front on a port of its own, whose requests go to `node` over `protocol` as requests for `host`.
    pub(crate) fn start(world: &World, node: &Node, protocol: Protocol, host: &str) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let authorities = Authorities::Pem(std::fs::read(world.ca()).expect("the CA"));
        let to = To {
            host: host.to_owned(),
            node: SocketAddr::from(([127, 0, 0, 1], node.port)),
            protocol,
            config: tls::with_alpn(&tls::config(&authorities).expect("a CA"), protocol.alpn()),
        };
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, to.clone()));
            }
        });
        Self { port, _runtime: runtime }
    }
}

/// Serves a connection. Hyper sends no interim heads: they go past it, which writes nothing before an answer.
async fn serve(stream: TcpStream, to: To) -> Result<(), Broken> {
    let stream = stream.into_std()?;
    let past = Arc::new(stream.try_clone()?);
    let service = hyper::service::service_fn(move |request| {
        let (to, past) = (to.clone(), Arc::clone(&past));
        async move { Ok::<_, Infallible>(pass(request, &to, &past).await.unwrap_or_else(|error| bad_gateway(&*error))) }
    });
    let server = hyper::server::conn::http1::Builder::new();
    Ok(server.serve_connection(TokioIo::new(TcpStream::from_std(stream)?), service).await?)
}

fn bad_gateway(error: &dyn Error) -> Response<Answer> {
    let said = Full::from(error.to_string()).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(said);
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}

async fn pass(request: Request<Incoming>, to: &To, past: &std::net::TcpStream) -> Result<Response<Answer>, Broken> {
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    head.uri = format!("https://{}:{}{path}", to.host, to.node.port()).parse::<Uri>()?;
    let body = body.collect().await?.to_bytes();
    for name in ["host", "connection", "keep-alive", "transfer-encoding", "content-length"] {
        head.headers.remove(name);
    }
    let request = Request::from_parts(head, body);
    let mut response = if to.protocol == Protocol::H3 {
        over_h3(request, to, past).await?
    } else {
        over_h2(request, to, past).await?
    };
    *response.version_mut() = Version::HTTP_11;
    Ok(response)
}

async fn over_h3(request: Request<Bytes>, to: &To, past: &std::net::TcpStream) -> Result<Response<Answer>, Broken> {
    let line = eyot_h3::client::connect(Arc::clone(&to.config), to.node, &to.host).await?;
    let mut request = request.map(Full::new);
    *request.version_mut() = Version::HTTP_3;
    let response = line.send_informed(request, |head| inform(past, &head)).await?;
    Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
}

#[expect(clippy::disallowed_methods, reason = "a node of this test, on loopback")]
async fn over_h2(request: Request<Bytes>, to: &To, past: &std::net::TcpStream) -> Result<Response<Answer>, Broken> {
    let connector = tokio_rustls::TlsConnector::from(Arc::clone(&to.config));
    let io = connector.connect(to.host.clone().try_into()?, TcpStream::connect(to.node).await?).await?;
    let (line, connection) = h2::client::handshake(io).await?;
    tokio::spawn(connection);
    let (head, body) = request.into_parts();
    let mut request = Request::from_parts(head, ());
    *request.version_mut() = Version::HTTP_2;
    let (mut response, mut sending) = line.ready().await?.send_request(request, body.is_empty())?;
    if !body.is_empty() {
        sending.send_data(body, true)?;
    }
    let response = poll_fn(|cx| {
        while let Poll::Ready(Some(head)) = response.poll_informational(cx) {
            inform(past, &head?);
        }
        Pin::new(&mut response).poll(cx)
    });
    Ok(response.await?.map(|body| {
        let pieces = stream::unfold(body, async |mut body| {
            let piece = body.data().await?;
            let taken = piece.as_ref().map_or(0, Bytes::len);
            let piece = piece.and_then(|piece| body.flow_control().release_capacity(taken).map(|()| piece));
            Some((piece.map(Frame::data).map_err(Broken::from), body))
        });
        StreamBody::new(pieces).boxed_unsync()
    }))
}

/// Writes an interim head as HTTP/1.1 has it (RFC 9112, section 4).
fn inform(mut past: &std::net::TcpStream, head: &Response<()>) {
    let mut text = format!("HTTP/1.1 {}\r\n", head.status()).into_bytes();
    for (name, value) in head.headers() {
        text.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    past.write_all(&[&text, &b"\r\n"[..]].concat()).expect("there is room for a head");
}
