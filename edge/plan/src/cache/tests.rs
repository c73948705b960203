//! Tests of the policy: tables, each row a rule and the section that has it.

use http::header::{HeaderMap, HeaderName};
use http::{Method, StatusCode, Uri};
use proptest::prelude::*;

use super::answer;
use super::control::Wish;
use super::invalid;
use super::kept::{Asking, Kept, Reason};
use super::key::{self, Class, Place, Query};
use super::life::{Failure, HEURISTIC_MS_MAX, UNREACHABLE_MS_MAX, Use};
use super::status::{Forward, Status};
use super::update::{self, Freshened, Headed};
use super::{Rules, date};
use crate::files::Sent;

/// When answers come, in the tests: a whole second.
const NOW: u64 = 1_800_000_000_000;

type Fields<'a> = &'a [(&'a str, &'a str)];

fn map(fields: Fields<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        // `@10` and `@-10` are dates, so many seconds from now.
        let delta = value.strip_prefix('@').and_then(|delta| delta.parse::<i64>().ok());
        let value = delta.map_or((*value).to_owned(), |delta| date::format((NOW / 1000) as i64 + delta));
        headers.append(HeaderName::try_from(*name).expect("a name"), value.parse().expect("a value"));
    }
    headers
}

fn uri(text: &str) -> Uri {
    text.parse().expect("a URI")
}

fn keep_as(
    method: &Method,
    request: Fields<'_>,
    status: u16,
    answer: Fields<'_>,
    rules: &Rules,
) -> Result<Kept, Reason> {
    let (uri, headers) = (uri("https://a.test/x"), map(request));
    let asking = Asking { method, uri: &uri, headers: &headers };
    Kept::of(&asking, StatusCode::from_u16(status).expect("a status"), &map(answer), (NOW, NOW), rules)
}

fn keep(answer: Fields<'_>) -> Kept {
    keep_as(&Method::GET, &[], 200, answer, &Rules::default()).expect("it is kept")
}

