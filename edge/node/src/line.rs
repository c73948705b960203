//! The request line: one request, top to bottom. `serve` owns the id, the clock and the record, and always gives a
//! response; `find` finds who answers, `ask` asks them; `respond` is the only place where a fault becomes HTTP.
//!
//! It must never wait for the pull, and never decide what `plan` decides.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use eyot_bundle::host;
use eyot_guest::{Remaining, Tree};
use eyot_plan::arrival::{Answer, Arrival, Connect, Interim, Protocol};
use eyot_plan::body::{self, Body};
use eyot_plan::fault::{Code, Fault, Side};
use eyot_plan::forward::{self, Client, Facts, Trail};
use futures_util::FutureExt as _;
use http::header::{ALLOW, HeaderName, HeaderValue};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use tracing::Instrument as _;

use crate::admit::{Came, admit};
use crate::before::{self, Said};
use crate::cached::{self, AtRoute, CACHE_STATUS};
use crate::entry::{Entry, Kind, Route, Target};
use crate::loan::Loan;
use crate::node::Node;
use crate::record::{Record, Recorded};
use crate::shield::{self, Hop, Inward};
use crate::{call, fixed, policy, proxy};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const RELEASE: HeaderName = HeaderName::from_static("eyot-release");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

impl Answer for Node {
    async fn answer(&self, arrival: Box<Arrival>) -> Response<Body> {
        serve(self, arrival).await
    }
}

/// What is known of a request beside the request.
pub(crate) struct Asked {
    /// The protocol it came by.
    pub(crate) protocol: Protocol,
    /// The client's address.
    pub(crate) client: std::net::IpAddr,
    /// The same, with its port; none: it is an event.
    pub(crate) from: Option<std::net::SocketAddr>,
    /// What functions are told of the client; none: it is an event.
    pub(crate) seen: Option<eyot_guest::Client>,
    /// The URI it asked for.
    pub(crate) uri: http::Uri,
    /// Our id of it.
    pub(crate) id: String,
    /// Where it has been.
    pub(crate) trail: Trail,
    /// What a function elsewhere in the fleet has lent to it.
    pub(crate) lent: Option<Arc<Tree>>,
    /// What it opens.
    pub(crate) connect: Option<Connect>,
    /// Whether another node of the fleet asks, whose client it is.
    pub(crate) is_inward: bool,
    /// What that node must not be given: what was asked for before this, in milliseconds since 1970.
    pub(crate) not_before_ms: u64,
    /// Where an upstream's interim responses go.
    pub(crate) interim: Interim,
}

impl Asked {
    /// What forwarding must know when the client's request is passed on.
    pub(crate) fn facts<'a>(&'a self, fleet: &'a str) -> Facts<'a> {
        let client = Client {
            ip: self.client,
            host: self.uri.authority().map_or("", |authority| authority.as_str()),
            scheme: self.uri.scheme_str().unwrap_or("https"),
        };
        Facts { client: Some(client), ..self.own_facts(fleet) }
    }

    /// The port that the client asked.
    pub(crate) fn port(&self) -> u16 {
        let is_plain = self.uri.scheme_str() == Some("http");
        self.uri.port_u16().unwrap_or(if is_plain { 80 } else { 443 })
    }

    /// What forwarding must know when a function asks by itself.
    pub(crate) fn own_facts<'a>(&'a self, fleet: &'a str) -> Facts<'a> {
        Facts { fleet, protocol: self.protocol, request_id: &self.id, trail: &self.trail, client: None, lends: None }
    }
}

async fn serve(node: &Node, arrival: Box<Arrival>) -> Response<Body> {
    let mut record = Record::begin(&node.telemetry, &node.access, &arrival);
    let span = tracing::debug_span!("request", id = record.id);
    let answered = AssertUnwindSafe(answer(node, arrival, &mut record)).catch_unwind().instrument(span).await;
    let result = answered.unwrap_or_else(|_| Err(Fault::new(Code::InternalError).because("a panic")));
    respond(node, result, record)
}

/// Finds who answers, and asks them.
async fn answer(node: &Node, arrival: Box<Arrival>, record: &mut Record) -> Result<Response<Body>, Fault> {
    match find(node, *arrival, record)? {
        Found::Answer(response) => Ok(response),
        // What waits is large: it has its own place, so that those who wait for nobody do not carry it.
        Found::Asking(asking) => Box::pin(asking.answer(node, record)).await,
    }
}

/// What a request leads to.
enum Found {
    /// Nobody has to be asked.
    Answer(Response<Body>),
    /// Somebody has to be.
    Asking(Box<Asking>),
}

/// A request on its way to a target.
struct Asking {
    entry: Arc<Entry>,
    route: Arc<Route>,
    request: Request<Body>,
    asked: Asked,
}

