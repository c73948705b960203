//! What a route asks of requests and does to answers, whoever its target is. `plan::policy` decides; here it is asked in its
//! order, with what the node knows: where the client is, what was counted, the time.
//!
//! Two things are kept apart. What is *part of an answer* ([`Policy::shape`]) is done once, before anything keeps it. What
//! is *done to every answer* ([`Every`]) is done to each as it leaves, whoever gave it, a cache or a fault.

mod compress;
mod every;
mod guard;
mod limit;

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use eyot_bundle::digest::Digest;
use eyot_bundle::refusal::{Reason, Refusal};
use eyot_bundle::release;
use eyot_bundle::release::PathPattern;
use eyot_bundle::release::policy::{Access, Compress, Maintenance, Rate};
use eyot_plan::body::{self, Body};
use eyot_plan::fault::{Code, Fault};
use eyot_plan::policy::compress::Wants;
use eyot_plan::policy::cors::{self, Cors};
use eyot_plan::policy::fields::Changes;
use eyot_plan::policy::security::Security;
use eyot_plan::policy::{access, disguise, rewrite};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};

use crate::entry::{Entry, Route};
use crate::line::Asked;
use crate::node::Node;
use crate::record::Record;
use crate::telemetry::Compressed;
pub(crate) use every::Every;
use guard::Guard;

/// The policy of one route, ready to be asked.
pub struct Policy {
    /// Stands for the route where something is counted: the same in every release.
    id: String,
    access: Option<Access>,
    auth: Option<Guard>,
    /// The largest body of a request, in bytes.
    pub body_bytes: Option<u64>,
    compress: Option<Compress>,
    /// The metrics of that, once there is something to count.
    compressed: OnceLock<Compressed>,
    cors: Option<Cors>,
    request: Changes,
    response: Changes,
    maintenance: Option<Maintenance>,
    rate: Option<Rate>,
    response_body_bytes: Option<u64>,
    rewrite: Option<(String, PathPattern)>,
    security: Option<Security>,
}

impl Policy {
    /// The policy of a route; none where nothing is asked or done.
    ///
    /// # Errors
    /// `parse`, for what the verification should not have let through.
    pub fn of(route: &release::Route) -> Result<Option<Arc<Self>>, Refusal> {
        let of = &route.policy;
        if of.is_none() {
            return Ok(None);
        }
        let bad = |text: String| Refusal::new(Reason::Parse, format!("the policy of a route: {text}"));
        let cors = of.cors.as_ref().map(|cors| Cors::new(cors, &route.methods)).transpose();
        let headers = of.headers.clone().unwrap_or_default();
        let changes = |changes| Changes::new(changes).map_err(|error| bad(error.to_string()));
        let digest = Digest::of(route.id.as_bytes()).to_string();
        Ok(Some(Arc::new(Self {
            id: digest.chars().take(32).collect(),
            access: of.access.clone(),
            auth: of.auth.as_ref().map(Guard::new).transpose().map_err(bad)?,
            body_bytes: of.body_bytes,
            compress: of.compress.clone(),
            compressed: OnceLock::new(),
            cors: cors.map_err(|error| bad(error.to_string()))?,
            request: changes(&headers.request)?,
            response: changes(&headers.response)?,
            maintenance: of.maintenance.clone(),
            rate: of.rate.clone(),
            response_body_bytes: of.response_body_bytes,
            rewrite: of.rewrite.clone().map(|to| (to, route.path.clone())),
            security: of.security_headers.as_ref().map(Security::new),
        })))
    }

    /// Asks what is asked before anybody answers, and changes what is changed of the request. An answer: it is the answer.
    ///
    /// # Errors
    /// `forbidden`, `maintenance`, `rate_limited`, `unauthorized`.
    pub(crate) async fn enter(
        &self,
        node: &Node,
        entry: &Entry,
        request: &mut Request<Body>,
        asked: &Asked,
        record: &mut Record,
    ) -> Result<Option<Response<Body>>, Fault> {
        self.admits(node, asked.client)?;
        if let Some(cors) = self.cors.as_ref().filter(|_| is_preflight(request)) {
            record.every.is_preflight = true;
            return Ok(Some(preflight(cors, request)));
        }
        if let Some(rate) = &self.rate {
            let counted = entry.share.take(rate, &self.id, asked.client, request.headers());
            record.every.said.extend(counted.fields(rate));
            counted.check(rate)?;
        }
        if let Some(answer) = self.maintain(asked.client, record)? {
            return Ok(Some(answer));
        }
        if let Some(guard) = &self.auth {
            self.authenticate(guard, entry, request, asked.client, record).await?;
        }
        self.change(request)?;
        record.every.is_answered = true;
        Ok(None)
    }