#[test]
fn an_answer_is_fresh_as_long_as_it_says_or_a_tenth_of_its_age() {
    let table: &[(u16, Fields<'_>, u64)] = &[
        (200, &[("cache-control", "max-age=60"), ("etag", "\"a\"")], 60_000),
        (200, &[("cache-control", "max-age=1, s-maxage=60")], 60_000),
        (200, &[("cache-control", "max-age=0, s-maxage=60"), ("expires", "@-10")], 60_000),
        (200, &[("cache-control", "max-age=60"), ("expires", "0")], 60_000),
        (200, &[("expires", "@60"), ("date", "@0")], 60_000),
        (200, &[("expires", "@60")], 60_000),
        (200, &[("expires", "@60"), ("date", "foo")], 60_000),
        (200, &[("expires", "@300"), ("date", "@400"), ("etag", "\"a\"")], 0),
        (200, &[("expires", "@60"), ("expires", "@70"), ("etag", "\"a\"")], 0),
        (200, &[("cache-control", "max-age=1"), ("cdn-cache-control", "max-age=60")], 60_000),
        (
            200,
            &[
                ("cache-control", "max-age=60"),
                ("cdn-cache-control", "max-age=0"),
                ("expires", "@60"),
                ("etag", "\"a\""),
            ],
            0,
        ),
        (200, &[("cache-control", "no-store"), ("cdn-cache-control", "max-age=60")], 60_000),
        (200, &[("last-modified", "@-600"), ("date", "@0")], 60_000),
        (200, &[("last-modified", "@-60000000"), ("date", "@0")], HEURISTIC_MS_MAX),
        (200, &[("last-modified", "@600"), ("date", "@0")], 0),
        (404, &[("last-modified", "@-600")], 60_000),
        (599, &[("last-modified", "@-600"), ("cache-control", "public")], 60_000),
        (200, &[("last-modified", "@-600"), ("set-cookie", "a=b")], 0),
        (200, &[("cache-control", "max-age=60"), ("set-cookie", "a=b")], 60_000),
        (500, &[("cache-control", "max-age=60")], 60_000),
    ];
    for (status, answer, expect) in table {
        let kept = keep_as(&Method::GET, &[], *status, answer, &Rules::default());
        assert_eq!(kept.map(|kept| kept.life.fresh_ms), Ok(*expect), "{status} {answer:?}");
    }
}

#[test]
fn an_answer_is_as_old_as_its_date_or_its_age_says_whichever_is_more() {
    for (answer, expect) in [
        (&[("age", "30")][..], 30),
        (&[("date", "@-20")], 20),
        (&[("date", "@-20"), ("age", "30")], 30),
        (&[("date", "@20"), ("age", "15")], 15),
        (&[("age", "abc")], 0),
        (&[("age", "-7200")], 0),
        (&[("age", "72.0")], 0),
        (&[("age", "50, 0")], 50),
        (&[("age", "0, 50")], 0),
        (&[("age", "50"), ("age", "0")], 50),
        (&[("age", "0"), ("age", "50")], 0),
    ] {
        let fields = [&[("cache-control", "max-age=3600")], answer].concat();
        assert_eq!(keep(&fields).life.age_ms(NOW), expect * 1000, "{answer:?}");
    }
    for age in ["2147483647", "2147483648", "99999999999999999999999"] {
        let kept = keep(&[("cache-control", "max-age=3600"), ("age", age), ("etag", "\"a\"")]);
        assert_eq!(kept.life.judge(None, false, NOW), Use::Ask);
    }
    let (uri, headers) = (uri("https://a.test/x"), HeaderMap::new());
    let asking = Asking { method: &Method::GET, uri: &uri, headers: &headers };
    let answer = map(&[("cache-control", "max-age=3600"), ("age", "10")]);
    let kept = Kept::of(&asking, StatusCode::OK, &answer, (NOW, NOW + 5000), &Rules::default()).expect("kept");
    assert_eq!(kept.life.age_ms(NOW + 7000), 17_000, "its way took five seconds, and it lay here for two");
}

#[test]
fn what_may_not_be_kept_is_not() {
    let get = Method::GET;
    let fresh = ("cache-control", "max-age=60");
    let table: &[(&Method, Fields<'_>, u16, Fields<'_>, Option<Reason>)] = &[
        (&get, &[], 200, &[fresh], None),
        (&get, &[], 200, &[], Some(Reason::Unfresh)),
        (&get, &[], 200, &[("etag", "\"a\"")], None),
        (&get, &[], 200, &[("cache-control", "no-cache")], Some(Reason::Unfresh)),
        (&get, &[], 200, &[("cache-control", "no-cache"), ("etag", "\"a\"")], None),
        (&get, &[], 200, &[("cache-control", "max-age=60, no-store")], Some(Reason::NoStore)),
        (&get, &[], 200, &[("cache-control", "max-age=60, No-StOrE")], Some(Reason::NoStore)),
        (&get, &[], 200, &[("cache-control", "max-age=60, private")], Some(Reason::Private)),
        (&get, &[], 200, &[("cache-control", "max-age=60, private=\"set-cookie\"")], None),
        (&get, &[], 200, &[fresh, ("cdn-cache-control", "private")], Some(Reason::Private)),
        (&get, &[], 200, &[fresh, ("cdn-cache-control", "no-store")], Some(Reason::NoStore)),
        (
            &get,
            &[],
            200,
            &[("cache-control", "no-store"), ("cdn-cache-control", "max-age=10000, &&&")],
            Some(Reason::NoStore),
        ),
        (&get, &[("authorization", "x")], 200, &[fresh], Some(Reason::Authorization)),
        (&get, &[("authorization", "x")], 200, &[("cache-control", "max-age=60, public")], None),
        (&get, &[("authorization", "x")], 200, &[("cache-control", "max-age=60, must-revalidate")], None),
        (&get, &[("authorization", "x")], 200, &[("cache-control", "s-maxage=60")], None),
        (&get, &[], 200, &[("last-modified", "@-600")], None),
        (&get, &[("cookie", "a=1")], 200, &[("last-modified", "@-600")], Some(Reason::Unfresh)),
        (&get, &[("cookie", "a=1")], 200, &[fresh], None),
        (&get, &[], 200, &[fresh, ("content-range", "bytes 0-1/2")], None),
        (&get, &[], 200, &[fresh, ("vary", "*")], Some(Reason::Vary)),
        (&get, &[], 200, &[fresh, ("vary", "foo, *")], Some(Reason::Vary)),
        (&get, &[], 200, &[fresh, ("vary", ""), ("vary", "*")], Some(Reason::Vary)),
        (&get, &[], 200, &[fresh, ("vary", "a b")], Some(Reason::Vary)),
        (&get, &[], 200, &[fresh, ("vary", "X-Forwarded-For")], Some(Reason::Vary)),
        (&get, &[], 200, &[fresh, ("vary", "Host, X-Forwarded-Proto")], None),
        (&get, &[], 200, &[fresh, ("vary", "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q")], Some(Reason::Vary)),
        (&get, &[], 206, &[fresh, ("content-range", "bytes 0-1/2")], Some(Reason::Partial)),
        (&get, &[], 304, &[fresh], Some(Reason::Partial)),
        (&get, &[], 599, &[fresh], None),
        (&get, &[], 599, &[("cache-control", "max-age=60, no-store, must-understand")], Some(Reason::Status)),
        (&get, &[], 200, &[("cache-control", "max-age=60, no-store, must-understand")], None),
        (&get, &[], 403, &[("last-modified", "@-600")], Some(Reason::Unfresh)),
        (&get, &[], 503, &[("last-modified", "@-600")], Some(Reason::Unfresh)),
        (&Method::HEAD, &[], 200, &[fresh], Some(Reason::Method)),
        (&Method::PUT, &[], 200, &[fresh], Some(Reason::Method)),
        (&Method::POST, &[], 200, &[fresh], Some(Reason::Method)),
        (&Method::POST, &[], 200, &[fresh, ("content-location", "/x")], None),
        (&Method::POST, &[], 200, &[fresh, ("content-location", "/y")], Some(Reason::Method)),
        (&Method::POST, &[], 200, &[("last-modified", "@-600"), ("content-location", "/x")], Some(Reason::Method)),
    ];
    for (method, request, status, answer, expect) in table {
        let kept = keep_as(method, request, *status, answer, &Rules::default());
        assert_eq!(kept.err(), *expect, "{method} {request:?} {status} {answer:?}");
    }
}

#[test]
fn a_route_may_say_how_long_what_may_be_kept_is_fresh() {
    let rules = Rules { ttl_ms: Some(5_000), negative_ttl_ms: Some(1_000), ..Rules::default() };
    let fresh = |status, answer| keep_as(&Method::GET, &[], status, answer, &rules).map(|kept| kept.life.fresh_ms);
    assert_eq!(fresh(200, &[("cache-control", "max-age=60"), ("age", "100")]), Ok(5_000));
    assert_eq!(fresh(200, &[]), Ok(5_000));
    assert_eq!(fresh(200, &[("cache-control", "no-store")]), Err(Reason::NoStore));
    let rules = Rules { negative_ttl_ms: Some(1_000), ..Rules::default() };
    let fresh = |status, answer| keep_as(&Method::GET, &[], status, answer, &rules).map(|kept| kept.life.fresh_ms);
    assert_eq!(fresh(404, &[]), Ok(1_000));
    assert_eq!(fresh(503, &[]), Ok(1_000));
    assert_eq!(fresh(404, &[("cache-control", "max-age=7")]), Ok(7_000));
    assert_eq!(fresh(302, &[]), Err(Reason::Unfresh));
}

#[test]
fn fields_of_the_connection_and_those_the_answer_excepts_are_not_kept() {
    let kept = keep(&[
        ("cache-control", "max-age=60, no-cache=\"a\", private=\"set-cookie\""),
        ("connection", "b"),
        ("a", "1"),
        ("b", "2"),
        ("c", "3"),
        ("set-cookie", "x=y"),
        ("te", "x"),
        ("keep-alive", "x"),
        ("upgrade", "x"),
        ("transfer-encoding", "x"),
        ("proxy-connection", "x"),
        ("proxy-authenticate", "x"),
        ("proxy-authentication-info", "x"),
        ("proxy-authorization", "x"),
    ]);
    let mut names: Vec<_> = kept.headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["c", "cache-control", "date"]);
    assert_eq!(kept.headers["date"], date::format((NOW / 1000) as i64).as_str());
}

