//! From a field section to a request, a response or trailers: what RFC 9114, section 4.2 and 4.3 calls malformed does
//! not get past here.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};

use super::code::Failure;
use super::encode::is_connection_specific;
use super::section::{Field, Section, Str};

/// What an extended CONNECT is for (RFC 9220): its `:protocol`, such as `websocket`. It is an extension of the request,
/// whose method is CONNECT and whose URI is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol(Cow<'static, str>);

impl Protocol {
    /// The protocol of WebSocket (RFC 8441, section 4).
    pub const WEBSOCKET: Self = Self(Cow::Borrowed("websocket"));

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The protocol with this name, if it is a token.
    pub fn from_bytes(name: &[u8]) -> Option<Self> {
        // A method is a token as well.
        let token = Method::from_bytes(name).ok()?;
        Some(Self(Cow::Owned(token.as_str().to_owned())))
    }
}

/// A request's head, and the length of the body if it was declared.
pub fn request(section: &Section) -> Result<(Request<()>, Option<u64>), Failure> {
    let mut fields = Fields::read(section, Allowed::Request)?;
    let length = content_length(&mut fields.headers)?;
    let method = fields.pseudo.method.take().ok_or(Failure::malformed("a request without :method"))?;
    let method = Method::from_bytes(method.bytes()).map_err(|_| Failure::malformed("a :method that is no token"))?;
    let uri = uri(&method, &fields)?;
    // RFC 9110, section 9.3.6: a tunnel has no length.
    if method == Method::CONNECT && length.is_some() {
        return Err(Failure::malformed("a CONNECT with a content-length"));
    }
    let mut request = Request::new(());
    *request.extensions_mut() = protocol(&method, &fields)?;
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.version_mut() = http::Version::HTTP_3;
    *request.headers_mut() = fields.headers;
    Ok((request, length))
}

/// A response's head, and the length of the body if it was declared.
pub fn response(section: &Section) -> Result<(Response<()>, Option<u64>), Failure> {
    let mut fields = Fields::read(section, Allowed::Response)?;
    let length = content_length(&mut fields.headers)?;
    let status = fields.pseudo.status.take().ok_or(Failure::malformed("a response without :status"))?;
    let status = StatusCode::from_bytes(status.bytes()).map_err(|_| Failure::malformed("a :status that is no code"))?;
    // RFC 9114, section 4.5: HTTP/3 has no 101.
    if status == StatusCode::SWITCHING_PROTOCOLS || status.as_u16() > 599 {
        return Err(Failure::malformed("a :status that HTTP/3 does not have"));
    }
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = http::Version::HTTP_3;
    *response.headers_mut() = fields.headers;
    Ok((response, length))
}

