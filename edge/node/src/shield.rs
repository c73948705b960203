//! Asking an upstream through a node of the region that its release names (`shield`), so that of all nodes only those ask it
//! for what is kept: what a node asks another, and what it does for another. A request makes at most one such hop.
//!
//! Who a node is, both know from the fleet document that the operator signs; the proof is in [`hop`]. Where no such node
//! answers, the upstream is asked as if there were none.

mod hop;
mod peers;

use std::net::SocketAddr;
use std::sync::Arc;

use eyot_bundle::digest::Digest;
use eyot_bundle::fleet::Nodes;
use eyot_bundle::grant::PrivateNet;
use eyot_bundle::name::Name;
use eyot_bundle::release;
use eyot_bundle::release::upstream::{Timeouts, UpstreamTls};
use eyot_bundle::secret::Identity;
use eyot_cache::answer::Hints;
use eyot_cache::purges::{Hash, Position};
use eyot_plan::arrival::Interim;
use eyot_plan::body::{self, Body};
use eyot_plan::cache::key;
use eyot_plan::fault::{Code, Fault, Side};
use eyot_plan::forward::{self, CameBy};
use eyot_plan::upstream::retry::Failure;
use eyot_plan::way::Way;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body::Body as _;

use crate::entry::{Entry, Kind, Route};
use crate::line::Asked;
use crate::node::Node;
use crate::purge::now_ms;
use crate::upstreams::Upstream;
pub(crate) use hop::Hop;
use peers::Peers;

/// In a request: what one node tells another, with its proof. In an answer: that it is the upstream's, or which fault there
/// was instead.
const SHIELD: HeaderName = HeaderName::from_static("eyot-shield");
/// In an answer: what it is purged by.
const KEYS: HeaderName = HeaderName::from_static("eyot-keys");
/// What stands in [`SHIELD`] of an answer of the upstream.
const ANSWERED: &str = "answered";
/// Names that an answer is purged by.
const KEYS_MAX: usize = eyot_cache::meta::KEYS_MAX;
/// What upstreams are at fault with, which a node tells the one that asked it.
const FAULTS: [Code; 5] = [
    Code::NoHealthyUpstream,
    Code::UpstreamBadResponse,
    Code::UpstreamTimeout,
    Code::UpstreamTls,
    Code::UpstreamUnreachable,
];

/// What a node knows of those it asks, and of those who ask it.
#[derive(Debug)]
pub struct Shields {
    /// PEM of the authorities that other nodes are trusted by; none: the public ones.
    ca: Option<String>,
    peers: Peers,
}

impl Shields {
    /// For the node of this id, region and identity; it knows no other yet.
    pub fn new(me: Name, region: String, identity: Arc<Identity>, ca: Option<String>) -> Self {
        Self { peers: Peers::new(me, region, identity), ca }
    }

    /// The nodes of the fleet are these.
    pub fn set(&self, nodes: &Nodes) {
        self.peers.set(nodes);
    }

    /// What another node tells with this request; none: it is no node's.
    ///
    /// # Errors
    /// `forbidden`, for what pretends to be.
    pub(crate) fn take(&self, request: &mut Request<Body>) -> Result<Option<Hop>, Fault> {
        let forbidden = |cause: &str| Fault::new(Code::Forbidden).because(format_args!("`{SHIELD}`: {cause}"));
        let mut values = request.headers().get_all(&SHIELD).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return if request.headers().contains_key(&SHIELD) { Err(forbidden("it stands twice")) } else { Ok(None) };
        };
        let all = self.peers.all();
        let hop = Hop::open(value.as_bytes(), self.peers.me(), |from| self.peers.shared(&all, from), now_ms());
        let hop = hop.map_err(|unproven| forbidden(&unproven.to_string()))?;
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        if hop.method != request.method().as_str() || !reads {
            return Err(forbidden("it is of another request"));
        }
        request.headers_mut().remove(&SHIELD);
        Ok(Some(hop))
    }
}

/// What two nodes must have alike for one to ask in the other's stead: how the upstream is asked, and what of a request tells
/// answers apart. None: the route's answers are not asked for so.
pub(crate) fn likeness(route: &release::Route, upstream: &release::upstream::Upstream) -> Option<Digest> {
    upstream.shield.as_ref()?;
    serde_json::to_vec(&(upstream, &route.cache)).ok().map(|text| Digest::of(&text))
}