#[test]
fn what_is_stale_answers_only_as_far_as_it_and_its_request_say() {
    let wish = |value: &str| Wish::of(&map(&[("cache-control", value)]));
    for (control, request, after_s, outdated, expect) in [
        ("max-age=10", "", 9, false, Use::Fresh),
        ("max-age=10", "", 10, false, Use::Ask),
        ("max-age=10", "", 0, true, Use::Ask),
        ("max-age=10, stale-while-revalidate=5", "", 14, false, Use::StaleWhile),
        ("max-age=10, stale-while-revalidate=5", "", 15, false, Use::Ask),
        ("max-age=10, stale-while-revalidate=5", "", 0, true, Use::StaleWhile),
        ("max-age=10, stale-while-revalidate=5, must-revalidate", "", 14, false, Use::Ask),
        ("s-maxage=10, stale-while-revalidate=5", "", 14, false, Use::Ask),
        ("max-age=10, no-cache", "", 0, false, Use::Ask),
        ("max-age=10, immutable", "", 10, false, Use::Ask),
        ("max-age=10", "no-cache", 0, false, Use::Ask),
        ("max-age=10", "max-age=4", 4, false, Use::Fresh),
        ("max-age=10", "max-age=4", 5, false, Use::Ask),
        ("max-age=10", "min-fresh=4", 6, false, Use::Fresh),
        ("max-age=10", "min-fresh=4", 7, false, Use::Ask),
        ("max-age=10", "max-stale=4", 14, false, Use::Stale),
        ("max-age=10", "max-stale=4", 15, false, Use::Ask),
        ("max-age=10", "max-stale", 1_000_000, false, Use::Stale),
        ("max-age=10, must-revalidate", "max-stale", 10, false, Use::Ask),
    ] {
        let life = keep(&[("cache-control", control), ("etag", "\"a\"")]).life;
        let found = life.judge(Some(&wish(request)), outdated, NOW + after_s * 1000);
        assert_eq!(found, expect, "{control} | {request} | {after_s}");
    }
}

