//! A front for clients that know HTTP/1.1 alone: each of their requests goes to a node over another protocol, with nothing
//! added and nothing kept.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use eyot_link::body;
use eyot_link::get::{Get, get};
use eyot_link::line::Patience;
use eyot_link::tls::Authorities;
use http::{Request, Response, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

use super::client::Protocol;
use super::world::{Node, World};

type Answer = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// Where requests go.
#[derive(Clone)]
struct To {
    base: String,
    ca: Vec<u8>,
    node: SocketAddr,
    protocol: Protocol,
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
        let to = To {
            base: format!("https://{host}:{}", node.port),
            ca: std::fs::read(world.ca()).expect("the CA"),
            node: SocketAddr::from(([127, 0, 0, 1], node.port)),
            protocol,
        };
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let to = to.clone();
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(move |request| pass(request, to.clone()));
                    let server = hyper::server::conn::http1::Builder::new();
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { port, _runtime: runtime }
    }
}

async fn pass(request: Request<Incoming>, to: To) -> Result<Response<Answer>, Infallible> {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let body = body.collect().await.map_or_else(|_| Bytes::new(), http_body_util::Collected::to_bytes);
    let mut headers = head.headers;
    for name in ["host", "connection", "keep-alive", "transfer-encoding", "content-length"] {
        headers.remove(name);
    }
    let get = get(Get {
        url: format!("{}{path}", to.base).parse().expect("a URL"),
        protocol: to.protocol,
        connect: Some(to.node),
        authorities: Authorities::Pem(to.ca),
        method: head.method,
        headers,
        body: if body.is_empty() { body::empty() } else { body::full(body) },
        patience: Patience::each(60_000),
        head_ms: 60_000,
    });
    let answer = match get.await {
        Ok(mut response) => {
            *response.version_mut() = Version::HTTP_11;
            response.map(|body| body.map_err(Into::into).boxed_unsync())
        }
        Err(error) => {
            let said = Full::from(error.to_string()).map_err(|never| match never {}).boxed_unsync();
            Response::builder().status(502).body(said).unwrap_or_else(|_| Response::new(nothing()))
        }
    };
    Ok(answer)
}

fn nothing() -> Answer {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}
