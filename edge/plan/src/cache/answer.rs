//! What of a kept answer is sent: all of it, a part, or only that the client has it (RFC 9111, section 4.3.2; RFC 9110,
//! sections 13 and 14).

use http::header::{
    ACCEPT_RANGES, AGE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG,
    HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
    LAST_MODIFIED, RANGE,
};
use http::{Method, StatusCode};

use super::kept::Kept;
use super::{date, life};
use crate::files::{self, Sent};

/// Whether a request's conditions are its upstream's to judge, and no cache's (RFC 9111, section 4.3.2): `If-Match` and
/// `If-Unmodified-Since`.
pub fn is_for_upstream(request: &HeaderMap) -> bool {
    request.contains_key(IF_MATCH) || request.contains_key(IF_UNMODIFIED_SINCE)
}

/// What is sent of an answer with `status`, these fields and `length` bytes to a request with these fields; a length that
/// is not known yet has no parts.
pub fn sent(
    status: StatusCode,
    headers: &HeaderMap,
    length: Option<u64>,
    method: &Method,
    request: &HeaderMap,
    now_ms: u64,
) -> Sent {
    if status != StatusCode::OK || !matches!(*method, Method::GET | Method::HEAD) {
        return Sent::Whole;
    }
    let now = i64::try_from(now_ms / 1000).unwrap_or(i64::MAX);
    if is_had(headers, request, now) {
        return Sent::NotModified;
    }
    let (Some(length), true) = (length, *method == Method::GET) else { return Sent::Whole };
    match life::single(request, &RANGE).and_then(|range| range.to_str().ok()) {
        Some(range) if is_range_of(headers, request, now) => files::range(range, length),
        _ => Sent::Whole,
    }
}

/// Whether the client has it already. `If-None-Match` counts before `If-Modified-Since` (RFC 9110, section 13.2.2).
fn is_had(headers: &HeaderMap, request: &HeaderMap, now: i64) -> bool {
    if request.contains_key(IF_NONE_MATCH) {
        let tag = headers.get(ETAG).map(|tag| weak(tag.as_bytes()));
        let named = request.get_all(IF_NONE_MATCH).iter().flat_map(|value| tags(value.as_bytes()));
        return named.into_iter().any(|one| one == b"*" || Some(weak(one)) == tag);
    }
    let Some(since) = life::single(request, &IF_MODIFIED_SINCE) else { return false };
    let Some(since) = date::parse(since.as_bytes(), now) else { return false };
    let modified = headers.get(LAST_MODIFIED).or_else(|| headers.get(DATE));
    modified.and_then(|value| date::parse(value.as_bytes(), now)).is_some_and(|modified| modified <= since)
}

/// Whether a range of this very answer is asked for (RFC 9110, section 13.1.5).
fn is_range_of(headers: &HeaderMap, request: &HeaderMap, now: i64) -> bool {
    let Some(condition) = request.get(IF_RANGE) else { return true };
    if condition.as_bytes().starts_with(b"\"") {
        return headers.get(ETAG) == Some(condition);
    }
    // A date is exact enough only if the answer came later than it was made (section 8.8.2.2).
    let at = |name: &HeaderName| headers.get(name).and_then(|value| date::parse(value.as_bytes(), now));
    let is_strong = at(&LAST_MODIFIED).zip(at(&DATE)).is_some_and(|(modified, dated)| modified < dated);
    is_strong && headers.get(LAST_MODIFIED) == Some(condition)
}

/// An entity tag without its `W/` (RFC 9110, section 8.8.3.2).
fn weak(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// The entity tags of a list; within their quotes commas part nothing, and there are no escapes.
fn tags(list: &[u8]) -> Vec<&[u8]> {
    let mut quoted = false;
    let parts = list.split(|byte| {
        quoted ^= *byte == b'"';
        *byte == b',' && !quoted
    });
    parts.map(<[u8]>::trim_ascii).filter(|tag| !tag.is_empty()).collect()
}

/// The status of what is sent of an answer with `status`.
pub fn status(status: StatusCode, sent: Sent) -> StatusCode {
    match sent {
        Sent::Whole => status,
        Sent::Part(..) => StatusCode::PARTIAL_CONTENT,
        Sent::NotModified => StatusCode::NOT_MODIFIED,
        Sent::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
        Sent::Unsatisfiable => StatusCode::RANGE_NOT_SATISFIABLE,
    }
}

/// The fields of what is sent of `kept`, a body of `length` bytes: with its age, in seconds (RFC 9111, section 5.1).
pub fn fields(kept: &Kept, sent: Sent, length: Option<u64>, now_ms: u64) -> HeaderMap {
    let mut fields = kept.headers.clone();
    fields.insert(AGE, HeaderValue::from(kept.life.age_ms(now_ms) / 1000));
    shape(&mut fields, sent, length);
    fields
}

/// Makes the fields of a whole answer those of what is sent of it.
pub fn shape(fields: &mut HeaderMap, sent: Sent, length: Option<u64>) {
    let range = match (sent, length) {
        (Sent::Part(from, to), Some(length)) => {
            fields.insert(CONTENT_LENGTH, (to - from).into());
            Some(format!("bytes {from}-{}/{length}", to - 1))
        }
        (Sent::Unsatisfiable, Some(length)) => {
            fields.insert(CONTENT_LENGTH, 0.into());
            fields.remove(CONTENT_TYPE);
            fields.remove(CONTENT_ENCODING);
            Some(format!("bytes */{length}"))
        }
        (Sent::NotModified | Sent::PreconditionFailed, _) => {
            // RFC 9110, section 15.4.5: what describes a body is not said of none.
            for name in [CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE] {
                fields.remove(name);
            }
            None
        }
        _ => None,
    };
    if let Some(range) = range.and_then(|range| HeaderValue::from_str(&range).ok()) {
        fields.insert(CONTENT_RANGE, range);
        fields.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    }
}
