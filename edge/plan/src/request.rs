//! What a request must be, decided once for all protocols: one host, one path, one length, no field that means something
//! to the connection only. It knows no socket and no route; framing (where a message ends) is the listener's.

pub(crate) mod path;
mod tunnel;
mod url;

use eyot_bundle::host;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::{PathAndQuery, Scheme, Uri};
use http::{Method, Version};

use crate::arrival::{Connect, Protocol};
use crate::fault::{Code, Fault};

pub mod authority;

use authority::Authority;
pub use url::url;

/// The fields one request may have. More are of no use to a route and dear to look through.
pub const FIELDS_MAX: usize = 128;

/// How a head came in.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// The protocol.
    pub protocol: Protocol,
    /// Whether TLS was around it: decides the scheme.
    pub secure: bool,
    /// What the target and all fields may measure together, in bytes, counted as RFC 9113, section 6.5.2 counts a field
    /// (name, value and 32).
    pub header_bytes_max: usize,
}

/// Checks a request's head and gives it back in its one form: an absolute URI with a lower-case host and a normalised
/// path, no `host`, no field of the connection, one `cookie`, one `content-length` at most; and the tunnel that it asks
/// for, if it does. `extended` is the `:protocol` of an extended CONNECT (RFC 8441, RFC 9220).
///
/// # Errors
/// A fault of the client: `bad_request`, `headers_too_large`, `method_not_allowed` (`CONNECT`, `TRACE`), `misdirected`
/// (a scheme that is not the connection's, or a host kept for the node itself), `no_route` (`OPTIONS *`),
/// `not_implemented` (a `:protocol` that is not `websocket`).
pub fn normalise(mut parts: Parts, extended: Option<&str>, way: &Way) -> Result<(Parts, Option<Connect>), Fault> {
    measure(&parts, way.header_bytes_max)?;
    let connect = tunnel::take(&mut parts, extended, way.protocol)?;
    method(&parts)?;
    let authority = authority(&parts, way)?;
    parts.headers.remove(header::HOST);
    match way.protocol {
        Protocol::H1 => strip_connection(&mut parts.headers)?,
        Protocol::H2 | Protocol::H3 => refuse_connection(&parts.headers)?,
    }
    content_length(&parts.headers)?;
    expectation(&mut parts.headers)?;
    join_cookies(&mut parts.headers);
    parts.uri = absolute(&parts.uri, &authority, way)?;
    parts.extensions.clear();
    Ok((parts, connect))
}

fn bad(cause: &str) -> Fault {
    Fault::new(Code::BadRequest).because(cause)
}

/// The size of the head, as [`Way::header_bytes_max`] counts it.
fn measure(parts: &Parts, bytes_max: usize) -> Result<(), Fault> {
    let uri = &parts.uri;
    let target = uri.authority().map_or(0, |authority| authority.as_str().len())
        + uri.path_and_query().map_or(0, |path| path.as_str().len());
    let fields: usize = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    let bytes = parts.method.as_str().len() + target + fields;
    if bytes > bytes_max {
        return Err(Fault::new(Code::HeadersTooLarge).over("header_bytes", bytes_max as u64, bytes as u64));
    }
    if parts.headers.len() > FIELDS_MAX {
        return Err(Fault::new(Code::HeadersTooLarge).over("fields", FIELDS_MAX as u64, parts.headers.len() as u64));
    }
    Ok(())
}

/// `CONNECT` asks for a tunnel and `TRACE` for its own fields back (RFC 9110, sections 9.3.6 and 9.3.8): neither is
/// served. `OPTIONS *` asks the server as a whole, which is no resource of any app.
fn method(parts: &Parts) -> Result<(), Fault> {
    if parts.method == Method::CONNECT || parts.method == Method::TRACE {
        return Err(Code::MethodNotAllowed.into());
    }
    if parts.uri.path() == "*" {
        return Err(if parts.method == Method::OPTIONS { Code::NoRoute.into() } else { bad("`*` is for OPTIONS") });
    }
    Ok(())
}

/// The one host of the request: `:authority`, the absolute form and `Host` must agree where more than one stands
/// (RFC 9110, section 7.2; RFC 9112, section 3.2; RFC 9113, section 8.3.1; RFC 9114, section 4.3.1).
fn authority(parts: &Parts, way: &Way) -> Result<Authority, Fault> {
    if let Some(scheme) = parts.uri.scheme() {
        let ours = if way.secure { &Scheme::HTTPS } else { &Scheme::HTTP };
        if *scheme != Scheme::HTTPS && *scheme != Scheme::HTTP {
            return Err(bad("the scheme is not http or https"));
        }
        if scheme != ours {
            return Err(Fault::new(Code::Misdirected).because("the scheme is not this connection's"));
        }
    }
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let field = hosts.next();
    if hosts.next().is_some() {
        return Err(bad("two `Host` fields"));
    }
    // RFC 9112, section 3.2: an HTTP/1.1 request without `Host` is answered 400, also in absolute form.
    if field.is_none() && way.protocol == Protocol::H1 && parts.version != Version::HTTP_10 {
        return Err(bad("no `Host`"));
    }
    let port = if way.secure { 443 } else { 80 };
    let read = |text: &str| match host::is_internal(text.split(':').next().unwrap_or_default()) {
        true => Err(Fault::new(Code::Misdirected).because("a host of the node itself")),
        false => Authority::parse(text, port).map_err(bad),
    };
    let named = parts.uri.authority().map(|authority| read(authority.as_str())).transpose()?;
    let field = field.map(|value| read(value.to_str().map_err(|_| bad("`Host` is not ASCII"))?)).transpose()?;
    match (named, field) {
        (Some(named), Some(field)) if named != field => Err(bad("`Host` is not the request's authority")),
        (Some(one), _) | (None, Some(one)) => Ok(one),
        (None, None) => Err(bad("no host")),
    }
}

