#![allow(clippy::type_complexity, reason = "the rows of tables")]

use super::super::bytes_of;
use super::super::code::Code;
use super::*;

fn section(fields: &[(&str, &str)]) -> Section {
    Section::decode(&bytes_of::section(fields), 10_000).unwrap()
}

fn with(more: &[(&str, &str)]) -> Section {
    section(&[&bytes_of::REQUEST[..], more].concat())
}

const M: (&str, &str) = (":method", "GET");
const S: (&str, &str) = (":scheme", "https");
const A: (&str, &str) = (":authority", "a.example");
const P: (&str, &str) = (":path", "/");
const C: (&str, &str) = (":method", "CONNECT");
const W: (&str, &str) = (":protocol", "websocket");

#[test]
fn good_requests_are_read() {
    let table: [(&[(&str, &str)], &str, &str); 8] = [
        (&[M, S, A, P], "GET", "https://a.example/"),
        (&[P, A, M, S], "GET", "https://a.example/"),
        (&[M, S, A, (":path", "/a%20b?c=/d?e")], "GET", "https://a.example/a%20b?c=/d?e"),
        (&[M, S, P, ("host", "b.example:8443")], "GET", "https://b.example:8443/"),
        (&[M, S, (":authority", "A.example"), P, ("host", "a.EXAMPLE")], "GET", "https://A.example/"),
        (&[M, S, (":authority", "[::1]:443"), P], "GET", "https://[::1]:443/"),
        (&[(":method", "PURGE"), (":scheme", "http"), A, P], "PURGE", "http://a.example/"),
        (&[(":method", "CONNECT"), (":authority", "a.example:443")], "CONNECT", "a.example:443"),
    ];
    for (fields, method, uri) in table {
        let (request, length) = request(&section(fields)).unwrap();
        assert_eq!((request.method().as_str(), request.uri().to_string().as_str(), length), (method, uri, None));
        assert_eq!(request.version(), http::Version::HTTP_3);
    }
    let (request, _) = request(&section(&[(":method", "OPTIONS"), S, A, (":path", "*")])).unwrap();
    assert_eq!(request.uri().path(), "*");
}

#[test]
fn an_extended_connect_says_what_it_is_for() {
    let (request, length) = request(&section(&[C, W, S, A, (":path", "/chat"), ("x", "y")])).unwrap();
    assert_eq!((request.method(), length), (&Method::CONNECT, None));
    assert_eq!(request.uri(), "https://a.example/chat");
    assert_eq!(request.extensions().get(), Some(&Protocol::WEBSOCKET));
    let (plain, _) = super::request(&section(&[C, A])).unwrap();
    assert!(plain.extensions().get::<Protocol>().is_none());
}

#[test]
fn malformed_requests_are_refused() {
    let table: [(&str, &[(&str, &str)]); 41] = [
        ("no method", &[S, A, P]),
        ("no scheme", &[M, A, P]),
        ("no path", &[M, S, A]),
        ("no authority and no host", &[M, S, P]),
        ("two methods", &[M, M, S, A, P]),
        ("two paths", &[M, S, A, P, P]),
        ("a late pseudo-header field", &[M, S, A, ("x", "y"), P]),
        (":status", &[M, S, A, P, (":status", "200")]),
        (":protocol without CONNECT", &[M, S, A, P, W]),
        (":protocol twice", &[C, W, W, S, A, P]),
        (":protocol that is no token", &[C, (":protocol", "web socket"), S, A, P]),
        ("an empty :protocol", &[C, (":protocol", ""), S, A, P]),
        ("a :protocol that is not ASCII", &[C, (":protocol", "wäb"), S, A, P]),
        ("an extended CONNECT without a scheme", &[C, W, A, P]),
        ("an extended CONNECT without a path", &[C, W, S, A]),
        ("an extended CONNECT without an authority", &[C, W, S, P, ("host", "a.example")]),
        ("an extended CONNECT with an asterisk", &[C, W, S, A, (":path", "*")]),
        ("an extended CONNECT with a length", &[C, W, S, A, P, ("content-length", "0")]),
        ("a CONNECT with a length", &[C, A, ("content-length", "0")]),
        ("an unknown pseudo-header field", &[M, S, A, P, (":x", "y")]),
        ("an empty method", &[(":method", ""), S, A, P]),
        ("a method that is no token", &[(":method", "GE T"), S, A, P]),
        ("a scheme that is none", &[M, (":scheme", "ht tp"), A, P]),
        ("an empty authority", &[M, S, (":authority", ""), P]),
        ("userinfo", &[M, S, (":authority", "me@a.example"), P]),
        ("userinfo in host", &[M, S, P, ("host", "me@a.example")]),
        ("an authority with a path", &[M, S, (":authority", "a.example/b"), P]),
        ("an authority with a space", &[M, S, (":authority", "a example"), P]),
        ("a host that differs", &[M, S, A, P, ("host", "b.example")]),
        ("two hosts", &[M, S, A, P, ("host", "a.example"), ("host", "a.example")]),
        ("an empty path", &[M, S, A, (":path", "")]),
        ("a relative path", &[M, S, A, (":path", "a")]),
        ("an absolute path", &[M, S, A, (":path", "https://a.example/")]),
        ("an asterisk with GET", &[M, S, A, (":path", "*")]),
        ("a path with a space", &[M, S, A, (":path", "/a b")]),
        ("a path with a fragment", &[M, S, A, (":path", "/a#b")]),
        ("a path with a line end", &[M, S, A, (":path", "/a\r\nb: c")]),
        ("a path that is not ASCII", &[M, S, A, (":path", "/ä")]),
        ("CONNECT with a path", &[(":method", "CONNECT"), A, P]),
        ("CONNECT with a scheme", &[(":method", "CONNECT"), A, S]),
        ("CONNECT without an authority", &[(":method", "CONNECT"), ("host", "a.example")]),
    ];
    for (what, fields) in table {
        assert_eq!(request(&section(fields)).map_err(|it| it.code).err(), Some(Code::MESSAGE_ERROR), "{what}");
    }
}

