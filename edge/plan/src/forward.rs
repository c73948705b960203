//! Forwarding: which fields a message loses and gains when it passes through (RFC 9110, section 7.6), and the guard
//! against loops (RFC 8586). It knows fields, never bodies or sockets.

use core::net::IpAddr;

use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE, VIA};

use crate::arrival::Protocol;
use crate::fault::{Code, Fault};

/// How often a request may pass this fleet.
pub const DEPTH_MAX: u8 = 8;

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

/// Where a request has been: the elements of its `CDN-Loop`, ours included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trail {
    values: Vec<HeaderValue>,
    hops: u8,
}

impl Trail {
    /// The trail of an arrival with these fields, in the fleet of this name.
    ///
    /// # Errors
    /// `loop_detected` if it has passed the fleet [`DEPTH_MAX`] times.
    pub fn enter(headers: &HeaderMap, fleet: &str) -> Result<Self, Fault> {
        let hops = hops(headers, fleet);
        if hops >= DEPTH_MAX {
            return Err(Fault::new(Code::LoopDetected).over("hops", DEPTH_MAX.into(), hops.into()));
        }
        Ok(Self { values: headers.get_all(CDN_LOOP).iter().cloned().collect(), hops })
    }

    /// How often the request had passed the fleet when it arrived.
    pub fn hops(&self) -> u8 {
        self.hops
    }
}

