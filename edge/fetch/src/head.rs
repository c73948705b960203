//! The heads of messages: a request's as each version wants it, and what a response's must not be.

use eyot_plan::arrival::Interim;
use eyot_plan::body::Body;
use eyot_plan::fault::{Code, Fault};
use eyot_plan::forward::{self, CameBy};
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderValue, TE, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};

use crate::incoming::Incoming;
use crate::key::Destination;
use crate::{HEAD_BYTES_MAX, HEAD_FIELDS_MAX};

/// A request's head without what belongs to one connection, its body, and the length it declares.
///
/// # Errors
/// `egress_denied` for `CONNECT`, `bad_request` for a `Content-Length` that is none.
pub(crate) fn outgoing(request: Request<Body>) -> Result<(Parts, Body, Option<u64>), Fault> {
    let (mut parts, body) = request.into_parts();
    if parts.method == Method::CONNECT {
        return Err(Fault::new(Code::EgressDenied).because("CONNECT is not sent"));
    }
    let length = length(&parts.headers)?;
    forward::strip_hop_by_hop(&mut parts.headers);
    for name in [HOST, EXPECT] {
        parts.headers.remove(name);
    }
    if let Some(length) = length {
        parts.headers.insert(CONTENT_LENGTH, length.into());
    }
    // We pass trailers on, whoever asks (RFC 9110, section 6.5.1).
    parts.headers.insert(TE, HeaderValue::from_static("trailers"));
    parts.extensions = http::Extensions::new();
    Ok((parts, body, length))
}

/// The one declared length.
pub(crate) fn length(headers: &HeaderMap) -> Result<Option<u64>, Fault> {
    let mut length = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        let text = value.to_str().unwrap_or_default();
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let this = text.parse::<u64>().ok().filter(|this| digits && length.is_none_or(|length| length == *this));
        length = Some(this.ok_or_else(|| Fault::new(Code::BadRequest).because("the content-length is none"))?);
    }
    Ok(length)
}

/// The head for HTTP/1.1: path in the request line, host in a field.
pub(crate) fn for_h1(mut parts: Parts, to: &Destination) -> Result<Parts, Fault> {
    let path = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    parts.uri = Uri::from(path);
    parts.version = Version::HTTP_11;
    parts.headers.insert(HOST, authority(to)?);
    parts.headers.insert(CONNECTION, HeaderValue::from_static("te"));
    Ok(parts)
}

/// The head for HTTP/2 and HTTP/3: all of it in the URI.
pub(crate) fn for_many(mut parts: Parts, to: &Destination) -> Result<Parts, Fault> {
    let path = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let uri = Uri::builder().scheme(to.scheme.as_str()).authority(to.authority()).path_and_query(path);
    parts.uri = uri.build().map_err(|error| Fault::new(Code::BadRequest).because(error))?;
    parts.version = Version::HTTP_2;
    Ok(parts)
}

fn authority(to: &Destination) -> Result<HeaderValue, Fault> {
    HeaderValue::try_from(to.authority()).map_err(|error| Fault::new(Code::BadRequest).because(error))
}

/// Refuses a response that two readers could understand differently, or that is too large; takes off what belongs to
/// one connection.
///
/// # Errors
/// `upstream_bad_response`.
pub(crate) fn incoming(response: &mut Response<Incoming>) -> Result<(), Fault> {
    let bad = |why: &'static str| Err(Fault::new(Code::UpstreamBadResponse).because(why));
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return bad("it switches protocols unasked");
    }
    let headers = response.headers();
    if headers.contains_key(TRANSFER_ENCODING) {
        if headers.contains_key(CONTENT_LENGTH) {
            return bad("it has both a transfer-encoding and a content-length");
        }
        let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
        let chunked = codings.next().is_some_and(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
        if (!chunked || codings.next().is_some()) && headers.get_all(TRANSFER_ENCODING).iter().any(is_registered) {
            return bad("its transfer-encoding is not chunked alone");
        }
    }
    let declared = length(headers).or_else(|_| bad("its content-lengths are no one length").map(|()| None))?;
    within_bounds(headers)?;
    let headers = response.headers_mut();
    forward::strip_hop_by_hop(headers);
    if let Some(declared) = declared {
        headers.insert(CONTENT_LENGTH, declared.into());
    }
    let came_by = CameBy(std::mem::replace(response.version_mut(), Version::HTTP_11));
    *response.extensions_mut() = http::Extensions::new();
    response.extensions_mut().insert(came_by);
    Ok(())
}

/// Whether a field of transfer codings names one that means something (RFC 9112, section 7). A body of others only, which
/// nobody could have encoded, ends with its connection (section 6.3).
fn is_registered(field: &HeaderValue) -> bool {
    const REGISTERED: [&[u8]; 6] = [b"chunked", b"compress", b"deflate", b"gzip", b"x-compress", b"x-gzip"];
    let members = field.as_bytes().split(|byte| b",; \t".contains(byte));
    members.into_iter().any(|member| REGISTERED.iter().any(|name| member.eq_ignore_ascii_case(name)))
}

/// Passes an interim response on, without what is for one connection; one over its bounds is dropped. 100 is never passed:
/// it answers our own hop (RFC 9110, section 15.2.1).
pub(crate) fn interim(mut head: Response<()>, to: &Interim) {
    if within_bounds(head.headers()).is_ok() {
        forward::strip_hop_by_hop(head.headers_mut());
        // It has no body, whatever it declares (RFC 9110, section 8.6).
        head.headers_mut().remove(CONTENT_LENGTH);
        *head.extensions_mut() = http::Extensions::new();
        to.send(head);
    }
}

/// Whether a head or trailers are within their bounds.
pub(crate) fn within_bounds(headers: &HeaderMap) -> Result<(), Fault> {
    let over = |name, allowed: usize, used: usize| {
        let count = |count| u64::try_from(count).unwrap_or(u64::MAX);
        Err(Fault::new(Code::UpstreamBadResponse).over(name, count(allowed), count(used)))
    };
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    match (headers.len(), bytes) {
        (fields, _) if fields > HEAD_FIELDS_MAX => over("header_fields", HEAD_FIELDS_MAX, fields),
        (_, bytes) if bytes > HEAD_BYTES_MAX => over("header_bytes", HEAD_BYTES_MAX, bytes),
        _ => Ok(()),
    }
}
