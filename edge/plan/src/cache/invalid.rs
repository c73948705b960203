//! What an unsafe request makes of what is kept (RFC 9111, section 4.4).

use http::header::{CONTENT_LOCATION, HeaderMap, HeaderValue, LOCATION};
use http::uri::PathAndQuery;
use http::{Method, StatusCode, Uri};

use super::life::same_origin;
use crate::request::path;

/// Whether the answer to such a request ends what is kept of its URI: it was not safe (RFC 9110, section 9.2.1), and no
/// error.
pub fn invalidates(method: &Method, status: StatusCode) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
        && (status.is_success() || status.is_redirection())
}

/// The URIs beside its own that such an answer ends: those that `Location` and `Content-Location` name, if they are of the
/// same origin.
pub fn also(uri: &Uri, headers: &HeaderMap) -> Vec<Uri> {
    let named = [LOCATION, CONTENT_LOCATION].into_iter().filter_map(|name| headers.get(name));
    named.filter_map(|value| resolve(uri, value)).filter(|named| named != uri && same_origin(named, uri)).collect()
}

/// Whether `Content-Location` names the request's own URI.
pub fn names_itself(uri: &Uri, location: Option<&HeaderValue>) -> bool {
    location.and_then(|location| resolve(uri, location)).is_some_and(|named| named == *uri)
}

/// What a reference means at `base` (RFC 3986, section 5.2), in the one form that requests have.
fn resolve(base: &Uri, reference: &HeaderValue) -> Option<Uri> {
    let text = reference.to_str().ok()?.split('#').next()?.trim();
    let (scheme, authority) = (base.scheme_str()?, base.authority()?.as_str());
    let whole = if text.contains("://") {
        text.to_owned()
    } else if text.starts_with("//") {
        format!("{scheme}:{text}")
    } else if text.is_empty() {
        return Some(base.clone());
    } else if text.starts_with('/') {
        format!("{scheme}://{authority}{text}")
    } else if text.starts_with('?') {
        format!("{scheme}://{authority}{}{text}", base.path())
    } else {
        let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{text}")
    };
    let uri: Uri = whole.parse().ok()?;
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let authority = uri.authority()?.as_str().to_ascii_lowercase();
    let default = if scheme == "http" { ":80" } else { ":443" };
    let authority = authority.strip_suffix(default).unwrap_or(&authority);
    let path = match path::normalise(uri.path(), uri.query()).ok()? {
        Some(path) => PathAndQuery::try_from(path).ok()?,
        None => uri.path_and_query().cloned()?,
    };
    Uri::builder().scheme(scheme.as_str()).authority(authority).path_and_query(path).build().ok()
}