/// Trailers: no pseudo-header fields (RFC 9114, section 4.3).
pub fn trailers(section: &Section) -> Result<HeaderMap, Failure> {
    Fields::read(section, Allowed::Trailers).map(|fields| fields.headers)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Allowed {
    Request,
    Response,
    Trailers,
}

#[derive(Default)]
struct Pseudo {
    method: Option<Str>,
    scheme: Option<Str>,
    authority: Option<Str>,
    path: Option<Str>,
    protocol: Option<Str>,
    status: Option<Str>,
}

#[derive(Default)]
struct Fields {
    pseudo: Pseudo,
    headers: HeaderMap,
}

impl Fields {
    fn read(section: &Section, allowed: Allowed) -> Result<Self, Failure> {
        let mut fields = Self::default();
        fields.headers.reserve(section.len().min(64));
        let mut regular = false;
        let mut crumbs = Vec::new();
        for field in section.fields() {
            if field.name.bytes().first() == Some(&b':') {
                if regular {
                    return Err(Failure::malformed("a pseudo-header field after a regular one"));
                }
                fields.pseudo(field, allowed)?;
            } else {
                regular = true;
                fields.regular(field, &mut crumbs)?;
            }
        }
        fields.cookie(&crumbs)?;
        Ok(fields)
    }

    fn pseudo(&mut self, field: Field, allowed: Allowed) -> Result<(), Failure> {
        let pseudo = &mut self.pseudo;
        let slot = match (allowed, field.name.bytes()) {
            (Allowed::Request, b":method") => &mut pseudo.method,
            (Allowed::Request, b":scheme") => &mut pseudo.scheme,
            (Allowed::Request, b":authority") => &mut pseudo.authority,
            (Allowed::Request, b":path") => &mut pseudo.path,
            (Allowed::Request, b":protocol") => &mut pseudo.protocol,
            (Allowed::Response, b":status") => &mut pseudo.status,
            _ => return Err(Failure::malformed("a pseudo-header field that has no place here")),
        };
        match slot.replace(field.value) {
            None => Ok(()),
            Some(_) => Err(Failure::malformed("a pseudo-header field twice")),
        }
    }

    fn regular(&mut self, field: Field, crumbs: &mut Vec<HeaderValue>) -> Result<(), Failure> {
        let name = name(&field.name)?;
        let mut value = value(field.value)?;
        value.set_sensitive(field.sensitive);
        if is_connection_specific(&name) {
            return Err(Failure::malformed("a connection-specific field"));
        }
        // RFC 9114, section 4.2: TE says nothing but "trailers".
        if name == header::TE && !value.as_bytes().eq_ignore_ascii_case(b"trailers") {
            return Err(Failure::malformed("a TE other than trailers"));
        }
        if name == header::COOKIE {
            crumbs.push(value);
            return Ok(());
        }
        match self.headers.try_append(name, value) {
            Ok(_) => Ok(()),
            Err(_) => Err(Failure::malformed("more fields than a message can have")),
        }
    }

    /// Joins the crumbs of a cookie (RFC 9114, section 4.2.1).
    fn cookie(&mut self, crumbs: &[HeaderValue]) -> Result<(), Failure> {
        let joined = match crumbs {
            [] => return Ok(()),
            [whole] => whole.clone(),
            [first, rest @ ..] => {
                let mut out = BytesMut::from(first.as_bytes());
                for crumb in rest {
                    out.put_slice(b"; ");
                    out.put_slice(crumb.as_bytes());
                }
                let mut joined = value(Str::Shared(out.freeze()))?;
                joined.set_sensitive(crumbs.iter().any(HeaderValue::is_sensitive));
                joined
            }
        };
        self.headers.try_append(header::COOKIE, joined).map(|_| ()).map_err(|_| Failure::malformed("too many fields"))
    }
}

/// A field name: a token in lower case (RFC 9114, section 4.2).
fn name(name: &Str) -> Result<HeaderName, Failure> {
    HeaderName::from_lowercase(name.bytes()).map_err(|_| Failure::malformed("a field name that is no lower-case token"))
}

/// A field value: no control characters, no space around it (RFC 9114, section 10.3; RFC 9110, section 5.5).
fn value(value: Str) -> Result<HeaderValue, Failure> {
    let broken = |_| Failure::malformed("a field value with a character that must not be there");
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if blank(value.bytes().first()) || blank(value.bytes().last()) {
        return Err(Failure::malformed("a field value with space around it"));
    }
    match value {
        Str::Shared(bytes) => HeaderValue::from_maybe_shared(bytes).map_err(broken),
        Str::Static(text) => Ok(HeaderValue::from_static(text)),
    }
}

/// The declared length of the body. Equal ones are made one, different ones are malformed (RFC 9110, section 8.6).
pub fn content_length(headers: &mut HeaderMap) -> Result<Option<u64>, Failure> {
    let mut length = None;
    let mut count = 0_usize;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        for part in value.as_bytes().split(|byte| *byte == b',') {
            let part = digits(part.trim_ascii()).ok_or(Failure::malformed("a content-length that is no number"))?;
            if length.is_some_and(|before| before != part) {
                return Err(Failure::malformed("two different content-lengths"));
            }
            length = Some(part);
            count += 1;
        }
    }
    if let (Some(length), 2..) = (length, count) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(length)
}

fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The protocol of an extended CONNECT (RFC 8441, section 4); no other request has one.
fn protocol(method: &Method, fields: &Fields) -> Result<Extensions, Failure> {
    let mut extensions = Extensions::new();
    if let Some(name) = &fields.pseudo.protocol {
        if *method != Method::CONNECT {
            return Err(Failure::malformed("a :protocol without CONNECT"));
        }
        let name = Protocol::from_bytes(name.bytes()).ok_or(Failure::malformed("a :protocol that is no token"))?;
        extensions.insert(name);
    }
    Ok(extensions)
}

/// The target of a request (RFC 9114, section 4.3.1 and 4.4).
fn uri(method: &Method, fields: &Fields) -> Result<Uri, Failure> {
    let pseudo = &fields.pseudo;
    let mut hosts = fields.headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Failure::malformed("two hosts"));
    }
    if *method == Method::CONNECT && pseudo.protocol.is_none() {
        return match (&pseudo.scheme, &pseudo.path, &pseudo.authority) {
            (None, None, Some(it)) => Ok(Uri::from(authority(it.bytes(), host)?)),
            _ => Err(Failure::malformed("a CONNECT that has :scheme or :path, or no :authority")),
        };
    }
    let (Some(scheme), Some(path)) = (&pseudo.scheme, &pseudo.path) else {
        return Err(Failure::malformed("a request without :scheme or :path"));
    };
    let authority = match (&pseudo.authority, host) {
        (Some(it), host) => authority(it.bytes(), host)?,
        // RFC 8441, section 4: an extended CONNECT has its :authority.
        (None, _) if pseudo.protocol.is_some() => {
            return Err(Failure::malformed("an extended CONNECT without :authority"));
        }
        (None, Some(host)) => authority(host.as_bytes(), None)?,
        (None, None) => return Err(Failure::malformed("a request without :authority or host")),
    };
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(self::scheme(scheme.bytes())?);
    parts.authority = Some(authority);
    parts.path_and_query = Some(self::path(method, path)?);
    Uri::from_parts(parts).map_err(|_| Failure::malformed("a target that is no URI"))
}

fn scheme(text: &[u8]) -> Result<Scheme, Failure> {
    Scheme::try_from(text).map_err(|_| Failure::malformed("a :scheme that is none"))
}

/// An authority without userinfo, the same as `host` if there is one (RFC 9114, section 4.3.1).
fn authority(text: &[u8], host: Option<&HeaderValue>) -> Result<Authority, Failure> {
    if text.contains(&b'@') {
        return Err(Failure::malformed("userinfo in the authority"));
    }
    if host.is_some_and(|host| !host.as_bytes().eq_ignore_ascii_case(text)) {
        return Err(Failure::malformed("an :authority and a host that differ"));
    }
    Authority::try_from(text).map_err(|_| Failure::malformed("an authority that is none"))
}

fn path(method: &Method, path: &Str) -> Result<PathAndQuery, Failure> {
    let bytes = path.bytes();
    let asterisk = bytes == b"*" && *method == Method::OPTIONS;
    if !asterisk && bytes.first() != Some(&b'/') {
        return Err(Failure::malformed("a :path that does not begin with a slash"));
    }
    // A fragment has no place in a request (RFC 9110, section 7.1), and the parser would drop it silently.
    if !bytes.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#') {
        return Err(Failure::malformed("a :path with a character that must not be there"));
    }
    let parsed = match path {
        Str::Shared(bytes) => PathAndQuery::from_maybe_shared(Bytes::clone(bytes)),
        Str::Static(text) => PathAndQuery::try_from(*text),
    };
    parsed.map_err(|_| Failure::malformed("a :path that is none"))
}

#[cfg(test)]
mod tests;
