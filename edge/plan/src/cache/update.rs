//! Asking for a kept answer anew (RFC 9111, section 4.3), and what the answer to that does to it.

use http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, IF_MATCH,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE,
};

use super::Rules;
use super::kept::{Asking, Kept, Reason, dated};
use crate::forward;

/// Conditions and ranges of a request: to whom the whole is asked for, they are the cache's own.
const CONDITIONS: [HeaderName; 6] = [IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE];

/// Fields that describe the kept body, and stay what they were (section 3.2).
const OF_THE_BODY: [HeaderName; 4] = [CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE];

/// Makes a request for the whole: without a client's conditions and ranges.
pub fn whole(request: &mut HeaderMap) {
    for name in &CONDITIONS {
        request.remove(name);
    }
}

/// Makes a request that asks whether `kept` is still good (section 4.3.1). Whether it has anything to ask by; if not, it is
/// a request for the whole.
pub fn conditions(kept: &Kept, request: &mut HeaderMap) -> bool {
    whole(request);
    let pairs = [(ETAG, IF_NONE_MATCH), (LAST_MODIFIED, IF_MODIFIED_SINCE)];
    let mut any = false;
    for (validator, condition) in pairs {
        if let Some(value) = kept.headers.get(validator) {
            request.insert(condition, value.clone());
            any = true;
        }
    }
    any
}

/// What a 304 does to what is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Freshened {
    /// This is kept now.
    Kept(Kept),
    /// It answers this request, and is not kept any longer.
    Once(Kept, Reason),
    /// It is about another answer: what is kept stays as it is, and may answer who asked.
    Other,
}

/// What `kept` is after a 304 with these fields (sections 3.2 and 4.3.4).
pub fn freshen(
    kept: &Kept,
    asking: &Asking<'_>,
    not_modified: &HeaderMap,
    times: (u64, u64),
    rules: &Rules,
) -> Freshened {
    if !is_about(kept, not_modified) {
        return Freshened::Other;
    }
    let headers = updated(&kept.headers, not_modified, times.1);
    let get = Asking { method: &http::Method::GET, ..*asking };
    match Kept::of(&get, kept.status, &headers, times, rules) {
        Ok(kept) => Freshened::Kept(kept),
        Err(reason) => {
            let mut life = kept.life;
            (life.answered_ms, life.initial_age_ms) = (times.1, 0);
            Freshened::Once(Kept { status: kept.status, headers, selected: kept.selected.clone(), life }, reason)
        }
    }
}

/// What the answer to a HEAD does to what is kept for GET (section 4.3.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Headed {
    /// This is kept now.
    Kept(Kept),
    /// It is known to be another one by now.
    Outdated,
    /// Nothing.
    Nothing,
}

/// What `kept` is after a HEAD was answered with 200 and these fields.
pub fn head(kept: &Kept, asking: &Asking<'_>, headers: &HeaderMap, times: (u64, u64), rules: &Rules) -> Headed {
    let same = |name: &HeaderName| match headers.get(name) {
        Some(value) => kept.headers.get(name) == Some(value),
        None => true,
    };
    if kept.status != http::StatusCode::OK {
        return Headed::Nothing;
    }
    if ![ETAG, LAST_MODIFIED, CONTENT_LENGTH].iter().all(same) {
        return Headed::Outdated;
    }
    match freshen(kept, asking, headers, times, rules) {
        Freshened::Kept(kept) => Headed::Kept(kept),
        Freshened::Once(..) => Headed::Outdated,
        Freshened::Other => Headed::Nothing,
    }
}

/// Whether a 304 is about what is kept: where it names a strong entity tag, it must be that one's (section 4.3.4).
fn is_about(kept: &Kept, not_modified: &HeaderMap) -> bool {
    match not_modified.get(ETAG) {
        Some(tag) if !tag.as_bytes().starts_with(b"W/") => kept.headers.get(ETAG) == Some(tag),
        _ => true,
    }
}

/// The kept fields, each of the new ones in the place of its old ones (section 3.2).
fn updated(kept: &HeaderMap, new: &HeaderMap, answered_ms: u64) -> HeaderMap {
    let mut new = new.clone();
    dated(&mut new, answered_ms);
    forward::strip_hop_by_hop(&mut new);
    let mut headers = kept.clone();
    headers.remove(http::header::AGE);
    let names: Vec<_> = new.keys().filter(|name| !OF_THE_BODY.contains(name)).cloned().collect();
    for name in names {
        headers.remove(&name);
        for value in new.get_all(&name) {
            headers.append(name.clone(), value.clone());
        }
    }
    headers
}