#[test]
fn what_is_stale_stands_in_for_an_error_only_as_far_as_it_says() {
    let status = |status| Failure::Status(StatusCode::from_u16(status).expect("a status"));
    for (control, failure, stale_s, expect) in [
        ("max-age=10", Failure::Unreachable, 100, true),
        ("max-age=10", Failure::Unreachable, UNREACHABLE_MS_MAX / 1000, true),
        ("max-age=10", Failure::Unreachable, UNREACHABLE_MS_MAX / 1000 + 1, false),
        ("max-age=10", status(503), 1, false),
        ("max-age=10, stale-if-error=60", Failure::Unreachable, 60, true),
        ("max-age=10, stale-if-error=60", Failure::Unreachable, 61, false),
        ("max-age=10, stale-if-error=60", status(503), 60, true),
        ("max-age=10, stale-if-error=60", status(500), 60, true),
        ("max-age=10, stale-if-error=60", status(404), 60, false),
        ("max-age=10, stale-if-error=60", status(501), 60, false),
        ("max-age=10, must-revalidate, stale-if-error=60", Failure::Unreachable, 1, false),
        ("max-age=10, proxy-revalidate", Failure::Unreachable, 1, false),
        ("max-age=10, no-cache", Failure::Unreachable, 1, false),
        ("s-maxage=10", Failure::Unreachable, 1, false),
    ] {
        let life = keep(&[("cache-control", control), ("etag", "\"a\"")]).life;
        assert_eq!(life.stands_in(failure, NOW + 10_000 + stale_s * 1000), expect, "{control} {failure:?} {stale_s}");
    }
}

