//! The row of the wire by which nodes share the turns of schedules. It is for nodes alone.

use eyot_bundle::grant::GrantState;
use eyot_bundle::name::Name;
use eyot_link::events::TurnRequest;
use eyot_plan::body::Body;
use http::{Response, StatusCode};

use super::auth::{self, Caller};
use super::{Asked, Wire, body, json};
use crate::blobs::Blobs;
use crate::denied::Denied;
use crate::heads::Heads;

/// The request for a turn is no larger than this, in bytes.
const TURN_BYTES_MAX: usize = 1 << 10;

impl<H: Heads, B: Blobs> Wire<H, B> {
    pub(super) async fn turn(&self, asked: &Asked, bytes: Body, app: &Name) -> Result<Response<Body>, Denied> {
        let Caller::Node(node) = &asked.caller else {
            return Err(auth::not_yours("only nodes run schedules".to_owned()));
        };
        let known = asked.view.apps.get(app).filter(|known| known.trust.grant.state == GrantState::Active);
        if known.is_none() {
            return Err(Denied::not_found(format!("no app `{app}` is active here")));
        }
        let bytes = body::read(bytes, &asked.caller, TURN_BYTES_MAX, self.limits.body_time_max).await?;
        let request: TurnRequest = body::parse(&bytes)?;
        // The time is that of now: a body may have come slowly.
        let turn = self.turns.ask(&self.catalog.heads, app, node, &request, jiff::Timestamp::now()).await?;
        self.metrics.turn(app.as_str(), turn);
        json(StatusCode::OK, &turn)
    }
}
