//! What a route asks of requests and does to answers, as the public meets it over each protocol.

use std::io::Read as _;
use std::process::Command;

use crate::harness::app::App;
use crate::harness::client::{Answer, Ask, PROTOCOLS, Protocol, ask};
use crate::harness::upstream::Upstream;
use crate::harness::world::{Node, World};

struct House {
    world: World,
    node: Node,
    _upstream: Upstream,
}

/// A node with an app of these routes, the upstream `api` among their targets.
fn house(routes: &[(&str, &str)]) -> House {
    let (world, upstream) = (World::new(), Upstream::start());
    let private = format!("127.0.0.1/32={}", upstream.address.port());
    assert!(world.grant("shop", &["shop.test"], &["--private", &private]).status.success());
    let mut app = App::new("shop", &["shop.test"]).upstream("api", &upstream.url(), "").route(
        "shop.test",
        "/ready",
        "respond = { status = 200 }",
    );
    for (path, text) in routes {
        app = app.route("shop.test", path, text);
    }
    world.publish(&app.written());
    let node = world.node("a");
    node.wait_for_release(&world, "shop.test", "/ready", "shop/1");
    House { world, node, _upstream: upstream }
}

impl House {
    fn get(&self, protocol: Protocol, path: &str) -> Ask {
        Ask::get(&self.world, &self.node, protocol, "shop.test", path)
    }
}

fn answer(asked: Ask) -> Answer {
    ask(asked).unwrap_or_else(|error| panic!("{error}"))
}

/// The body, read by a decoder of others.
fn decoded(answer: &Answer) -> String {
    let mut text = String::new();
    let bytes = &answer.body[..];
    match answer.header("content-encoding") {
        Some("br") => brotli::Decompressor::new(bytes, 4096).read_to_string(&mut text),
        Some("gzip") => flate2::read::GzDecoder::new(bytes).read_to_string(&mut text),
        Some("zstd") => zstd::stream::read::Decoder::new(bytes).and_then(|mut it| it.read_to_string(&mut text)),
        _ => Ok(0).inspect(|_| text.push_str(&answer.text())),
    }
    .expect("a whole encoding");
    text
}

#[test]
fn each_policy_holds_over_each_protocol() {
    let long = "all work and no play makes jack a dull boy ".repeat(100);
    let house = house(&[
        ("/rate", "respond = { status = 200 }\nlimits = { requests = \"3/24h\", key = \"route\" }"),
        ("/deny", "respond = { status = 200 }\naccess = { deny = [\"127.0.0.0/8\"] }"),
        ("/world", "respond = { status = 200 }\naccess = { countries = { allow = [\"DE\"] } }"),
        ("/closed", "respond = { status = 200 }\nmaintenance = { retry_after = \"5m\", page = \"<p>soon</p>\" }"),
        ("/small", "upstream = \"api\"\nlimits = { body = \"10B\", response_body = \"20B\" }"),
        (
            "/page",
            &format!("respond = {{ status = 200, body = \"{long}\" }}\ncompress = true\nsecurity_headers = true"),
        ),
        (
            "/v1/*",
            "upstream = \"api\"\nrewrite = \"/v2{rest}\"\nheaders = { response = { set = { x-by = \"edge\" } } }",
        ),
    ]);
    for (protocol, left) in PROTOCOLS.into_iter().zip([2, 1, 0]) {
        let rate = answer(house.get(protocol, "/rate"));
        let said = (rate.status, rate.header("ratelimit-policy"), rate.header("ratelimit").unwrap_or_default());
        assert!(said.0 == 200 && said.1 == Some("\"86400s\";q=3;w=86400"), "{protocol:?} {said:?}");
        assert!(said.2.starts_with(&format!("\"86400s\";r={left};t=8")), "{protocol:?} {said:?}");
    }
    for protocol in PROTOCOLS {
        let get = |path: &str| answer(house.get(protocol, path));
        let rate = get("/rate");
        assert_eq!((rate.status, rate.code().as_str()), (429, "rate_limited"), "{protocol:?}");
        assert!(rate.header("retry-after").is_some_and(|seconds| seconds.parse::<u32>().is_ok_and(|it| it > 80_000)));
        for (path, status, code) in [("/deny", 403, "forbidden"), ("/world", 403, "forbidden")] {
            let refused = get(path);
            assert_eq!((refused.status, refused.code().as_str()), (status, code), "{protocol:?} {path}");
        }
        let closed = get("/closed");
        assert_eq!(
            (closed.status, closed.header("retry-after"), closed.text().as_str()),
            (503, Some("300"), "<p>soon</p>")
        );
        let large = answer(house.get(protocol, "/small").method("POST").body("12345678901"));
        assert_eq!((large.status, large.code().as_str()), (413, "request_too_large"), "{protocol:?}");
        assert_eq!(get("/small").text(), "upstream /small", "{protocol:?}");
        let rewritten = get("/v1/a/b");
        assert_eq!(
            (rewritten.text().as_str(), rewritten.header("x-by")),
            ("upstream /v2/a/b", Some("edge")),
            "{protocol:?}"
        );
        assert_eq!(get("/page").header("x-content-type-options"), Some("nosniff"));
        for encoding in ["br", "zstd", "gzip"] {
            let page = answer(house.get(protocol, "/page").header("accept-encoding", encoding));
            assert_eq!((page.status, page.header("content-encoding")), (200, Some(encoding)), "{protocol:?}");
            assert!(
                page.body.len() < 500 && decoded(&page) == long,
                "{protocol:?} {encoding}: {} bytes",
                page.body.len()
            );
        }
    }
    assert!(
        house
            .node
            .metric("eyot_faults_total{app=\"shop\",route=\"shop.test/rate\",code=\"rate_limited\",side=\"client\"}")
            >= 3.0
    );
}

