//! What the tests stand on: one runtime for all of them, doors that can be watched, and calls in a line.

use std::path::PathBuf;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use eyot_bundle::digest::Digest;
use eyot_bundle::release::{Limits, Reuse};
use eyot_guest::artefacts::Artefacts;
use eyot_guest::{
    Call, Closed, Doors, Edge, Entering, Fetch, FetchTimeouts, Fetching, Function, Limit, Log, LogLevel, LogStream,
    Meter, Remaining, Runtime, Sender, Settings, Stores, Tree, compile,
};
use eyot_plan::body::{self, Body};
use eyot_plan::fault::{Code, Fault};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use tokio::sync::watch;

use crate::guests;

/// The key of the tests' artefacts.
const KEY: [u8; 32] = [7; 32];

pub(crate) fn settings() -> Settings {
    Settings {
        slots: 64,
        threads: 2,
        memory_bytes_max: 512 << 20,
        code_bytes_max: 1 << 30,
        queued_max: 1000,
        queue_wait_ms: 20_000,
        artefacts: compiled(),
        key: KEY,
    }
}

/// The folder of the compiled guests, beside the guests.
fn compiled() -> PathBuf {
    guests::path("hello").with_file_name("compiled")
}

/// The runtime that most tests share.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new(settings()).expect("a runtime"))
}

/// The digest of a guest, or of `example/…`, which is compiled if it was not.
pub(crate) fn code(name: &str) -> Digest {
    static COMPILING: Mutex<()> = Mutex::new(());
    let path = name.strip_prefix("example/").map_or_else(|| guests::path(name), guests::example);
    let wasm = std::fs::read(path).expect("a guest of this name");
    let digest = Digest::of(&wasm);
    let artefacts = Artefacts::new(compiled(), &KEY).expect("artefacts");
    let _one = COMPILING.lock().expect("not poisoned");
    if !artefacts.has(digest) {
        artefacts.store(digest, &compile::compile(&wasm).expect("compiled")).expect("stored");
    }
    digest
}

/// The app's share, watched.
#[derive(Default)]
pub(crate) struct Share {
    pub(crate) memory_bytes: AtomicI64,
    pub(crate) memory_bytes_max: Option<i64>,
    pub(crate) cpu_us: AtomicU64,
    /// The thread that was last charged.
    pub(crate) thread: AtomicI32,
    pub(crate) inside: Arc<watch::Sender<usize>>,
}

/// Waiting until no call is inside any more: its guest is gone and all of it is charged.
pub(crate) trait Settled {
    fn settled(&self) -> impl Future<Output = ()>;
}

impl Settled for Share {
    async fn settled(&self) {
        let mut inside = self.inside.subscribe();
        inside.wait_for(|inside| *inside == 0).await.expect("the share is here");
    }
}

/// Counts itself out.
struct Inside(Arc<watch::Sender<usize>>);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.send_modify(|inside| *inside -= 1);
    }
}

impl Limit for Share {
    fn memory(&self, bytes: u64) -> bool {
        let bytes = i64::try_from(bytes).expect("small");
        let after = self.memory_bytes.fetch_add(bytes, Ordering::SeqCst) + bytes;
        let fits = self.memory_bytes_max.is_none_or(|max| after <= max);
        if !fits {
            self.memory_bytes.fetch_sub(bytes, Ordering::SeqCst);
        }
        fits
    }

    fn memory_back(&self, bytes: u64) {
        self.memory_bytes.fetch_sub(i64::try_from(bytes).expect("small"), Ordering::SeqCst);
    }

    fn cpu(&self, us: u64) -> bool {
        self.cpu_us.fetch_add(us, Ordering::SeqCst);
        self.thread.store(rustix::thread::gettid().as_raw_nonzero().get(), Ordering::SeqCst);
        true
    }

    fn enter(&self) -> Entering {
        self.inside.send_modify(|inside| *inside += 1);
        let inside: Box<dyn Send> = Box::new(Inside(Arc::clone(&self.inside)));
        Box::pin(std::future::ready(Ok(inside)))
    }
}

/// The log, kept.
#[derive(Default)]
pub(crate) struct Lines {
    /// What was written to the standard streams.
    pub(crate) written: Mutex<Vec<(LogStream, String)>>,
    /// What was logged: level, context, text.
    pub(crate) logged: Mutex<Vec<(LogLevel, String, String)>>,
}

