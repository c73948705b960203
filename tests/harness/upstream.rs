//! A server of others, for nodes to fetch from: HTTP/1.1 on loopback, with a few pages.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use eyot_bundle::digest::Digest;
use futures_util::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::sync::watch;

/// The body of `/large`.
const LARGE_BYTES: usize = 1 << 30;

/// A piece of `/feed`.
pub(crate) const FEED_BYTES: usize = 256 << 10;

/// What `/feed` gives: so many pieces by now, and whether they are all.
#[derive(Clone, Copy, Debug, Default)]
struct Feed {
    round: usize,
    pieces: usize,
    /// Those of the round before.
    before: usize,
}

/// A running upstream; it ends with its owner.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    asked: Arc<AtomicU64>,
    feed: watch::Sender<Feed>,
    _runtime: tokio::runtime::Runtime,
}

impl Upstream {
    /// Starts it: `/echo` streams the request back with its trailers and its fields as `x-saw-<name>`, `/feed` gives what
    /// it is told to give, `/large` is a GiB of zeros, `/never` never answers, `/sum` says the length and the digest of what
    /// it was sent, all else says its path. `?type=` is what an answer says it is.
    pub(crate) fn start() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("bound");
        let asked = Arc::new(AtomicU64::new(0));
        let feed = watch::Sender::default();
        runtime.spawn(serve(listener, Arc::clone(&asked), feed.clone()));
        Self { address, asked, feed, _runtime: runtime }
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Gives one more piece to each client of `/feed`.
    pub(crate) fn feed(&self) {
        self.feed.send_modify(|feed| feed.pieces += 1);
    }

    /// Ends `/feed` for its clients; how many pieces they were given. The next begin anew.
    pub(crate) fn fed(&self) -> usize {
        // Not in one: what is lent would keep it from being changed.
        let round = self.feed.borrow().round + 1;
        let before = self.feed.borrow().pieces;
        self.feed.send_replace(Feed { round, pieces: 0, before }).pieces
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

async fn serve(listener: tokio::net::TcpListener, asked: Arc<AtomicU64>, feed: watch::Sender<Feed>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (asked, feed) = (Arc::clone(&asked), feed.clone());
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                asked.fetch_add(1, Ordering::Relaxed);
                answer(request, feed.clone())
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    feed: watch::Sender<Feed>,
) -> Result<Response<BoxBody<Bytes, hyper::Error>>, Infallible> {
    let path = request.uri().path().to_owned();
    if path.ends_with("/never") {
        std::future::pending::<()>().await;
    }
    let mut response = Response::builder();
    if let Some(of) = request.uri().query().and_then(|query| query.strip_prefix("type=")) {
        response = response.header("content-type", of).header("etag", "\"a\"").header("accept-ranges", "bytes");
    }
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
    if path.ends_with("/feed") {
        return Ok(response.body(fed(feed.subscribe())).expect("a response"));
    }
    if path.ends_with("/sum") {
        let body = request.into_body().collect().await.map_or_else(|_| Bytes::new(), |body| body.to_bytes());
        let text = Full::from(sum(&body)).map_err(|never| match never {}).boxed();
        return Ok(response.body(text).expect("a response"));
    }
    if path.ends_with("/large") {
        let piece = Bytes::from_static(&[0; 64 << 10]);
        let pieces = std::iter::repeat_n(piece, LARGE_BYTES / (64 << 10)).map(|piece| Ok(Frame::data(piece)));
        return Ok(response.body(StreamBody::new(stream::iter(pieces)).boxed()).expect("a response"));
    }
    let body = Full::new(Bytes::from(format!("upstream {path}"))).map_err(|never| match never {}).boxed();
    Ok(response.body(body).expect("a response"))
}

/// What `/sum` says of a body.
pub(crate) fn sum(body: &[u8]) -> String {
    format!("{} {}", body.len(), Digest::of(body))
}

/// A piece of `/feed`, by its place.
pub(crate) fn piece(at: usize) -> Vec<u8> {
    (0..=250_u8).cycle().skip(at % 251).take(FEED_BYTES).collect()
}

fn fed(feed: watch::Receiver<Feed>) -> BoxBody<Bytes, hyper::Error> {
    let round = feed.borrow().round;
    let pieces = stream::unfold((feed, 0), move |(mut feed, given)| async move {
        let now = *feed.wait_for(|feed| feed.round > round || feed.pieces > given).await.ok()?;
        // The end may overtake pieces that were not given yet.
        let pieces = if now.round == round { now.pieces } else { now.before };
        (pieces > given).then(|| (Ok(Frame::data(Bytes::from(piece(given)))), (feed, given + 1)))
    });
    StreamBody::new(pieces).boxed()
}