#[test]
fn fields_that_an_answer_varies_by_are_compared_in_one_form() {
    let table: &[(Fields<'_>, Fields<'_>, Fields<'_>, bool)] = &[
        (&[("vary", "foo")], &[("foo", "1")], &[("foo", "1"), ("other", "2")], true),
        (&[("vary", "foo")], &[("foo", "1")], &[("foo", "2")], false),
        (&[("vary", "foo")], &[("foo", "1")], &[], false),
        (&[("vary", "foo")], &[], &[("foo", "1")], false),
        (&[("vary", "foo")], &[], &[("foo", "")], false),
        (&[("vary", "Foo, bar"), ("vary", "baz")], &[("foo", "1"), ("baz", "3")], &[("baz", "3"), ("foo", "1")], true),
        (&[("vary", "foo, bar, baz")], &[("foo", "1"), ("bar", "abc")], &[("foo", "1"), ("bar", "abcde")], false),
        (&[("vary", "foo")], &[("foo", "1, 2")], &[("foo", "1"), ("foo", "2")], true),
        (&[("vary", "foo")], &[("foo", "1,2")], &[("foo", " 1, 2 ")], true),
        (&[("vary", "foo")], &[("foo", "1, 2")], &[("foo", "2, 1")], false),
        (&[("vary", "foo")], &[("foo", "\"1, 2\"")], &[("foo", "\"1,2\"")], false),
        (&[("vary", "accept-language")], &[("accept-language", "en, de")], &[("accept-language", "de ,  EN")], true),
        (
            &[("vary", "accept-language")],
            &[("accept-language", "en, de;q=0.5")],
            &[("accept-language", "de, en;q=0.5")],
            false,
        ),
        (
            &[("vary", "accept-encoding")],
            &[("accept-encoding", "gzip, br;q=1.0")],
            &[("accept-encoding", "BR,gzip")],
            true,
        ),
        (&[("vary", "accept-encoding")], &[("accept-encoding", "gzip, br")], &[("accept-encoding", "gzip")], false),
        (
            &[("vary", "accept-language"), ("content-language", "de")],
            &[("accept-language", "en, de")],
            &[("accept-language", "fr;q=0.5, de;q=1.0")],
            true,
        ),
        (
            &[("vary", "accept-language"), ("content-language", "de")],
            &[("accept-language", "en, de")],
            &[("accept-language", "fr, de")],
            false,
        ),
    ];
    for (answer, first, second, expect) in table {
        let answer = [&[("cache-control", "max-age=60")], *answer].concat();
        let kept = keep_as(&Method::GET, first, 200, &answer, &Rules::default()).expect("kept");
        assert_eq!(kept.matches(&map(second)), *expect, "{answer:?} {first:?} {second:?}");
    }
}

#[test]
fn a_304_updates_what_is_kept_but_for_what_describes_its_body() {
    let (uri, request) = (uri("https://a.test/x"), HeaderMap::new());
    let asking = Asking { method: &Method::GET, uri: &uri, headers: &request };
    let freshen = |kept: &Kept, answer: Fields<'_>| {
        update::freshen(kept, &asking, &map(answer), (NOW + 5000, NOW + 5000), &Rules::default())
    };
    let old = keep(&[
        ("cache-control", "max-age=2"),
        ("etag", "\"a\""),
        ("content-length", "36"),
        ("content-type", "a/b"),
        ("x", "1"),
        ("y", "1"),
        ("age", "1"),
    ]);
    let new = freshen(
        &old,
        &[
            ("cache-control", "max-age=9"),
            ("content-length", "10"),
            ("content-type", "c/d"),
            ("x", "2"),
            ("x", "3"),
            ("connection", "z"),
            ("z", "1"),
        ],
    );
    let Freshened::Kept(new) = new else { panic!("{new:?}") };
    assert_eq!(new.life.fresh_ms, 9_000);
    assert_eq!(new.life.age_ms(NOW + 6000), 1_000);
    let has =
        |name: &str| new.headers.get_all(name).iter().map(|value| value.to_str().expect("text")).collect::<Vec<_>>();
    assert_eq!(
        (has("content-length"), has("content-type"), has("x"), has("y")),
        (vec!["36"], vec!["a/b"], vec!["2", "3"], vec!["1"])
    );
    assert!(!new.headers.contains_key("z") && !new.headers.contains_key("age"));
    assert_eq!(freshen(&old, &[("etag", "\"b\"")]), Freshened::Other, "it is about another one");
    assert!(matches!(freshen(&old, &[("etag", "W/\"b\"")]), Freshened::Kept(_)));
    assert!(matches!(freshen(&old, &[("cache-control", "no-store")]), Freshened::Once(_, Reason::NoStore)));

    let mut asks = map(&[
        ("range", "bytes=0-1"),
        ("if-range", "x"),
        ("if-none-match", "\"z\""),
        ("if-match", "\"z\""),
        ("a", "1"),
    ]);
    assert!(update::conditions(&old, &mut asks));
    assert_eq!(asks, map(&[("a", "1"), ("if-none-match", "\"a\"")]));
    let mut asks = HeaderMap::new();
    assert!(!update::conditions(&keep(&[("cache-control", "max-age=2")]), &mut asks));
}