/// What a node is asked for by another.
pub(crate) struct Inward {
    /// The route.
    pub(crate) route: Arc<Route>,
    /// The URL that the target is asked for.
    pub(crate) url: Uri,
    /// The URL that the client asked for.
    pub(crate) asked: Uri,
    /// The client.
    pub(crate) client: SocketAddr,
    /// What was asked for before this is asked for anew.
    pub(crate) not_before_ms: u64,
}

/// What `hop` asks for, of an app that answers `host` here.
///
/// # Errors
/// `misdirected`, where this node would not answer as the one that asks means it: that one asks the upstream itself.
pub(crate) fn inward(node: &Node, entry: &Entry, host: &str, hop: &Hop) -> Result<Inward, Fault> {
    let other =
        |cause: &str| Fault::new(Code::Misdirected).because(format_args!("asked by node {}: {cause}", hop.from));
    let route = entry.shielded(&hop.route).filter(|_| entry.app == hop.app);
    let route = route.filter(|route| route.like == Some(hop.like)).ok_or_else(|| other("another release"))?;
    let url = |text: &str| text.parse::<Uri>().ok().filter(|url| url.host().is_some());
    let (to, asked) = (url(&hop.url), url(&hop.asked));
    let to = to.filter(|url| url.host() == Some(host)).ok_or_else(|| other("another host"))?;
    let asked = asked.ok_or_else(|| other("no URL"))?;
    // It has done purges that this node has not: what is kept here may be what it must not have any more.
    let is_behind = |(log, n)| node.purger.purges.position().is_none_or(|mine| mine.log != log || mine.n < n);
    if hop.purged.is_some_and(is_behind) {
        return Err(other("purges that are not done here yet"));
    }
    // By this node's clock, which may be ahead of the other's.
    let not_before_ms = if hop.alone_ms == 0 { 0 } else { hop.alone_ms.saturating_add(hop::APART_MS_MAX) };
    Ok(Inward { route: Arc::clone(route), url: to, asked, client: hop.client, not_before_ms })
}

/// Tells the node that asked what no client sees: that this is the upstream's answer, and what it is purged by.
pub(crate) fn outward(response: &mut Response<Body>, fault: Option<Code>) {
    let said = match fault {
        None => Some(ANSWERED),
        Some(code) => FAULTS.contains(&code).then(|| code.name()),
    };
    let keys = response.extensions_mut().remove::<Hints>().unwrap_or_default().hashes;
    let headers = response.headers_mut();
    headers.extend(said.map(|said| (SHIELD, HeaderValue::from_static(said))));
    let keys: Vec<String> = keys.iter().take(KEYS_MAX).map(|key| format!("{key:?}")).collect();
    headers.extend(HeaderValue::try_from(keys.join(",")).ok().filter(|_| !keys.is_empty()).map(|keys| (KEYS, keys)));
}

/// What is asked through another node: a route's upstream, for a request without a body that reads.
pub(crate) struct Through<'a> {
    pub(crate) node: &'a Node,
    pub(crate) entry: &'a Entry,
    pub(crate) route: &'a Route,
    pub(crate) asked: &'a Asked,
}

