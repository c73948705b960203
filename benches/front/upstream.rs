//! What the servers fetch the large body from: HTTP/1.1 on loopback, in a thread of the benchmark's own process, so that
//! what it takes is on nobody's account.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper_util::rt::TokioIo;

/// A running upstream; it ends with its owner.
pub(crate) struct Upstream {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

impl Upstream {
    /// Starts one that answers everything with this body.
    pub(crate) fn start(body: Bytes) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("bound");
        runtime.spawn(serve(listener, body));
        Self { address, _runtime: runtime }
    }
}

async fn serve(listener: tokio::net::TcpListener, body: Bytes) {
    while let Ok((stream, _)) = listener.accept().await {
        let body = body.clone();
        tokio::spawn(async move {
            let answer = |_| std::future::ready(Ok::<_, Infallible>(Response::new(Full::new(body.clone()))));
            let service = hyper::service::service_fn(answer);
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
