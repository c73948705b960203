//! Whether an answer may be kept (RFC 9111, section 3), and what is known of it then.

use http::header::{AUTHORIZATION, CONTENT_LOCATION, COOKIE, DATE, ETAG, HeaderMap, HeaderName, LAST_MODIFIED};
use http::{HeaderValue, Method, StatusCode, Uri};

use super::control::{Control, Scope};
use super::life::{self, Life, Said};
use super::vary::{self, Selected};
use super::{Rules, date, invalid};
use crate::forward;

/// The request as it is known to the cache: as it was after all that stands before its target.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its URI, absolute.
    pub uri: &'a Uri,
    /// Its fields.
    pub headers: &'a HeaderMap,
}

/// A kept answer but for its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its status.
    pub status: StatusCode,
    /// Its fields, without those for one connection and those that may not be kept.
    pub headers: HeaderMap,
    /// What it was selected by.
    pub selected: Selected,
    /// Its times.
    pub life: Life,
}

/// Why an answer is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The request had `Authorization`, and the answer does not say that others may have it (section 3.5).
    Authorization,
    /// The method's answers are not kept.
    Method,
    /// `no-store`.
    NoStore,
    /// A part of a whole, or something that has no body of its own.
    Partial,
    /// `private`.
    Private,
    /// Its status is not understood, and it must be.
    Status,
    /// It has no time, and nothing to ask for it by.
    Unfresh,
    /// It varies by everything.
    Vary,
    /// The request asked that nothing is kept.
    Wish,
}

impl Reason {
    /// A few words for `Cache-Status` and for people.
    pub fn label(self) -> &'static str {
        match self {
            Self::Authorization => "authorization",
            Self::Method => "method",
            Self::NoStore => "no-store",
            Self::Partial => "partial",
            Self::Private => "private",
            Self::Status => "status",
            Self::Unfresh => "no-freshness",
            Self::Vary => "vary",
            Self::Wish => "request",
        }
    }
}

/// Fields that speak to proxies, and are kept no more than those of the connection (section 3.1).
const PROXY_ONLY: [HeaderName; 3] = [
    http::header::PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-authentication-info"),
    http::header::PROXY_AUTHORIZATION,
];

impl Kept {
    /// What is kept of the answer to `asking` that came at `times.1`, for a request that left at `times.0`.
    ///
    /// # Errors
    /// Why it is not kept.
    pub fn of(
        asking: &Asking<'_>,
        status: StatusCode,
        headers: &HeaderMap,
        times: (u64, u64),
        rules: &Rules,
    ) -> Result<Self, Reason> {
        let said = match rules.told_ms {
            Some(ms) => Said::told(ms),
            None => Said::of(headers),
        };
        let selected = permitted(asking, status, headers, &said, rules)?;
        let life = Life::of(status, headers, &said, times, rules);
        // What is stale from the start and has nothing to ask by would be kept for nothing.
        let can_ask = headers.contains_key(ETAG) || headers.contains_key(LAST_MODIFIED);
        if !can_ask && (life.no_cache || life.fresh_ms <= life.initial_age_ms) {
            return Err(Reason::Unfresh);
        }
        Ok(Self { status, headers: storable(headers, &said.control, times.1), selected, life })
    }

    /// Whether it answers requests with these fields (section 4.1).
    pub fn matches(&self, request: &HeaderMap) -> bool {
        vary::matches(&self.selected, &self.headers, request)
    }
}

/// Statuses whose meaning this cache knows: those of RFC 9110, section 15, and of its extensions that change nothing for a
/// cache.
fn is_understood(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200..=205 | 300..=303 | 305 | 307 | 308 | 400..=417 | 421 | 422 | 426 | 428 | 429 | 431 | 451 | 500..=505 | 511)
}

/// Whether it may be kept at all, and for whom.
fn permitted(
    asking: &Asking<'_>,
    status: StatusCode,
    headers: &HeaderMap,
    said: &Said,
    rules: &Rules,
) -> Result<Selected, Reason> {
    let control = &said.control;
    let explicit = said.is_explicit(headers);
    match *asking.method {
        Method::GET => {}
        // RFC 9110, section 9.3.3: an answer that says that it is what a GET would have.
        Method::POST if explicit && invalid::names_itself(asking.uri, headers.get(CONTENT_LOCATION)) => {}
        _ => return Err(Reason::Method),
    }
    // In any other answer `Content-Range` means nothing (RFC 9110, section 14.4).
    if status.is_informational() || matches!(status.as_u16(), 206 | 304) {
        return Err(Reason::Partial);
    }
    if rules.heeds_requests && super::control::Wish::of(asking.headers).no_store {
        return Err(Reason::Wish);
    }
    // Section 5.2.2.3: who must understand and does may keep what says `no-store` for those who do not.
    match (control.must_understand, is_understood(status)) {
        (true, true) => {}
        (true, false) => return Err(Reason::Status),
        (false, _) if control.no_store => return Err(Reason::NoStore),
        (false, _) => {}
    }
    if control.private.is_all() {
        return Err(Reason::Private);
    }
    let for_others = control.must_revalidate || control.public || control.s_maxage.is_some();
    if asking.headers.contains_key(AUTHORIZATION) && !for_others {
        return Err(Reason::Authorization);
    }
    // Where nobody says for how long, what a cookie led to was hardly meant for all.
    if asking.headers.contains_key(COOKIE) && !(explicit || control.public || said.targeted || rules.ttl_ms.is_some()) {
        return Err(Reason::Unfresh);
    }
    let negative = rules.negative_ttl_ms.is_some() && (status.is_client_error() || status.is_server_error());
    if !(explicit || control.public || life::is_heuristic(status) || negative || said.targeted) {
        return Err(Reason::Unfresh);
    }
    let fields = vary::fields(headers).map_err(|vary::Unique| Reason::Vary)?;
    Ok(vary::select(fields, asking.headers))
}

/// The fields that are kept (section 3.1), with a `Date`.
fn storable(headers: &HeaderMap, control: &Control, answered_ms: u64) -> HeaderMap {
    let mut kept = headers.clone();
    forward::strip_hop_by_hop(&mut kept);
    let named = [&control.no_cache, &control.private].into_iter().flat_map(|scope| match scope {
        Scope::Fields(names) => names.as_slice(),
        Scope::All | Scope::None => &[],
    });
    for name in named.chain(&PROXY_ONLY) {
        kept.remove(name);
    }
    dated(&mut kept, answered_ms);
    kept
}

/// With a `Date`: one that came without is dated when it came (RFC 9110, section 6.6.1).
pub(super) fn dated(headers: &mut HeaderMap, answered_ms: u64) {
    if !headers.contains_key(DATE) {
        let text = date::format(i64::try_from(answered_ms / 1000).unwrap_or(i64::MAX));
        headers.extend(HeaderValue::from_str(&text).ok().map(|value| (DATE, value)));
    }
}