impl Through<'_> {
    /// What a node of the upstream's region answers. None, at once or in the end: there is none to be asked for this, or none
    /// answers; then the upstream is asked.
    pub(crate) fn ask<'a>(
        &'a self,
        target: &'a Kind,
        request: &Request<Body>,
    ) -> Option<impl Future<Output = Option<Result<Response<Body>, Fault>>> + Send + 'a> {
        let Kind::Upstream(upstream) = target else { return None };
        let region = upstream.released.shield.as_deref()?;
        let (like, caching) = self.route.like.zip(self.route.cache.as_ref())?;
        let reads = matches!(*request.method(), Method::GET | Method::HEAD) && request.body().is_end_stream();
        let is_far = !self.node.shields.peers.are_of(region);
        if !is_far || self.asked.is_inward || self.asked.connect.is_some() || !reads {
            return None;
        }
        let mut head = Request::new(());
        (*head.method_mut(), *head.uri_mut()) = (request.method().clone(), request.uri().clone());
        head.headers_mut().clone_from(request.headers());
        // Most requests ask nobody, and do not carry what this takes.
        let alone_ms = self.node.purger.alone_ms(&self.entry.app).max(caching.ended_ms(request.uri()));
        Some(Box::pin(self.ask_in(region, upstream, (like, alone_ms), head)))
    }

    async fn ask_in(
        &self,
        region: &str,
        upstream: &Upstream,
        (like, alone_ms): (Digest, u64),
        head: Request<()>,
    ) -> Option<Result<Response<Body>, Fault>> {
        let shields = &self.node.shields;
        let all = shields.peers.all();
        let url = head.uri().to_string();
        let hashed = u64::try_from(key::id(url.as_bytes()) >> 64).unwrap_or_default();
        for name in shields.peers.of(&all, region, hashed, now_ms()) {
            let Some((at, shared)) = all[name].at().zip(shields.peers.shared(&all, name)) else { continue };
            let purged = self.node.purger.purges.position().map(|Position { log, n }| (log, n));
            let hop = Hop {
                from: shields.peers.me().clone(),
                to: name.clone(),
                at_ms: now_ms(),
                app: self.entry.app.clone(),
                route: self.route.id.to_string(),
                like,
                method: head.method().to_string(),
                url: url.clone(),
                asked: self.asked.uri.to_string(),
                client: self.asked.from.unwrap_or_else(|| SocketAddr::new(self.asked.client, 0)),
                purged,
                alone_ms,
            };
            let request = self.request(&head, &hop.seal(shared)?)?;
            let way = way(&self.entry.app, at, shields.ca.clone(), upstream.released.timeouts);
            match self.node.fetch.attempt(&way, request, &Interim::none()).await {
                Ok(response) => {
                    let told = told(response);
                    self.count(upstream, if told.is_some() { "answered" } else { "refused" });
                    return told;
                }
                Err(failed) => {
                    self.count(upstream, "unreachable");
                    tracing::warn!(node = %name, cause = failed.fault.cause.as_deref(), "a shield does not answer");
                    if failed.failure != Failure::Connect {
                        return None;
                    }
                    shields.peers.is_down(name, now_ms());
                }
            }
        }
        None
    }

    fn count(&self, upstream: &Upstream, result: &'static str) {
        self.node.telemetry.shielded(&self.entry.label, &upstream.label, result);
    }

    /// The request as it goes to another node.
    fn request(&self, request: &Request<()>, hop: &str) -> Option<Request<Body>> {
        let mut out = Request::new(body::empty());
        let authority = request.uri().authority()?.clone();
        let path = request.uri().path_and_query()?.clone();
        *out.uri_mut() = Uri::builder().scheme("https").authority(authority).path_and_query(path).build().ok()?;
        *out.method_mut() = request.method().clone();
        out.headers_mut().clone_from(request.headers());
        forward::request_out(out.headers_mut(), &self.asked.own_facts(&self.node.config.node.fleet));
        let mut hop = HeaderValue::try_from(hop).ok()?;
        hop.set_sensitive(true);
        out.headers_mut().insert(SHIELD, hop);
        Some(out)
    }
}

/// How a node of the fleet is asked: at its own address alone.
fn way(app: &Name, at: SocketAddr, ca: Option<String>, timeouts: Timeouts) -> Way {
    let private = vec![PrivateNet { net: at.ip().into(), ports: vec![at.port()] }];
    let tls = Some(UpstreamTls { ca, ..UpstreamTls::default() });
    Way { at: Some(at), tls, ..Way::new(app.clone(), private, timeouts) }
}

/// What another node has answered: the upstream's answer, or the fault it met. None: it would not ask.
fn told(mut response: Response<Body>) -> Option<Result<Response<Body>, Fault>> {
    let said = response.headers_mut().remove(&SHIELD)?;
    if said != ANSWERED {
        let code = FAULTS.into_iter().find(|code| said == code.name())?;
        debug_assert_eq!(code.side(), Side::Upstream);
        return Some(Err(Fault::new(code).because("as another node of the fleet was answered")));
    }
    let hashes = keys(response.headers());
    if let Some(came_by) = response.extensions_mut().remove::<CameBy>() {
        forward::response_via(response.headers_mut(), came_by);
    }
    forward::response_back(response.headers_mut());
    response.extensions_mut().insert(Hints { hashes, aged: true, ..Hints::default() });
    Some(Ok(response))
}

/// What an answer is purged by, as another node says.
fn keys(headers: &HeaderMap) -> Vec<Hash> {
    let said = headers.get(&KEYS).and_then(|value| value.to_str().ok()).unwrap_or_default();
    said.split(',').take(KEYS_MAX).filter_map(Hash::parse).collect()
}