impl Log for Lines {
    fn line(&self, stream: LogStream, text: &str) {
        self.written.lock().expect("not poisoned").push((stream, text.to_owned()));
    }

    fn logged(&self, level: LogLevel, context: &str, text: &str) {
        self.logged.lock().expect("not poisoned").push((level, context.to_owned(), text.to_owned()));
    }
}

/// The way out, as a test says.
pub(crate) struct Out(Box<dyn Fn(Request<Body>) -> Fetching + Send + Sync>);

impl Out {
    pub(crate) fn new(out: impl Fn(Request<Body>) -> Fetching + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self(Box::new(out)))
    }

    /// Every request is answered with this text.
    pub(crate) fn text(text: &'static str) -> Arc<Self> {
        Self::new(move |_| Box::pin(async move { Ok(Response::new(body::full(text))) }))
    }
}

impl Fetch for Out {
    fn fetch(&self, request: Request<Body>, _timeouts: FetchTimeouts) -> Fetching {
        (self.0)(request)
    }
}

/// The machine of the tests may be slow and shared: only what a test is about is tight.
fn ample() -> Limits {
    Limits { cpu_us: 2_000_000, wall_ms: 60_000, ..Limits::default() }
}

fn function_of(code: Digest, limits: Limits) -> Function {
    Function {
        app: "app".parse().expect("a name"),
        name: "function".parse().expect("a name"),
        release: 1,
        code,
        limits,
        env: Vec::new(),
        config: Vec::new(),
        reuse: Reuse::default(),
    }
}

/// A function whose instances are used so often.
pub(crate) fn function(guest: &str, reuse: Reuse) -> Arc<Function> {
    Arc::new(Function { reuse, ..function_of(code(guest), ample()) })
}

/// A call in a line: `Ask::new("spin").limits(|limits| limits.cpu_us = 20_000).send().await`.
pub(crate) struct Ask {
    runtime: Runtime,
    code: Digest,
    request: Request<Body>,
    limits: Limits,
    function: Option<Arc<Function>>,
    env: Vec<(String, String)>,
    tree: Option<Arc<Tree>>,
    depth: u8,
    pub(crate) meter: Arc<Meter>,
    pub(crate) share: Arc<Share>,
    pub(crate) log: Arc<Lines>,
    config: Vec<(String, String)>,
    fetch: Arc<dyn Fetch>,
    stores: Arc<dyn Stores>,
    edge: Arc<dyn Edge>,
    witness: Box<dyn Send>,
}

impl Ask {
    pub(crate) fn new(name: &str) -> Self {
        Self::on(runtime(), name)
    }

    pub(crate) fn on(runtime: &Runtime, name: &str) -> Self {
        Self { runtime: runtime.clone(), ..Self::of(code(name)) }
    }

    /// A call of the function with this code.
    pub(crate) fn of(code: Digest) -> Self {
        let mut request = Request::new(body::empty());
        *request.uri_mut() = "https://app.example/".parse().expect("a URI");
        let limits = ample();
        Self {
            runtime: runtime().clone(),
            code,
            request,
            limits,
            function: None,
            env: Vec::new(),
            tree: None,
            depth: 0,
            meter: Arc::default(),
            share: Arc::default(),
            log: Arc::default(),
            config: Vec::new(),
            fetch: Out::text("fetched"),
            stores: Arc::new(Closed),
            edge: Arc::new(Closed),
            witness: Box::new(()),
        }
    }

    /// A call of this function, with its limits and all.
    pub(crate) fn of_function(runtime: &Runtime, function: &Arc<Function>) -> Self {
        Self { runtime: runtime.clone(), function: Some(Arc::clone(function)), ..Self::of(function.code) }
    }

    pub(crate) fn path(mut self, path: &str) -> Self {
        *self.request.uri_mut() = format!("https://app.example{path}").parse().expect("a URI");
        self
    }

    pub(crate) fn body(mut self, body: Body) -> Self {
        *self.request.method_mut() = http::Method::POST;
        *self.request.body_mut() = body;
        self
    }

    pub(crate) fn method(mut self, method: http::Method) -> Self {
        *self.request.method_mut() = method;
        self
    }

