//! What the servers fetch from: HTTP/1.1 on loopback, in a thread of the benchmark's own process. `/kept/<bytes>/…` is so many
//! bytes that may be kept for an hour.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

/// A running upstream; it ends with its owner.
pub(crate) struct Upstream {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    asked: Arc<AtomicU64>,
    _runtime: tokio::runtime::Runtime,
}

impl Upstream {
    pub(crate) fn start() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("bound");
        let asked = Arc::<AtomicU64>::default();
        runtime.spawn(serve(listener, Arc::clone(&asked)));
        Self { address, asked, _runtime: runtime }
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

async fn serve(listener: tokio::net::TcpListener, asked: Arc<AtomicU64>) {
    let body = Bytes::from(vec![b'e'; 1 << 20]);
    while let Ok((stream, _)) = listener.accept().await {
        let (body, asked) = (body.clone(), Arc::clone(&asked));
        tokio::spawn(async move {
            let answer = |request: Request<Incoming>| {
                asked.fetch_add(1, Ordering::Relaxed);
                let bytes = request.uri().path().split('/').nth(2).and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
                let response = Response::builder().header("cache-control", "max-age=3600").header("etag", "\"e\"");
                let response = response.body(Full::new(body.slice(..body.len().min(bytes))));
                std::future::ready(Ok::<_, Infallible>(response.unwrap_or_default()))
            };
            let service = hyper::service::service_fn(answer);
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