#[test]
fn a_head_updates_or_ends_what_is_kept() {
    let (uri, request) = (uri("https://a.test/x"), HeaderMap::new());
    let asking = Asking { method: &Method::HEAD, uri: &uri, headers: &request };
    let old = keep(&[("cache-control", "max-age=2"), ("etag", "\"a\""), ("content-length", "36")]);
    let head = |answer: Fields<'_>| update::head(&old, &asking, &map(answer), (NOW, NOW), &Rules::default());
    assert!(
        matches!(head(&[("cache-control", "max-age=9"), ("etag", "\"a\"")]), Headed::Kept(kept) if kept.life.fresh_ms == 9_000)
    );
    assert_eq!(head(&[("etag", "\"b\"")]), Headed::Outdated);
    assert_eq!(head(&[("content-length", "37")]), Headed::Outdated);
    assert_eq!(head(&[("cache-control", "no-store")]), Headed::Outdated);
}

#[test]
fn conditions_and_ranges_are_judged_on_what_is_kept() {
    let dated: Fields<'_> =
        &[("cache-control", "max-age=60"), ("etag", "\"a\""), ("last-modified", "@-3000"), ("date", "@0")];
    let weak: Fields<'_> = &[("cache-control", "max-age=60"), ("etag", "W/\"a\"")];
    let table: &[(Fields<'_>, Fields<'_>, Sent)] = &[
        (dated, &[], Sent::Whole),
        (dated, &[("if-none-match", "\"a\"")], Sent::NotModified),
        (dated, &[("if-none-match", "\"b\", \"x,y\" , W/\"a\"")], Sent::NotModified),
        (dated, &[("if-none-match", "*")], Sent::NotModified),
        (dated, &[("if-none-match", "\"b\""), ("if-modified-since", "@0")], Sent::Whole),
        (dated, &[("if-none-match", "\"a\""), ("if-modified-since", "@-10000")], Sent::NotModified),
        (dated, &[("if-none-match", "\"b,\"a\"\"")], Sent::Whole),
        (weak, &[("if-none-match", "W/\"a\"")], Sent::NotModified),
        (dated, &[("if-modified-since", "@-3000")], Sent::NotModified),
        (dated, &[("if-modified-since", "@-2000")], Sent::NotModified),
        (dated, &[("if-modified-since", "@-3001")], Sent::Whole),
        (dated, &[("if-modified-since", "x")], Sent::Whole),
        (&[("cache-control", "max-age=60"), ("date", "@0")], &[("if-modified-since", "@0")], Sent::NotModified),
        (dated, &[("range", "bytes=0-1")], Sent::Part(0, 2)),
        (dated, &[("range", "bytes=0-1"), ("if-range", "\"a\"")], Sent::Part(0, 2)),
        (dated, &[("range", "bytes=0-1"), ("if-range", "\"b\"")], Sent::Whole),
        (dated, &[("range", "bytes=0-1"), ("if-range", "@-3000")], Sent::Part(0, 2)),
        (dated, &[("range", "bytes=0-1"), ("if-range", "@-3001")], Sent::Whole),
        (weak, &[("range", "bytes=0-1"), ("if-range", "W/\"a\"")], Sent::Whole),
        (dated, &[("range", "bytes=50-")], Sent::Unsatisfiable),
        (dated, &[("range", "bytes=0-1,3-4")], Sent::Whole),
    ];
    for (kept, request, expect) in table {
        let kept = keep(kept);
        let found = answer::sent(kept.status, &kept.headers, Some(10), &Method::GET, &map(request), NOW);
        assert_eq!(found, *expect, "{request:?}");
        let found = answer::sent(StatusCode::NOT_FOUND, &kept.headers, Some(10), &Method::GET, &map(request), NOW);
        assert_eq!(found, Sent::Whole);
    }
    let kept = keep(dated);
    let fields = answer::fields(&kept, Sent::Part(2, 5), Some(10), NOW + 3000);
    assert_eq!(
        (&fields["age"], &fields["content-range"], &fields["content-length"]),
        (&3.into(), &"bytes 2-4/10".parse().expect("a value"), &3.into())
    );
}

