//! What may be tried again without a harm that the client did not ask for (RFC 9110, section 9.2.2).

use eyot_bundle::release::upstream::{Retries, RetryOn};
use http::Method;

use super::Outcome;
use crate::fault::{Code, Fault};

/// How a try ended without an answer that is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There was no connection, or no TLS on it: nothing of the request has left.
    Connect,
    /// It is not the server's: the request was not let out, or broke off itself.
    Local,
    /// The server answered what is no HTTP.
    Malformed,
    /// The connection ended, and nothing of an answer had come.
    Reset,
    /// The server answered with this status.
    Status(u16),
    /// No head of an answer came in time.
    Timeout,
    /// The connection ended before anything of the request had left.
    Unsent,
}

impl Failure {
    /// What a fault of no known step stands for.
    pub fn of(fault: &Fault) -> Self {
        match fault.code {
            Code::UpstreamTls | Code::UpstreamUnreachable => Self::Connect,
            Code::UpstreamTimeout => Self::Timeout,
            Code::UpstreamBadResponse => Self::Malformed,
            _ => Self::Local,
        }
    }

    /// What it tells of the server.
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Connect => Outcome::Unreachable,
            Self::Local => Outcome::Neutral,
            Self::Status(status) => outcome(status),
            Self::Malformed | Self::Reset | Self::Timeout | Self::Unsent => Outcome::Failed,
        }
    }
}

/// What an answer's status tells of its server: 502, 503 and 504 say that it cannot answer; 500 may be one page's.
pub fn outcome(status: u16) -> Outcome {
    if (502..=504).contains(&status) { Outcome::Failed } else { Outcome::Good }
}

/// Whether a request may be sent again when it is unknown whether it was handled.
pub fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE, Method::TRACE].contains(method)
}

/// Whether a request of this method, all of which can be had back, may be tried again after this failure.
pub fn may(retries: &Retries, method: &Method, failure: Failure) -> bool {
    let (on, needs_idempotent) = match failure {
        Failure::Connect => (RetryOn::Connect, false),
        Failure::Unsent => (RetryOn::Reset, false),
        Failure::Reset => (RetryOn::Reset, true),
        Failure::Timeout => (RetryOn::Timeout, true),
        Failure::Status(502) => (RetryOn::BadGateway, true),
        Failure::Status(503) => (RetryOn::Unavailable, true),
        Failure::Status(504) => (RetryOn::GatewayTimeout, true),
        Failure::Local | Failure::Malformed | Failure::Status(_) => return false,
    };
    retries.on.contains(&on) && (!needs_idempotent || is_idempotent(method))
}

/// Whether an answer of this status is one that may be tried again, if its request may.
pub fn is_retried(retries: &Retries, status: u16) -> bool {
    may(retries, &Method::GET, Failure::Status(status))
}

/// Whether a second server may be asked beside one that is slow: only what is safe, and has no body.
pub fn may_hedge(method: &Method, has_body: bool) -> bool {
    !has_body && [Method::GET, Method::HEAD, Method::OPTIONS].contains(method)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_been_handled_is_tried_again_only_if_twice_is_as_good_as_once() {
        let all = [
            RetryOn::BadGateway,
            RetryOn::Connect,
            RetryOn::GatewayTimeout,
            RetryOn::Reset,
            RetryOn::Timeout,
            RetryOn::Unavailable,
        ];
        let all = Retries { on: all.to_vec(), ..Retries::default() };
        let (default, none) = (Retries::default(), Retries { on: Vec::new(), ..Retries::default() });
        for (failure, by_default, idempotent, other) in [
            (Failure::Connect, true, true, true),
            (Failure::Unsent, true, true, true),
            (Failure::Reset, true, true, false),
            (Failure::Timeout, false, true, false),
            (Failure::Status(502), false, true, false),
            (Failure::Status(503), false, true, false),
            (Failure::Status(504), false, true, false),
            (Failure::Status(500), false, false, false),
            (Failure::Status(200), false, false, false),
            (Failure::Malformed, false, false, false),
            (Failure::Local, false, false, false),
        ] {
            assert_eq!(may(&default, &Method::GET, failure), by_default, "{failure:?}");
            for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE, Method::TRACE] {
                assert_eq!(may(&all, &method, failure), idempotent, "{method} {failure:?}");
                assert!(!may(&none, &method, failure));
            }
            for method in [Method::POST, Method::PATCH, Method::CONNECT, Method::from_bytes(b"LOCK").expect("a token")]
            {
                assert_eq!(may(&all, &method, failure), other, "{method} {failure:?}");
            }
        }
        assert!(may_hedge(&Method::GET, false) && !may_hedge(&Method::GET, true) && !may_hedge(&Method::PUT, false));
    }
}
