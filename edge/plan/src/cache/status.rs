//! What the cache says of an answer: `Cache-Status` (RFC 9211).

use core::fmt;

use http::{HeaderName, StatusCode};

/// `Cache-Status`.
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// The detail of an answer that stood in for one that could not be had.
pub const STOOD_IN: &str = "stood-in";

/// Why a request went on (RFC 9211, section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// The route keeps nothing, or what it was last time is not kept.
    Bypass,
    /// The method is none that a cache answers.
    Method,
    /// What is kept is stale.
    Stale,
    /// The request has something that only who is behind the cache can judge.
    Request,
    /// Nothing is kept of this URI.
    UriMiss,
    /// Something is kept of this URI, and not for such a request.
    VaryMiss,
}

impl Forward {
    /// Its token.
    pub fn label(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::Stale => "stale",
            Self::Request => "request",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
        }
    }
}

/// What is said of one answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Why the request went on; none: it is a hit.
    pub forward: Option<Forward>,
    /// What came back, where that is not what is answered.
    pub forward_status: Option<StatusCode>,
    /// How long what is answered is still fresh, in seconds.
    pub ttl: Option<i64>,
    /// Whether the answer is kept now.
    pub stored: bool,
    /// Whether it came of what another request asked for.
    pub collapsed: bool,
    /// A word more.
    pub detail: Option<&'static str>,
}

impl Status {
    /// What it is counted as in `eyot_cache_requests_total`.
    pub fn result(&self) -> &'static str {
        match self.forward {
            None if self.ttl.is_some_and(|ttl| ttl < 0) => "stale",
            None => "hit",
            Some(_) if self.collapsed => "collapsed",
            Some(Forward::Stale) if self.forward_status == Some(StatusCode::NOT_MODIFIED) => "revalidated",
            // What stood in, or was kept longer than it is fresh.
            Some(Forward::Stale) if self.detail == Some(STOOD_IN) => "stale",
            Some(Forward::Bypass | Forward::Method | Forward::Request) => "bypass",
            Some(Forward::Stale | Forward::UriMiss | Forward::VaryMiss) => "miss",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.forward {
            None => f.write_str("eyot; hit")?,
            Some(forward) => write!(f, "eyot; fwd={}", forward.label())?,
        }
        if let Some(status) = self.forward_status {
            write!(f, "; fwd-status={}", status.as_u16())?;
        }
        if let Some(ttl) = self.ttl {
            write!(f, "; ttl={ttl}")?;
        }
        if self.stored {
            f.write_str("; stored")?;
        }
        if self.collapsed {
            f.write_str("; collapsed")?;
        }
        self.detail.map_or(Ok(()), |detail| write!(f, "; detail={detail}"))
    }
}