/// How often a request with these fields has passed the fleet of this name: the elements `eyot; fleet=<name>` of its
/// `CDN-Loop`, at most 255.
pub fn hops(headers: &HeaderMap, fleet: &str) -> u8 {
    let ours = |element: &&str| {
        let mut parts = element.split(';').map(str::trim);
        parts.next().is_some_and(|id| id.eq_ignore_ascii_case("eyot"))
            && parts.any(|part| part.strip_prefix("fleet=").is_some_and(|it| it.trim_matches('"') == fleet))
    };
    let values = headers.get_all(CDN_LOOP).iter().filter_map(|value| value.to_str().ok());
    let count = values.flat_map(|value| value.split(',')).filter(ours).take(usize::from(u8::MAX)).count();
    u8::try_from(count).unwrap_or(u8::MAX)
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
    append(headers, CDN_LOOP, &format!("eyot; fleet={}", facts.fleet));
    headers.remove(REQUEST_ID);
    append(headers, REQUEST_ID, facts.request_id);
    if let Some(client) = facts.client {
        forwarded(headers, client);
    }
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(lines: &str) -> HeaderMap {
        let field = |line: &str| {
            let (name, value) = line.trim().split_once(": ").expect("name: value");
            (name.parse::<HeaderName>().expect("a name"), value.parse::<HeaderValue>().expect("a value"))
        };
        let mut headers = HeaderMap::new();
        for (name, value) in lines.lines().filter(|line| !line.trim().is_empty()).map(field) {
            headers.append(name, value);
        }
        headers
    }

    fn lines(headers: &HeaderMap) -> String {
        let mut lines: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().expect("text"))).collect();
        lines.sort();
        lines.join("\n")
    }

    fn out(given: &str, client: Option<Client<'_>>) -> String {
        let mut headers = map(given);
        let trail = Trail::enter(&headers, "example").expect("no loop");
        let facts = Facts { fleet: "example", protocol: Protocol::H3, request_id: "0193", trail: &trail, client };
        request_out(&mut headers, &facts);
        lines(&headers)
    }

    #[test]
    fn a_clients_request_leaves_without_what_was_for_one_hop_and_with_who_asked_made_anew() {
        let client = Client { ip: "2001:db8::7".parse().expect("ip"), host: "shop.test:8443", scheme: "https" };
        let given = "accept: */*
            connection: close, X-Secret, Host, CDN-Loop, content-length
            connection: keep-alive
            host: shop.test
            content-length: 3
            keep-alive: timeout=5
            proxy-authorization: Basic eA==
            proxy-connection: close
            te: gzip, Trailers
            trailer: x-sum
            transfer-encoding: chunked
            upgrade: h2c
            x-secret: 1
            eyot-release: shop/1
            forwarded: for=1.1.1.1
            x-forwarded-for: 1.1.1.1
            x-forwarded-port: 1
            x-forwarded-proto: http
            x-request-id: theirs
            via: 1.1 vegur
            cdn-loop: other; x=\"1\"";
        assert_eq!(
            out(given, Some(client)),
            "accept: */*\ncdn-loop: eyot; fleet=example\ncdn-loop: other; x=\"1\"\ncontent-length: 3\n\
             forwarded: for=\"[2001:db8::7]\";host=\"shop.test:8443\";proto=https\nhost: shop.test\nte: trailers\n\
             trailer: x-sum\nvia: 1.1 vegur\nvia: 3 eyot\nx-forwarded-for: 2001:db8::7\n\
             x-forwarded-host: shop.test:8443\nx-forwarded-proto: https\nx-request-id: 0193"
        );
    }

    #[test]
    fn a_mapped_client_is_told_as_ipv4() {
        let client = Client { ip: "::ffff:1.2.3.4".parse().expect("ip"), host: "a.test", scheme: "http" };
        let given = out("", Some(client));
        assert!(given.contains("forwarded: for=1.2.3.4;host=\"a.test\";proto=http\n"), "{given}");
    }

    #[test]
    fn a_function_asks_in_its_own_name_and_cannot_forget_where_its_caller_has_been() {
        let arrival = map("cdn-loop: eyot; fleet=example\ncdn-loop: eyot; fleet=example");
        let trail = Trail::enter(&arrival, "example").expect("no loop");
        let mut headers = map("x-forwarded-for: 9.9.9.9\ncdn-loop: mine\neyot-budget: 9\nx-mine: 1");
        let facts = Facts { fleet: "example", protocol: Protocol::H2, request_id: "7", trail: &trail, client: None };
        request_out(&mut headers, &facts);
        assert_eq!(hops(&headers, "example"), 3);
        assert_eq!(
            lines(&headers),
            "cdn-loop: eyot; fleet=example\ncdn-loop: eyot; fleet=example\ncdn-loop: eyot; fleet=example\n\
             via: 2 eyot\nx-forwarded-for: 9.9.9.9\nx-mine: 1\nx-request-id: 7"
        );
    }

    #[test]
    fn the_eighth_passing_of_one_fleet_is_a_loop() {
        let passed = |count: usize| vec!["eyot; fleet=example"; count].join(", ");
        for (value, expect) in [
            ("none".to_owned(), 0),
            (passed(1), 1),
            ("eyot; fleet=other, EYOT ;a=b; fleet=\"example\"".to_owned(), 1),
            ("eyot, eyot; fleet, noteyot; fleet=example, eyot; fleet=examples".to_owned(), 0),
            (passed(7), 7),
            (passed(8), 8),
            (passed(300), 255),
        ] {
            let headers = map(&format!("cdn-loop: {value}"));
            assert_eq!(hops(&headers, "example"), expect, "{value}");
            let entered = Trail::enter(&headers, "example").map(|trail| trail.hops()).map_err(|fault| fault.code);
            assert_eq!(entered, if expect >= DEPTH_MAX { Err(Code::LoopDetected) } else { Ok(expect) });
        }
    }

    #[test]
    fn a_response_says_nothing_that_only_the_node_may_say() {
        let mut headers =
            map("alt-svc: h3=\":1\"\nproxy-status: x\ncache-status: y\neyot-release: a/1\nx-request-id: 1
            connection: x-hop\nx-hop: 1\nkeep-alive: 1\ntransfer-encoding: chunked\nset-cookie: a=1\nset-cookie: b=2
            via: 1.1 x\nproxy-authenticate: Basic\nupgrade: h2c\ncontent-type: text/plain\ncontent-length: 4");
        response_back(&mut headers);
        assert_eq!(
            lines(&headers),
            "content-length: 4\ncontent-type: text/plain\nset-cookie: a=1\nset-cookie: b=2\nvia: 1.1 x"
        );
    }

    #[test]
    fn trailers_frame_and_route_nothing() {
        let mut headers = map("content-length: 4\nhost: a\ntransfer-encoding: chunked\nset-cookie: a\nalt-svc: x
            x-forwarded-for: 1.1.1.1\neyot-x: 1\ngrpc-status: 0\nx-sum: 9");
        trailers(&mut headers);
        assert_eq!(lines(&headers), "grpc-status: 0\nx-sum: 9");
    }

    proptest! {
        #[test]
        fn nothing_that_connection_names_goes_on_and_every_passing_is_counted(
            named in "[a-z]{1,8}", noise in "[ -~]{0,40}", times in 1u8..20,
        ) {
            let mut headers = HeaderMap::new();
            for value in [format!("{noise},{named}"), named.clone()] {
                headers.append(CONNECTION, value.parse().expect("printable"));
            }
            headers.append(HeaderName::try_from(format!("x-{named}")).expect("a name"), HeaderValue::from_static("1"));
            if !["te", "via", "host", "trailer"].contains(&named.as_str()) {
                headers.append(HeaderName::try_from(named.as_str()).expect("a name"), HeaderValue::from_static("1"));
                strip_hop_by_hop(&mut headers);
                prop_assert!(!headers.contains_key(named.as_str()) && !headers.contains_key(CONNECTION));
            }
            let mut passed = 0;
            while let (true, Ok(trail)) = (passed < times, Trail::enter(&headers, "f")) {
                let facts = Facts { fleet: "f", protocol: Protocol::H1, request_id: "1", trail: &trail, client: None };
                request_out(&mut headers, &facts);
                passed += 1;
            }
            prop_assert_eq!(passed, times.min(DEPTH_MAX));
        }
    }
}