#[test]
fn credentials_made_as_the_documents_say_let_in_over_each_protocol_and_preflights_need_none() {
    let document =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/policy.md")).expect("the document");
    let line = document.lines().find(|line| line.starts_with("python3 -c")).expect("how a hash is made");
    // There is nobody at a prompt here.
    let line = line.replace("g.getpass()", "\"open sesame\"");
    let made = Command::new("sh").args(["-c", &line]).output().expect("python3");
    let hash = String::from_utf8(made.stdout).expect("text").trim().to_owned();
    let line = document.lines().find(|line| line.starts_with("T=$(openssl")).expect("how a token is made");
    let made =
        Command::new("sh").args(["-c", &line.replace("$(openssl rand -hex 32)", "0123abcd")]).output().expect("sh");
    let made = String::from_utf8(made.stdout).expect("text");
    let (token, token_hash) = made.trim().split_once('\n').expect("a token and its hash");
    let auth =
        format!("auth = {{ realm = \"staff\", basic = {{ alice = '{hash}' }}, bearer = {{ ci = '{token_hash}' }} }}");
    let cors = "cors = { origins = [\"https://app.test\"], headers = [\"authorization\"] }";
    let house = house(&[("/in/*", &format!("upstream = \"api\"\nmethods = [\"GET\"]\n{auth}\n{cors}"))]);
    // alice:open sesame
    let basic = "Basic YWxpY2U6b3BlbiBzZXNhbWU=";
    for protocol in PROTOCOLS {
        for (field, status) in
            [(basic, 200), (&*format!("Bearer {token}"), 200), ("Bearer x", 401), ("Basic YWxpY2U6eA==", 401)]
        {
            let asked =
                house.get(protocol, "/in/echo").header("authorization", field).header("origin", "https://app.test");
            let answer = answer(asked);
            assert_eq!(answer.status, status, "{protocol:?} {field}");
            assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.test"), "{protocol:?} {field}");
            assert_eq!(answer.header("x-saw-authorization"), None, "what was checked goes no further");
            assert_eq!(answer.header("www-authenticate").is_some(), status == 401, "{protocol:?} {field}");
        }
        let asked = house.get(protocol, "/in/echo").method("OPTIONS").header("origin", "https://app.test");
        let leave = answer(asked.header("access-control-request-method", "GET"));
        assert_eq!(
            (leave.status, leave.header("access-control-allow-headers")),
            (204, Some("authorization")),
            "{protocol:?}"
        );
    }
}

#[test]
fn an_answer_of_an_upstream_is_compressed_once_and_only_as_a_whole() {
    let house = house(&[("/up/*", "upstream = \"api\"\ncompress = true")]);
    let text = "a line of text that is said again\n".repeat(10_000);
    for protocol in PROTOCOLS {
        let echo = |query: &str, fields: &[(&str, &str)]| {
            let asked = house.get(protocol, &format!("/up/echo{query}")).method("POST").body(text.clone());
            answer(fields.iter().fold(asked, |asked, (name, value)| asked.header(name, value)))
        };
        let page = echo("?type=text/html", &[("accept-encoding", "br")]);
        assert_eq!(
            (page.header("content-encoding"), page.header("etag")),
            (Some("br"), Some("W/\"a\"")),
            "{protocol:?}"
        );
        assert_eq!(
            (page.header("vary"), page.header("accept-ranges")),
            (Some("accept-encoding"), None),
            "{protocol:?}"
        );
        assert!(page.header("content-length").is_none_or(|length| length == page.body.len().to_string()));
        assert!(page.body.len() < 10_000 && decoded(&page) == text, "{protocol:?}: {} bytes", page.body.len());
        for (query, fields) in [
            ("?type=text/html", &[][..]),
            ("?type=text/html", &[("accept-encoding", "br"), ("range", "bytes=0-9")]),
            ("?type=text/html", &[("accept-encoding", "br"), ("cache-control", "no-transform")]),
            ("?type=image/png", &[("accept-encoding", "br")]),
            ("", &[("accept-encoding", "br")]),
        ] {
            let plain = echo(query, fields);
            assert_eq!(
                (plain.header("content-encoding"), plain.body.len()),
                (None, text.len()),
                "{protocol:?} {query} {fields:?}"
            );
        }
    }
    let before = house.node.metric("eyot_compressed_before_bytes_total{app=\"shop\",route=\"shop.test/up/*\"}");
    let after = house.node.metric("eyot_compressed_after_bytes_total{app=\"shop\",route=\"shop.test/up/*\"}");
    assert!(before >= 3.0 * text.len() as f64 && after > 0.0 && after < before / 10.0, "{before} {after}");
}

