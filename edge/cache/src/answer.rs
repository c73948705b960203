//! From a request to its answer: what is kept answers; what is not is asked for, once for all who want it; what may be kept
//! of that is. Each verdict on the way is `eyot_plan::cache`'s.

mod ask;
mod reply;
mod slices;

use std::sync::{Arc, OnceLock};

use eyot_plan::body::{self, Body};
use eyot_plan::cache::control::Wish;
use eyot_plan::cache::key::{self, Class, Place};
use eyot_plan::cache::life::{Failure, Use};
use eyot_plan::cache::status::{Forward, Status};
use eyot_plan::cache::{Asking, Rules, answer, invalid, tags, update};
use eyot_plan::fault::{Code, Fault, Side};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body::Body as _;

use crate::fill::Reader;
use crate::flight::Outcome;
use crate::object::Object;
use crate::purges::{Hash, Verdict};
use crate::room::{Ask, Breaks, Found, Room, Way};
use ask::Fetched;
use slices::Unsliced;

/// How often a request waits for others that give up before there is an answer.
const WAITS_MAX: usize = 3;

/// Who is asked for what is not kept, and what else only the line knows.
pub trait Behind: Send {
    /// The same for a request that nobody waits for.
    type Later: Behind + 'static;

    /// Asks. What comes back is ready to be sent and to be kept.
    fn ask(&mut self, request: Request<Body>) -> impl Future<Output = Result<Response<Body>, Fault>> + Send;

    /// The clock, in milliseconds since 1970.
    fn now_ms(&self) -> u64;

    /// Who asks anew for what answers meanwhile; none: too much is asked for so, or nobody can.
    fn later(&self) -> Option<Self::Later>;

    /// Who asks for the slices of an answer while it is read; none, as for [`Self::later`].
    fn reader(&self) -> Option<Self::Later>;
}

/// What who made an answer says of its keeping beside its fields: among the answer's extensions, which no client sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// For how long it is kept, whatever its fields say, in milliseconds; 0: not at all.
    pub ttl_ms: Option<u64>,
    /// Surrogate keys, beside those of its fields.
    pub keys: Vec<String>,
    /// What it is purged by, as another cache of the fleet knows it.
    pub hashes: Vec<Hash>,
    /// Whether it comes from such a cache, so that it is as old as it says, also where the route has a time of its own.
    pub aged: bool,
}

/// Whose answers are kept together, and by which rules.
#[derive(Clone, Debug)]
pub struct Site {
    /// The app.
    pub app: Box<str>,
    /// `production`, or a preview.
    pub environment: Box<str>,
    /// What kind of thing is kept.
    pub class: Class,
    /// What makes the answers: nothing for an upstream, the digest of a function.
    pub maker: Box<str>,
    /// The rules.
    pub rules: Rules,
    /// Who is told of bodies that break off.
    pub breaks: Breaks,
}

impl Site {
    fn place(&self) -> Place<'_> {
        Place { app: &self.app, environment: &self.environment, class: self.class, maker: &self.maker }
    }

    /// The URL in the form in which it is told from others here.
    pub fn form(&self, uri: &Uri) -> Uri {
        if self.rules.key.query == key::Query::All && !self.rules.key.sort {
            return uri.clone();
        }
        key::url(uri, &self.rules.key).parse().unwrap_or_else(|_| uri.clone())
    }

    /// What a purge of `uri` names here, beside the URL itself.
    pub fn named(&self, uri: &Uri) -> Hash {
        Hash::url(&self.app, &self.form(uri))
    }

    /// The key of a request for `uri` with these fields.
    pub fn id(&self, uri: &Uri, headers: &HeaderMap) -> u128 {
        key::id(&key::bytes(&self.place(), uri, headers, &self.rules.key))
    }
}

/// How a request was answered.
#[derive(Debug)]
pub struct Answered {
    /// The answer, or the fault there was instead.
    pub result: Result<Response<Body>, Fault>,
    /// What the cache had to do with it.
    pub status: Status,
}

impl Answered {
    fn new(result: Result<Response<Body>, Fault>, status: Status) -> Self {
        Self { result, status }
    }
}

