//! Whether an answer may be kept, whether what is kept may answer, and with what: a shared cache by RFC 9111, with RFC 5861
//! (stale answers), RFC 8246 (`immutable`), RFC 9211 (`Cache-Status`) and RFC 9213 (`CDN-Cache-Control`).
//!
//! Times are milliseconds since 1970, and `now` is an argument. What keeps bytes is `eyot-cache`.

pub mod answer;
pub mod control;
pub mod date;
pub mod invalid;
pub mod kept;
pub mod key;
pub mod life;
pub mod named;
pub mod slices;
pub mod status;
pub mod tags;
pub mod update;
pub mod vary;

pub use kept::{Asking, Kept, Reason};

/// What a route says of its cache, beside what answers say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// For how long it is kept by who made it, whatever its fields say; 0: not at all.
    pub told_ms: Option<u64>,
    /// How long what may be kept is fresh, whatever it says itself.
    pub ttl_ms: Option<u64>,
    /// Whether its age counts also for these times: it was kept by a cache of ours.
    pub aged: bool,
    /// How long an answer of a client's or a server's error (404, 410, 501 …) is fresh that says nothing of it.
    pub negative_ttl_ms: Option<u64>,
    /// `stale-while-revalidate` of answers that say nothing of it.
    pub stale_while_revalidate_ms: Option<u64>,
    /// `stale-if-error` of answers that say nothing of it.
    pub stale_if_error_ms: Option<u64>,
    /// Whether a request's own `Cache-Control` is heeded beyond `only-if-cached`. A stranger who may say `no-cache` decides
    /// what reaches the upstream.
    pub heeds_requests: bool,
    /// What distinguishes requests beside what `Vary` names.
    pub key: key::Rules,
}

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