/// Finds who answers. What is fixed is the answer.
fn find(node: &Node, mut arrival: Arrival, record: &mut Record) -> Result<Found, Fault> {
    if let Some(hop) = node.shields.take(&mut arrival.request)? {
        return inward(node, arrival, &hop, record);
    }
    let Arrival { request, protocol, client, tls, connect, early, interim, .. } = arrival;
    let host = request.uri().host().unwrap_or_default();
    if host::is_internal(host) {
        return Err(Fault::new(Code::NoRoute).because("a host of the nodes' own"));
    }
    let entry = node.snapshots.find(host).map_err(|stray| {
        record.app(stray.app);
        stray.fault
    })?;
    record.entry(&entry);
    let found = policy::find(&entry, host, &request);
    let route = Arc::clone(found.inspect_err(|fault| {
        if fault.code == Code::MethodNotAllowed {
            record.allow = allow(&entry, request.uri());
        }
    })?);
    record.route(&route);
    record.target(&route.target.label, &route.target.place);
    record.every = policy::Every::of(route.policy.as_ref(), &request);
    let uri = request.uri().clone();
    let (request, trail) = admit(request, Came { connect, early }, &route, &node.config.node.fleet, &record.in_bytes)?;
    let (fallback, before, policy) = (&route.fallback, &route.before[..], &route.policy);
    if let (Kind::Respond(respond), None, None, [], None) = (&route.target.kind, connect, fallback, before, policy) {
        return Ok(Found::Answer(fit(fixed::respond(respond))));
    }
    let interim = proxy::interim(interim);
    let lent = trail.lent().map(|lent| Remaining { cpu_us: lent.cpu_us, subrequests: lent.subrequests });
    let lent = lent.map(|lent| Tree::new(lent, None));
    record.lent.clone_from(&lent);
    let (from, client) = (Some(client), client.ip());
    let seen = Some(eyot_guest::Client { address: client, protocol, tls, early });
    let (id, is_inward, not_before_ms) = (record.id.clone(), false, 0);
    let asked =
        Asked { protocol, client, from, seen, uri, id, trail, lent, connect, is_inward, not_before_ms, interim };
    Ok(Found::Asking(Box::new(Asking { entry, route, request, asked })))
}

/// Finds what another node of the fleet asks for: a route's target as that would ask it, past all that stands before it.
fn inward(node: &Node, arrival: Arrival, hop: &Hop, record: &mut Record) -> Result<Found, Fault> {
    let Arrival { mut request, protocol, connect, early, .. } = arrival;
    record.is_inward = true;
    let host = request.uri().host().unwrap_or_default();
    let entry = node.snapshots.find(host).map_err(|stray| stray.fault)?;
    record.entry(&entry);
    let Inward { route, url, asked, client, not_before_ms } = shield::inward(node, &entry, host, hop)?;
    record.route(&route);
    record.target(&route.target.label, &route.target.place);
    *request.uri_mut() = url;
    let (request, trail) = admit(request, Came { connect, early }, &route, &node.config.node.fleet, &record.in_bytes)?;
    let asked = Asked {
        protocol,
        client: client.ip(),
        from: Some(client),
        seen: None,
        uri: asked,
        id: record.id.clone(),
        trail,
        lent: None,
        connect: None,
        is_inward: true,
        not_before_ms,
        interim: Interim::none(),
    };
    Ok(Found::Asking(Box::new(Asking { entry, route, request, asked })))
}

impl Asking {
    /// Asks the route's policy and those before its target, and if they pass the request on, the target.
    async fn answer(mut self, node: &Node, record: &mut Record) -> Result<Response<Body>, Fault> {
        if self.asked.is_inward {
            return self.target(node, record).await;
        }
        if let Some(policy) = &self.route.policy {
            let entered = policy.enter(node, &self.entry, &mut self.request, &self.asked, record).await?;
            if let Some(response) = entered {
                return Ok(response);
            }
        }
        let mut all = Vec::new();
        for before in &self.route.before {
            // What fails here ends the request: it was not let through.
            match before::ask(node, &self.entry, before, &mut self.request, &self.asked, record).await {
                Ok(Said::Next(changes)) => all.push(changes),
                Ok(Said::Answer(response)) => return Ok(fit(response)),
                Err(fault) => return Err(fault),
            }
        }
        if !self.route.before.is_empty() {
            let most = self.route.target.kind.limits().1;
            before::fits(&self.request, most)?;
        }
        let mut response = self.target(node, record).await?;
        all.iter().for_each(|changes| changes.response(response.headers_mut()));
        Ok(response)
    }

