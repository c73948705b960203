//! The cache on the request line: what a route keeps, and who is asked for what it does not have. From a request to its
//! answer it is `eyot_cache::answer`; here it is told whose answers are kept and by which rules.

pub(crate) mod disk;
pub(crate) mod fetched;
mod later;
pub(crate) mod named;
pub(crate) mod shown;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use eyot_bundle::refusal::Refusal;
use eyot_bundle::release;
use eyot_bundle::release::cache::{Mode, Query};
use eyot_cache::answer::{Answered, Behind, Cache, Site};
use eyot_cache::room::{Breaks, Room};
use eyot_plan::body::{self, Body};
use eyot_plan::cache::key::{self, Class};
use eyot_plan::cache::{Rules, status};
use eyot_plan::fault::Fault;
use futures_util::{StreamExt as _, stream};
use http::{HeaderName, Method, Request, Response};
use http_body::Body as _;
use http_body_util::{BodyExt, BodyStream, StreamBody};
use metrics::Counter;

use crate::entry::{Entry, Kind, Route, Target, parsed};
use crate::line::{self, Asked};
use crate::node::Node;
use crate::policy::Policy;
use crate::purge::now_ms;
use crate::record::Record;
use crate::shield::Through;
use crate::telemetry::{CACHE_RESULTS, Telemetry, Text};
pub(crate) use later::LATER_MAX;
use later::Later;

/// The environment whose answers are kept apart from those of previews.
const PRODUCTION: &str = "production";

/// What a route keeps.
pub struct Caching {
    room: Arc<Room>,
    site: Arc<Site>,
    /// The same for what other nodes ask for: as it comes from the upstream, where the route gives answers another form.
    inward: Arc<Site>,
    /// The metrics by results, once there is something to count.
    counts: [OnceLock<Counter>; CACHE_RESULTS.len()],
}

impl Caching {
    /// What `route` keeps in `room` of what its target answers; none: nothing.
    ///
    /// # Errors
    /// `parse`, for what the verification should not have let through.
    pub(crate) fn of(
        telemetry: &Arc<Telemetry>,
        app: &str,
        route: &release::Route,
        target: &Kind,
        room: impl FnOnce() -> Arc<Room>,
    ) -> Result<Option<Arc<Self>>, Refusal> {
        let said = route.cache.clone().unwrap_or_default();
        let maker = match (said.mode, target) {
            (Mode::Standard | Mode::Function, Kind::Upstream(_)) => String::new(),
            (Mode::Function, Kind::Function(function)) => function.guest.code.to_string(),
            _ => return Ok(None),
        };
        let site = Site {
            app: app.into(),
            environment: PRODUCTION.into(),
            class: Class::Route,
            maker: maker.into(),
            rules: rules(&said)?,
            breaks: breaks(telemetry, app, route.id.clone().into()),
        };
        let is_shaped = Policy::of(route)?.is_some();
        let inward = is_shaped.then(|| Site { maker: "as it came".into(), ..site.clone() });
        Ok(Some(Self::new(room(), site, inward)))
    }

    /// What is kept in `room` of what the functions of `app` ask for by themselves. What they say of it themselves counts:
    /// they are no strangers.
    pub(crate) fn of_fetches(telemetry: &Arc<Telemetry>, app: &str, room: Arc<Room>) -> Arc<Self> {
        let breaks = breaks(telemetry, app, fetched::FETCHES);
        let rules = Rules { heeds_requests: true, ..Rules::default() };
        let (app, environment, maker) = (app.into(), PRODUCTION.into(), Box::default());
        Self::new(room, Site { app, environment, class: Class::Fetch, maker, rules, breaks }, None)
    }

    fn new(room: Arc<Room>, site: Site, inward: Option<Site>) -> Arc<Self> {
        let site = Arc::new(site);
        let inward = inward.map_or_else(|| Arc::clone(&site), Arc::new);
        Arc::new(Self { room, site, inward, counts: Default::default() })
    }

    /// By whose rules it keeps what.
    pub(crate) fn site(&self) -> &Arc<Site> {
        &self.site
    }

    /// When what is kept of this URL was ended here last by a request that changed it; 0: never.
    pub(crate) fn ended_ms(&self, url: &http::Uri) -> u64 {
        self.room.ended_ms(self.site.named(url))
    }

    /// Answers a request of `target`'s route.
    pub(crate) async fn answer(
        &self,
        target: &mut AtRoute<'_>,
        request: Request<Body>,
    ) -> Result<Response<Body>, Fault> {
        let cache = self.cache(target.asked);
        let Answered { result, status } = cache.answer(target, request).await;
        self.count(&target.node.telemetry, &target.entry.label, &target.route.id, status.result());
        target.record.cache(status);
        result
    }

    fn cache(&self, asked: &Asked) -> Cache {
        let site = if asked.is_inward { &self.inward } else { &self.site };
        let (room, site, tells) = (Arc::clone(&self.room), Arc::clone(site), asked.is_inward);
        Cache { room, site, public: asked.uri.clone(), tells, not_before_ms: asked.not_before_ms }
    }

