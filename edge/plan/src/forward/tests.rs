//! Tests of forwarding.

use proptest::prelude::*;

use super::*;

pub(super) fn map(lines: &str) -> HeaderMap {
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
    let facts =
        Facts { fleet: "example", protocol: Protocol::H3, request_id: "0193", trail: &trail, client, lends: None };
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
    let lends = Some(Lent { cpu_us: 900, subrequests: 7, depth: 2 });
    let facts = Facts { fleet: "example", protocol: Protocol::H2, request_id: "7", trail: &trail, client: None, lends };
    request_out(&mut headers, &facts);
    assert_eq!(Trail::enter(&headers, "example").expect("no loop").hops(), 5);
    assert_eq!(
        lines(&headers),
        "cdn-loop: eyot; fleet=example\ncdn-loop: eyot; fleet=example\n\
         cdn-loop: eyot; fleet=example; calls=7; cpu=900; depth=2\nvia: 2 eyot\nx-forwarded-for: 9.9.9.9\nx-mine: 1\nx-request-id: 7"
    );
}

#[test]
fn a_call_on_the_same_node_carries_what_is_its_own_and_our_id() {
    let mut headers = map("accept: a\nconnection: x-hop\nx-hop: 1\ncdn-loop: mine\neyot-next: 1\nx-request-id: theirs");
    request_within(&mut headers, "7");
    assert_eq!(lines(&headers), "accept: a\nx-request-id: 7");
}

#[test]
fn a_response_says_nothing_that_only_the_node_may_say() {
    let mut headers = map("alt-svc: h3=\":1\"\nproxy-status: x\ncache-status: y\neyot-release: a/1\nx-request-id: 1
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
            let facts = Facts { fleet: "f", protocol: Protocol::H1, request_id: "1", trail: &trail, client: None, lends: None };
            request_out(&mut headers, &facts);
            passed += 1;
        }
        prop_assert_eq!(passed, times.min(DEPTH_MAX));
    }
}
