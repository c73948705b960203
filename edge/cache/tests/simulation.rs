//! A cache, its clients and a flaky upstream, all of it drawn from a seed and at a time of its own. `EYOT_SEED` runs one.

#[cfg(test)]
#[path = "../../../tests/harness/size.rs"]
mod size;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use eyot_cache::answer::{Behind, Cache, Site};
use eyot_cache::purges::{Hash, How, Purge, Purges, What};
use eyot_cache::room::{Breaks, Common};
use eyot_cache::rooms::Rooms;
use eyot_plan::body::{self, Body};
use eyot_plan::cache::Rules;
use eyot_plan::cache::key::Class;
use eyot_plan::fault::{Code, Fault};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, StreamBody};
use tokio::time::{Instant, sleep, timeout};

const BEGAN_MS: u64 = 1_900_000_000_000;
const APPS: [&str; 2] = ["news", "shop"];
const KINDS: [&str; 3] = ["a", "b", "c"];
/// The length of what is too large for a room to keep in one piece.
const LARGE: usize = 90_000;
/// How long it may take until a slice is asked for and there, after others have given up.
const SLICE_MS: u64 = 10_000;
/// As much as two rooms need to keep what is large in slices.
const MEMORY_BYTES: u64 = 2 << 20;

/// What is drawn.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn upto(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) % sides
    }

    /// Once in so many times.
    fn once_in(&mut self, times: u64) -> bool {
        self.upto(times) == 0
    }
}

/// An answer that the upstream gave, by its number.
#[derive(Clone, Debug)]
struct Given {
    app: &'static str,
    path: String,
    kind: Option<&'static str>,
    /// When it was asked for, in the order of all that happened.
    asked: u64,
    answered_ms: u64,
    /// Until what age it may be used, however its upstream does.
    most_ms: u64,
    body: Bytes,
    /// How long it said that its body is, if it said that.
    said: Option<usize>,
}

/// Something after which what was asked for before may not answer.
#[derive(Debug)]
struct Ended {
    app: &'static str,
    /// None: all.
    path: Option<String>,
    at: u64,
}