    /// Asks the route's target, and its fallback if that fails without having touched the request.
    async fn target(self, node: &Node, record: &mut Record) -> Result<Response<Body>, Fault> {
        let Self { entry, route, mut request, asked } = self;
        let caching = route.cache.as_ref().filter(|_| asked.connect.is_none());
        if caching.is_some() {
            request = cached::settled(request).await;
        }
        let (loan, request) = match &route.fallback {
            Some(_) if !asked.is_inward => {
                let (loan, lent) = Loan::new(request);
                (Some(loan), lent)
            }
            _ => (None, request),
        };
        let mut target = AtRoute { node, entry: &entry, route: &route, to: &route.target, asked: &asked, record };
        let answered = match caching {
            Some(caching) => caching.answer(&mut target, request).await,
            None => target.shaped(request).await,
        };
        let fault = match answered {
            Err(fault) if fault.code.side() != Side::Client => fault,
            other => return other,
        };
        let fallback = route.fallback.as_ref().filter(|fallback| opens(fallback, &asked));
        let Some((fallback, request)) = fallback.zip(loan.and_then(Loan::back)) else { return Err(fault) };
        target.record.fault(&fault);
        target.record.target(&fallback.label, &fallback.place);
        AtRoute { to: fallback, ..target }.shaped(request).await
    }
}

/// Whether a target can open what is asked for: a function's world has no upgrade, and a fixed 200 would look like an open
/// tunnel.
fn opens(target: &Target, asked: &Asked) -> bool {
    asked.connect.is_none() || matches!(target.kind, Kind::Upstream(_))
}

/// Asks one target. What it says for others to say is taken out of its answer.
pub(crate) async fn ask(
    node: &Node,
    entry: &Arc<Entry>,
    target: &Target,
    request: Request<Body>,
    asked: &Asked,
    record: &mut Record,
) -> Result<Response<Body>, Fault> {
    if !opens(target, asked) {
        return Err(Fault::new(Code::BadRequest).because("a WebSocket is opened at upstreams only"));
    }
    if matches!(target.kind, Kind::Upstream(_)) {
        // Who is asked now may spend of what was lent, and does not tell.
        record.lent = None;
    }
    // Each has its own place: one of them is large, and only one is asked.
    let response = match &target.kind {
        Kind::Files(place) => Box::pin(place.answer(&request.into_parts().0, &asked.uri, record)).await?,
        Kind::Function(function) => Box::pin(call::call(node, entry, function, request, asked, record)).await?,
        Kind::Redirect(redirect) => fixed::redirect(redirect, &asked.uri)?,
        Kind::Respond(respond) => fixed::respond(respond),
        Kind::Upstream(upstream) => Box::pin(proxy::proxy(node, entry, upstream, request, asked)).await?,
    };
    Ok(fit(response))
}

/// Without the fields that are not a target's to say.
fn fit(mut response: Response<Body>) -> Response<Body> {
    forward::response_back(response.headers_mut());
    response
}

/// The methods of the routes for this URI.
fn allow(entry: &Entry, uri: &http::Uri) -> Option<HeaderValue> {
    let methods = entry.methods(uri.host().unwrap_or_default(), uri.path());
    let names: Vec<_> = methods.iter().map(|method| method.as_str()).collect();
    HeaderValue::from_str(&names.join(", ")).ok()
}

/// Makes the response: the only place where a fault becomes HTTP. From here on the record travels in the body.
fn respond(node: &Node, result: Result<Response<Body>, Fault>, mut record: Record) -> Response<Body> {
    let fault = result.as_ref().err().map(|fault| fault.code);
    let mut response = match result {
        Ok(response) => response,
        Err(fault) => {
            record.fault(&fault);
            let mut response = fault.response(&record.id).map(body::full);
            if let Some(allow) = record.allow.take() {
                response.headers_mut().insert(ALLOW, allow);
            }
            response
        }
    };
    let headers = response.headers_mut();
    std::mem::take(&mut record.every).dress(headers, fault.is_some());
    let cached = record.cached().and_then(|status| HeaderValue::try_from(status.to_string()).ok());
    cached.map(|status| headers.insert(CACHE_STATUS, status));
    if let Ok(id) = HeaderValue::from_str(&record.id) {
        headers.insert(REQUEST_ID, id);
    }
    if let Some(made) = record.lent_made() {
        headers.insert(forward::EYOT_CALLS, made.into());
    }
    if node.config.debug.headers {
        let release = record.release().and_then(|release| HeaderValue::from_str(&release).ok());
        release.map(|release| headers.insert(RELEASE, release));
        let timing = record.cpu_us().and_then(|cpu_us| HeaderValue::from_str(&timing(cpu_us)).ok());
        timing.map(|timing| headers.append(SERVER_TIMING, timing));
    }
    if record.is_inward {
        shield::outward(&mut response, fault);
    }
    record.head(response.status());
    response.map(|body| Recorded::new(body, record).boxed_unsync())
}

/// `cpu;dur=0.410`, in milliseconds (Server Timing).
fn timing(cpu_us: u64) -> String {
    format!("cpu;dur={}.{:03}", cpu_us / 1000, cpu_us % 1000)
}

#[cfg(test)]
mod tests;