/// Requests that one reader could take for another's, and what must be the end of each: the status, and the path that
/// the upstream is asked for.
#[test]
fn what_decides_about_a_request_and_what_answers_it_read_the_same_path_and_host() {
    let house = house(&[
        ("/*", "upstream = \"api\""),
        ("/open/*", "upstream = \"api\""),
        ("/closed/*", "upstream = \"api\"\naccess = { deny = [\"0.0.0.0/0\", \"::/0\"] }"),
        ("/app/*", "upstream = \"api\"\nrewrite = \"/inner{rest}\""),
    ]);
    for protocol in PROTOCOLS {
        for (path, status, expect) in [
            ("/open/a", 200, "upstream /open/a"),
            ("/closed/a", 403, "forbidden"),
            ("/open/../closed/a", 403, "forbidden"),
            ("/open/%2e%2e/closed/a", 403, "forbidden"),
            ("/open/%2E%2e/closed/a", 403, "forbidden"),
            ("/open/./../closed/a", 403, "forbidden"),
            ("/clos%65d/a", 403, "forbidden"),
            ("/app/../closed/a", 403, "forbidden"),
            // What its upstream might read as what is closed is not passed on by the wide route.
            ("//closed/a", 400, "bad_request"),
            ("/closed%2fa", 400, "bad_request"),
            ("/closed%5ca", 400, "bad_request"),
            ("/closed;x/a", 400, "bad_request"),
            ("/closed%3bx/a", 400, "bad_request"),
            ("/open/..;/closed/a", 400, "bad_request"),
            ("/open/..%2fclosed/a", 400, "bad_request"),
            ("/open%2f..%2fclosed/a", 400, "bad_request"),
            ("/open/%252e%252e/closed/a", 400, "bad_request"),
            ("/app/..%2f..%2fclosed", 400, "bad_request"),
            // The same where nothing is guarded is nobody's harm.
            ("/closed/../open/a", 200, "upstream /open/a"),
            ("/closed;/../open/a", 200, "upstream /open/a"),
            ("/open//closed/a", 200, "upstream /open//closed/a"),
            ("/open/a%2fb;c", 200, "upstream /open/a%2Fb;c"),
            ("//wide/a", 200, "upstream //wide/a"),
            ("/CLOSED/a", 200, "upstream /CLOSED/a"),
            ("/app//evil.test/x", 200, "upstream /inner//evil.test/x"),
            ("/app/a?next=/../closed", 200, "upstream /inner/a"),
            ("/open/a?/closed/a", 200, "upstream /open/a"),
        ] {
            let answer = answer(house.get(protocol, path));
            let said = if answer.status == 200 { answer.text() } else { answer.code() };
            assert_eq!((answer.status, said.as_str()), (status, expect), "{protocol:?} {path}");
        }
        // What a client says of who it is, for whom, and where it asked, decides nothing and goes no further.
        for (name, value) in [
            ("x-forwarded-for", "127.0.0.2"),
            ("x-forwarded-host", "evil.test"),
            ("x-forwarded-proto", "gopher"),
            ("x-forwarded-port", "1"),
            ("forwarded", "host=evil.test;for=127.0.0.2"),
        ] {
            let answer = answer(house.get(protocol, "/open/echo").header(name, value));
            let told = answer.header(&format!("x-saw-{name}")).unwrap_or_default().to_owned();
            assert!(answer.status == 200 && !told.contains(value), "{protocol:?} {name}: {told}");
            assert_eq!(answer.header("x-saw-x-forwarded-host"), Some(&*format!("shop.test:{}", house.node.port)));
        }
        for (name, value) in [
            ("x-original-url", "/closed/a"),
            ("x-rewrite-url", "/closed/a"),
            ("x-http-method-override", "DELETE"),
            ("x-host", "evil.test"),
        ] {
            assert_eq!(answer(house.get(protocol, "/open/a").header(name, value)).text(), "upstream /open/a", "{name}");
            assert_eq!(answer(house.get(protocol, "/closed/a").header(name, "/open/a")).status, 403, "{name}");
        }
        let other = Ask::get(&house.world, &house.node, protocol, "SHOP.test", "/open/a");
        assert_eq!(answer(other).text(), "upstream /open/a", "{protocol:?}: a host has no case");
    }
}