#[derive(Debug)]
struct World {
    dice: Dice,
    /// Every answer may be kept, nothing is purged, and nobody leaves.
    calm: bool,
    /// Counts all that happens.
    events: u64,
    given: Vec<Given>,
    ended: Vec<Ended>,
    /// What is asked for now.
    flights: HashMap<(&'static str, String), u64>,
    versions: HashMap<(&'static str, String), u64>,
    wrong: Vec<String>,
    /// Slices that were given.
    slices: u64,
    /// The validator that a client saw last.
    tags: HashMap<(&'static str, String), String>,
    /// Parts of whole answers that clients were given.
    parts: u64,
    began: Instant,
}

impl World {
    fn event(&mut self) -> u64 {
        self.events += 1;
        self.events
    }

    fn now_ms(&self) -> u64 {
        BEGAN_MS + u64::try_from(self.began.elapsed().as_millis()).expect("not that long")
    }
}

#[derive(Clone, Debug)]
struct Shared(Arc<Mutex<World>>);

impl Shared {
    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn upto(&self, sides: u64) -> u64 {
        self.world().dice.upto(sides)
    }
}

/// A request at the upstream, until its body has ended or nobody wants it.
struct Flight(Shared, (&'static str, String));

impl Flight {
    fn begin(shared: &Shared, key: (&'static str, String)) -> Self {
        let mut world = shared.world();
        let calm = world.calm;
        let flights = world.flights.entry(key.clone()).or_default();
        *flights += 1;
        if calm && *flights > 1 {
            let many = format!("{flights} flights of {key:?}");
            world.wrong.push(many);
        }
        drop(world);
        Self(shared.clone(), key)
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        *self.0.world().flights.get_mut(&self.1).expect("begun") -= 1;
    }
}

/// The upstream of an app.
#[derive(Clone, Debug)]
struct Up {
    shared: Shared,
    app: &'static str,
}

/// What a version of a resource has as its body.
fn body_of(app: &str, path: &str, kind: Option<&str>, version: u64, length: usize) -> Bytes {
    let text = format!("{app}{path}?{kind:?}#{version};");
    text.bytes().cycle().take(length).collect()
}

/// The bytes of a whole of this length that are asked for, where it is one part of it (RFC 9110, section 14.1.2).
fn bytes_of(range: &str, length: usize) -> Option<(usize, usize)> {
    let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
    let last = length.checked_sub(1)?;
    let (from, to) = match (from, to) {
        ("", most) => (length.saturating_sub(most.parse().ok().filter(|it| *it > 0)?), last),
        (from, "") => (from.parse().ok()?, last),
        (from, to) => (from.parse().ok()?, to.parse::<usize>().ok()?.min(last)),
    };
    (from <= to).then_some((from, to))
}

/// The version, the length and the kind that a validator speaks of.
fn tag_of(tag: &str) -> Option<(u64, usize, Option<&'static str>)> {
    let mut said = tag.trim_matches('"').splitn(3, '-');
    let (version, length) = (said.next()?.parse().ok()?, said.next()?.parse().ok()?);
    let kind = said.next()?;
    Some((version, length, KINDS.into_iter().find(|it| *it == kind)))
}

/// A slice of a version, where one is asked for by its validator, which says all of it; or of a newer one, by an upstream
/// that heeds no validators.
fn slice(app: &str, request: &Request<Body>, calm: bool, newer: u64) -> Option<(HeaderMap, Bytes)> {
    let field = |name: &str| request.headers().get(name)?.to_str().ok();
    let (version, length, kind) = tag_of(field("if-range")?)?;
    if kind.is_some_and(|kind| field("x-kind") != Some(kind)) {
        return None;
    }
    let version = version + newer;
    let (from, to) = bytes_of(field("range")?, length)?;
    let body = body_of(app, request.uri().path(), kind, version, length).slice(from..=to);
    let mut headers = HeaderMap::new();
    let (range, tag) =
        (format!("bytes {from}-{to}/{length}"), format!("\"{version}-{length}-{}\"", kind.unwrap_or_default()));
    for (name, value) in [("cache-control", "max-age=100".to_owned()), ("content-range", range), ("etag", tag)] {
        headers.insert(name, value.parse().expect("a value"));
    }
    (!calm).then_some((headers, body))
}

/// The answer with a slice; or one that breaks off, or is too short.
fn spoil((headers, body): (HeaderMap, Bytes), how: Option<u64>) -> Response<Body> {
    let most = if how.is_some() { body.len() / 2 } else { body.len() };
    let pieces: Vec<_> =
        body[..most].chunks(20_000).map(|piece| Ok(http_body::Frame::data(body.slice_ref(piece)))).collect();
    let end = (how == Some(0)).then(|| Err(Fault::new(Code::UpstreamUnreachable)));
    let frames = futures_util::stream::iter(pieces.into_iter().chain(end));
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    (*response.status_mut(), *response.headers_mut()) = (StatusCode::PARTIAL_CONTENT, headers);
    response
}

impl Behind for Up {
    type Later = Self;

    async fn ask(&mut self, request: Request<Body>) -> Result<Response<Body>, Fault> {
        let path = request.uri().path().to_owned();
        let _unsent = (request.method() == Method::GET).then(|| Flight::begin(&self.shared, (self.app, path.clone())));
        let asked = self.shared.world().event();
        let slow_ms = [0, 1, 30, 3000][usize::try_from(self.shared.upto(4)).expect("small")];
        sleep(Duration::from_millis(slow_ms)).await;
        let unreachable = || Fault::new(Code::UpstreamUnreachable);
        let mut world = self.shared.world();
        let calm = world.calm;
        let mut response = Response::new(body::empty());
        if !calm && world.dice.once_in(8) {
            return Err(unreachable());
        }
        if !calm && world.dice.once_in(8) {
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            return Ok(response);
        }
        if request.method() != Method::GET {
            return Ok(response);
        }
        let newer = u64::from(world.dice.once_in(6));
        if let Some(slice) = slice(self.app, &request, calm, newer).filter(|_| !world.dice.once_in(6)) {
            let spoiled = world.dice.once_in(6).then(|| world.dice.upto(2));
            world.slices += 1;
            return Ok(spoil(slice, spoiled));
        }
        // Things change.
        let changes = world.dice.once_in(3);
        let version = world.versions.entry((self.app, path.clone())).or_default();
        *version += u64::from(changes);
        let version = *version;
        let varies = !calm && path.ends_with('1');
        let asked_kind = request.headers().get("x-kind").and_then(|value| value.to_str().ok());
        let kind = KINDS.into_iter().find(|kind| varies && Some(*kind) == asked_kind);
        let (fresh, later, error) = match (calm, world.dice.upto(4)) {
            (true, _) | (_, 0) => (100_000, 0, 0),
            (_, 1) => (2, 5, 10),
            (_, 2) => (0, 0, 20),
            (_, _) => (10, 3, 0),
        };
        let no_store = !calm && world.dice.once_in(8);
        let strict = world.dice.once_in(5);
        let most_ms = if strict { fresh } else { fresh + later.max(error) } * 1000;
        let large = !calm && world.dice.once_in(10);
        let length = usize::try_from(world.dice.upto(3000)).expect("small");
        let length = if large { LARGE } else { length };
        // The length is the version's own, so that a 304 is true.
        let length =
            if large { length } else { length - length % 1000 + usize::try_from(version % 1000).expect("small") };
        let tag = format!("\"{version}-{length}-{}\"", kind.unwrap_or_default());
        let mut body = body_of(self.app, &path, kind, version, length);
        let is_same = request.headers().get("if-none-match").is_some_and(|value| value.as_bytes() == tag.as_bytes());
        let number = world.given.len();
        let headers = response.headers_mut();
        let strictly = if strict { ", must-revalidate" } else { "" };
        let stored = if no_store { "no-store, " } else { "" };
        let control =
            format!("{stored}max-age={fresh}, stale-while-revalidate={later}, stale-if-error={error}{strictly}");
        for (name, value) in [("cache-control", control), ("x-number", number.to_string()), ("etag", tag)] {
            headers.insert(name, value.parse().expect("a value"));
        }
        if varies {
            headers.insert("vary", "x-kind".parse().expect("a value"));
        }
        if !is_same {
            headers.insert("x-body", number.to_string().parse().expect("a value"));
        }
        headers.insert("surrogate-key", format!("k{}", &path[1..]).parse().expect("a value"));
        let answered_ms = world.now_ms();
        let (app, whole) = (self.app, body.clone());
        world.given.push(Given { app, path: path.clone(), kind, asked, answered_ms, most_ms, body: whole, said: None });
        if is_same {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return Ok(response);
        }
        let dies = !calm && world.dice.once_in(8);
        let lies = !calm && world.dice.once_in(10);
        if large {
            response.headers_mut().insert("accept-ranges", "bytes".parse().expect("a value"));
        }
        let said = (large || lies || world.dice.once_in(2)).then(|| body.len() + usize::from(lies));
        world.given[number].said = said;
        let wanted = request.headers().get("range").filter(|_| !request.headers().contains_key("if-range"));
        let wanted = wanted.and_then(|it| bytes_of(it.to_str().ok()?, body.len())).filter(|_| world.dice.once_in(2));
        if let Some((from, to)) = wanted.filter(|_| !lies) {
            let range = format!("bytes {from}-{to}/{}", body.len());
            response.headers_mut().insert("content-range", range.parse().expect("a value"));
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            body = body.slice(from..=to);
        } else if let Some(said) = said {
            response.headers_mut().insert("content-length", said.to_string().parse().expect("a value"));
        }
        if dies {
            body.truncate(body.len() / 2);
        }
        let pause = Duration::from_millis([0, 0, 20, 900][usize::try_from(world.dice.upto(4)).expect("small")]);
        drop(world);
        let flight = Flight::begin_again(_unsent, &self.shared, (self.app, path));
        let pieces: Vec<_> = body.chunks(20_000).map(|piece| Ok(body.slice_ref(piece))).collect();
        let pieces = pieces.into_iter().chain(dies.then(|| Err(unreachable())));
        let frames = futures_util::stream::unfold((pieces, flight), move |(mut pieces, flight)| async move {
            sleep(pause).await;
            let piece: Result<Bytes, Fault> = pieces.next()?;
            Some((piece.map(http_body::Frame::data), (pieces, flight)))
        });
        Ok(response.map(|_| StreamBody::new(frames).boxed_unsync()))
    }

    fn now_ms(&self) -> u64 {
        self.shared.world().now_ms()
    }

    fn later(&self) -> Option<Self> {
        Some(self.clone())
    }

    fn reader(&self) -> Option<Self> {
        Some(self.clone())
    }
}

impl Flight {
    /// The flight goes on with its body.
    fn begin_again(unsent: Option<Self>, shared: &Shared, key: (&'static str, String)) -> Self {
        unsent.unwrap_or_else(|| Self::begin(shared, key))
    }
}

fn uri(path: &str) -> Uri {
    format!("https://a.test{path}").parse().expect("a URI")
}

#[derive(Clone)]
struct Client {
    shared: Shared,
    rooms: Arc<Rooms>,
}

impl Client {
    async fn run(self) {
        for _ in 0..=self.shared.upto(3) {
            sleep(Duration::from_millis(self.shared.upto(20) * self.shared.upto(400))).await;
            let app = APPS[usize::try_from(self.shared.upto(2)).expect("small")];
            let path = format!("/{}", self.shared.upto(3));
            let kind = KINDS[usize::try_from(self.shared.upto(3)).expect("small")];
            let calm = self.shared.world().calm;
            match self.shared.upto(12) {
                0 if !calm => self.purge(app, &path),
                1 if !calm => self.change(app, path).await,
                2 if !calm => {
                    let patience = Duration::from_millis(self.shared.upto(2000));
                    let _ = timeout(patience, self.read(app, &path, kind)).await;
                }
                _ => self.read(app, &path, kind).await,
            }
            let bytes: u64 = self.rooms.stats().iter().map(|it| it.1.bytes).sum();
            if bytes > MEMORY_BYTES {
                self.wrong(format!("{bytes} bytes of {MEMORY_BYTES} in memory"));
            }
            self.rooms.balance();
        }
    }

    fn wrong(&self, what: String) {
        self.shared.world().wrong.push(what);
    }

    fn purge(&self, app: &'static str, path: &str) {
        let how = if self.shared.upto(3) == 0 { How::Soft } else { How::Hard };
        let (what, named) = match self.shared.upto(3) {
            0 => (What::App, None),
            1 => (What::Named(Hash::url(app, &uri(path))), Some(path.to_owned())),
            _ => (What::Named(Hash::key(app, &format!("k{}", &path[1..]))), Some(path.to_owned())),
        };
        self.rooms.common().purges.apply(&[(app, Purge { what, how })], None).expect("in memory");
        if how == How::Hard {
            let at = self.shared.world().event();
            self.shared.world().ended.push(Ended { app, path: named, at });
        }
    }

    async fn ask(
        &self,
        app: &'static str,
        method: Method,
        path: &str,
        fields: &[(&'static str, String)],
    ) -> Result<Response<Body>, Fault> {
        let mut request = Request::new(body::empty());
        (*request.method_mut(), *request.uri_mut()) = (method, uri(path));
        for (name, value) in fields {
            request.headers_mut().insert(*name, value.parse().expect("a value"));
        }
        let (environment, maker) = ("production".into(), "".into());
        let site = Site {
            app: app.into(),
            environment,
            class: Class::Route,
            maker,
            rules: Rules::default(),
            breaks: Breaks::default(),
        };
        let cache = Cache {
            room: self.rooms.of(app, 1.0),
            site: Arc::new(site),
            public: uri(path),
            tells: false,
            not_before_ms: 0,
        };
        cache.answer(&mut Up { shared: self.shared.clone(), app }, request).await.result
    }

    async fn change(&self, app: &'static str, path: String) {
        if self.ask(app, Method::POST, &path, &[]).await.is_ok_and(|response| response.status() == StatusCode::OK) {
            let at = self.shared.world().event();
            self.shared.world().ended.push(Ended { app, path: Some(path), at });
        }
    }

    /// The fields of a request, of which some are for a part.
    fn fields(&self, app: &'static str, path: &str, kind: &str) -> Vec<(&'static str, String)> {
        let mut fields = vec![("x-kind", kind.to_owned())];
        let mut world = self.shared.world();
        if world.dice.once_in(4) {
            let most = [100, 3000, 100_000][usize::try_from(world.dice.upto(3)).expect("small")];
            let (from, more) = (world.dice.upto(most), world.dice.upto(most));
            let range = match world.dice.upto(5) {
                0 => format!("bytes={from}-"),
                1 => format!("bytes=-{more}"),
                2 => format!("bytes={from}-{},{more}-", from + 1),
                _ => format!("bytes={from}-{}", from + more),
            };
            fields.push(("range", range));
            let tag = world.tags.get(&(app, path.to_owned())).cloned();
            fields.extend(tag.filter(|_| world.dice.once_in(3)).map(|tag| ("if-range", tag)));
        }
        fields
    }

    async fn read(&self, app: &'static str, path: &str, kind: &'static str) {
        let begun = self.shared.world().event();
        let fields = self.fields(app, path, kind);
        let Ok(response) = self.ask(app, Method::GET, path, &fields).await else { return };
        let (parts, mut body) = response.into_parts();
        if !matches!(parts.status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
            return;
        }
        let given = match parts.headers.contains_key("x-number") || parts.status == StatusCode::OK {
            true => self.check_head(&parts.headers, (app, path, kind), begun),
            false => None,
        };
        if let Some(tag) = parts.headers.get("etag").and_then(|tag| tag.to_str().ok()) {
            self.shared.world().tags.insert((app, path.to_owned()), tag.to_owned());
        }
        // Which of these bytes they are and how many it says itself, where its upstream gave it as it is.
        let may_be_short = given.is_none();
        let wanted = match parts.status {
            StatusCode::OK => given.map(|given| given.body),
            _ => self.check_part(&parts.headers, (app, path, kind), &fields, given.as_ref()),
        };
        let mut got = Vec::new();
        let leaves = !self.shared.world().calm && self.shared.upto(10) == 0;
        let end = loop {
            match body.frame().await {
                None => break Ok(()),
                Some(Err(fault)) => break Err(fault),
                Some(Ok(frame)) => got.extend_from_slice(&frame.into_data().unwrap_or_default()),
            }
            if leaves {
                return;
            }
        };
        let Some(wanted) = wanted else { return };
        let is_right = if end.is_ok() && !may_be_short { got == wanted } else { wanted.starts_with(&got) };
        if !is_right {
            let (bytes, of) = (got.len(), wanted.len());
            self.wrong(format!("{app}{path} {fields:?}: {bytes} of {of} bytes are another body, or ended {end:?}"));
        }
    }

    /// The bytes of a part, as its validator says; `given`: whose part it is, where its head says so.
    fn check_part(
        &self,
        headers: &HeaderMap,
        asked: (&'static str, &str, &str),
        fields: &[(&'static str, String)],
        given: Option<&Given>,
    ) -> Option<Bytes> {
        let field = |name: &str| headers.get(name)?.to_str().ok();
        let sent = |name: &str| fields.iter().find(|it| it.0 == name).map(|it| it.1.as_str());
        let part = || {
            let tag = field("etag")?;
            let (version, length, kind) = tag_of(tag)?;
            let (range, total) = field("content-range")?.strip_prefix("bytes ")?.split_once('/')?;
            let (from, to) = range.split_once('-')?;
            let (from, to): (usize, usize) = (from.parse().ok()?, to.parse().ok()?);
            let total = total.parse().ok()?;
            let is_total = total == length || given.is_some_and(|it| it.said == Some(total));
            let is_kind = kind.is_none_or(|it| it == asked.2);
            let is_asked = bytes_of(sent("range")?, total) == Some((from, to));
            // One that its upstream gave as it is has no head of ours.
            let is_same = given.is_none() || sent("if-range").is_none_or(|it| it == tag);
            let whole = body_of(asked.0, asked.1, kind, version, length);
            let is_right = is_total && is_kind && is_asked && is_same && given.is_none_or(|it| it.body == whole);
            is_right.then(|| whole.slice(from.min(length)..(to + 1).min(length)))
        };
        let part = part();
        match &part {
            Some(_) => self.shared.world().parts += 1,
            None => {
                self.wrong(format!("{asked:?} {fields:?} is answered with a part that it did not ask for: {headers:?}"))
            }
        }
        part
    }

    /// What was given whose body this answer has.
    fn check_head(&self, headers: &HeaderMap, asked: (&'static str, &str, &str), begun: u64) -> Option<Given> {
        let world = self.shared.world();
        let number = |name: &str| headers.get(name)?.to_str().ok()?.parse::<usize>().ok();
        let given = number("x-number").and_then(|it| world.given.get(it)).cloned();
        let bodied = number("x-body").and_then(|it| world.given.get(it)).cloned();
        let now_ms = world.now_ms();
        let mut wrong = Vec::new();
        let Some((given, bodied)) = given.zip(bodied) else {
            drop(world);
            self.wrong(format!("{asked:?}: an answer that nobody gave: {headers:?}"));
            return None;
        };
        let (app, path, kind) = asked;
        for it in [&given, &bodied] {
            if it.app != app || it.path != path || it.kind.is_some_and(|given| given != kind) {
                wrong.push(format!("{asked:?} is answered with {it:?}"));
            }
        }
        // What was just asked for is given when the first slice of it is there.
        let slice_ms = if given.body.len() == LARGE { SLICE_MS } else { 0 };
        if now_ms - given.answered_ms > given.most_ms + slice_ms {
            wrong.push(format!("{asked:?}: {} ms old of {}", now_ms - given.answered_ms, given.most_ms));
        }
        let is_of = |ended: &&Ended| ended.app == app && ended.path.as_ref().is_none_or(|it| it == path);
        let ended = world.ended.iter().filter(is_of).find(|ended| given.asked < ended.at && ended.at < begun);
        if let Some(ended) = ended {
            wrong.push(format!("{asked:?} begun at {begun} is answered with what {ended:?} ended: {}", given.asked));
        }
        drop(world);
        wrong.into_iter().for_each(|it| self.wrong(it));
        Some(bodied)
    }
}

async fn run(seed: u64) -> (Vec<String>, [u64; 3]) {
    let dice = Dice::new(seed);
    let (given, ended, wrong) = (Vec::new(), Vec::new(), Vec::new());
    let (flights, versions, tags) = (HashMap::new(), HashMap::new(), HashMap::new());
    let (calm, began) = (seed.is_multiple_of(4), Instant::now());
    let (events, slices, parts) = (0, 0, 0);
    let world = World { dice, calm, events, given, ended, flights, versions, wrong, slices, tags, parts, began };
    let shared = Shared(Arc::new(Mutex::new(world)));
    let purges = Arc::new(Purges::in_memory(None, BEGAN_MS));
    let rooms = Arc::new(Rooms::new(MEMORY_BYTES, Common::new(purges)));
    let clients = 3 + shared.upto(25);
    let clients: Vec<_> = (0..clients)
        .map(|_| tokio::spawn(Client { shared: shared.clone(), rooms: Arc::clone(&rooms) }.run()))
        .collect();
    for client in clients {
        if let Err(error) = client.await {
            shared.world().wrong.push(error.to_string());
        }
    }
    let mut world = shared.world();
    (std::mem::take(&mut world.wrong), [world.given.len() as u64, world.slices, world.parts])
}

/// How many answers, slices and parts of answers were given.
fn simulate(seed: u64) -> [u64; 3] {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let (wrong, given) = runtime.expect("a runtime").block_on(run(seed));
    assert!(wrong.is_empty(), "EYOT_SEED={seed}:\n{}", wrong.join("\n"));
    given
}

#[test]
fn whatever_clients_and_upstreams_do_answers_are_whole_their_own_and_no_older_than_they_may_be() {
    if let Some(seed) = std::env::var("EYOT_SEED").ok().and_then(|seed| seed.parse().ok()) {
        simulate(seed);
        return;
    }
    let seeds = size::size().simulations;
    let all = (0..seeds).map(simulate).fold([0; 3], |all, one| [all[0] + one[0], all[1] + one[1], all[2] + one[2]]);
    let [answers, slices, parts] = all;
    assert!(answers > seeds * 5 && slices > seeds / 10 && parts > seeds, "too little happens: {all:?}");
    println!("{answers} answers, {slices} slices and {parts} parts of answers were given");
}
