//! A server of others, for nodes to fetch from: HTTP/1.1 on loopback, with a few pages.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

/// The body of `/large`.
const LARGE_BYTES: usize = 1 << 30;

/// A running upstream; it ends with its owner.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    asked: Arc<AtomicU64>,
    _runtime: tokio::runtime::Runtime,
}

impl Upstream {
    /// Starts it: `/echo` streams the request back with its trailers and its fields as `x-saw-<name>`, `/large` is a GiB
    /// of zeros, `/never` never answers, all else says its path.
    pub(crate) fn start() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("bound");
        let asked = Arc::new(AtomicU64::new(0));
        runtime.spawn(serve(listener, Arc::clone(&asked)));
        Self { address, asked, _runtime: runtime }
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

async fn serve(listener: tokio::net::TcpListener, asked: Arc<AtomicU64>) {
    while let Ok((stream, _)) = listener.accept().await {
        let asked = Arc::clone(&asked);
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                asked.fetch_add(1, Ordering::Relaxed);
                answer(request)
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<BoxBody<Bytes, hyper::Error>>, Infallible> {
    let path = request.uri().path().to_owned();
    if path.ends_with("/never") {
        std::future::pending::<()>().await;
    }
    let mut response = Response::builder();
    for (name, value) in request.headers() {
        response = response.header(format!("x-saw-{name}"), value);
    }
    if path.ends_with("/echo") {
        let trailer = request.headers().get("trailer").cloned();
        if let Some(trailer) = trailer {
            response = response.header("trailer", trailer);
        }
        return Ok(response.body(request.into_body().boxed()).expect("a response"));
    }
    if path.ends_with("/large") {
        let piece = Bytes::from_static(&[0; 64 << 10]);
        let pieces = std::iter::repeat_n(piece, LARGE_BYTES / (64 << 10)).map(|piece| Ok(Frame::data(piece)));
        return Ok(response.body(StreamBody::new(stream::iter(pieces)).boxed()).expect("a response"));
    }
    let body = Full::new(Bytes::from(format!("upstream {path}"))).map_err(|never| match never {}).boxed();
    Ok(response.body(body).expect("a response"))
}
