//! One app as it answers on this node: a release and its grant, made ready so that a request only looks things up.
//!
//! An entry is built aside and never changes. It knows no request, and no other app.

mod events;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use eyot_bundle::digest::Digest;
use eyot_bundle::grant::{Grant, PrivateNet};
use eyot_bundle::name::Name;
use eyot_bundle::refusal::{Reason, Refusal};
use eyot_bundle::release::{self, Limits, OnFault, PathPattern, Release};
use eyot_bundle::secret::Value;
use eyot_bundle::web_origin::Egress;
use eyot_cache::room::Room;
use eyot_cache::rooms::Rooms;
use eyot_plan::fault::Fault;
use eyot_plan::proxied::Proxied;
use eyot_plan::routes::Table;
use eyot_plan::way::{Bound, Way};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use tokio::sync::watch;

use crate::activate::aborts::Marked;
use crate::blobs::Blobs;
use crate::cached::Caching;
use crate::files::{self, Folder};
use crate::policy::Policy;
use crate::secrets::{Secrets, Vault};
use crate::shares::Share;
use crate::shield;
use crate::stores::Kept;
use crate::telemetry::{Place, Telemetry, Text};
use crate::upstreams::{Upstream, Upstreams};
pub use events::{EventTarget, Events, Queue, Schedule};

/// One app, ready to answer.
pub struct Entry {
    /// Its name.
    pub app: Name,
    /// Its name, as a label.
    pub label: Text,
    /// The release's number.
    pub release: u64,
    /// The release's number, as a label.
    pub release_label: Text,
    /// Its share of this node.
    pub share: Arc<Share>,
    /// The same, as its functions' calls draw on it.
    pub limit: Arc<Marked<Share>>,
    functions: BTreeMap<Name, Arc<Function>>,
    routes: Table<Arc<Route>>,
    /// The routes that other nodes may ask for, by their ids.
    shielded: BTreeMap<Text, Arc<Route>>,
    /// Its room in the cache, where it has functions.
    pub room: Option<Arc<Room>>,
    /// What is kept of what its functions ask for; none: they may ask for nothing.
    pub fetches: Option<Arc<Caching>>,
    /// What nobody asks for.
    pub events: Events,
    /// Told when this is too old to go on.
    closing: watch::Sender<bool>,
}

/// A route.
pub struct Route {
    /// Its id, as a label.
    pub id: Text,
    /// What answers.
    pub target: Target,
    /// The functions that are asked before it, in this order.
    pub before: Vec<Before>,
    /// What answers instead when that is at fault.
    pub fallback: Option<Target>,
    /// Whether safe requests may come in TLS early data.
    pub early_data: bool,
    /// What is kept of its target's answers; none: nothing.
    pub cache: Option<Arc<Caching>>,
    /// What is asked of requests and done to answers; none: nothing.
    pub policy: Option<Arc<Policy>>,
    /// What nodes must have alike that ask its target for each other; none: they do not.
    pub like: Option<Digest>,
}

/// A function that is asked before a target.
pub struct Before {
    /// `before:auth`.
    pub label: Text,
    /// What is asked.
    pub function: Arc<Function>,
    /// The metrics of the requests of this route that it answers.
    pub place: Arc<Place>,
}

/// What answers.
#[derive(Clone)]
pub struct Target {
    /// `function:cart`, `upstream:api`, `files:site`, `respond` or `redirect`.
    pub label: Text,
    /// How.
    pub kind: Kind,
    /// The metrics of its requests by this route.
    pub place: Arc<Place>,
}

impl Target {
    fn new(label: impl Into<Text>, kind: Kind) -> Self {
        Self { label: label.into(), kind, place: Arc::default() }
    }
}

/// The kinds of targets.
#[derive(Clone)]
pub enum Kind {
    /// A folder of files.
    Files(Arc<files::Place>),
    /// A function.
    Function(Arc<Function>),
    /// A redirect.
    Redirect(Arc<Redirect>),
    /// A fixed response.
    Respond(Arc<Respond>),
    /// An upstream.
    Upstream(Arc<Upstream>),
}

/// A function and its way out.
pub struct Function {
    /// Its name, as a label.
    pub label: Text,
    /// What is run; its limits are those of release, grant and node, whichever is smallest.
    pub guest: Arc<eyot_guest::Function>,
    /// The origins it may fetch.
    pub egress: Vec<Egress>,
    /// The functions of its release that it may call.
    pub calls: Vec<Name>,
    /// Whether it may purge what the cache keeps of its app.
    pub purges: bool,
    /// Its secrets by the name it asks for.
    pub secrets: Secrets,
    /// The stores it may open.
    pub stores: Arc<dyn eyot_guest::Stores>,
    /// How its fetches leave.
    pub way: Way,
}