/// The cache as one request finds it.
#[derive(Clone, Debug)]
pub struct Cache {
    /// The room of the request's app.
    pub room: Arc<Room>,
    /// By which rules.
    pub site: Arc<Site>,
    /// The URL that the client asked for, which people purge; the request's own may be another by now.
    pub public: Uri,
    /// Whether another cache of the fleet asks, which is told what answers are purged by: [`Hints::hashes`].
    pub tells: bool,
    /// What was asked for before this is asked for anew: that cache was purged then of something that this one may have.
    pub not_before_ms: u64,
}

impl Cache {
    /// Answers `request`, whose URI is absolute and in its one form.
    pub async fn answer<B: Behind>(self, behind: &mut B, request: Request<Body>) -> Answered {
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        if !is_read {
            return self.change(behind, request).await;
        }
        // What a body says would have to be in the key (RFC 9110, section 9.3.1: it has no meaning, but some give it one).
        let disguised = key::is_disguised(request.headers());
        if disguised || answer::is_for_upstream(request.headers()) || !request.body().is_end_stream() {
            let status = Status { forward: Some(Forward::Request), ..Status::default() };
            return Answered::new(behind.ask(request).await.map(|response| self.untagged(response)), status);
        }
        Want::new(self, request.into_parts().0).get(behind).await
    }

    /// Passes on a request that no cache answers, and ends what it has changed (RFC 9111, section 4.4).
    async fn change<B: Behind>(self, behind: &mut B, request: Request<Body>) -> Answered {
        let mut head = Request::new(());
        (*head.method_mut(), *head.uri_mut()) = (request.method().clone(), request.uri().clone());
        head.headers_mut().clone_from(request.headers());
        let want = Want::new(self, head.into_parts().0);
        let asked_ms = behind.now_ms();
        let begun = want.cache.room.now(asked_ms);
        let mut status = Status { forward: Some(Forward::Method), ..Status::default() };
        let response = match behind.ask(request).await {
            Ok(response) => response,
            Err(fault) => return Answered::new(Err(fault), status),
        };
        let (room, site) = (&want.cache.room, &want.cache.site);
        if !invalid::invalidates(&want.parts.method, response.status()) {
            return Answered::new(Ok(want.cache.untagged(response)), status);
        }
        let also = invalid::also(&want.parts.uri, response.headers());
        for uri in std::iter::once(&want.parts.uri).chain(&also) {
            room.end(site.id(uri, &want.parts.headers), site.named(uri), behind.now_ms());
        }
        // Purged while it was asked for, it is not kept; what it has changed was ended before.
        let answered_ms = behind.now_ms();
        let unpurged = room.now(answered_ms).0.mark == begun.0.mark;
        let leading = unpurged.then(|| room.alone(&want.ask(), answered_ms));
        match want.keep(leading, response, (asked_ms, answered_ms)) {
            Fetched::Object { object, reader, .. } => {
                status.stored = true;
                let gone = || Fault::new(Code::InternalError).because("a body that nobody reads");
                let body = reader.map(Reader::body).ok_or_else(gone);
                Answered::new(body.map(|body| reply::whole(&object, body)), status)
            }
            Fetched::Passed { response, .. } => Answered::new(Ok(response), status),
            Fetched::Failed(fault) => Answered::new(Err(fault), status),
        }
    }

    /// Without the keys that it would be purged by: they are no client's business.
    fn untagged(&self, mut response: Response<Body>) -> Response<Body> {
        let tags = tags::take(response.headers_mut());
        self.told(response, || tags.iter().map(|tag| Hash::key(&self.site.app, tag)).collect())
    }

    /// `response`, with what it is purged by where another cache asks.
    fn told(&self, mut response: Response<Body>, hashes: impl FnOnce() -> Vec<Hash>) -> Response<Body> {
        if self.tells {
            response.extensions_mut().insert(Hints { hashes: hashes(), ..Hints::default() });
        }
        response
    }
}

/// What a request wants of the cache.
#[derive(Clone, Debug)]
struct Want {
    cache: Cache,
    parts: Parts,
    id: u128,
    /// What it is purged by, and ended by; known once somebody needs it, and who is given what is kept does not.
    url: OnceLock<Hash>,
    wish: Wish,
}

