//! An upstream that answers as a test says: HTTP/1.1 on loopback. It remembers what it was asked.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::sync::watch;

/// What it was asked once.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
}

/// What it answers.
pub(crate) struct Made {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
    /// Whether it waits until it is let go.
    held: bool,
    /// Whether it breaks off after the body, of which more was promised.
    broken: bool,
}

impl Made {
    /// 200 with this body.
    pub(crate) fn of(body: impl Into<Bytes>) -> Self {
        Self { status: 200, headers: Vec::new(), body: body.into(), held: false, broken: false }
    }

    /// With another status.
    pub(crate) fn status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// With a field.
    pub(crate) fn field(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// With `Cache-Control`.
    pub(crate) fn control(self, value: &str) -> Self {
        self.field("cache-control", value)
    }

    /// Only when it is let go.
    pub(crate) fn held(self) -> Self {
        Self { held: true, ..self }
    }

    /// Broken off after the body.
    pub(crate) fn broken(self) -> Self {
        Self { broken: true, ..self }
    }
}

type Answers = Arc<dyn Fn(&Seen, usize) -> Made + Send + Sync>;

/// A running upstream; it ends with its owner.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    go: watch::Sender<bool>,
    _runtime: tokio::runtime::Runtime,
}

impl Scripted {
    /// Starts it. `answer` is told what is asked, and how often that path was asked for before.
    pub(crate) fn start(answer: impl Fn(&Seen, usize) -> Made + Send + Sync + 'static) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("bound");
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let go = watch::Sender::new(false);
        runtime.spawn(serve(listener, Arc::new(answer), Arc::clone(&seen), go.clone()));
        Self { address, seen, go, _runtime: runtime }
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets go of what is held.
    pub(crate) fn let_go(&self) {
        self.go.send_replace(true);
    }

    /// What it was asked for a path, query and all.
    pub(crate) fn seen(&self, path: &str) -> Vec<Seen> {
        let seen = self.seen.lock().expect("no panic");
        seen.iter().filter(|seen| seen.path == path).cloned().collect()
    }

    /// How often it was asked for each path.
    pub(crate) fn asked(&self) -> BTreeMap<String, usize> {
        let mut asked = BTreeMap::new();
        for seen in self.seen.lock().expect("no panic").iter() {
            *asked.entry(seen.path.clone()).or_default() += 1;
        }
        asked
    }
}

async fn serve(
    listener: tokio::net::TcpListener,
    answers: Answers,
    seen: Arc<Mutex<Vec<Seen>>>,
    go: watch::Sender<bool>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let (answers, seen, go) = (Arc::clone(&answers), Arc::clone(&seen), go.clone());
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                answer(request, Arc::clone(&answers), Arc::clone(&seen), go.subscribe())
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    answers: Answers,
    all: Arc<Mutex<Vec<Seen>>>,
    mut go: watch::Receiver<bool>,
) -> Result<Response<BoxBody<Bytes, std::io::Error>>, Infallible> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let seen = Seen { method: request.method().clone(), path, headers: request.headers().clone() };
    let made = {
        let mut all = all.lock().expect("no panic");
        let before = all.iter().filter(|other| other.path == seen.path).count();
        all.push(seen.clone());
        answers(&seen, before)
    };
    if made.held {
        let _ = go.wait_for(|go| *go).await;
    }
    let mut response = Response::builder().status(made.status);
    for (name, value) in made.headers {
        response = response.header(name, value);
    }
    let body = if made.broken {
        let body = stream::once(std::future::ready(Ok(Frame::data(made.body))));
        let end = stream::once(async {
            // What was written is on its way first.
            tokio::time::sleep(Duration::from_millis(100)).await;
            Err(std::io::Error::other("broken off"))
        });
        BodyExt::boxed(StreamBody::new(body.chain(end)))
    } else {
        BodyExt::boxed(Full::from(made.body).map_err(|never| match never {}))
    };
    Ok(response.body(body).expect("a response"))
}