/// A fixed response.
pub struct Respond {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// A redirect.
pub struct Redirect {
    /// Its status.
    pub status: StatusCode,
    /// Where to; `{path}` and `{query}` are the request's.
    pub to: String,
}

/// What of this node goes into every entry.
pub struct Ground<'a> {
    /// The node's ceilings.
    pub ceilings: Limits,
    /// What opens secrets.
    pub vault: &'a Vault,
    /// Where packed folders are.
    pub blobs: &'a Blobs,
    /// The engines of stores.
    pub stores: &'a eyot_state::Stores,
    /// What is known of upstreams.
    pub upstreams: &'a Upstreams,
    /// What is kept of answers.
    pub rooms: &'a Rooms,
    /// What counts.
    pub telemetry: &'a Arc<Telemetry>,
    /// Private networks the operator of this node opens.
    pub allow_private: &'a [(Name, PrivateNet)],
}

impl Entry {
    /// The entry of `release`, which [`eyot_bundle::verify`] has found good, under `grant`.
    ///
    /// # Errors
    /// A refusal, if it holds what the verification should not have let through, or a secret that does not open here.
    pub fn build(ground: &Ground<'_>, release: &Release, grant: &Grant, share: Arc<Share>) -> Result<Self, Refusal> {
        let stores = Kept::of(ground.stores, release, grant)?;
        let (secrets, client_keys) = (ground.vault.open(release)?, ground.vault.client_keys(release)?);
        let builder = Builder { ground, release, grant, secrets, client_keys, stores };
        let functions = release.functions.iter().map(|(name, it)| Ok((name, Arc::new(builder.function(name, it)?))));
        let upstreams = release.upstreams.iter().map(|(name, it)| Ok((name, builder.upstream(name, it)?)));
        let folders = release.files.iter().map(|(name, it)| {
            let folder = Folder::open(&ground.blobs.path(it.bundle.sha256), it);
            let folder = folder.map_err(|it| Refusal::new(it.reason, format!("files `{name}`: {}", it.detail)))?;
            Ok((name, Arc::new(folder)))
        });
        let targets = Targets {
            app: &release.app,
            rooms: ground.rooms,
            telemetry: ground.telemetry,
            part: grant.share.memory,
            functions: functions.collect::<Result<_, Refusal>>()?,
            upstreams: upstreams.collect::<Result<_, Refusal>>()?,
            folders: folders.collect::<Result<_, Refusal>>()?,
        };
        let routes = release.routes.iter().map(|it| {
            let methods = it.methods.iter().map(|method| parsed(method.parse::<Method>(), method));
            let route = Arc::new(targets.route(it)?);
            Ok((it.host.clone(), it.path.clone(), methods.collect::<Result<Vec<_>, Refusal>>()?, route))
        });
        let routes = routes.collect::<Result<Vec<_>, Refusal>>()?;
        let shielded = routes.iter().map(|(_, _, _, route)| route).filter(|route| route.like.is_some());
        let shielded = shielded.map(|route| (route.id.clone(), Arc::clone(route))).collect();
        let routes = routes.into_iter().collect();
        let events = Events::of(release, &targets.functions)?;
        let asks = release.functions.values().any(|function| !function.egress.is_empty());
        let has_functions = !release.functions.is_empty();
        let room = has_functions.then(|| ground.rooms.of(release.app.as_str(), grant.share.memory));
        let of_fetches =
            |room: &Arc<Room>| Caching::of_fetches(ground.telemetry, release.app.as_str(), Arc::clone(room));
        let fetches = room.as_ref().filter(|_| asks).map(of_fetches);
        Ok(Self {
            app: release.app.clone(),
            label: release.app.as_str().to_owned().into(),
            release: release.number,
            release_label: release.number.to_string().into(),
            limit: Arc::new(Marked::new(Arc::clone(&share), &release.app, release.number)),
            share,
            functions: targets.functions.into_iter().map(|(name, function)| (name.clone(), function)).collect(),
            routes,
            shielded,
            room,
            fetches,
            events,
            closing: watch::channel(false).0,
        })
    }

    /// The route for this host, path and method.
    ///
    /// # Errors
    /// `no_route` or `method_not_allowed`.
    pub fn find(&self, host: &str, path: &str, method: &Method) -> Result<&Arc<Route>, Fault> {
        self.routes.find(host, path, method)
    }

    /// The route of this id, if other nodes may ask for it.
    pub(crate) fn shielded(&self, id: &str) -> Option<&Arc<Route>> {
        self.shielded.iter().find(|(it, _)| ***it == *id).map(|(_, route)| route)
    }

