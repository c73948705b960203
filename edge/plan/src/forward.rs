//! Forwarding: which fields a message loses and gains when it passes through (RFC 9110, section 7.6), and the guard
//! against loops (RFC 8586). It knows fields, never bodies or sockets.

mod trail;

use core::net::IpAddr;

use http::Version;
use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE, VIA};

pub use trail::{Lent, Trail};

use crate::arrival::Protocol;

/// How often a request may pass this fleet.
pub const DEPTH_MAX: u8 = 8;

/// How many of the requests were made, of those that a function lent to a request: how a node answers another of its fleet.
pub const EYOT_CALLS: HeaderName = HeaderName::from_static("eyot-calls");

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");
const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Fields for one connection only (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    http::header::PROXY_AUTHENTICATE,
    http::header::PROXY_AUTHORIZATION,
];

/// What only the node may say.
const NODE_ONLY: [HeaderName; 4] = [http::header::ALT_SVC, PROXY_STATUS, CACHE_STATUS, REQUEST_ID];

/// What [`request_out`] must know.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The fleet's name, in `CDN-Loop`.
    pub fleet: &'a str,
    /// The protocol the request came by, in `Via`.
    pub protocol: Protocol,
    /// Our id of the request.
    pub request_id: &'a str,
    /// Where the request that began all this has been: [`Trail::enter`] of the arrival. A function cannot forget it.
    pub trail: &'a Trail,
    /// Who asked, where a client's own request is passed on; none where a function asks by itself.
    pub client: Option<Client<'a>>,
    /// What a function lends to whom it asks; none where a client's own request is passed on.
    pub lends: Option<Lent>,
}

/// Who asked, and how.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// The client's address.
    pub ip: IpAddr,
    /// The host (and port, unless the scheme's own) that was asked for.
    pub host: &'a str,
    /// `https` or `http`.
    pub scheme: &'a str,
}

/// Makes a request's fields ready to leave: without hop-by-hop fields and `Eyot-*`; with `Via`, `CDN-Loop` and
/// `X-Request-Id`; where it is a client's, with `Forwarded` and `X-Forwarded-*` made anew. `TE: trailers` stays.
pub fn request_out(headers: &mut HeaderMap, facts: &Facts<'_>) {
    let trailers = takes_trailers(headers);
    strip_hop_by_hop(headers);
    strip_prefix(headers, "eyot-");
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    let version = match facts.protocol {
        Protocol::H1 => "1.1 eyot",
        Protocol::H2 => "2 eyot",
        Protocol::H3 => "3 eyot",
    };
    headers.append(VIA, HeaderValue::from_static(version));
    headers.remove(CDN_LOOP);
    for value in &facts.trail.values {
        headers.append(CDN_LOOP, value.clone());
    }
    append(headers, CDN_LOOP, &element(facts));
    headers.remove(REQUEST_ID);
    append(headers, REQUEST_ID, facts.request_id);
    if let Some(client) = facts.client {
        forwarded(headers, client);
    }
}

/// Makes the fields of a request that the node itself asks an upstream with, to see how that is.
pub fn probe_out(headers: &mut HeaderMap, fleet: &str) {
    append(headers, CDN_LOOP, &format!("eyot; fleet={fleet}"));
    append(headers, http::header::USER_AGENT, concat!("eyot/", env!("CARGO_PKG_VERSION"), " (health)"));
}

/// Our element of `CDN-Loop`.
fn element(facts: &Facts<'_>) -> String {
    let own = format!("eyot; fleet={}", facts.fleet);
    match facts.lends {
        None => own,
        Some(Lent { cpu_us, subrequests, depth: 0 }) => format!("{own}; calls={subrequests}; cpu={cpu_us}"),
        Some(Lent { cpu_us, subrequests, depth }) => format!("{own}; calls={subrequests}; cpu={cpu_us}; depth={depth}"),
    }
}

/// Makes the fields of a request ready with which one function calls another on the same node: without hop-by-hop fields,
/// `CDN-Loop` and `Eyot-*`; with `X-Request-Id`.
pub fn request_within(headers: &mut HeaderMap, request_id: &str) {
    strip_hop_by_hop(headers);
    strip_prefix(headers, "eyot-");
    headers.remove(CDN_LOOP);
    headers.remove(REQUEST_ID);
    append(headers, REQUEST_ID, request_id);
}