/// Fields that speak to the connection, whatever `Connection` names (RFC 9110, section 7.6.1).
const CONNECTION_ONLY: [HeaderName; 6] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// HTTP/1.x: takes the fields of the connection away, those that `Connection` names too.
fn strip_connection(headers: &mut HeaderMap) -> Result<(), Fault> {
    let mut named = Vec::new();
    for value in headers.get_all(header::CONNECTION) {
        let value = value.to_str().map_err(|_| bad("`Connection` is not ASCII"))?;
        for option in value.split(',').map(str::trim).filter(|option| !option.is_empty()) {
            let name = HeaderName::from_bytes(option.as_bytes()).map_err(|_| bad("`Connection` names no field"))?;
            // A field that every recipient needs is no option of a connection: naming it would hide it from who decides.
            if [header::HOST, header::CONTENT_LENGTH].contains(&name) {
                return Err(bad("`Connection` names a field of the message"));
            }
            // The guard against loops is no option either (RFC 8586, section 2).
            if name.as_str() != "cdn-loop" {
                named.push(name);
            }
        }
    }
    // `TE` is named by every client that sends it; what it asks of trailers is kept (RFC 9110, section 10.1.4).
    let trailers = headers.get_all(header::TE).iter().any(|value| {
        value.to_str().is_ok_and(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case("trailers")))
    });
    for name in named.iter().chain(&CONNECTION_ONLY).chain([&header::TE]) {
        headers.remove(name);
    }
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    Ok(())
}

/// HTTP/2 and HTTP/3: a field of the connection makes the message malformed (RFC 9113, section 8.2.2; RFC 9114, section
/// 4.2), and so does white space around a value (RFC 9113, section 8.2.1).
fn refuse_connection(headers: &HeaderMap) -> Result<(), Fault> {
    if headers.keys().any(|name| CONNECTION_ONLY.contains(name)) {
        return Err(bad("a field of the connection"));
    }
    if headers.get_all(header::TE).iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(b"trailers")) {
        return Err(bad("`TE` is not `trailers`"));
    }
    let space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if headers.values().any(|value| space(value.as_bytes().first()) || space(value.as_bytes().last())) {
        return Err(bad("white space around a field's value"));
    }
    Ok(())
}

/// One `Content-Length` of digits at most. A repeated one is refused even if it agrees: who reads it next may not look
/// at both (RFC 9110, section 8.6 allows either).
fn content_length(headers: &HeaderMap) -> Result<(), Fault> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(()) };
    let digits = !length.is_empty() && length.len() <= 19 && length.as_bytes().iter().all(u8::is_ascii_digit);
    if lengths.next().is_some() || !digits {
        return Err(bad("`Content-Length` is not one number"));
    }
    Ok(())
}

/// `100-continue` was for the listener; there is no other expectation (RFC 9110, section 10.1.1).
fn expectation(headers: &mut HeaderMap) -> Result<(), Fault> {
    if headers.get_all(header::EXPECT).iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Err(bad("an expectation that is not `100-continue`"));
    }
    headers.remove(header::EXPECT);
    Ok(())
}

/// Cookies that were split for the compression of fields become one again (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let parts: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(value) = HeaderValue::from_bytes(&parts.join(&b"; "[..])) {
        headers.insert(header::COOKIE, value);
    }
}

/// `https://host[:port]/path?query`, the port only where it is not the scheme's own.
fn absolute(uri: &Uri, authority: &Authority, way: &Way) -> Result<Uri, Fault> {
    let path = path::normalise(uri.path(), uri.query()).map_err(bad)?;
    let (scheme, authority) = (if way.secure { Scheme::HTTPS } else { Scheme::HTTP }, authority.to_string());
    let is_ours = |named: &http::uri::Authority| named.as_str() == authority;
    if path.is_none() && uri.scheme() == Some(&scheme) && uri.authority().is_some_and(is_ours) {
        return Ok(uri.clone());
    }
    let path = match path {
        None => uri.path_and_query().cloned().ok_or_else(|| bad("no path"))?,
        Some(path) => PathAndQuery::try_from(path).map_err(|_| bad("the path is no path"))?,
    };
    Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build().map_err(|_| bad("no URI"))
}

#[cfg(test)]
mod tests;
