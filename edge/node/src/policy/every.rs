//! What is done to every answer of a route as it leaves: who may read it, what browsers are told, what was counted.

use std::sync::Arc;

use eyot_plan::body::Body;
use http::header::ORIGIN;
use http::uri::Scheme;
use http::{HeaderMap, HeaderName, HeaderValue, Request};

use super::Policy;

/// What is done to every answer to one request; at first nothing.
#[derive(Default)]
pub(crate) struct Every {
    policy: Option<Arc<Policy>>,
    /// Where the page is from that asks.
    origin: HeaderMap,
    /// Whether the request came by TLS.
    is_secure: bool,
    /// It asks for leave, and was answered by what it may do.
    pub(super) is_preflight: bool,
    /// The answer is one of those whom the request is for, and not the node's.
    pub(super) is_answered: bool,
    /// What else is said.
    pub(super) said: Vec<(HeaderName, HeaderValue)>,
}

impl Every {
    /// What `policy` does to the answers to a request.
    pub(crate) fn of(policy: Option<&Arc<Policy>>, request: &Request<Body>) -> Self {
        let Some(policy) = policy.cloned() else { return Self::default() };
        let origin = request.headers().get_all(ORIGIN).iter().map(|value| (ORIGIN, value.clone()));
        let is_secure = request.uri().scheme() == Some(&Scheme::HTTPS);
        Self { origin: origin.collect(), policy: Some(policy), is_secure, ..Self::default() }
    }

    /// Does it. A fault is the node's answer: the fields that a route changes are not its.
    pub(crate) fn dress(self, headers: &mut HeaderMap, is_fault: bool) {
        let Some(policy) = &self.policy else { return };
        if self.is_answered && !is_fault {
            policy.response.apply(headers);
        }
        if let Some(security) = &policy.security {
            security.apply(headers, self.is_secure);
        }
        if let Some(cors) = policy.cors.as_ref().filter(|_| !self.is_preflight) {
            cors.actual(&self.origin, headers);
        }
        for (name, value) in self.said {
            headers.append(name, value);
        }
    }
}
