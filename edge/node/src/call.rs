//! The target that is a function: its request made ready, its doors opened, its call run.

use std::sync::Arc;

use eyot_guest::{Call, Doors};
use eyot_plan::body::Body;
use eyot_plan::fault::Fault;
use eyot_plan::forward;
use http::{Request, Response};

use crate::doors::Door;
use crate::entry::{Entry, Function};
use crate::line::Asked;
use crate::node::Node;
use crate::record::Record;

/// Calls `function` with `request`.
///
/// # Errors
/// The fault the function ended in, or the node's when it could not be run.
pub(crate) async fn call(
    node: &Node,
    entry: &Arc<Entry>,
    function: &Arc<Function>,
    mut request: Request<Body>,
    asked: &Asked,
    record: &mut Record,
) -> Result<Response<Body>, Fault> {
    forward::request_out(request.headers_mut(), &asked.facts(&node.config.node.fleet));
    let door = Arc::new(Door::new(node, entry, function, asked));
    let (meter, witness) = record.call(function);
    let call = Call {
        function: Arc::clone(&function.guest),
        request,
        doors: Doors { fetch: door.clone(), log: door, share: entry.limit.clone(), ..Doors::closed() },
        meter,
        witness: Box::new(witness),
        request_id: asked.id.clone(),
        remaining: None,
    };
    node.runtime.call(call).await
}
