//! The rows of the wire that purge, and tell how far nodes are with it. They are for publishers, operators and keys that
//! may do nothing else; and for nodes, of apps whose functions may purge.

use eyot_bundle::grant::GrantState;
use eyot_bundle::name::Name;
use eyot_link::purge::{Kind, Progress, PurgeRequest, Purged};
use eyot_plan::body::Body;
use http::{Response, StatusCode};

use super::auth::{self, Caller};
use super::{Asked, Wire, body, json};
use crate::blobs::Blobs;
use crate::denied::Denied;
use crate::heads::Heads;

/// The request for a purge is no larger than this, in bytes.
const PURGE_BYTES_MAX: usize = 16 << 10;

impl<H: Heads, B: Blobs> Wire<H, B> {
    pub(super) async fn purge(&self, asked: &Asked, bytes: Body, app: Name) -> Result<Response<Body>, Denied> {
        let who = match &asked.caller {
            Caller::Node(_) => None,
            caller => Some(auth::purger(caller, &app)?.to_owned()),
        };
        let known = asked.view.apps.get(&app).filter(|known| known.trust.grant.state != GrantState::Removed);
        if known.is_none() {
            return Err(Denied::not_found(format!("no app `{app}` is granted here")));
        }
        if who.is_none() && !self.purges.functions_may(&self.catalog.blobs, &asked.view, &app).await? {
            return Err(auth::not_yours(format!("no release of `{app}` has a function that may purge")));
        }
        let bytes = body::read(bytes, &asked.caller, PURGE_BYTES_MAX, self.limits.body_time_max).await?;
        let request: PurgeRequest = body::parse(&bytes)?;
        request.check().map_err(Denied::malformed)?;
        let done = self.purges.purge(&self.catalog.heads, &app, &request).await;
        let result = match &done {
            Ok(Purged { widened: true, .. }) => "widened",
            Ok(_) => "done",
            Err(denied) => denied.code(),
        };
        self.metrics.purge(app.as_str(), word(request.kind), result);
        // Who purges too often is counted: the audit is not theirs to fill.
        let is_one_of_many = result == "widened" || result == "rate";
        if let Some(who) = who.filter(|_| !is_one_of_many) {
            let soft = if request.soft { ", soft" } else { "" };
            let detail = match &done {
                Ok(done) => format!("{} {}{soft}: purge {}", word(request.kind), request.value, done.purge),
                Err(denied) => denied.to_string(),
            };
            self.note(&who, "purge".to_owned(), Some(app), result, detail).await;
        }
        json(StatusCode::OK, &done?)
    }

    pub(super) fn purge_progress(&self, asked: &Asked, app: &Name) -> Result<Response<Body>, Denied> {
        auth::purger(&asked.caller, app)?;
        let nodes = self.fleet.purges(&asked.view);
        json(StatusCode::OK, &Progress { purge: self.purges.last(), nodes })
    }
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::App => "app",
        Kind::Key => "key",
        Kind::Url => "url",
    }
}