    fn count(&self, telemetry: &Telemetry, app: &Text, route: &Text, result: &'static str) {
        let at = CACHE_RESULTS.iter().position(|it| *it == result).unwrap_or_default();
        self.counts[at].get_or_init(|| telemetry.cache_requests(app, route, result)).increment(1);
    }
}

/// How long the end of a request that is read may come behind its head; later it is passed on as it is.
const END_WITHIN: Duration = Duration::from_millis(250);

/// A request that is read, with its body known to be none or not: over HTTP/2 and HTTP/3 the end may come behind the head,
/// and that of a function's request comes when it is there. What has none can be kept, and be asked for again.
pub(crate) async fn settled(request: Request<Body>) -> Request<Body> {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    if !is_read || request.body().is_end_stream() {
        return request;
    }
    let (head, mut body) = request.into_parts();
    let first = tokio::time::timeout(END_WITHIN, async {
        loop {
            match body.frame().await {
                Some(Ok(frame)) if frame.data_ref().is_some_and(bytes::Bytes::is_empty) => {}
                first => break first,
            }
        }
    });
    let body = match first.await {
        Err(_) => body,
        Ok(None) => body::empty(),
        Ok(Some(first)) => {
            let rest = stream::once(std::future::ready(first)).chain(BodyStream::new(body));
            BodyExt::boxed_unsync(StreamBody::new(rest))
        }
    };
    Request::from_parts(head, body)
}

/// Counts bodies that break off while they are kept.
fn breaks(telemetry: &Arc<Telemetry>, app: &str, route: Text) -> Breaks {
    let (telemetry, app) = (Arc::downgrade(telemetry), Text::from(app.to_owned()));
    Breaks::to(move || {
        telemetry.upgrade().iter().for_each(|telemetry| telemetry.cache_broken(&app, &route).increment(1));
    })
}

fn rules(said: &release::cache::Cache) -> Result<Rules, Refusal> {
    let headers = said.vary.iter().map(|name| parsed(HeaderName::try_from(name.to_ascii_lowercase()), name));
    let (query, sort) = match said.query.clone() {
        None => (key::Query::All, false),
        Some(Query { keep: Some(names), sort, .. }) => (key::Query::Keep(names), sort),
        Some(Query { drop: Some(names), sort, .. }) => (key::Query::Drop(names), sort),
        Some(Query { sort, .. }) => (key::Query::All, sort),
    };
    Ok(Rules {
        told_ms: None,
        aged: false,
        ttl_ms: said.ttl_ms,
        negative_ttl_ms: said.negative_ttl_ms,
        stale_while_revalidate_ms: said.stale_while_revalidate_ms,
        stale_if_error_ms: said.stale_if_error_ms,
        heeds_requests: said.heed_requests,
        key: key::Rules {
            query,
            sort,
            headers: headers.collect::<Result<_, Refusal>>()?,
            cookies: said.cookies.clone(),
        },
    })
}

/// The field in which each answer says what the cache had to do with it (RFC 9211).
pub(crate) const CACHE_STATUS: HeaderName = status::CACHE_STATUS;

/// A target of a route, for one request.
pub(crate) struct AtRoute<'a> {
    pub(crate) node: &'a Node,
    pub(crate) entry: &'a Arc<Entry>,
    pub(crate) route: &'a Arc<Route>,
    /// The route's target, or its fallback.
    pub(crate) to: &'a Target,
    pub(crate) asked: &'a Asked,
    pub(crate) record: &'a mut Record,
}

impl AtRoute<'_> {
    /// Asks the target, and gives what it says the form in which it is sent and kept.
    pub(crate) async fn shaped(&mut self, request: Request<Body>) -> Result<Response<Body>, Fault> {
        let Self { node, entry, route, to, asked, record } = self;
        // What goes through a tunnel has no form that is the route's to give, and what another node asks for it gives itself.
        let policy = route.policy.as_ref().filter(|_| asked.connect.is_none() && !asked.is_inward);
        let wants = policy.map(|policy| policy.wants(&request)).unwrap_or_default();
        let through = Through { node, entry, route, asked };
        let asking = through.ask(&to.kind, &request);
        let response = match async { asking?.await }.await {
            Some(response) => response?,
            None => line::ask(node, entry, to, request, asked, record).await?,
        };
        match policy {
            Some(policy) => policy.shape(node, entry, route, &wants, response),
            None => Ok(response),
        }
    }
}

impl Behind for AtRoute<'_> {
    type Later = Later;

    async fn ask(&mut self, request: Request<Body>) -> Result<Response<Body>, Fault> {
        self.shaped(request).await
    }

    fn now_ms(&self) -> u64 {
        now_ms()
    }

    fn later(&self) -> Option<Later> {
        Later::anew(self)
    }

    fn reader(&self) -> Option<Later> {
        Later::reader(self)
    }
}
