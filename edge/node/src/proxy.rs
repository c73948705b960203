//! The target that is an upstream: the client's request passed on, the answer streamed back; tried again at another
//! server, or beside one that is slow, where that does no harm.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use eyot_bundle::release::upstream::{Retries, Timeouts};
use eyot_bundle::web_origin::WebOrigin;
use eyot_fetch::Failed;
use eyot_plan::arrival::Interim;
use eyot_plan::body::{self, Body};
use eyot_plan::fault::{Code, Fault};
use eyot_plan::forward::{self, CameBy};
use eyot_plan::proxied::Proxied;
use eyot_plan::upstream::retry::{self, Failure};
use eyot_plan::upstream::{Unavailable, hash};
use eyot_plan::way::Way;
use futures_util::future::{Either, select};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, Uri};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::time::{Instant, sleep};

use crate::entry::Entry;
use crate::line::Asked;
use crate::loan::Loan;
use crate::node::Node;
use crate::upstreams::{Permit, Upstream, Watched};

/// Interim responses that are passed on for one request.
const INTERIM_MAX: usize = 8;

/// Sends `request` to a server of the upstream; what opens a tunnel opens one there.
///
/// # Errors
/// The fault of the last server tried; `no_healthy_upstream` when there is none to try.
pub(crate) async fn proxy(
    node: &Node,
    entry: &Entry,
    upstream: &Arc<Upstream>,
    mut request: Request<Body>,
    asked: &Asked,
) -> Result<Response<Body>, Fault> {
    let by = upstream.released.hash.as_ref();
    let key = by.map_or(0, |by| hash::of(by, asked.client, request.uri().path(), request.headers()));
    forward::request_out(request.headers_mut(), &asked.facts(&node.config.node.fleet));
    upstream.begins();
    let proxying = Proxying { node, entry, upstream, asked, key, began: Instant::now() };
    proxying.run(request).await
}

/// A request on its way to an upstream.
struct Proxying<'a> {
    node: &'a Node,
    entry: &'a Entry,
    upstream: &'a Arc<Upstream>,
    asked: &'a Asked,
    /// What it hashes to.
    key: u64,
    began: Instant,
}

/// How a try ended: with an answer or without, and at which server.
struct Tried {
    result: Result<Response<Body>, Failed>,
    permit: Permit,
}

impl Tried {
    /// How it failed, if it did: an answer whose status is tried again is a failure too.
    fn failure(&self, retries: &Retries) -> Option<Failure> {
        match &self.result {
            Err(failed) => Some(failed.failure),
            Ok(response) => {
                let status = response.status().as_u16();
                retry::is_retried(retries, status).then_some(Failure::Status(status))
            }
        }
    }

    /// The same, unless it failed.
    fn good(self, retries: &Retries) -> Option<Self> {
        let Some(failure) = self.failure(retries) else { return Some(self) };
        self.permit.end(failure.outcome());
        None
    }

    /// What the client gets of it.
    fn given(self) -> Result<Response<Body>, Fault> {
        match self.result {
            Ok(mut response) => {
                let outcome = retry::outcome(response.status().as_u16());
                if let Some(came_by) = response.extensions_mut().remove::<CameBy>() {
                    forward::response_via(response.headers_mut(), came_by);
                }
                Ok(response.map(|body| Watched::new(body, self.permit, outcome).boxed_unsync()))
            }
            Err(failed) => {
                self.permit.end(failed.failure.outcome());
                Err(failed.fault)
            }
        }
    }
}