    /// The function of this name.
    pub fn function(&self, name: &str) -> Option<&Arc<Function>> {
        self.functions.get(name)
    }

    /// The methods that this host and path take, for `Allow`.
    pub fn methods(&self, host: &str, path: &str) -> Vec<&Method> {
        self.routes.methods(host, path)
    }

    /// Ends what still streams: newer generations take its place.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }

    /// Lets it go on, when it is put in use again.
    pub fn reopen(&self) {
        self.closing.send_replace(false);
    }

    /// Whether [`Entry::close`] was called.
    pub fn is_closed(&self) -> bool {
        *self.closing.borrow()
    }

    /// Resolves when [`Entry::close`] was called.
    pub fn closed(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut closing = self.closing.subscribe();
        async move {
            if closing.wait_for(|closed| *closed).await.is_err() {
                // The entry is gone, so no request of it is left to be told.
                std::future::pending::<()>().await;
            }
        }
    }
}

pub(crate) fn parsed<T, E>(result: Result<T, E>, text: &str) -> Result<T, Refusal> {
    result.map_err(|_| Refusal::new(Reason::Parse, format!("`{}`", text.chars().take(100).collect::<String>())))
}

fn pairs(table: &BTreeMap<String, String>) -> Vec<(String, String)> {
    table.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

struct Builder<'a> {
    secrets: BTreeMap<Name, Secrets>,
    /// The keys of certificates, by the upstream they are for.
    client_keys: BTreeMap<Name, Arc<Value>>,
    stores: Kept,
    ground: &'a Ground<'a>,
    release: &'a Release,
    grant: &'a Grant,
}

impl Builder<'_> {
    fn way(&self, tls: Option<release::upstream::UpstreamTls>, timeouts: release::upstream::Timeouts) -> Way {
        let app = &self.release.app;
        let opened = self.ground.allow_private.iter().filter(|(of, _)| of == app).map(|(_, net)| net);
        let private = self.grant.egress_private.iter().chain(opened).cloned().collect();
        Way { tls, ..Way::new(app.clone(), private, timeouts) }
    }

    fn limits(&self, asked: Limits) -> Limits {
        let ceilings = &self.grant.limits;
        let all = Limits { cpu_us: u64::MAX, ..self.ground.ceilings };
        let granted = Limits {
            cpu_us: ceilings.cpu_us.unwrap_or(all.cpu_us),
            wall_ms: ceilings.wall_ms.unwrap_or(all.wall_ms),
            memory_bytes: ceilings.memory_bytes.unwrap_or(all.memory_bytes),
            subrequests: ceilings.subrequests.unwrap_or(all.subrequests),
            ..all
        };
        asked.min(granted).min(self.ground.ceilings)
    }

    fn function(&self, name: &Name, function: &release::Function) -> Result<Function, Refusal> {
        let guest = eyot_guest::Function {
            app: self.release.app.clone(),
            name: name.clone(),
            release: self.release.number,
            code: function.bundle.sha256,
            limits: self.limits(function.limits),
            env: pairs(&function.env),
            config: pairs(&function.config),
            reuse: function.reuse,
        };
        let egress = function.egress.iter().map(|text| parsed(text.parse::<Egress>(), text));
        Ok(Function {
            label: name.as_str().to_owned().into(),
            guest: Arc::new(guest),
            egress: egress.collect::<Result<_, _>>()?,
            calls: function.calls.clone(),
            purges: function.purge,
            secrets: self.secrets.get(name).cloned().unwrap_or_default(),
            stores: self.stores.opened_by(function),
            way: self.way(None, release::upstream::Timeouts::default()),
        })
    }

    fn upstream(&self, name: &Name, upstream: &release::upstream::Upstream) -> Result<Arc<Upstream>, Refusal> {
        let bound = upstream.connections_max.map(|connections_max| Bound { connections_max, queue: upstream.queue });
        let client_key = self.client_keys.get(name).cloned();
        // Who the client is, each request knows; who asks for the node itself leaves it so.
        let proxied = upstream.proxy_protocol.map(|version| Proxied { version, client: None, port: 0 });
        let (http, way) = (upstream.http, self.way(upstream.tls.clone(), upstream.timeouts));
        let way = Way { bound, http, client_key, proxied, ..way };
        parsed(self.ground.upstreams.of(name, upstream, way), name.as_str())
    }
}

fn missing(name: &Name) -> Refusal {
    Refusal::new(Reason::Parse, format!("`{name}` is not in the release"))
}