    pub(crate) fn field(mut self, name: &'static str, value: &str) -> Self {
        self.request.headers_mut().append(name, value.parse().expect("a value"));
        self
    }

    pub(crate) fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.limits);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Lent by a caller who has so much left.
    pub(crate) fn lent(mut self, most: Remaining) -> Self {
        self.tree = Some(Tree::new(most, None));
        self
    }

    /// Called by name by this one.
    pub(crate) fn called_by(mut self, sender: &Sender) -> Self {
        (self.tree, self.depth) = (Some(Arc::clone(&sender.tree)), sender.depth + 1);
        self
    }

    pub(crate) fn share(mut self, share: &Arc<Share>) -> Self {
        self.share = Arc::clone(share);
        self
    }

    pub(crate) fn fetch(mut self, fetch: Arc<dyn Fetch>) -> Self {
        self.fetch = fetch;
        self
    }

    pub(crate) fn config(mut self, name: &str, value: &str) -> Self {
        self.config.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn stores(mut self, stores: &Arc<impl Stores + 'static>) -> Self {
        self.stores = stores.clone();
        self
    }

    pub(crate) fn edge(mut self, edge: &Arc<impl Edge + 'static>) -> Self {
        self.edge = edge.clone();
        self
    }

    pub(crate) fn witness(mut self, witness: impl Send + 'static) -> Self {
        self.witness = Box::new(witness);
        self
    }

    /// The call, and the runtime for it.
    fn call(self) -> (Runtime, Call) {
        let (env, config) = (self.env, self.config);
        let own = || Function { env, config, ..function_of(self.code, self.limits) };
        let function = self.function.unwrap_or_else(|| Arc::new(own()));
        let Self { fetch, log, share, stores, edge, .. } = self;
        let doors = Doors { fetch, log, share, stores, edge, ..Doors::closed() };
        let call = Call {
            function,
            request: self.request,
            doors,
            meter: self.meter,
            request_id: "id".to_owned(),
            witness: self.witness,
            tree: self.tree,
            depth: self.depth,
        };
        (self.runtime, call)
    }

    /// The response, its body to come.
    pub(crate) async fn begin(self) -> Result<Response<Body>, Fault> {
        let (runtime, call) = self.call();
        runtime.call(call).await
    }

    /// The whole response.
    pub(crate) async fn send(self) -> Result<Answered, Fault> {
        let (parts, body) = self.begin().await?.into_parts();
        let collected = body.collect().await;
        let (bytes, trailers, broken) = match collected {
            Ok(whole) => {
                let trailers = whole.trailers().cloned();
                (whole.to_bytes(), trailers, None)
            }
            Err(fault) => (Bytes::new(), None, Some(fault)),
        };
        Ok(Answered { status: parts.status, fields: parts.headers, bytes, trailers, broken })
    }
}

/// A response, read to its end.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) fields: HeaderMap,
    pub(crate) bytes: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
    /// What broke its body off.
    pub(crate) broken: Option<Fault>,
}

impl Answered {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).expect("UTF-8")
    }
}

/// Calls `hello` again and again on the same runtime while `work` goes on; every call must succeed.
pub(crate) async fn beside_neighbours<T>(work: impl Future<Output = T>) -> T {
    let working = std::sync::atomic::AtomicBool::new(true);
    let neighbour = async {
        let mut count = 0;
        while working.load(Ordering::SeqCst) || count < 3 {
            let answer = Ask::new("hello").send().await.expect("a neighbour is answered");
            assert_eq!((answer.status, answer.text()), (StatusCode::OK, "hello\n"));
            count += 1;
        }
    };
    let work = async {
        let done = work.await;
        working.store(false, Ordering::SeqCst);
        done
    };
    tokio::join!(work, neighbour).0
}

/// How a call ended: the fault before its head, the fault in its body, or its status.
pub(crate) fn end(answered: Result<Answered, Fault>) -> End {
    match answered {
        Err(fault) => End::Instead(fault.code),
        Ok(Answered { broken: Some(fault), .. }) => End::Broken(fault.code),
        Ok(answered) => End::Good(answered.status.as_u16()),
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The body broke off.
    Broken(Code),
    /// A whole response.
    Good(u16),
    /// A fault instead of a response.
    Instead(Code),
}
