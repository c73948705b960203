//! A node's cache over a folder, and an upstream that says what a test has it say.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use eyot_cache::answer::{Answered, Behind, Cache, Site};
use eyot_cache::disk::{Disk, Options, Stats};
use eyot_cache::purges::{Hash, How, Purge, Purges, What};
use eyot_cache::room::{Breaks, Common};
use eyot_cache::rooms::Rooms;
use eyot_plan::body::{self, Body};
use eyot_plan::cache::Rules;
use eyot_plan::cache::key::Class;
use eyot_plan::fault::{Code, Fault};
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, StreamBody};

/// When all of these tests are.
pub(crate) const NOW_MS: u64 = 1_900_000_000_000;
/// What a URL has where nothing else is said.
pub(crate) const DAY: &[(&str, &str)] = &[("cache-control", "max-age=86400"), ("etag", "\"1\"")];

/// Bytes that follow from `seed`.
pub(crate) fn bytes(seed: u64, length: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

/// What the upstream says to all who ask.
#[derive(Clone, Debug)]
pub(crate) struct Up {
    pub(crate) fields: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
    /// It dies after the body.
    pub(crate) dies: bool,
    pub(crate) now_ms: u64,
    pub(crate) asked: Arc<AtomicU64>,
}

impl Up {
    pub(crate) fn new(fields: &[(&'static str, &str)], body: &Bytes) -> Self {
        let fields = fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Self { fields, body: body.clone(), trailers: None, dies: false, now_ms: NOW_MS, asked: Arc::default() }
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Behind for Up {
    type Later = Self;

    async fn ask(&mut self, request: Request<Body>) -> Result<Response<Body>, Fault> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let tag = self.fields.iter().find(|(name, _)| *name == "etag").map(|(_, tag)| tag.as_bytes());
        let is_same = tag.is_some() && request.headers().get("if-none-match").map(|value| value.as_bytes()) == tag;
        let pieces: Vec<_> = if is_same { Vec::new() } else { self.body.chunks(50_000).collect() };
        let frames = pieces.into_iter().map(|piece| Ok(http_body::Frame::data(self.body.slice_ref(piece))));
        let trailers = self.trailers.clone().filter(|_| !is_same).map(|it| Ok(http_body::Frame::trailers(it)));
        let dies = self.dies.then(|| Err(Fault::new(Code::UpstreamTimeout)));
        let frames: Vec<Result<_, Fault>> = frames.chain(trailers).chain(dies).collect();
        let mut response = Response::new(StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync());
        for (name, value) in &self.fields {
            response.headers_mut().append(*name, value.parse().expect("a value"));
        }
        if is_same {
            *response.status_mut() = http::StatusCode::NOT_MODIFIED;
        }
        Ok(response)
    }

    fn now_ms(&self) -> u64 {
        self.now_ms
    }

    fn later(&self) -> Option<Self> {
        Some(self.clone())
    }

    fn reader(&self) -> Option<Self> {
        Some(self.clone())
    }
}

/// A node's cache.
pub(crate) struct Node {
    pub(crate) rooms: Rooms,
    pub(crate) disk: Disk,
}

/// Of this many bytes of memory, over the folder.
pub(crate) async fn node(folder: &Path, memory_bytes: u64) -> Node {
    node_with(folder, memory_bytes, Options { retry: std::time::Duration::ZERO, ..Options::new(1 << 30) }, NOW_MS).await
}

/// That begins at this time.
pub(crate) async fn node_with(folder: &Path, memory_bytes: u64, options: Options, now_ms: u64) -> Node {
    let journal = folder.join("journal");
    std::fs::create_dir_all(&journal).expect("a folder");
    let purges = Purges::open(&journal, None, now_ms).expect("a journal").purges;
    let disk = Disk::open(folder.join("disk"), options).await.expect("a disk");
    while disk.stats().recovering {
        tokio::task::yield_now().await;
    }
    let rooms = Rooms::new(memory_bytes, Common::new(Arc::new(purges)));
    rooms.common().set_disk(disk.clone());
    Node { rooms, disk }
}

/// What came of a request.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// What came of the body, and whether it ended well.
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
    pub(crate) end: Result<(), Code>,
}

impl Got {
    /// Whether it is this, whole.
    pub(crate) fn is(&self, body: &[u8]) -> bool {
        self.end.is_ok() && self.body == body
    }
}

pub(crate) fn request(method: Method, path: &str, fields: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::new(body::empty());
    *request.method_mut() = method;
    *request.uri_mut() = format!("https://a.test{path}").parse().expect("a URI");
    for (name, value) in fields {
        let name = http::HeaderName::from_bytes(name.as_bytes()).expect("a name");
        request.headers_mut().append(name, value.parse().expect("a value"));
    }
    request
}

/// All of a body.
pub(crate) async fn read(mut body: Body) -> (Vec<u8>, Option<HeaderMap>, Result<(), Code>) {
    let (mut out, mut trailers) = (Vec::new(), None);
    while let Some(frame) = body.frame().await {
        match frame.map(http_body::Frame::into_data) {
            Ok(Ok(bytes)) => out.extend_from_slice(&bytes),
            Ok(Err(frame)) => trailers = frame.into_trailers().ok(),
            Err(fault) => return (out, trailers, Err(fault.code)),
        }
    }
    (out, trailers, Ok(()))
}

impl Node {
    pub(crate) async fn answer(&self, app: &str, up: &Up, request: Request<Body>) -> Answered {
        self.answer_by(Rules::default(), app, up, request).await
    }

    pub(crate) async fn answer_by(&self, rules: Rules, app: &str, up: &Up, request: Request<Body>) -> Answered {
        let (environment, maker) = ("production".into(), "".into());
        let site = Site { app: app.into(), environment, class: Class::Route, maker, rules, breaks: Breaks::default() };
        let public = request.uri().clone();
        let cache =
            Cache { room: self.rooms.of(app, 1.0), site: Arc::new(site), public, tells: false, not_before_ms: 0 };
        cache.answer(&mut up.clone(), request).await
    }

    pub(crate) async fn get_of(&self, app: &str, up: &Up, path: &str, fields: &[(&str, &str)]) -> Got {
        let answered = self.answer(app, up, request(Method::GET, path, fields)).await;
        let (parts, body) = answered.result.expect("an answer").into_parts();
        let (body, trailers, end) = read(body).await;
        Got { status: parts.status.as_u16(), headers: parts.headers, body, trailers, end }
    }

    pub(crate) async fn get(&self, up: &Up, path: &str) -> Got {
        self.get_of("shop", up, path, &[]).await
    }

    /// Waits until the disk is as it should be.
    pub(crate) async fn until(&self, is: impl Fn(Stats) -> bool) {
        while !is(self.disk.stats()) {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn purge(&self, what: What, how: How) {
        let purge = Purge { what, how };
        self.rooms.common().purges.apply(&[("shop", purge)], None).expect("noted");
    }

    /// As a process that ends well.
    pub(crate) async fn close(self) {
        self.rooms.common().take_disk().expect("a disk").close().await;
        self.rooms.common().purges.let_go();
    }
}

pub(crate) fn url(path: &str) -> What {
    What::Named(Hash::url("shop", &format!("https://a.test{path}").parse().expect("a URI")))
}

/// The files of objects.
pub(crate) fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        match entry.file_type().expect("a type").is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}