impl Want {
    fn new(cache: Cache, parts: Parts) -> Self {
        let site = &cache.site;
        let (id, url) = (site.id(&parts.uri, &parts.headers), OnceLock::new());
        let wish = Wish::of(&parts.headers);
        Self { cache, parts, id, url, wish }
    }

    fn url(&self) -> Hash {
        *self.url.get_or_init(|| self.cache.site.named(&self.parts.uri))
    }

    /// What it is purged by beside its URL as it is told from others: that as it was asked for, by the client too.
    fn also(&self) -> Vec<Hash> {
        let Cache { site, public, .. } = &self.cache;
        let mut also = Vec::new();
        for uri in [&self.parts.uri, public] {
            for other in [Hash::url(&site.app, uri), site.named(uri)] {
                if other != self.url() && !also.contains(&other) {
                    also.push(other);
                }
            }
        }
        also
    }

    fn ask(&self) -> Ask<'_> {
        Ask { id: self.id, url: self.url(), request: &self.parts.headers }
    }

    /// What is sent of `object`. None: its body was let go of.
    fn reply(&self, object: &Object, now_ms: u64) -> Option<Response<Body>> {
        let response = reply::of(object, &self.parts, now_ms)?;
        Some(self.cache.told(response, || object.keys.to_vec()))
    }

    fn asking(&self) -> Asking<'_> {
        Asking { method: &self.parts.method, uri: &self.parts.uri, headers: &self.parts.headers }
    }

    /// What the request takes, as far as the route heeds that.
    fn wish(&self) -> Option<&Wish> {
        Some(&self.wish).filter(|_| self.cache.site.rules.heeds_requests)
    }

    /// What is kept, in memory or on disk.
    async fn find(&self, now_ms: u64) -> Found {
        let (room, fields) = (&self.cache.room, &self.parts.headers);
        match room.find(self.id, fields, now_ms) {
            found @ Found::Object(..) => found,
            found @ (Found::Nothing | Found::Others) => match room.load(self.id, fields, now_ms).await {
                Found::Nothing => found,
                loaded => loaded,
            },
        }
    }

    /// Whether it was asked for late enough.
    fn is_late_enough(&self, object: &Object) -> bool {
        object.born.at_ms >= self.cache.not_before_ms
    }

    /// What a kept answer is good for.
    fn judge(&self, object: &Object, verdict: Verdict, now_ms: u64) -> Use {
        match verdict {
            _ if !self.is_late_enough(object) => Use::Ask,
            Verdict::Fresh | Verdict::Stale => object.kept.life.judge(self.wish(), verdict == Verdict::Stale, now_ms),
            Verdict::Doubted | Verdict::Gone => Use::Ask,
        }
    }

    async fn get<B: Behind>(self, behind: &mut B) -> Answered {
        for _ in 0..WAITS_MAX {
            let now_ms = behind.now_ms();
            let (old, forward) = match self.find(now_ms).await {
                Found::Nothing => (None, Forward::UriMiss),
                Found::Others => (None, Forward::VaryMiss),
                Found::Object(object, verdict) => match self.judge(&object, verdict, now_ms) {
                    Use::Ask => (Some(object), Forward::Stale),
                    good => match self.hit(behind, &object, good).await {
                        Ok(answered) => return answered,
                        Err(Unsliced::Busy) => return self.large(behind, Forward::Bypass).await,
                        // Its body was let go of before this request came, or it is another one by now.
                        Err(_) => (None, Forward::UriMiss),
                    },
                },
            };
            if self.wish.only_if_cached {
                return self.not_kept(forward);
            }
            if self.parts.method == Method::HEAD {
                return self.head(behind, old, forward).await;
            }
            match self.cache.room.way(&self.ask(), now_ms) {
                Way::Alone => {
                    let forward = if old.is_none() { Forward::Bypass } else { forward };
                    return self.alone(behind, old, forward).await;
                }
                Way::Lead(leading) => {
                    let fetched = self.fetch(behind, leading, old, false).await;
                    return self.fetched(behind, fetched, forward).await;
                }
                Way::Wait(waiting) => match waiting.outcome().await {
                    Outcome::Left => {}
                    outcome => return self.waited(behind, outcome, old, forward).await,
                },
            }
        }
        self.alone(behind, None, Forward::UriMiss).await
    }

    /// Answers with what is kept, and has it asked for anew where that is to be.
    async fn hit<B: Behind>(&self, behind: &B, object: &Arc<Object>, good: Use) -> Result<Answered, Unsliced> {
        let now_ms = behind.now_ms();
        let result = match self.give(behind, object).await {
            Err(Unsliced::Failed(fault)) => Err(fault),
            given => Ok(given?),
        };
        // The first slice may have taken longer than it was good for.
        let later_ms = behind.now_ms();
        if later_ms > now_ms && self.judge(object, self.cache.room.verdict(object, later_ms), later_ms) == Use::Ask {
            return Err(Unsliced::Changed);
        }
        if good == Use::StaleWhile {
            self.refresh(behind, object);
        }
        let status = Status { ttl: Some(ttl(object, now_ms)), ..Status::default() };
        Ok(Answered::new(result, status))
    }

    /// What is sent of `object`.
    async fn give<B: Behind>(&self, behind: &B, object: &Arc<Object>) -> Result<Response<Body>, Unsliced> {
        match object.slices() {
            None => self.reply(object, behind.now_ms()).ok_or(Unsliced::Changed),
            // Most answers are no such, and do not carry what this takes.
            Some(slices) => Box::pin(self.in_slices(behind, object, &slices)).await,
        }
    }

    /// Asks for this request alone what is too large to be kept, as it is.
    async fn large<B: Behind>(self, behind: &mut B, forward: Forward) -> Answered {
        let status = Status { forward: Some(forward), detail: Some("large"), ..Status::default() };
        let request = Request::from_parts(self.parts.clone(), body::empty());
        Answered::new(behind.ask(request).await.map(|response| self.cache.untagged(response)), status)
    }

    /// What another request asked for has come, or has not.
    async fn waited<B: Behind>(
        self,
        behind: &mut B,
        outcome: Outcome,
        old: Option<Arc<Object>>,
        forward: Forward,
    ) -> Answered {
        let now_ms = behind.now_ms();
        let (object, good) = match outcome {
            Outcome::Failed(fault) => {
                let status = Status { forward: Some(forward), collapsed: true, ..Status::default() };
                return Answered::new(Err(fault), status);
            }
            Outcome::Kept(object) => {
                let verdict = self.cache.room.verdict(&object, now_ms);
                let good = self.judge(&object, verdict, now_ms) != Use::Ask;
                (object, good)
            }
            Outcome::StoodIn(object) => {
                let good = self.cache.room.verdict(&object, now_ms) != Verdict::Gone && self.is_late_enough(&object);
                (object, good)
            }
            Outcome::Alone | Outcome::Left => return self.alone(behind, old, forward).await,
        };
        if good && object.kept.matches(&self.parts.headers) {
            let ttl = Some(ttl(&object, now_ms));
            let status = Status { forward: Some(forward), ttl, collapsed: true, ..Status::default() };
            match self.give(behind, &object).await {
                Ok(response) => return Answered::new(Ok(response), status),
                Err(Unsliced::Failed(fault)) => return Answered::new(Err(fault), status),
                Err(Unsliced::Busy) => return self.large(behind, forward).await,
                Err(Unsliced::Changed) => {}
            }
        }
        self.alone(behind, old, forward).await
    }

    /// Asks for this request alone, with its own conditions.
    async fn alone<B: Behind>(self, behind: &mut B, old: Option<Arc<Object>>, forward: Forward) -> Answered {
        let leading = self.cache.room.alone(&self.ask(), behind.now_ms());
        let fetched = self.fetch(behind, leading, old, true).await;
        self.fetched(behind, fetched, forward).await
    }

    /// The answer made of what was asked for.
    async fn fetched<B: Behind>(self, behind: &mut B, fetched: Fetched, forward: Forward) -> Answered {
        let now_ms = behind.now_ms();
        let mut status = Status { forward: Some(forward), ..Status::default() };
        match fetched {
            Fetched::Object { object, came, stored, detail, reader } => {
                (status.forward_status, status.stored, status.detail) = (came, stored, detail);
                status.ttl = Some(ttl(&object, now_ms));
                let given = self.give(behind, &object).await;
                drop(reader);
                match given {
                    Ok(response) => Answered::new(Ok(response), status),
                    Err(Unsliced::Failed(fault)) => Answered::new(Err(fault), status),
                    Err(_) if object.slices().is_some() => self.large(behind, forward).await,
                    Err(_) => {
                        let gone = Fault::new(Code::InternalError).because("a body that nobody reads");
                        Answered::new(Err(gone), status)
                    }
                }
            }
            Fetched::Passed { response, detail } => {
                status.detail = detail;
                Answered::new(Ok(response), status)
            }
            Fetched::Failed(fault) => Answered::new(Err(fault), status),
        }
    }

    /// RFC 9111, section 5.2.1.7.
    fn not_kept(&self, forward: Forward) -> Answered {
        let mut response = Response::new(body::empty());
        *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
        let status = Status { forward: Some(forward), detail: Some("only-if-cached"), ..Status::default() };
        Answered::new(Ok(response), status)
    }

    /// Asks for the head, and takes note of what it says of the kept answer (RFC 9111, section 4.3.5).
    async fn head<B: Behind>(self, behind: &mut B, old: Option<Arc<Object>>, forward: Forward) -> Answered {
        let room = &self.cache.room;
        let asked_ms = behind.now_ms();
        let begun = room.now(asked_ms);
        let mut status = Status { forward: Some(forward), ..Status::default() };
        let result = behind.ask(Request::from_parts(self.parts.clone(), body::empty())).await;
        let answered_ms = behind.now_ms();
        let untagged = |response| self.cache.untagged(response);
        let Some(object) = old else { return Answered::new(result.map(untagged), status) };
        let failure = match &result {
            Ok(response) => Some(Failure::Status(response.status())),
            Err(fault) => failure(fault),
        };
        if self.is_late_enough(&object)
            && failure.is_some_and(|failure| object.kept.life.stands_in(failure, answered_ms))
            && let Some(response) = self.reply(&object, answered_ms)
        {
            status.forward_status = result.ok().map(|response| response.status());
            return Answered::new(Ok(response), status);
        }
        if let Some(response) = result.as_ref().ok().filter(|response| response.status() == StatusCode::OK) {
            let (times, rules) = ((asked_ms, answered_ms), &self.cache.site.rules);
            match update::head(&object.kept, &self.asking(), response.headers(), times, rules) {
                update::Headed::Kept(kept) => drop(room.freshen(self.id, &object, kept, begun)),
                update::Headed::Outdated => room.forget(self.id, &object),
                update::Headed::Nothing => {}
            }
        }
        Answered::new(result.map(untagged), status)
    }

    /// Asks anew for what has just answered, unless somebody does already.
    fn refresh<B: Behind>(&self, behind: &B, object: &Arc<Object>) {
        let Way::Lead(leading) = self.cache.room.way(&self.ask(), behind.now_ms()) else { return };
        let Some(mut later) = behind.later() else { return };
        let (want, object) = (self.clone(), Arc::clone(object));
        tokio::spawn(async move {
            // What comes is kept, or not; nobody reads it here.
            let _ = want.fetch(&mut later, leading, Some(object), false).await;
        });
    }
}

/// How long it is still fresh, in seconds.
fn ttl(object: &Object, now_ms: u64) -> i64 {
    object.kept.life.ttl_ms(now_ms).div_euclid(1000)
}

/// What a fault means for a kept answer that could stand in; none: nothing, since it is the request's own.
fn failure(fault: &Fault) -> Option<Failure> {
    match fault.code.side() {
        Side::Client => None,
        Side::Upstream => Some(Failure::Unreachable),
        Side::Function | Side::Node => Some(Failure::Status(StatusCode::INTERNAL_SERVER_ERROR)),
    }
}
