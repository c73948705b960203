//! Functions that stand before a target: each answers, or passes the request on. A fault of one ends the request, whatever
//! its route says of faults: what was not let through goes nowhere.

use std::sync::Arc;

use eyot_plan::before::{self, Changes};
use eyot_plan::body::{self, Body};
use eyot_plan::fault::{Code, Fault};
use http::{Request, Response};

use crate::admit::head_bytes;
use crate::call;
use crate::entry::{Before, Entry};
use crate::line::Asked;
use crate::node::Node;
use crate::record::Record;

/// What one said.
pub(crate) enum Said {
    /// This is the answer.
    Answer(Response<Body>),
    /// The request goes on, changed already; this is for its answer.
    Next(Changes),
}

/// Asks `before` with the head of `request`, whose body waits untouched for the target.
///
/// # Errors
/// The fault the function ended in, or what it said wrong.
pub(crate) async fn ask(
    node: &Node,
    entry: &Arc<Entry>,
    before: &Before,
    request: &mut Request<Body>,
    asked: &Asked,
    record: &mut Record,
) -> Result<Said, Fault> {
    let mut head = Request::new(body::empty());
    *head.method_mut() = request.method().clone();
    *head.uri_mut() = request.uri().clone();
    *head.headers_mut() = before::head(request.headers());
    let said = Box::pin(call::call(node, entry, &before.function, head, asked, record)).await.and_then(|response| {
        let changes = before::read(response.status(), response.headers())?;
        if changes.is_none() && asked.connect.is_some() && response.status().is_success() {
            return Err(Fault::new(Code::FunctionGaveNoResponse).because("a success would look like an open WebSocket"));
        }
        Ok((changes, response))
    });
    match said {
        Ok((Some(changes), _)) => {
            changes.request(request.headers_mut());
            Ok(Said::Next(changes))
        }
        Ok((None, response)) => {
            record.target(&before.label, &before.place);
            Ok(Said::Answer(response))
        }
        Err(fault) => {
            record.target(&before.label, &before.place);
            Err(fault)
        }
    }
}

/// Whether the head is still within what the target takes, with what was added to it.
///
/// # Errors
/// `response_too_large`: the functions said too much.
pub(crate) fn fits(request: &Request<Body>, header_bytes_max: u64) -> Result<(), Fault> {
    let bytes = head_bytes(request.uri(), request.headers());
    if bytes <= header_bytes_max {
        return Ok(());
    }
    let fault = Fault::new(Code::ResponseTooLarge).over("header_bytes", header_bytes_max, bytes);
    Err(fault.because("the functions before the target added too much to the request"))
}