struct Targets<'a> {
    app: &'a Name,
    rooms: &'a Rooms,
    telemetry: &'a Arc<Telemetry>,
    /// The app's part of what is kept in memory.
    part: f64,
    functions: BTreeMap<&'a Name, Arc<Function>>,
    upstreams: BTreeMap<&'a Name, Arc<Upstream>>,
    folders: BTreeMap<&'a Name, Arc<Folder>>,
}

impl Targets<'_> {
    fn route(&self, route: &release::Route) -> Result<Route, Refusal> {
        // A path that the route rewrites is a file's path as a whole.
        let rewritten = route.policy.rewrite.as_ref().map(|to| PathPattern::Exact(to.clone()));
        let at = rewritten.as_ref().unwrap_or(&route.path);
        let fallback = match (route.on_fault, &route.fallback) {
            (OnFault::Open, Some(target)) => Some(self.target(target, at)?),
            _ => None,
        };
        let target = self.target(&route.target, at)?;
        let before = route.before.iter().map(|name| {
            let function = Arc::clone(self.functions.get(name).ok_or_else(|| missing(name))?);
            Ok(Before { label: format!("before:{name}").into(), function, place: Arc::default() })
        });
        let room = || self.rooms.of(self.app.as_str(), self.part);
        let like = match &target.kind {
            Kind::Upstream(upstream) => shield::likeness(route, &upstream.released),
            _ => None,
        };
        Ok(Route {
            cache: Caching::of(self.telemetry, self.app.as_str(), route, &target.kind, room)?,
            id: route.id.clone().into(),
            target,
            before: before.collect::<Result<_, Refusal>>()?,
            fallback,
            early_data: route.early_data,
            policy: Policy::of(route)?,
            like,
        })
    }

    fn target(&self, target: &release::Target, at: &PathPattern) -> Result<Target, Refusal> {
        Ok(match target {
            release::Target::Function(name) => {
                let function = self.functions.get(name).ok_or_else(|| missing(name))?;
                Target::new(format!("function:{name}"), Kind::Function(Arc::clone(function)))
            }
            release::Target::Files(name) => {
                let folder = Arc::clone(self.folders.get(name).ok_or_else(|| missing(name))?);
                Target::new(format!("files:{name}"), Kind::Files(Arc::new(files::Place::new(folder, at))))
            }
            release::Target::Redirect(redirect) => {
                let status = parsed(StatusCode::from_u16(redirect.status), "the status of a redirect")?;
                let redirect = Redirect { status, to: redirect.to.clone() };
                Target::new("redirect", Kind::Redirect(Arc::new(redirect)))
            }
            release::Target::Respond(fixed) => Target::new("respond", Kind::Respond(Arc::new(respond(fixed)?))),
            release::Target::Upstream(name) => {
                let upstream = self.upstreams.get(name).ok_or_else(|| missing(name))?;
                Target::new(format!("upstream:{name}"), Kind::Upstream(Arc::clone(upstream)))
            }
        })
    }
}

fn respond(fixed: &release::Respond) -> Result<Respond, Refusal> {
    let mut headers = HeaderMap::new();
    for (name, value) in &fixed.headers {
        headers.append(parsed(HeaderName::try_from(name), name)?, parsed(HeaderValue::try_from(value), value)?);
    }
    Ok(Respond {
        status: parsed(StatusCode::from_u16(fixed.status), "the status of a response")?,
        headers,
        body: Bytes::from(fixed.body.clone()),
    })
}

impl Route {
    /// Whether something stands before its target that lets some in and others not.
    pub(crate) fn is_guarded(&self) -> bool {
        !self.before.is_empty() || self.policy.as_ref().is_some_and(|policy| policy.is_guarded())
    }

    /// What a request may bring, in bytes: body and head. A route sets the body of any target, and of a function no more
    /// than that takes.
    pub fn limits(&self) -> (u64, u64) {
        let (body_bytes, header_bytes) = self.target.kind.limits();
        let set = self.policy.as_ref().and_then(|policy| policy.body_bytes);
        let body_bytes = match (set, &self.target.kind) {
            (Some(set), Kind::Function(_)) => set.min(body_bytes),
            (set, _) => set.unwrap_or(body_bytes),
        };
        (body_bytes, header_bytes)
    }
}

impl Kind {
    /// What a request may bring for this target, in bytes: body and head.
    pub fn limits(&self) -> (u64, u64) {
        let limits = match self {
            Self::Function(function) => function.guest.limits,
            Self::Files(_) | Self::Redirect(_) | Self::Respond(_) | Self::Upstream(_) => Limits::default(),
        };
        (limits.body_bytes, limits.header_bytes)
    }
}