    /// Whether a client may ask, by where it is.
    fn admits(&self, node: &Node, client: IpAddr) -> Result<(), Fault> {
        let country = || node.here.geo.find(client)?.country;
        match self.access.as_ref().is_none_or(|lists| access::admits(lists, client, country)) {
            true => Ok(()),
            false => Err(Fault::new(Code::Forbidden).because("the route's lists of addresses and countries")),
        }
    }

    /// What is answered while the route is in maintenance.
    fn maintain(&self, client: IpAddr, record: &mut Record) -> Result<Option<Response<Body>>, Fault> {
        let Some(maintenance) = &self.maintenance else { return Ok(None) };
        if access::holds(&maintenance.allow, client) {
            return Ok(None);
        }
        let mut fault = Fault::new(Code::Maintenance);
        fault.retry_after = Some(maintenance.retry_after_s);
        let Some(page) = &maintenance.page else { return Err(fault) };
        record.fault(&fault);
        let mut response = fault.response(&record.id).map(|_| body::full(page.clone()));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        Ok(Some(response))
    }

    async fn authenticate(
        &self,
        guard: &Guard,
        entry: &Entry,
        request: &mut Request<Body>,
        client: IpAddr,
        record: &mut Record,
    ) -> Result<(), Fault> {
        if let Err(refused) = guard.check(&entry.share, &self.id, client, request.headers()).await {
            record.every.said.extend(refused.challenges);
            return Err(refused.fault);
        }
        if !guard.passes() {
            // Who it was for has read it. What it leads to may be kept for all who are let in here (RFC 9111, section 3.5).
            request.headers_mut().remove(AUTHORIZATION);
        }
        Ok(())
    }

    fn change(&self, request: &mut Request<Body>) -> Result<(), Fault> {
        if let Some((to, at)) = &self.rewrite {
            let made = rewrite::uri(to, at, request.uri());
            *request.uri_mut() =
                made.ok_or_else(|| Fault::new(Code::BadRequest).because("the rewritten path is no path"))?;
        }
        self.request.apply(request.headers_mut());
        Ok(())
    }

    /// Whether it says who may ask.
    pub(crate) fn is_guarded(&self) -> bool {
        self.access.is_some() || self.auth.is_some()
    }

    /// What a request wants of its answer's form; asked before the request goes to the target.
    pub(crate) fn wants(&self, request: &Request<Body>) -> Wants {
        let of = |compress| Wants::of(compress, request.method(), request.headers());
        self.compress.as_ref().map(of).unwrap_or_default()
    }

    /// Gives an answer the form in which it is sent and kept: no larger than the route lets it be, and compressed.
    ///
    /// # Errors
    /// `response_too_large`.
    pub(crate) fn shape(
        &self,
        node: &Node,
        entry: &Entry,
        route: &Route,
        wants: &Wants,
        mut response: Response<Body>,
    ) -> Result<Response<Body>, Fault> {
        if let Some(bytes_max) = self.response_body_bytes {
            response = limit::limited(response, bytes_max)?;
        }
        let Some(compress) = &self.compress else { return Ok(response) };
        let counted = || self.compressed.get_or_init(|| node.telemetry.compressed(&entry.label, &route.id)).clone();
        Ok(compress::compress(response, wants, compress, entry.share.compressors(), counted))
    }
}

/// The route for a request. A preflight is for the route that takes what it asks leave for, if that one says who has leave.
///
/// # Errors
/// `no_route` or `method_not_allowed`; `bad_request` for a path that others would read as one that another route guards.
pub(crate) fn find<'a>(entry: &'a Entry, host: &str, request: &Request<Body>) -> Result<&'a Arc<Route>, Fault> {
    let route = leading(entry, host, request)?;
    let meant = disguise::plainest(request.uri().path());
    let meant = meant.and_then(|path| entry.find(host, &path, request.method()).ok());
    match meant.is_some_and(|meant| meant.is_guarded() && !Arc::ptr_eq(meant, route)) {
        true => Err(Fault::new(Code::BadRequest).because("a path that others read as one of a guarded route")),
        false => Ok(route),
    }
}

/// The route that the request's path, as it stands, leads to.
fn leading<'a>(entry: &'a Entry, host: &str, request: &Request<Body>) -> Result<&'a Arc<Route>, Fault> {
    let path = request.uri().path();
    if let Some(method) = cors::preflight(request.method(), request.headers()) {
        let says = |route: &&Arc<Route>| route.policy.as_ref().is_some_and(|policy| policy.cors.is_some());
        if let Some(route) = entry.find(host, path, &method).ok().filter(says) {
            return Ok(route);
        }
    }
    entry.find(host, path, request.method())
}

fn is_preflight(request: &Request<Body>) -> bool {
    cors::preflight(request.method(), request.headers()).is_some()
}

fn preflight(cors: &Cors, request: &Request<Body>) -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    *response.headers_mut() = cors.preflight(request.headers());
    response
}
