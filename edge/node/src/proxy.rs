//! The target that is an upstream: the client's request passed on, the answer streamed back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use eyot_bundle::web_origin::WebOrigin;
use eyot_plan::arrival::Interim;
use eyot_plan::body::Body;
use eyot_plan::fault::{Code, Fault};
use eyot_plan::forward;
use http::uri::PathAndQuery;
use http::{Request, Response, Uri};

use crate::entry::{Entry, Upstream};
use crate::line::Asked;
use crate::loan::Loan;
use crate::node::Node;

/// Servers of one upstream that one request is tried at.
const TRIES_MAX: usize = 3;
/// Interim responses that are passed on for one request.
const INTERIM_MAX: usize = 8;

/// Sends `request` to the upstream's servers in turn, until one can be reached; what opens a tunnel opens one there. A
/// request whose body was begun is not sent again.
///
/// # Errors
/// The fault of the last server tried; `no_healthy_upstream` when there is none.
pub(crate) async fn proxy(
    node: &Node,
    entry: &Arc<Entry>,
    upstream: &Upstream,
    mut request: Request<Body>,
    asked: &Asked,
) -> Result<Response<Body>, Fault> {
    forward::request_out(request.headers_mut(), &asked.facts(&node.config.node.fleet));
    let mut last = Fault::new(Code::NoHealthyUpstream);
    for server in upstream.in_turn().take(TRIES_MAX) {
        *request.uri_mut() = at(server, request.uri())?;
        let (loan, lent) = Loan::new(request);
        let sent = match asked.connect {
            None => node.fetch.send_informed(&upstream.way, lent, &asked.interim).await,
            Some(connect) => node.fetch.tunnel(&upstream.way, lent, connect, &asked.interim).await,
        };
        node.telemetry.upstream(&entry.label, &upstream.label, sent.as_ref().err().map(|fault| fault.code));
        let fault = match sent {
            Err(fault) if fault.code == Code::UpstreamUnreachable => fault,
            other => return other,
        };
        match loan.back() {
            Some(again) => request = again,
            None => return Err(fault),
        }
        last = fault;
    }
    Err(last)
}

/// Interim responses on their way to `client`: like final ones they say nothing that is the node's to say, and there are
/// only so many.
pub(crate) fn interim(client: Interim) -> Interim {
    let left = AtomicUsize::new(INTERIM_MAX);
    Interim::new(move |mut head| {
        let one_less = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if one_less.is_ok() {
            forward::response_back(head.headers_mut());
            client.send(head);
        }
    })
}

/// `uri`'s path and query at `server`.
fn at(server: &WebOrigin, uri: &Uri) -> Result<Uri, Fault> {
    let authority = if server.port == server.scheme.default_port() {
        server.host.to_string()
    } else {
        format!("{}:{}", server.host, server.port)
    };
    let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let made = Uri::builder().scheme(server.scheme.as_str()).authority(authority).path_and_query(path).build();
    made.map_err(|error| Fault::new(Code::InternalError).because(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_goes_to_the_server_with_its_own_path_and_query() {
        for (server, uri, expect) in [
            ("https://api.internal", "https://shop.test/a/b?c=d", "https://api.internal/a/b?c=d"),
            ("http://10.0.0.1:8080", "https://shop.test/", "http://10.0.0.1:8080/"),
            ("https://[2001:db8::1]:8443", "https://shop.test:444/x", "https://[2001:db8::1]:8443/x"),
        ] {
            let server = server.parse().expect("an origin");
            assert_eq!(at(&server, &uri.parse().expect("a URI")).expect("a URI").to_string(), expect);
        }
    }
}
