//! Tests of how files are answered: tables.

use super::*;

fn map(fields: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(http::HeaderName::try_from(*name).expect("a name"), value.parse().expect("a value"));
    }
    headers
}

#[test]
fn a_path_is_decoded_once_and_never_leads_elsewhere() {
    for (raw, expect) in [
        ("", Some("")),
        ("index.html", Some("index.html")),
        ("a%20b/%C3%A9.txt", Some("a b/é.txt")),
        ("a%2Bb+c", Some("a+b+c")),
        ("100%25", Some("100%")),
        ("%2541", Some("%41")),
        ("a/", Some("a/")),
        ("...", Some("...")),
        ("..", None),
        ("a/../b", None),
        ("%2e%2e/etc/passwd", None),
        ("%2E./a", None),
        ("a/%2e", None),
        ("a%2fb", None),
        ("a%2Fb", None),
        ("..%2f", None),
        ("a\\b", None),
        ("a%5cb", None),
        ("a%00.html", None),
        ("a%0a", None),
        ("%7f", None),
        ("%c3%28", None),
        ("%e0%80%af", None),
        ("%", None),
        ("%4", None),
        ("%zz", None),
    ] {
        assert_eq!(path(raw).as_deref(), expect, "{raw}");
    }
}

#[test]
fn the_encoding_is_the_one_the_request_likes_best_of_those_that_are_there() {
    use Encoding::{Br, Gzip, Identity, Zstd};
    let all = [Br, Zstd, Gzip, Identity];
    for (accept, has, expect) in [
        (None, &all[..], Identity),
        (Some(""), &all, Identity),
        (Some("gzip, deflate, br, zstd"), &all, Br),
        (Some("gzip, deflate, br, zstd"), &[Zstd, Gzip, Identity], Zstd),
        (Some("gzip, deflate, br"), &[Zstd, Identity], Identity),
        (Some("br;q=0.5, gzip"), &all, Gzip),
        (Some("br;q=0.5, gzip;q=0.501"), &all, Gzip),
        (Some("BR ; q=0.001"), &all, Br),
        (Some("br;q=0, gzip;q=0.000"), &all, Identity),
        (Some("*"), &all, Br),
        (Some("*;q=0.1, br;q=0"), &all, Zstd),
        (Some("*;q=0"), &all, Identity),
        (Some("identity;q=0, gzip;q=0.1"), &all, Gzip),
        (Some("identity, gzip;q=0.5"), &all, Identity),
        (Some("identity;q=0"), &all, Identity),
        (Some("x-gzip"), &all, Gzip),
        (Some("br;q=2, gzip;q=0.1"), &all, Gzip),
        (Some("br;q=nan, gzip;q=-1"), &all, Identity),
        (Some("br;q=0.1234, zstd"), &all, Zstd),
        (Some("brotli"), &all, Identity),
    ] {
        let headers = accept.map(|accept| map(&[("accept-encoding", accept)])).unwrap_or_default();
        assert_eq!(encoding(&headers, |one| has.contains(&one)), expect, "{accept:?} {has:?}");
    }
    let two = map(&[("accept-encoding", "gzip"), ("accept-encoding", "br")]);
    assert_eq!(encoding(&two, |_| true), Br);
}

#[test]
fn what_is_sent_follows_conditions_first_and_ranges_then() {
    type Row<'a> = (&'a [(&'a str, &'a str)], Sent);
    let table: [Row<'_>; 38] = [
        (&[], Sent::Whole),
        (&[("if-match", "\"a\"")], Sent::Whole),
        (&[("if-match", "*")], Sent::Whole),
        (&[("if-match", "\"b\", \"a\"")], Sent::Whole),
        (&[("if-match", "\"b\"")], Sent::PreconditionFailed),
        (&[("if-match", "W/\"a\"")], Sent::PreconditionFailed),
        (&[("if-none-match", "\"a\"")], Sent::NotModified),
        (&[("if-none-match", "W/\"a\"")], Sent::NotModified),
        (&[("if-none-match", "\"b\",W/\"a\"")], Sent::NotModified),
        (&[("if-none-match", "\"b\""), ("if-none-match", "\"a\"")], Sent::NotModified),
        (&[("if-none-match", "*")], Sent::NotModified),
        (&[("if-none-match", "\"b\"")], Sent::Whole),
        (&[("if-none-match", "a")], Sent::Whole),
        (&[("if-match", "\"b\""), ("if-none-match", "\"a\"")], Sent::PreconditionFailed),
        (&[("if-modified-since", "Fri, 01 Jan 2100 00:00:00 GMT")], Sent::Whole),
        (&[("if-unmodified-since", "Fri, 01 Jan 1971 00:00:00 GMT")], Sent::Whole),
        (&[("range", "bytes=0-0")], Sent::Part(0, 1)),
        (&[("range", "bytes=2-")], Sent::Part(2, 10)),
        (&[("range", "bytes=2-5")], Sent::Part(2, 6)),
        (&[("range", "bytes=-3")], Sent::Part(7, 10)),
        (&[("range", "bytes=-30")], Sent::Part(0, 10)),
        (&[("range", "bytes=5-99999999999999999999")], Sent::Part(5, 10)),
        (&[("range", "bytes=10-")], Sent::Unsatisfiable),
        (&[("range", "bytes=10-12")], Sent::Unsatisfiable),
        (&[("range", "bytes=-0")], Sent::Unsatisfiable),
        (&[("range", "bytes=99999999999999999999-")], Sent::Unsatisfiable),
        (&[("range", "bytes=5-2")], Sent::Whole),
        (&[("range", "bytes=-")], Sent::Whole),
        (&[("range", "bytes=a-b")], Sent::Whole),
        (&[("range", "bytes=+1-2")], Sent::Whole),
        (&[("range", "bytes=0-1,4-5")], Sent::Whole),
        (&[("range", "lines=0-1")], Sent::Whole),
        (&[("range", "bytes=0-1"), ("range", "bytes=2-3")], Sent::Whole),
        (&[("range", "bytes=0-1"), ("if-range", "\"a\"")], Sent::Part(0, 2)),
        (&[("range", "bytes=0-1"), ("if-range", "\"b\"")], Sent::Whole),
        (&[("range", "bytes=0-1"), ("if-range", "W/\"a\"")], Sent::Whole),
        (&[("range", "bytes=0-1"), ("if-range", "Fri, 01 Jan 2100 00:00:00 GMT")], Sent::Whole),
        (&[("range", "bytes=0-1"), ("if-none-match", "\"a\"")], Sent::NotModified),
    ];
    for (fields, expect) in table {
        assert_eq!(sent(&map(fields), "\"a\"", 10), expect, "{fields:?}");
    }
    assert_eq!(sent(&map(&[("range", "bytes=0-")]), "\"a\"", 0), Sent::Unsatisfiable);
    assert_eq!(sent(&map(&[("range", "bytes=-5")]), "\"a\"", 0), Sent::Unsatisfiable);
}
