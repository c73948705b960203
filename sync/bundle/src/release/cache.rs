//! What a route says of the cache.

use serde::{Deserialize, Serialize};

/// How a route's answers are kept. What is absent is as answers themselves say (RFC 9111).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    /// Whose answers are kept.
    pub mode: Mode,
    /// What of the query distinguishes answers; absent: all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<Query>,
    /// Fields of the request that distinguish answers, beside what they say themselves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vary: Vec<String>,
    /// Cookies that distinguish answers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cookies: Vec<String>,
    /// How long what may be kept is fresh, whatever it says, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// How long errors are fresh that do not say, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negative_ttl_ms: Option<u64>,
    /// `stale-while-revalidate` of what does not say, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale_while_revalidate_ms: Option<u64>,
    /// `stale-if-error` of what does not say, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale_if_error_ms: Option<u64>,
    /// Whether the `Cache-Control` of requests is heeded.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub heed_requests: bool,
}

/// Whose answers are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Those of upstreams and of functions.
    Function,
    /// Nobody's.
    Off,
    /// Those of upstreams.
    #[default]
    Standard,
}

/// What of a query distinguishes answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Query {
    /// All parameters but these; a name may end in `*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop: Option<Vec<String>>,
    /// These parameters alone; a name may end in `*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<Vec<String>>,
    /// Whether the order of parameters means nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sort: bool,
}