#[test]
fn an_unsafe_request_ends_what_is_kept_of_its_own_and_of_no_other_origin() {
    for (method, status, expect) in [
        ("POST", 200, true),
        ("PUT", 204, true),
        ("DELETE", 302, true),
        ("M-SEARCH", 200, true),
        ("POST", 500, false),
        ("POST", 404, false),
        ("GET", 200, false),
        ("OPTIONS", 200, false),
    ] {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        assert_eq!(
            invalid::invalidates(&method, StatusCode::from_u16(status).expect("a status")),
            expect,
            "{method} {status}"
        );
    }
    let base = uri("https://a.test/b/c?d");
    for (location, expect) in [
        ("/x", Some("https://a.test/x")),
        ("x/y?z#f", Some("https://a.test/b/x/y?z")),
        ("../x", Some("https://a.test/x")),
        ("?q", Some("https://a.test/b/c?q")),
        ("https://A.test:443/x", Some("https://a.test/x")),
        ("//a.test/x", Some("https://a.test/x")),
        ("", None),
        ("https://b.test/x", None),
        ("http://a.test/x", None),
        ("//b.test/x", None),
        ("mailto:a@b", Some("https://a.test/b/mailto:a@b")),
    ] {
        let found = invalid::also(&base, &map(&[("location", location)]));
        assert_eq!(found.first().map(ToString::to_string).as_deref(), expect, "{location}");
    }
}

#[test]
fn a_key_holds_what_counts_of_a_request_and_nothing_else() {
    let place = Place { app: "shop", environment: "production", class: Class::Route, maker: "" };
    let query =
        |query: Query, sort, uri: &str| key::url(&self::uri(uri), &key::Rules { query, sort, ..key::Rules::default() });
    let (all, keep, drop) = (Query::All, Query::Keep(vec!["q".into(), "p*".into()]), Query::Drop(vec!["utm_*".into()]));
    assert_eq!(query(all.clone(), false, "https://a.test/x?b=1&a"), "https://a.test/x?b=1&a");
    assert_eq!(query(all.clone(), true, "https://a.test/x?b=2&a&b=1"), "https://a.test/x?a&b=2&b=1");
    assert_eq!(query(all.clone(), false, "https://a.test/x?"), "https://a.test/x?");
    assert_eq!(query(keep.clone(), false, "https://a.test/x?a=1&page=2&q=3"), "https://a.test/x?page=2&q=3");
    assert_eq!(query(keep, false, "https://a.test/x?a=1"), "https://a.test/x");
    assert_eq!(query(drop, false, "https://a.test/x?utm_source=1&a=2"), "https://a.test/x?a=2");
    let rules = key::Rules {
        headers: vec![HeaderName::from_static("x-a")],
        cookies: vec!["c".into()],
        ..key::Rules::default()
    };
    let of =
        |place: &Place<'_>, uri: &str, fields: Fields<'_>| key::bytes(place, &self::uri(uri), &map(fields), &rules);
    let one = of(&place, "https://a.test/x", &[("x-a", "1"), ("cookie", "b=2; c=3")]);
    assert_eq!(one, of(&place, "https://a.test/x", &[("cookie", "c=3; d=4"), ("x-a", "1"), ("x-b", "1")]));
    for other in [
        of(&Place { app: "shoq", ..place }, "https://a.test/x", &[("x-a", "1"), ("cookie", "c=3")]),
        of(&Place { class: Class::Fetch, ..place }, "https://a.test/x", &[("x-a", "1"), ("cookie", "c=3")]),
        of(&Place { maker: "d", ..place }, "https://a.test/x", &[("x-a", "1"), ("cookie", "c=3")]),
        of(&place, "https://a.test/y", &[("x-a", "1"), ("cookie", "c=3")]),
        of(&place, "http://a.test/x", &[("x-a", "1"), ("cookie", "c=3")]),
        of(&place, "https://a.test/x", &[("x-a", "2"), ("cookie", "c=3")]),
        of(&place, "https://a.test/x", &[("x-a", "1"), ("cookie", "c=4")]),
        of(&place, "https://a.test/x", &[("x-a", "1")]),
    ] {
        assert_ne!(one, other);
    }
    assert!(key::is_disguised(&map(&[("x-original-url", "/y")])));
    assert!(!key::is_disguised(&map(&[("x-requested-with", "y"), ("host", "a")])));
}

