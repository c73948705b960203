//! What strangers do to a cache so that others get what they made: each with what must happen.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::answers::{House, answer, house, status};
use crate::harness::client::{Answer, Ask, PROTOCOLS, Protocol};
use crate::harness::scripted::{Made, Seen};

/// An upstream that believes all it is told, and says so.
fn credulous(seen: &Seen, _: usize) -> Made {
    let told = |name: &str| seen.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let told: Vec<String> = seen
        .headers
        .keys()
        .filter(|name| name.as_str().starts_with("x-") || ["forwarded", "host"].contains(&name.as_str()))
        .filter(|name| name.as_str() != "x-request-id")
        .filter_map(|name| told(name.as_str()).map(|value| format!("{name}={value}")))
        .collect();
    Made::of(format!("{} {}", seen.path, told.join(" "))).control("max-age=600")
}

fn is_hit(answer: &Answer) -> bool {
    status(answer).starts_with("eyot; hit")
}

#[test]
fn what_is_not_in_the_key_changes_nothing_of_what_others_get() {
    let house = house("", credulous);
    for (n, (name, value)) in [
        ("x-forwarded-host", "evil.test"),
        ("x-forwarded-scheme", "evil"),
        ("x-forwarded-port", "evil"),
        ("x-forwarded-prefix", "/evil"),
        ("forwarded", "host=evil.test"),
        ("x-host", "evil.test"),
        ("x-original-url", "/evil"),
        ("x-rewrite-url", "/evil"),
        ("x-http-method-override", "evil"),
    ]
    .into_iter()
    .enumerate()
    {
        for protocol in PROTOCOLS {
            let path = format!("/{n}/{protocol:?}");
            let poisoned = answer(house.get(protocol, &path).header(name, value));
            let others = answer(house.get(protocol, &path));
            assert!(!others.text().contains("evil"), "{protocol:?} {name}: {}", others.text());
            // Either it never came to the upstream, or what it led to was kept for nobody.
            let reached = poisoned.text().contains(value);
            assert_eq!(reached, !is_hit(&others), "{protocol:?} {name}: {} then {}", poisoned.text(), status(&others));
        }
    }
}

