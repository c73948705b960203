//! Asking anew for what is kept while it answers: a request of the node's own, which no client waits for.

use std::sync::Arc;

use eyot_cache::answer::Behind;
use eyot_plan::arrival::Interim;
use eyot_plan::body::Body;
use eyot_plan::fault::Fault;
use http::{Request, Response};
use tokio::sync::OwnedSemaphorePermit;

use super::AtRoute;
use crate::entry::{Entry, Route};
use crate::line::Asked;
use crate::node::Node;
use crate::purge::now_ms;
use crate::record::Record;

/// Answers that are asked for anew at once on a node, while what is kept of them answers.
pub(crate) const LATER_MAX: usize = 64;

/// The target of a route, for a request that nobody waits for.
pub(crate) struct Later {
    node: Arc<Node>,
    entry: Arc<Entry>,
    route: Arc<Route>,
    asked: Asked,
    record: Record,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Later {
    /// Asks anew for what answers meanwhile. None: too much is asked for so, or the node ends.
    pub(super) fn anew(at: &AtRoute<'_>) -> Option<Self> {
        let permit = Arc::clone(&at.node.later).try_acquire_owned().ok()?;
        Self::of(at, Some(permit))
    }

    /// Asks for what a body still lacks while it is read. None: the node ends.
    pub(super) fn reader(at: &AtRoute<'_>) -> Option<Self> {
        Self::of(at, None)
    }

    fn of(at: &AtRoute<'_>, permit: Option<OwnedSemaphorePermit>) -> Option<Self> {
        let node = at.node.me.get()?.upgrade()?;
        let Asked { protocol, client, uri, id, trail, .. } = at.asked;
        let asked = Asked {
            protocol: *protocol,
            client: *client,
            from: at.asked.from,
            seen: at.asked.seen.clone(),
            uri: uri.clone(),
            id: id.clone(),
            trail: trail.clone(),
            lent: None,
            connect: None,
            is_inward: at.asked.is_inward,
            not_before_ms: at.asked.not_before_ms,
            interim: Interim::none(),
        };
        let (entry, route) = (Arc::clone(at.entry), Arc::clone(at.route));
        let record = at.record.of_nobody();
        Some(Self { node, entry, route, asked, record, _permit: permit })
    }
}

impl Behind for Later {
    type Later = Self;

    async fn ask(&mut self, request: Request<Body>) -> Result<Response<Body>, Fault> {
        let Self { node, entry, route, asked, record, .. } = self;
        let to = &route.target;
        let asked = AtRoute { node, entry, route, to, asked, record }.shaped(request).await;
        asked.inspect_err(|fault| self.record.fault(fault))
    }

    fn now_ms(&self) -> u64 {
        now_ms()
    }

    fn later(&self) -> Option<Self> {
        None
    }

    fn reader(&self) -> Option<Self> {
        None
    }
}
