//! The wire (`docs/formats.md`, section 5): arrivals in, the catalog asked, responses out. Every request is from a
//! node, by its token, or from a publisher or operator, by a signature; there is nothing for anyone else.

mod acme;
mod auth;
mod blob;
mod body;
mod limits;
mod purge;
mod read;
mod tail;
mod turns;
mod watch;
mod write;

use std::sync::Arc;

use eyot_bundle::name::Name;
use eyot_plan::arrival::{Answer, Arrival};
use eyot_plan::body::Body;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Method, Response, StatusCode};
use jiff::Timestamp;
use tokio::sync::Semaphore;

use crate::acme::Acme;
use crate::audit::Audit;
use crate::blobs::Blobs;
use crate::catalog::Catalog;
use crate::denied::Denied;
use crate::fleet::Fleet;
use crate::heads::Heads;
use crate::metrics::Metrics;
use crate::nonces::Nonces;
use crate::purges::Purges;
use crate::tails::Tails;
use crate::turns::Turns;
use crate::view::View;
pub(crate) use limits::Limits;

/// The wire of one origin.
pub(crate) struct Wire<H, B> {
    pub(crate) catalog: Arc<Catalog<H, B>>,
    pub(crate) audit: Audit,
    pub(crate) fleet: Fleet,
    pub(crate) metrics: Arc<Metrics>,
    acme: Acme,
    purges: Purges,
    turns: Turns,
    nonces: Nonces,
    tails: Tails,
    limits: Limits,
    uploads: Semaphore,
    /// Turns true when the origin ends: streams end then.
    ending: tokio::sync::watch::Receiver<bool>,
}

/// A request without its body, and all that is known of it.
pub(crate) struct Asked {
    parts: http::request::Parts,
    caller: auth::Caller,
    view: Arc<View>,
    now: Timestamp,
}

impl<H: Heads, B: Blobs> Wire<H, B> {
    pub(crate) fn new(
        catalog: Arc<Catalog<H, B>>,
        audit: Audit,
        fleet: Fleet,
        (acme, purges): (Acme, Purges),
        metrics: Arc<Metrics>,
        ending: tokio::sync::watch::Receiver<bool>,
        limits: Limits,
    ) -> Self {
        let uploads = Semaphore::new(limits.uploads_max);
        let nonces = Nonces::new(Timestamp::now().as_second());
        Self {
            catalog,
            audit,
            fleet,
            acme,
            purges,
            turns: Turns::default(),
            metrics,
            nonces,
            tails: Tails::default(),
            limits,
            uploads,
            ending,
        }
    }

    async fn respond(&self, arrival: Arrival) -> Result<Response<Body>, Denied> {
        let (parts, body) = arrival.request.into_parts();
        let view = self.catalog.view();
        let now = Timestamp::now();
        let caller = auth::caller(&view, &self.nonces, &parts, now)?;
        caller.may_ask(parts.uri.path())?;
        let path = parts.uri.path().to_owned();
        let rest = path.strip_prefix("/v1/").ok_or_else(|| Denied::not_found("every path begins with /v1/"))?;
        let segments: Vec<&str> = rest.split('/').collect();
        let method = parts.method.clone();
        let asked = Asked { parts, caller, view, now };
        self.route(&method, &segments, rest, &asked, body).await
    }

    async fn route(
        &self,
        method: &Method,
        segments: &[&str],
        rest: &str,
        asked: &Asked,
        body: Body,
    ) -> Result<Response<Body>, Denied> {
        let get = matches!(*method, Method::GET | Method::HEAD);
        let post = *method == Method::POST;
        match segments {
            ["metadata"] if post => self.upload(asked, body).await,
            ["metadata", file] if get => self.metadata(asked, file).await,
            ["targets", ..] if get => self.target(asked, rest.strip_prefix("targets/").unwrap_or_default()).await,
            ["blobs", digest] if get => self.blob(asked, blob::digest(digest)?).await,
            ["blobs", digest] if *method == Method::PUT => self.put_blob(asked, body, blob::digest(digest)?).await,
            ["watch"] if get => self.watch(asked),
            ["report"] if post => self.report(asked, body).await,
            ["acme", "lease"] if post => self.acme_lease(asked, body).await,
            ["acme", "challenges"] if post => self.acme_challenge(asked, body).await,
            ["acme", "certificates", name] if get => self.acme_certificate(asked, name).await,
            ["acme", "certificates", name] if *method == Method::PUT => {
                self.put_acme_certificate(asked, body, name).await
            }
            ["apps"] if get => self.apps(asked),
            ["apps", app, "releases"] if get => self.releases(asked, &name(app)?),
            ["apps", app, "releases"] if post => self.publish(asked, body, name(app)?).await,
            ["apps", app, "purge"] if get => self.purge_progress(asked, &name(app)?),
            ["apps", app, "purge"] if post => self.purge(asked, body, name(app)?).await,
            ["apps", app, "lease"] if post => self.turn(asked, body, &name(app)?).await,
            ["apps", app, "tail"] if get => self.follow(asked, name(app)?).await,
            ["tail", id] if post => self.tail(asked, body, id).await,
            ["apps", app, "rollout"] if post => self.rollout(asked, body, name(app)?).await,
            ["fleet"] if get => self.fleet(asked),
            ["audit"] if get => self.audit(asked),
            [
                "acme" | "apps" | "audit" | "blobs" | "fleet" | "metadata" | "report" | "tail" | "targets" | "watch",
                ..,
            ] => Err(Denied::request(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                format!("nothing here takes {method}"),
            )),
            _ => Err(Denied::not_found("the origin has nothing of this name")),
        }
    }
}

impl<H: Heads, B: Blobs> Answer for Wire<H, B> {
    async fn answer(&self, arrival: Box<Arrival>) -> Response<Body> {
        let (method, path) = (arrival.request.method().clone(), arrival.request.uri().path().to_owned());
        let mut response = match self.respond(*arrival).await {
            Ok(response) => response,
            Err(denied) => {
                if matches!(denied, Denied::Failed(_)) {
                    tracing::error!(%method, path, cause = %denied, "a call failed");
                } else {
                    tracing::debug!(%method, path, code = denied.code(), "a call was denied");
                }
                refusal(&denied)
            }
        };
        if method == Method::HEAD {
            *response.body_mut() = eyot_plan::body::empty();
        }
        self.metrics.call(response.status());
        response
    }
}

/// A problem document (RFC 9457).
fn refusal(denied: &Denied) -> Response<Body> {
    let bytes = serde_json::to_vec(&denied.problem()).unwrap_or_default();
    let mut response = Response::new(eyot_plan::body::full(bytes));
    *response.status_mut() = denied.status();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    match denied.status() {
        StatusCode::METHOD_NOT_ALLOWED => {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT"));
        }
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
        }
        _ => {}
    }
    response
}

/// A response of JSON.
fn json(status: StatusCode, value: &impl serde::Serialize) -> Result<Response<Body>, Denied> {
    let bytes = serde_json::to_vec(value).map_err(|error| Denied::Failed(error.to_string()))?;
    let mut response = Response::new(eyot_plan::body::full(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// The app of a path.
fn name(text: &str) -> Result<Name, Denied> {
    text.parse().map_err(|error: eyot_bundle::name::NameError| Denied::malformed(error.to_string()))
}