/// Makes a response's fields ready for the client: without hop-by-hop fields, `Eyot-*`, and what tenants may not say:
/// `Alt-Svc`, `Proxy-Status`, `Cache-Status`, `X-Request-Id`.
pub fn response_back(headers: &mut HeaderMap) {
    // One look at each field costs less than a search for each name.
    if !headers.keys().any(is_not_passed_back) {
        return;
    }
    strip_hop_by_hop(headers);
    strip_prefix(headers, "eyot-");
    for name in &NODE_ONLY {
        headers.remove(name);
    }
}

/// The version of HTTP by which a response came, kept among its extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CameBy(pub Version);

/// Says in a response that it was passed on, and by which version it came (RFC 9110, section 7.6.3).
pub fn response_via(headers: &mut HeaderMap, came_by: CameBy) {
    let by = match came_by.0 {
        Version::HTTP_10 => "1.0 eyot",
        Version::HTTP_2 => "2 eyot",
        Version::HTTP_3 => "3 eyot",
        _ => "1.1 eyot",
    };
    headers.append(VIA, HeaderValue::from_static(by));
}

/// Makes the fields of a response ready for a function that asked: without `Eyot-*`, by which functions and nodes tell each
/// other what nobody else may say.
pub fn response_in(headers: &mut HeaderMap) {
    if headers.keys().any(|name| name.as_str().starts_with("eyot-")) {
        strip_prefix(headers, "eyot-");
    }
}

/// Whether [`response_back`] has anything to do for this field; a name that `Connection` names is known by that.
fn is_not_passed_back(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(name) || NODE_ONLY.contains(name) || name.as_str().starts_with("eyot-")
}

/// Makes trailers ready to pass, either way: without fields that frame, route, authenticate or control a message
/// (RFC 9110, section 6.5.1), or that would stand in for a field dropped from its head.
pub fn trailers(headers: &mut HeaderMap) {
    use http::header::{
        ALT_SVC, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, COOKIE,
        EXPECT, HOST, LOCATION, RANGE, SET_COOKIE, TRAILER,
    };
    response_back(headers);
    strip_prefix(headers, "x-forwarded-");
    for name in [
        ALT_SVC,
        AUTHORIZATION,
        CACHE_CONTROL,
        CONTENT_ENCODING,
        CONTENT_LENGTH,
        CONTENT_RANGE,
        CONTENT_TYPE,
        COOKIE,
        EXPECT,
        HOST,
        LOCATION,
        RANGE,
        SET_COOKIE,
        TRAILER,
        VIA,
        CDN_LOOP,
        FORWARDED,
    ] {
        headers.remove(name);
    }
}

/// Removes the fields that are for one connection only: those RFC 9110, section 7.6.1 lists and those that `Connection`
/// names. `CDN-Loop` stays whoever names it (RFC 8586, section 2), and so do the fields that frame or route.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let named: Vec<HeaderName> = values
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .filter(|name| ![http::header::HOST, http::header::CONTENT_LENGTH, CDN_LOOP].contains(name))
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

fn takes_trailers(headers: &HeaderMap) -> bool {
    let values = headers.get_all(TE).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

fn strip_prefix(headers: &mut HeaderMap, prefix: &str) {
    let named: Vec<HeaderName> = headers.keys().filter(|name| name.as_str().starts_with(prefix)).cloned().collect();
    for name in named {
        headers.remove(name);
    }
}

/// `Forwarded` (RFC 7239) and its older forms, made anew.
fn forwarded(headers: &mut HeaderMap, client: Client<'_>) {
    strip_prefix(headers, "x-forwarded-");
    headers.remove(FORWARDED);
    let ip = client.ip.to_canonical();
    let node = match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("\"[{ip}]\""),
    };
    let (host, scheme) = (client.host, client.scheme);
    // A host past the parser holds no quote and no backslash.
    append(headers, FORWARDED, &format!("for={node};host=\"{host}\";proto={scheme}"));
    append(headers, HeaderName::from_static("x-forwarded-for"), &ip.to_string());
    append(headers, HeaderName::from_static("x-forwarded-host"), host);
    append(headers, HeaderName::from_static("x-forwarded-proto"), scheme);
}

/// Appends a value of ours. What cannot stand in a field is left out: none of ours is of that kind.
fn append(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.append(name, value);
    }
}

#[cfg(test)]
mod tests;
