//! Calls of functions: what is asked from outside, and what functions ask of each other. A call is made ready, given its
//! doors, and run.

use std::sync::{Arc, Mutex, PoisonError};

use eyot_bundle::name::Name;
use eyot_cache::answer::Hints;
use eyot_fetch::Fetch;
use eyot_guest::{Call, Client, Doors, Hint, Tree, WeakRuntime};
use eyot_plan::arrival::{Interim, Protocol};
use eyot_plan::body::Body;
use eyot_plan::cache::tags::TAGS_MAX;
use eyot_plan::fault::{Code, Fault};
use eyot_plan::forward::{self, Trail};
use http::{Request, Response};
use tokio::sync::Semaphore;

use crate::access;
use crate::cached::named::Named;
use crate::doors::Door;
use crate::edge::{Here, Known};
use crate::entry::{Entry, Function};
use crate::line::Asked;
use crate::node::Node;
use crate::purge::Purger;
use crate::record::{Bill, Record};
use crate::snapshot::Snapshots;
use crate::telemetry::Telemetry;

/// Calls `function` with `request`, as the root of a tree of calls.
///
/// # Errors
/// The fault the function ended in, or the node's when it could not be run.
pub(crate) async fn call(
    node: &Node,
    entry: &Arc<Entry>,
    function: &Arc<Function>,
    mut request: Request<Body>,
    asked: &Asked,
    record: &Record,
) -> Result<Response<Body>, Fault> {
    forward::request_out(request.headers_mut(), &asked.facts(&node.config.node.fleet));
    let kin = Arc::new(Kin::new(node, entry, asked, record.bill()));
    let place = Place { tree: asked.lent.clone(), depth: 0, caller: None };
    let mut response = Arc::clone(&kin).call(function, request, place).await?;
    // What it has said of its answer's keeping until then.
    response.extensions_mut().insert(kin.hints());
    Ok(response)
}

/// Calls `function` with an event, which nobody asks for.
///
/// # Errors
/// As [`call`].
pub(crate) async fn event(
    node: &Node,
    entry: &Arc<Entry>,
    function: &Arc<Function>,
    mut request: Request<Body>,
    record: &Record,
) -> Result<Response<Body>, Fault> {
    forward::request_within(request.headers_mut(), &record.id);
    let asked = Asked {
        protocol: Protocol::H1,
        client: std::net::Ipv4Addr::UNSPECIFIED.into(),
        from: None,
        seen: None,
        uri: request.uri().clone(),
        id: record.id.clone(),
        trail: Trail::default(),
        lent: None,
        connect: None,
        is_inward: false,
        not_before_ms: 0,
        interim: Interim::none(),
    };
    let kin = Arc::new(Kin::new(node, entry, &asked, record.bill()));
    kin.call(function, request, Place { tree: None, depth: 0, caller: None }).await
}

/// What the functions have in common that one request leads to.
pub(crate) struct Kin {
    /// Guests hold this, and may not keep alive what ends them.
    pub(crate) runtime: WeakRuntime,
    pub(crate) fetch: Fetch,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) access: Arc<access::Log>,
    pub(crate) entry: Arc<Entry>,
    pub(crate) fleet: String,
    pub(crate) protocol: Protocol,
    pub(crate) request_id: String,
    pub(crate) trail: Trail,
    /// The client; none: it is an event.
    pub(crate) client: Option<Client>,
    pub(crate) here: Arc<Here>,
    pub(crate) purger: Arc<Purger>,
    pub(crate) telemetry: Arc<Telemetry>,
    /// Permits of those who ask anew for what answers meanwhile.
    pub(crate) later: Arc<Semaphore>,
    /// What the function that is asked says of its answer's keeping.
    hints: Mutex<Hints>,
    bill: Bill,
}

/// Where a call is in its tree.
pub(crate) struct Place {
    /// The tree; at depth 0 what its own is within.
    pub(crate) tree: Option<Arc<Tree>>,
    /// How deep it is.
    pub(crate) depth: u8,
    /// The function that calls; none at depth 0.
    pub(crate) caller: Option<Name>,
}

impl Kin {
    fn new(node: &Node, entry: &Arc<Entry>, asked: &Asked, bill: Bill) -> Self {
        Self {
            runtime: node.runtime.downgrade(),
            fetch: node.fetch.clone(),
            snapshots: Arc::clone(&node.snapshots),
            access: Arc::clone(&node.access),
            entry: Arc::clone(entry),
            fleet: node.config.node.fleet.clone(),
            protocol: asked.protocol,
            request_id: asked.id.clone(),
            trail: asked.trail.clone(),
            client: asked.seen.clone(),
            here: Arc::clone(&node.here),
            purger: Arc::clone(&node.purger),
            telemetry: Arc::clone(&node.telemetry),
            later: Arc::clone(&node.later),
            hints: Mutex::default(),
            bill,
        }
    }

    fn hints(&self) -> Hints {
        std::mem::take(&mut self.hints.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The function that is asked says this of its answer's keeping.
    pub(crate) fn hint(&self, hint: Hint) {
        let mut hints = self.hints.lock().unwrap_or_else(PoisonError::into_inner);
        match hint {
            Hint::Keys(keys) => {
                let left = TAGS_MAX.saturating_sub(hints.keys.len());
                hints.keys.extend(keys.into_iter().take(left));
            }
            Hint::Ttl(ms) => hints.ttl_ms = Some(ms),
        }
    }

    /// Calls `function` with `request`, whose fields are ready.
    ///
    /// # Errors
    /// The fault the function ended in, or the node's when it could not be run.
    pub(crate) async fn call(
        self: Arc<Self>,
        function: &Arc<Function>,
        request: Request<Body>,
        place: Place,
    ) -> Result<Response<Body>, Fault> {
        let Place { tree, depth, caller } = place;
        let (meter, witness) = self.bill.call(function, depth);
        let ending = || Fault::new(Code::NotReady).because("the node ends");
        let runtime = self.runtime.upgrade().ok_or_else(ending)?;
        let call = Call {
            function: Arc::clone(&function.guest),
            request,
            request_id: self.request_id.clone(),
            doors: self.doors(function, caller),
            meter,
            witness: Box::new(witness),
            tree,
            depth,
        };
        runtime.call(call).await
    }

    /// The doors of a call of `function` by `caller`, another one, or from outside.
    fn doors(self: Arc<Self>, function: &Arc<Function>, caller: Option<Name>) -> Doors {
        let (share, stores) = (self.entry.limit.clone(), Arc::clone(&function.stores));
        let edge = Arc::new(Known::new(Arc::clone(&self), function, caller));
        let objects = Arc::new(Named::new(Arc::clone(&self)));
        let door = Arc::new(Door::new(self, function));
        Doors { fetch: door.clone(), log: door, share, stores, edge, objects }
    }
}