impl Proxying<'_> {
    async fn run(&self, mut request: Request<Body>) -> Result<Response<Body>, Fault> {
        let retries = &self.upstream.released.retries;
        let mut permit = self.upstream.choose(self.key, &[]).map_err(unavailable)?;
        let mut at = vec![permit.server()];
        for left in (0..=retries.attempts).rev() {
            let (loan, lent) = Loan::new(request);
            let tried = self.ask(permit, lent, &mut at).await;
            let Some(failure) = tried.failure(retries) else { return tried.given() };
            let may = left > 0 && self.may(loan.method(), failure);
            let Some(again) = may.then(|| loan.back()).flatten() else { return tried.given() };
            let Some(next) = self.another(&at, failure) else { return tried.given() };
            tried.permit.end(failure.outcome());
            at.push(next.server());
            (permit, request) = (next, again);
        }
        Err(Fault::new(Code::InternalError).because("the last try was not given"))
    }

    /// Whether what failed so may be tried again. A tunnel may if nobody has seen that it was to be opened.
    fn may(&self, method: &Method, failure: Failure) -> bool {
        let is_open = self.asked.connect.is_none() || failure == Failure::Connect;
        is_open && !self.left().is_zero() && retry::may(&self.upstream.released.retries, method, failure)
    }

    /// Where it is tried again: at a server that was not tried yet; where there is none, at one that could at least be
    /// connected to. Only within the budget.
    fn another(&self, at: &[usize], failure: Failure) -> Option<Permit> {
        let next = match self.upstream.choose(self.key, at) {
            Err(Unavailable::Tried) if failure != Failure::Connect => self.upstream.choose(self.key, &[]),
            other => other,
        };
        next.ok().filter(|_| self.upstream.retries())
    }

    /// Asks one server; and a second beside it, where the first is slow, that does no harm, and the release says so.
    async fn ask(&self, permit: Permit, request: Request<Body>, at: &mut Vec<usize>) -> Tried {
        let may_hedge = at.len() == 1 && retry::may_hedge(request.method(), !request.body().is_end_stream());
        let hedge = self.upstream.released.hedge.filter(|_| may_hedge && self.asked.connect.is_none());
        let Some(hedge) = hedge else { return self.send(permit, request, &self.asked.interim).await };
        let mut twin = Request::new(body::empty());
        (*twin.method_mut(), *twin.uri_mut()) = (request.method().clone(), request.uri().clone());
        twin.headers_mut().clone_from(request.headers());
        let first = std::pin::pin!(self.send(permit, request, &self.asked.interim));
        let waiting = std::pin::pin!(sleep(Duration::from_millis(hedge.after_ms)));
        let first = match select(first, waiting).await {
            Either::Left((tried, _)) => return tried,
            Either::Right(((), first)) => first,
        };
        let Some(second) = self.upstream.choose(self.key, at).ok().filter(|_| self.upstream.retries()) else {
            return first.await;
        };
        at.push(second.server());
        let none = Interim::none();
        let second = std::pin::pin!(self.send(second, twin, &none));
        let retries = &self.upstream.released.retries;
        // The first that is good; the one that is not waited for any more is broken off.
        match select(first, second).await {
            Either::Left((tried, second)) => match tried.good(retries) {
                Some(tried) => tried,
                None => second.await,
            },
            Either::Right((tried, first)) => match tried.good(retries) {
                Some(tried) => tried,
                None => first.await,
            },
        }
    }

    async fn send(&self, permit: Permit, request: Request<Body>, interim: &Interim) -> Tried {
        let result = self.sent(&permit, request, interim).await;
        let code = result.as_ref().err().map(|failed| failed.fault.code);
        self.node.telemetry.upstream(&self.entry.label, &self.upstream.label, code);
        Tried { result, permit }
    }

    async fn sent(
        &self,
        permit: &Permit,
        mut request: Request<Body>,
        interim: &Interim,
    ) -> Result<Response<Body>, Failed> {
        let origin =
            permit.origin().ok_or_else(|| Fault::new(Code::InternalError).because("there is no such server"))?;
        *request.uri_mut() = at(origin, request.uri())?;
        let mut way = std::borrow::Cow::Borrowed(&self.upstream.way);
        if let Some(proxied) = way.proxied {
            let proxied = Some(Proxied { client: self.asked.from, port: self.asked.port(), ..proxied });
            way = std::borrow::Cow::Owned(Way { proxied, ..way.into_owned() });
        }
        let total_ms = u64::try_from(self.left().as_millis()).unwrap_or(u64::MAX);
        if total_ms + 1 < way.timeouts.total_ms {
            let timeouts = Timeouts { total_ms, ..way.timeouts };
            way = std::borrow::Cow::Owned(Way { timeouts, ..way.into_owned() });
        }
        match self.asked.connect {
            None => self.node.fetch.attempt(&way, request, interim).await,
            Some(connect) => Ok(self.node.fetch.tunnel(&way, request, connect, interim).await?),
        }
    }

    /// What is left of the time in all.
    fn left(&self) -> Duration {
        Duration::from_millis(self.upstream.way.timeouts.total_ms).saturating_sub(self.began.elapsed())
    }
}

/// The fault of an upstream none of whose servers is asked.
fn unavailable(why: Unavailable) -> Fault {
    let mut fault = Fault::new(Code::NoHealthyUpstream);
    if let Unavailable::Open(ms) = why {
        fault.retry_after = Some(u32::try_from(ms.div_ceil(1_000)).unwrap_or(u32::MAX));
    }
    fault.because(match why {
        Unavailable::Down => "its probes find every server down",
        Unavailable::Open(_) => "too many requests to it have failed of late",
        Unavailable::Tried => "it has no server",
    })
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
pub(crate) fn at(server: &WebOrigin, uri: &Uri) -> Result<Uri, Fault> {
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