#[test]
fn malformed_fields_are_refused_in_requests_responses_and_trailers() {
    let table: [(&str, (&str, &str)); 17] = [
        ("upper case", ("X-Y", "z")),
        ("an empty name", ("", "z")),
        ("a name with a space", ("x y", "z")),
        ("a name with a colon", ("x:", "z")),
        ("a name with a line end", ("x\n", "z")),
        ("a value with NUL", ("x", "a\0b")),
        ("a value with CR", ("x", "a\rb")),
        ("a value with LF", ("x", "a\nb")),
        ("a value with DEL", ("x", "a\x7fb")),
        ("space before a value", ("x", " a")),
        ("tab after a value", ("x", "a\t")),
        ("connection", ("connection", "close")),
        ("keep-alive", ("keep-alive", "timeout=5")),
        ("proxy-connection", ("proxy-connection", "close")),
        ("transfer-encoding", ("transfer-encoding", "chunked")),
        ("upgrade", ("upgrade", "websocket")),
        ("a te beyond trailers", ("te", "trailers, gzip")),
    ];
    for (what, field) in table {
        assert!(request(&with(&[field])).is_err(), "{what} in a request");
        assert!(response(&section(&[(":status", "200"), field])).is_err(), "{what} in a response");
        assert!(trailers(&section(&[field])).is_err(), "{what} in trailers");
    }
    assert!(request(&with(&[("te", "trailers"), ("x", ""), ("y", "a b\tc"), ("z", "ä")])).is_ok());
}

#[test]
fn responses_are_read_or_refused() {
    let table: [(&[(&str, &str)], Option<u16>); 11] = [
        (&[(":status", "200")], Some(200)),
        (&[(":status", "103")], Some(103)),
        (&[(":status", "599")], Some(599)),
        (&[(":status", "101")], None),
        (&[(":status", "600")], None),
        (&[(":status", "99")], None),
        (&[(":status", "2 0")], None),
        (&[], None),
        (&[(":status", "200"), (":status", "200")], None),
        (&[(":status", "200"), (":path", "/")], None),
        (&[("x", "y"), (":status", "200")], None),
    ];
    for (fields, status) in table {
        assert_eq!(response(&section(fields)).ok().map(|(it, _)| it.status().as_u16()), status, "{fields:?}");
    }
    for name in [":path", ":status", ":x"] {
        assert!(trailers(&section(&[(name, "1")])).is_err(), "{name} in trailers");
    }
}

#[test]
fn content_lengths_agree_or_are_refused() {
    let table: [(&[&str], Result<Option<u64>, ()>); 11] = [
        (&[], Ok(None)),
        (&["0"], Ok(Some(0))),
        (&["42", "42"], Ok(Some(42))),
        (&["42, 42"], Ok(Some(42))),
        (&["18446744073709551615"], Ok(Some(u64::MAX))),
        (&["18446744073709551616"], Err(())),
        (&["1", "2"], Err(())),
        (&["1,2"], Err(())),
        (&["+1"], Err(())),
        (&["0x1"], Err(())),
        (&[""], Err(())),
    ];
    for (values, expect) in table {
        let fields: Vec<_> = values.iter().map(|value| ("content-length", *value)).collect();
        let got = request(&with(&fields));
        assert_eq!(got.as_ref().map(|(_, length)| *length).map_err(|_| ()), expect, "{values:?}");
        if let (Ok((request, _)), false) = (got, values.is_empty()) {
            assert_eq!(request.headers().get_all("content-length").iter().count(), 1);
        }
    }
}

#[test]
fn the_crumbs_of_a_cookie_are_joined() {
    let (request, _) =
        request(&with(&[("cookie", "a=b"), ("x", "y"), ("cookie", "c=d; e=f"), ("cookie", "g=h")])).unwrap();
    let cookies: Vec<_> = request.headers().get_all("cookie").iter().collect();
    assert_eq!(cookies, ["a=b; c=d; e=f; g=h"]);
}

proptest::proptest! {
    #[test]
    fn any_fields_are_read_or_refused(fields: Vec<(String, String)>, good: bool) {
        let mut all: Vec<_> = if good { bytes_of::REQUEST.to_vec() } else { Vec::new() };
        all.extend(fields.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        if let Ok(section) = Section::decode(&bytes_of::section(&all), 100_000) {
            let _ = request(&section);
            let _ = response(&section);
            let _ = trailers(&section);
        }
    }

    #[test]
    fn any_pseudo_values_are_read_or_refused(method in "[A-Z*]{0,5}|.*", scheme in "https?|.*", authority in "[a-z:@0-9.]*|.*", path in "/.*|.*") {
        let fields = [(":method", &method[..]), (":scheme", &scheme), (":authority", &authority), (":path", &path)];
        if let Ok((request, _)) = request(&section(&fields)) {
            assert!(!request.uri().authority().unwrap().as_str().contains('@'));
        }
    }
}