#[test]
fn what_is_said_of_an_answer_is_a_structured_field() {
    let miss = Status {
        forward: Some(Forward::UriMiss),
        forward_status: Some(StatusCode::OK),
        stored: true,
        collapsed: true,
        ..Status::default()
    };
    assert_eq!(miss.to_string(), "eyot; fwd=uri-miss; fwd-status=200; stored; collapsed");
    assert_eq!(
        Status { ttl: Some(-5), detail: Some("stale"), ..Status::default() }.to_string(),
        "eyot; hit; ttl=-5; detail=stale"
    );
}

/// Directives and numbers of all kinds, some of them wrong.
fn control() -> impl Strategy<Value = String> {
    let directive = prop_oneof![
        (
            prop_oneof![Just("max-age"), Just("s-maxage"), Just("stale-while-revalidate"), Just("stale-if-error")],
            0u64..5000
        )
            .prop_map(|(name, seconds)| format!("{name}={seconds}")),
        prop_oneof![
            Just("no-cache"),
            Just("no-store"),
            Just("private"),
            Just("public"),
            Just("must-revalidate"),
            Just("proxy-revalidate"),
            Just("immutable"),
            Just("must-understand"),
            Just("no-cache=\"a\"")
        ]
        .prop_map(str::to_owned),
        "[ -~]{0,12}",
    ];
    prop::collection::vec(directive, 0..5).prop_map(|all| all.join(", "))
}

proptest! {
    #[test]
    fn whatever_is_said_a_kept_answer_is_used_no_longer_than_it_may(
        control in control(), cdn in prop::option::of(control()), age in prop::option::of("[0-9a-z, ]{0,6}"),
        wish in control(), after_s in 0u64..20_000, status in prop::sample::select(vec![200u16, 204, 301, 302, 404, 500, 503]),
    ) {
        let mut answer = vec![("cache-control", control.as_str()), ("etag", "\"a\"")];
        answer.extend(cdn.as_deref().map(|cdn| ("cdn-cache-control", cdn)));
        answer.extend(age.as_deref().map(|age| ("age", age)));
        let now = NOW + after_s * 1000;
        let Ok(kept) = keep_as(&Method::GET, &[], status, &answer, &Rules::default()) else { return Ok(()) };
        let life = kept.life;
        let wish = Wish::of(&map(&[("cache-control", &wish)]));
        for outdated in [false, true] {
            match life.judge(Some(&wish), outdated, now) {
                Use::Fresh => {
                    prop_assert!(life.ttl_ms(now) > 0 && !life.no_cache && !outdated && !wish.no_cache);
                    prop_assert!(wish.max_age.is_none_or(|most| life.age_ms(now) <= most * 1000));
                }
                Use::Stale => prop_assert!(wish.max_stale.is_some() && !life.strict && !life.no_cache),
                Use::StaleWhile => prop_assert!(life.stale_while_ms > 0 && !life.strict && !life.no_cache),
                Use::Ask => {}
            }
        }
        if life.stands_in(Failure::Unreachable, now) {
            prop_assert!(!life.strict && !life.no_cache && now <= life.over_ms());
        }
        prop_assert!(life.age_ms(now) >= after_s * 1000);
    }
}