/// A request as it is written, over HTTP/1.1 in the clear.
#[expect(clippy::disallowed_methods, reason = "a client of the node, not a way out of it")]
fn raw(port: u16, text: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the node");
    stream.write_all(text.as_bytes()).expect("sent");
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn a_path_is_one_however_it_is_written_and_two_that_differ_are_two() {
    let house = house("", credulous);
    let asked = |path: &str| house.upstream.seen(path).len();
    for (first, second, same) in [
        ("/a/b", "/a/./b", true),
        ("/c/d", "/c/x/../d", true),
        ("/e", "/%65", true),
        ("/f%2fg", "/f%2Fg", true),
        ("/h/i", "/h%2fi", false),
        ("/j", "//j", false),
        ("/k", "/k;x=1", false),
        ("/l", "/l/", false),
        ("/m", "/m?", false),
        ("/n?a=1&b=2", "/n?b=2&a=1", false),
        ("/o", "/O", false),
        ("/p", "/p%00", false),
        ("/q", "/q%0d%0ax-evil:1", false),
    ] {
        for protocol in PROTOCOLS {
            let prefix = format!("/{protocol:?}");
            let one = answer(house.get(protocol, &format!("{prefix}{first}")));
            assert_eq!(one.status, 200, "{protocol:?} {first}");
            let other = answer(house.get(protocol, &format!("{prefix}{second}")));
            let hit = other.status == 200 && is_hit(&other);
            assert_eq!(hit, same, "{protocol:?} {first} {second}: {} {}", other.status, status(&other));
            assert!(other.status == 400 || same || other.text() != one.text(), "{protocol:?} {second}");
        }
    }
    assert_eq!(asked("/H1/c/d"), 1);
}

#[test]
fn a_host_is_one_however_it_is_written_and_an_ambiguous_one_is_none() {
    let house = house_in_the_clear();
    let (house, plain) = (&house.0, house.1);
    let get = |host: &str| raw(plain, &format!("GET /host HTTP/1.1\r\n{host}connection: close\r\n\r\n"));
    let first = get("host: shop.test\r\n");
    assert!(first.contains("fwd=uri-miss") && first.contains("stored"), "{first}");
    for same in ["host: SHOP.test\r\n", "host: shop.test.\r\n", "host: shop.test:80\r\n", "HOST:shop.test \r\n"] {
        let said = get(same);
        assert!(said.contains("cache-status: eyot; hit"), "{same}: {said}");
    }
    // Another port is another origin, and what it leads to is nobody else's.
    let said = get("host: shop.test:9999\r\n");
    assert!(!said.contains("cache-status: eyot; hit"), "{said}");
    for bad in [
        "host: shop.test\r\nhost: evil.test\r\n",
        "host: shop.test\r\nhost: shop.test\r\n",
        "host: shop.test, evil.test\r\n",
        "host: shop.test@evil.test\r\n",
        "host: shop.test/evil\r\n",
        "host : shop.test\r\n",
        "",
    ] {
        let said = get(bad);
        assert!(said.starts_with("HTTP/1.1 400 "), "{bad:?}: {said}");
    }
    let absolute = raw(plain, "GET http://evil.test/host HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n");
    assert!(!absolute.starts_with("HTTP/1.1 200 "), "{absolute}");
    assert!(get("host: shop.test\r\n").contains("host=127.0.0.1"), "the first is still what others get");
    assert_eq!(house.upstream.asked()["/host"], 2, "{:?}", house.upstream.asked());
}

/// A node that also answers in the clear, and the port where it does.
fn house_in_the_clear() -> (House, u16) {
    super::answers::house_with(
        "",
        |text, port| {
            let listen = format!("[listen]\nhttp = [\"127.0.0.1:{port}\"]\nplain = \"serve\"\n");
            text.replacen("[listen]\n", &listen, 1)
        },
        credulous,
    )
}

#[test]
fn a_get_with_a_body_is_answered_for_itself_alone() {
    let house = house("", credulous);
    for protocol in PROTOCOLS {
        let path = format!("/fat/{protocol:?}");
        let fat = answer(house.get(protocol, &path).body("evil"));
        assert!(status(&fat).contains("fwd=request"), "{protocol:?}: {}", status(&fat));
        let others = answer(house.get(protocol, &path));
        assert!(status(&others).contains("fwd=uri-miss"), "{protocol:?}: {}", status(&others));
    }
}

#[test]
fn a_range_is_answered_of_what_is_kept_and_never_with_more_than_the_whole() {
    let house = house("", |_, _| Made::of("0123456789".repeat(10_000)).control("max-age=600").field("etag", "\"a\""));
    let asks = |protocol, path: &str, range: &str| answer(house.get(protocol, path).header("range", range));
    for protocol in PROTOCOLS {
        let path = format!("/range/{protocol:?}");
        // A part that is asked for first leads to the whole.
        let first = asks(protocol, &path, "bytes=5-9");
        assert_eq!((first.status, first.text().as_str()), (206, "56789"), "{protocol:?}");
        let whole = answer(house.get(protocol, &path));
        assert_eq!((whole.status, whole.body.len(), is_hit(&whole)), (200, 100_000, true), "{protocol:?}");
        let many = format!("bytes={}", vec!["0-"; 500].join(","));
        for (range, expect) in [
            (many.as_str(), (200, 100_000)),
            ("bytes=0-0,99999-99999", (200, 100_000)),
            ("bytes=0-0,0-0,0-0,0-0,0-0,0-0", (200, 100_000)),
            ("bytes=99999-", (206, 1)),
            ("bytes=-1", (206, 1)),
            ("bytes=-0", (416, 0)),
            ("bytes=100000-", (416, 0)),
            ("bytes=0-99999999999999999999999", (206, 100_000)),
            ("bytes=5-1", (200, 100_000)),
            ("bytes=x", (200, 100_000)),
            ("lines=1-2", (200, 100_000)),
        ] {
            let part = asks(protocol, &path, range);
            let got = (part.status, part.body.len());
            assert!(
                got == expect || (range.contains("999999999") && got.0 == 200),
                "{protocol:?} {range:.40}: {got:?}"
            );
        }
        assert_eq!(house.upstream.seen(&path).len(), 1, "{protocol:?}");
        assert!(house.upstream.seen(&path)[0].headers.get("range").is_none(), "the whole was asked for");
    }
}

#[test]
fn answers_that_differ_by_much_take_no_more_than_their_room() {
    let house = house("", |seen, _| {
        let kind = seen.headers.get("x-kind").map(|kind| String::from_utf8_lossy(kind.as_bytes()).into_owned());
        let vary = match seen.path.as_str() {
            "/many" => (0..17).map(|n| format!("x-{n}")).collect::<Vec<_>>().join(", "),
            "/all" => "x-kind, *".to_owned(),
            _ => "x-kind".to_owned(),
        };
        Made::of(kind.unwrap_or_default()).control("max-age=600").field("vary", vary)
    });
    let of = |path: &str, kind: &str| answer(house.get(Protocol::H2, path).header("x-kind", kind));
    for n in 0..40 {
        assert_eq!(of("/kinds", &n.to_string()).text(), n.to_string());
    }
    let kept = (0..40).filter(|n| is_hit(&of("/kinds", &n.to_string()))).count();
    assert!(kept <= 32, "{kept}");
    assert!(is_hit(&of("/kinds", "39")), "the newest is there");
    for path in ["/many", "/all"] {
        of(path, "a");
        let again = of(path, "a");
        assert!(!is_hit(&again), "{path}: {}", status(&again));
    }
}

#[test]
fn what_is_one_clients_is_kept_for_nobody_under_whatever_path() {
    let modified = "Thu, 01 Jan 2026 00:00:00 GMT";
    let house = house("", move |seen, _| {
        let made = Made::of("of one").field("last-modified", modified);
        match seen.path.split('/').nth(1) {
            Some("private") => made.control("private, max-age=600"),
            Some("nothing") => made,
            Some("sets") => made.field("set-cookie", "session=1"),
            _ => made.control("no-store"),
        }
    });
    for (path, with) in [
        ("/private/me/nonexistent.css", None),
        ("/nothing/me/x.css", Some(("cookie", "session=1"))),
        ("/nothing/me;x.js", Some(("cookie", "session=1"))),
        ("/nothing/me%2fx.css", Some(("authorization", "Bearer 1"))),
        ("/sets/logo.png", None),
        ("/not/me.ico", None),
    ] {
        for protocol in PROTOCOLS {
            let asks = || {
                let asked: Ask = house.get(protocol, &format!("{path}?{protocol:?}"));
                answer(match with {
                    Some((name, value)) => asked.header(name, value),
                    None => asked,
                })
            };
            asks();
            let stranger = answer(house.get(protocol, &format!("{path}?{protocol:?}")));
            assert!(!is_hit(&stranger), "{protocol:?} {path}: {}", status(&stranger));
        }
    }
}
