//! Releases and controls that say what they may not: each is one good document with one thing changed.

mod most;

use serde_json::{Value, json};

use super::*;

fn app() -> Name {
    "shop".parse().unwrap()
}

fn grant() -> Grant {
    serde_json::from_value(json!({
        "state": "active", "hosts": ["shop.example.com", "*.shop.example.com"],
        "limits": {"cpu_us": 200_000, "memory_bytes": 268_435_456_u64},
        "stores": ["node", "nats"],
    }))
    .unwrap()
}

fn good() -> Value {
    json!({
        "format": 1, "app": "shop", "number": 7, "created": "2026-11-22T12:00:00Z", "previous": [6, 4],
        "min_release": 3, "hosts": ["shop.example.com", "*.shop.example.com"],
        "functions": {"cart": {
            "bundle": {"sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "size": 72_013},
            "world": "wasi:http/incoming-handler@0.2", "imports": ["wasi:io/streams@0.2.6"],
            "egress": ["https://api.bank.example:443", "*"], "env": {"MODE": "live"}, "config": {"currency": "EUR"},
            "secrets": {"PAYMENT_KEY": {"sealed": {"sha256": "f3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "size": 9}, "version": 1}},
            "stores": {"default": "carts"}, "calls": ["cart"], "reuse": {"requests": 9, "idle_ms": 1_000},
        }},
        "files": {"site": {"bundle": {"sha256": "03b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "size": 9}, "index": "index.html", "not_found": "404.html"}},
        "stores": {"carts": {"engine": "nats", "ttl_ms": 60_000}},
        "schedules": [{"cron": "*/5 * * * *", "zone": "Europe/Berlin", "run": "once", "function": "cart"}],
        "queues": [{"engine": "nats", "subject": "orders.*.>", "function": "cart", "concurrency": 8, "attempts": 5, "backoff_ms": [1_000], "dead_letter": "dead"}],
        "upstreams": {"api": {"servers": ["https://api-1.internal:8443"], "tls": {"name": "api.internal"}}},
        "routes": [
            {"id": "shop.example.com/cart/* GET,POST", "host": "shop.example.com", "path": "/cart/*",
             "methods": ["GET", "POST"], "target": {"function": "cart"}, "before": ["cart"], "on_fault": "open", "fallback": {"upstream": "api"}, "early_data": true},
            {"id": "shop.example.com/cart/* PUT", "host": "shop.example.com", "path": "/cart/*", "methods": ["PUT"],
             "target": {"upstream": "api"}},
            {"id": "*.shop.example.com/*", "host": "*.shop.example.com", "path": "/*",
             "target": {"redirect": {"to": "https://shop.example.com{path}{query}", "status": 308}}},
            {"id": "shop.example.com/up", "host": "shop.example.com", "path": "/up",
             "target": {"respond": {"status": 200, "headers": {"Content-Type": "text/plain"}, "body": "ok"}}},
        ],
    })
}

/// How servers are asked, as a release says it.
fn health(path: &str, interval_ms: u64, expect: &str) -> Value {
    json!({"path": path, "interval_ms": interval_ms, "timeout_ms": 1_000, "expect": expect, "healthy": 1, "unhealthy": 1})
}

const PEM: &str = "-----BEGIN CERTIFICATE-----";

/// TLS with a client's certificate.
fn client(chain: &str, secret: &str, version: u64) -> Value {
    let sealed = good()["functions"]["cart"]["secrets"]["PAYMENT_KEY"]["sealed"].clone();
    json!({"client": {"chain": chain, "secret": secret, "key": {"sealed": sealed, "version": version}}})
}

fn verify(document: &Value) -> Result<Release, Refusal> {
    release(document.to_string().as_bytes(), &app(), 7, &grant())
}

#[test]
fn a_good_release_is_taken_and_reads_back_the_same() {
    let release = verify(&good()).unwrap();
    let again = serde_json::to_value(&release).unwrap();
    assert_eq!(verify(&again), Ok(release));
}

#[test]
fn each_release_that_says_what_it_may_not_is_refused_with_its_reason() {
    use Reason::{FormatUnknown, HostNotGranted, ImportForbidden, Incompatible, OverQuota, Parse};
    let long = "x".repeat(70_000);
    let many_routes: Vec<_> = std::iter::repeat_n(good()["routes"][3].clone(), 1_001).collect();
    let table = [
        ("/format", json!(2), FormatUnknown, "format 2"),
        ("/format", json!("1"), Parse, "invalid type"),
        ("/extra", json!(1), Parse, "unknown field"),
        ("/app", json!("shap"), Parse, "shap/7"),
        ("/number", json!(8), Parse, "shop/8"),
        ("/previous", json!([7]), Parse, "not before 7"),
        ("/previous", json!([0]), Parse, "not before 7"),
        ("/previous", json!([3, 3]), Parse, "twice"),
        ("/min_release", json!(8), Parse, "min_release"),
        ("/hosts", json!([]), Parse, "0 hosts"),
        ("/hosts", json!(["shop.example.com", "bank.example.com"]), HostNotGranted, "bank.example.com"),
        ("/hosts", json!(["*"]), HostNotGranted, "`*`"),
        ("/hosts", json!(["shop.example.com"]), HostNotGranted, "*.shop.example.com/*"),
        ("/functions/cart/bundle/size", json!(0), OverQuota, "0 bytes"),
        ("/functions/cart/bundle/size", json!(68_000_000), OverQuota, "68000000 bytes"),
        ("/functions/cart/world", json!("wasi:cli/run@0.2"), Incompatible, "wasi:cli/run"),
        ("/functions/cart/imports", json!(["wasi:keyvalue/store@0.2.0"]), ImportForbidden, "wasi:keyvalue/store"),
        ("/functions/cart/limits", json!({"cpu_us": 200_001}), OverQuota, "the grant gives 200000"),
        ("/functions/cart/limits", json!({"memory_bytes": 268_435_457_u64}), OverQuota, "the grant gives 268435456"),
        ("/functions/cart/limits", json!({"wall_ms": 0}), Parse, "wall_ms 0"),
        ("/functions/cart/limits", json!({"subrequests": 1_001}), Parse, "subrequests 1001"),
        ("/functions/cart/egress", json!(["bank.example"]), Parse, "no origin"),
        ("/functions/cart/env", json!({"A=B": "x"}), Parse, "environment"),
        ("/functions/cart/env", json!({"A": "x\u{0}"}), Parse, "environment"),
        ("/functions/cart/env", json!({"A": long}), Parse, "environment"),
        ("/functions/cart/config", json!({"A": long}), Parse, "70001 bytes"),
        ("/functions/cart/config", json!({"": "x"}), Parse, "no key of a config"),
        (
            "/functions/cart/secrets",
            json!({"PAYMENT-KEY": good()["functions"]["cart"]["secrets"]["PAYMENT_KEY"]}),
            Parse,
            "no name of a secret",
        ),
        ("/functions/cart/secrets/PAYMENT_KEY/version", json!(0), Parse, "no version"),
        ("/functions/cart/secrets/PAYMENT_KEY/sealed/size", json!(2_000_000), Parse, "2000000 bytes"),
        ("/upstreams/api/tls", client("no PEM", "API_KEY", 1), Parse, "client certificate is no PEM"),
        ("/upstreams/api/tls", client("-----BEGIN PRIVATE KEY-----", "API_KEY", 1), Parse, "holds a private key"),
        ("/upstreams/api/tls", client(PEM, "API-KEY", 1), Parse, "no name of a secret"),
        ("/upstreams/api/tls", client(PEM, "API_KEY", 0), Parse, "no version"),
        ("/upstreams/api/tls", json!({"min_version": "1.1"}), Parse, "unknown variant"),
        ("/upstreams/api", json!({"servers": ["http://a.example"], "tls": client(PEM, "A", 1)}), Parse, "has none"),
        ("/upstreams/api/proxy_protocol", json!("v3"), Parse, "unknown variant"),
        ("/upstreams/api/http", json!("1.0"), Parse, "unknown variant"),
        ("/upstreams/api", json!({"servers": ["http://a.example"], "http": "3"}), Parse, "has none"),
        (
            "/upstreams/api",
            json!({"servers": ["https://a.example"], "http": "3", "proxy_protocol": "v2"}),
            Parse,
            "has no place",
        ),
        ("/functions/cart/stores", json!({"default": "cards"}), Parse, "no store `cards`"),
        ("/functions/cart/stores", json!({"a b": "carts"}), Parse, "no name to open"),
        ("/functions/cart/calls", json!(["price"]), Parse, "no such function"),
        ("/functions/cart/reuse", json!({"requests": 0}), Parse, "outside 1 to"),
        ("/functions/cart/reuse", json!({"idle_ms": 600_001}), Parse, "10 minutes"),
        ("/routes/3/policy", json!({"extra": 1}), Parse, "unknown field"),
        ("/routes/3/policy", json!({"rate": {"windows": []}}), Parse, "0 rates"),
        ("/routes/3/policy", json!({"rate": {"windows": [{"requests": 0, "window_ms": 1_000}]}}), Parse, "0 requests"),
        (
            "/routes/3/policy",
            json!({"rate": {"windows": [{"requests": 1, "window_ms": 1_500}]}}),
            Parse,
            "whole seconds",
        ),
        (
            "/routes/3/policy",
            json!({"rate": {"windows": [{"requests": 1, "window_ms": 1_000}], "key": "ip"}}),
            Parse,
            "`ip`",
        ),
        ("/routes/3/policy", json!({"access": {"deny": ["10.0.0.1/8"]}}), Parse, "10.0.0.0/8"),
        (
            "/routes/3/policy",
            json!({"auth": {"realm": "a", "basic": {"alice": "secret"}}}),
            Parse,
            "no hash of a password",
        ),
        ("/routes/3/policy", json!({"auth": {"realm": "a\"b", "bearer": {}}}), Parse, "realm"),
        ("/routes/3/policy", json!({"cors": {"origins": ["*"], "credentials": true}}), Parse, "credentials"),
        ("/routes/3/policy", json!({"rewrite": "//evil.example{rest}"}), Parse, "no path to go to"),
        ("/routes/3/policy", json!({"rewrite": "/{rest}{rest}"}), Parse, "no path to go to"),
        (
            "/routes/3/policy",
            json!({"headers": {"response": {"set": {"Cache-Status": "hit"}}}}),
            Parse,
            "set by the node",
        ),
        (
            "/routes/3/policy",
            json!({"headers": {"response": {"set": {"Proxy-Status": "x"}}}}),
            Parse,
            "set by the node",
        ),
        ("/routes/3/policy", json!({"headers": {"response": {"add": {"Eyot-Next": "1"}}}}), Parse, "set by the node"),
        (
            "/routes/3/policy",
            json!({"headers": {"response": {"remove": ["Transfer-Encoding"]}}}),
            Parse,
            "set by the node",
        ),
        ("/routes/3/policy", json!({"headers": {"request": {"set": {"host": "a"}}}}), Parse, "set by the node"),
        ("/routes/3/policy", json!({"headers": {"request": {"set": {"x": "a\r\nb: c"}}}}), Parse, "control characters"),
        ("/routes/3/policy", json!({"compress": {"encodings": ["identity"]}}), Parse, "`encodings`"),
        ("/routes/3/policy", json!({"compress": {"encodings": ["deflate"]}}), Parse, "unknown variant"),
        ("/routes/3/policy", json!({"body_bytes": 1_u64 << 41}), Parse, "at most"),
        ("/routes/3/policy", json!({"maintenance": {"retry_after_s": 0}}), Parse, "retry_after"),
        ("/routes/3/policy", json!({"security_headers": {"csp": "a\nb"}}), Parse, "content-security-policy"),
        ("/stores/carts/engine", json!("redis"), OverQuota, "the operator opens it"),
        ("/stores/carts/engine", json!("etcd"), Parse, "unknown variant"),
        ("/stores/carts/consistency", json!("linearizable"), Parse, "cannot keep"),
        ("/stores/carts/ttl_ms", json!(999), Parse, "999 ms"),
        ("/stores/carts/value_max_bytes", json!(1_048_577), Parse, "value_max 1048577"),
        ("/stores/carts/keys_max", json!(0), Parse, "keys_max 0"),
        ("/files/site/bundle/size", json!(0), Parse, "0 bytes"),
        ("/files/site/bundle/size", json!(600_000_000), Parse, "600000000 bytes"),
        ("/files/site/not_found", json!("../../etc/passwd"), Parse, "no file of the folder"),
        ("/files/site/index", json!("a/b.html"), Parse, "name of a file"),
        ("/files/site/fallback", json!("index.html"), Parse, "choose one"),
        ("/schedules/0/cron", json!("* * * *"), Parse, "five fields"),
        ("/schedules/0/cron", json!("60 * * * *"), Parse, "no minute"),
        ("/schedules/0/cron", json!("0 0 30 2 *"), Parse, "never due"),
        ("/schedules/0/zone", json!("Mars; rm"), Parse, "no time zone"),
        (
            "/schedules",
            json!(vec![json!({"cron": "0 * * * *", "zone": "UTC", "run": "once", "function": "cart"}); 2]),
            Parse,
            "stands twice",
        ),
        (
            "/queues",
            json!([
                {"engine": "nats", "subject": "a.*", "function": "cart", "concurrency": 8, "attempts": 5, "backoff_ms": [1_000]},
                {"engine": "nats", "subject": "*.b", "function": "cart", "concurrency": 8, "attempts": 5, "backoff_ms": [1_000]},
            ]),
            Parse,
            "goes to one queue",
        ),
        ("/queues/0/dead_letter", json!("orders.dead.all"), Parse, "would come back"),
        ("/schedules/0/function", json!("sweep"), Parse, "no function `sweep`"),
        ("/queues/0/engine", json!("node"), Parse, "kept by the engine `nats`"),
        ("/queues/0/subject", json!("orders.>.x"), Parse, "no subject"),
        ("/queues/0/subject", json!("$JS.API.>"), Parse, "no subject"),
        ("/queues/0/dead_letter", json!("dead.*"), Parse, "no subject"),
        ("/queues/0/function", json!("order"), Parse, "no function `order`"),
        ("/queues/0/concurrency", json!(1_001), Parse, "concurrency 1001"),
        ("/queues/0/attempts", json!(0), Parse, "attempts 0"),
        ("/queues/0/backoff_ms", json!([]), Parse, "`backoff`"),
        ("/routes/0/before", json!(["auth"]), Parse, "no function `auth`"),
        (
            "/routes/0/before",
            json!(["cart", "cart", "cart", "cart", "cart", "cart", "cart", "cart", "cart"]),
            Parse,
            "at most 8",
        ),
        ("/routes/0/target", json!({"files": "sight"}), Parse, "no files `sight`"),
        ("/upstreams/api/servers", json!([]), Parse, "0 servers"),
        ("/upstreams/api/servers", json!(["https://*.internal"]), Parse, "single host"),
        ("/upstreams/api/servers", json!(["file:///etc/passwd"]), Parse, "no origin"),
        ("/upstreams/api/tls", json!({"ca": "hello"}), Parse, "PEM"),
        ("/upstreams/api/timeouts", json!({"connect_ms": 0}), Parse, "timeout"),
        ("/upstreams/api/balance", json!("random"), Parse, "unknown variant"),
        ("/upstreams/api/balance", json!("hash"), Parse, "does not say of what"),
        ("/upstreams/api/hash", json!("client"), Parse, "needs `balance"),
        ("/upstreams/api/hash", json!("header:A B"), Parse, "nothing to hash by"),
        ("/upstreams/api/weights", json!([1, 1, 1]), Parse, "3 weights"),
        ("/upstreams/api/weights", json!([0]), Parse, "weight"),
        ("/upstreams/api/health", health("healthz", 10_000, "200"), Parse, "no path"),
        ("/upstreams/api/health", health("/a b", 10_000, "200"), Parse, "no path"),
        ("/upstreams/api/health", health("/", 999, "200"), Parse, "`health.interval` is 999 ms"),
        ("/upstreams/api/health", health("/", 10_000, "100"), Parse, "no statuses"),
        ("/upstreams/api/passive", json!({"eject_ms": 1}), Parse, "`passive.eject`"),
        ("/upstreams/api/retries", json!({"attempts": 6}), Parse, "`retries.attempts`"),
        ("/upstreams/api/retries", json!({"budget_percent": 101}), Parse, "`retries.budget`"),
        ("/upstreams/api/retries", json!({"on": ["503", "503"]}), Parse, "twice"),
        ("/upstreams/api/retries", json!({"on": ["500"]}), Parse, "unknown variant"),
        ("/upstreams/api/hedge", json!({"after_ms": 0}), Parse, "`hedge.after`"),
        ("/upstreams/api/breaker", json!({"failures_percent": 101}), Parse, "`breaker.failures`"),
        ("/upstreams/api/slow_start_ms", json!(3_600_001), Parse, "`slow_start`"),
        ("/upstreams/api/connections_max", json!(0), Parse, "`connections_max`"),
        ("/upstreams/api/queue", json!({"wait_ms": 0}), Parse, "`queue.wait`"),
        ("/upstreams/api/timeouts", json!({"tunnel_idle_ms": 0}), Parse, "timeout"),
        ("/routes", json!([]), Parse, "0 routes"),
        ("/routes", json!(many_routes), Parse, "1001 routes"),
        ("/routes/0/id", json!("x"), Parse, "its id"),
        ("/routes/0/host", json!("bank.example.com"), HostNotGranted, "outside the app's hosts"),
        ("/routes/0/path", json!("cart"), Parse, "no path"),
        ("/routes/0/target", json!({"function": "card"}), Parse, "no function `card`"),
        ("/routes/0/target", json!({"upstream": "apt"}), Parse, "no upstream `apt`"),
        ("/routes/0/target", json!({"function": "cart", "upstream": "api"}), Parse, ""),
        ("/routes/0/fallback", json!({"function": "card"}), Parse, "no function `card`"),
        ("/routes/0/on_fault", json!("close"), Parse, "not open"),
        ("/routes/1/on_fault", json!("open"), Parse, "no fallback"),
        ("/routes/1/early_data", json!(true), Parse, "none of its methods is safe"),
        ("/routes/0/cache", json!({"mode": "standard"}), Parse, "cache = \"function\""),
        ("/routes/1/cache", json!({"mode": "often"}), Parse, "unknown variant"),
        ("/routes/0/cache", json!({"mode": "function", "ttl_ms": 99_999_999_999_u64}), Parse, "366 days"),
        ("/routes/0/cache", json!({"mode": "function", "query": {"keep": ["a"], "drop": ["b"]}}), Parse, "one of them"),
        ("/routes/0/cache", json!({"mode": "function", "query": {"keep": ["a", "a"]}}), Parse, "twice"),
        ("/routes/0/cache", json!({"mode": "function", "vary": ["a b"]}), Parse, "is no name"),
        ("/routes/0/cache", json!({"mode": "function", "cookies": [""]}), Parse, "is no name"),
        ("/routes/0/early_data", json!("yes"), Parse, "invalid type"),
        ("/routes/2/target/redirect/to", json!("//evil.example"), Parse, "choose the host"),
        ("/routes/2/target/redirect/to", json!("/{path}"), Parse, "choose the host"),
        ("/routes/2/target/redirect/to", json!("{path}"), Parse, "neither a path nor"),
        ("/routes/2/target/redirect/to", json!("https://{path}"), Parse, "names no host"),
        ("/routes/2/target/redirect/to", json!("https://a.example@b.example/"), Parse, "names no host"),
        ("/routes/2/target/redirect/to", json!("javascript:alert(1)"), Parse, "neither a path nor"),
        ("/routes/2/target/redirect/to", json!("/a\r\nSet-Cookie: x"), Parse, "characters"),
        ("/routes/2/target/redirect/status", json!(200), Parse, "none of 301"),
        ("/routes/3/target/respond/status", json!(101), Parse, "outside 200"),
        ("/routes/3/target/respond/status", json!(204), Parse, "no body"),
        ("/routes/3/target/respond/headers", json!({"Alt-Svc": "h3=\":1\""}), Parse, "set by the node"),
        ("/routes/3/target/respond/headers", json!({"Eyot-Release": "x"}), Parse, "set by the node"),
        ("/routes/3/target/respond/headers", json!({"a b": "x"}), Parse, "no field name"),
        ("/routes/3/target/respond/headers", json!({"a": "x\r\nb: y"}), Parse, "control characters"),
        ("/routes/3/target/respond/body", json!(long), Parse, "70000 bytes"),
        ("/rollout", json!({"steps": []}), Parse, "0 steps"),
        ("/rollout", json!({"steps": [{"select": "*", "percent_bp": 500, "bake_ms": 1}]}), Parse, "last step"),
        ("/rollout", json!({"steps": [{"select": "region=eu", "percent_bp": 10_000, "bake_ms": 1}]}), Parse, "selects"),
    ];
    for (at, value, reason, detail) in table {
        let mut document = good();
        let (parent, key) = at.rsplit_once('/').unwrap();
        let parent = document.pointer_mut(parent).unwrap();
        match key.parse::<usize>() {
            Ok(index) => parent[index] = value.clone(),
            Err(_) => parent[key] = value.clone(),
        }
        let refusal = verify(&document).expect_err(at);
        let small = value.to_string().chars().take(80).collect::<String>();
        assert_eq!(refusal.reason, reason, "{at} = {small}: {refusal}");
        assert!(refusal.detail.contains(detail), "{at} = {small}: {refusal}");
    }
}

#[test]
fn a_route_that_stands_twice_is_refused_also_when_only_one_method_is_the_same() {
    for (methods, id) in [(json!([]), ""), (json!(["POST", "PATCH"]), " POST,PATCH")] {
        let mut document = good();
        let mut again = document["routes"][1].clone();
        again["methods"] = methods;
        again["id"] = json!(format!("shop.example.com/cart/*{id}"));
        document["routes"].as_array_mut().unwrap().push(again);
        let refusal = verify(&document).unwrap_err();
        assert!(refusal.detail.contains("stand twice"), "{refusal}");
    }
}

#[test]
fn a_release_over_its_size_is_refused_before_it_is_parsed() {
    let refusal = release(&vec![b'['; RELEASE_BYTES_MAX + 1], &app(), 7, &grant()).unwrap_err();
    assert_eq!(refusal.reason, Reason::Parse);
    let deep = release(&vec![b'['; RELEASE_BYTES_MAX], &app(), 7, &grant()).unwrap_err();
    assert_eq!(deep.reason, Reason::Parse);
}

#[test]
fn a_release_has_no_more_bytes_of_bundles_than_its_app_may_keep_on_a_disk_and_the_same_bundle_counts_once() {
    let mut document = good();
    document["functions"]["copy"] = document["functions"]["cart"].clone();
    let verify = |document: &Value, disk_bytes| {
        let mut grant = grant();
        grant.share.disk_bytes = disk_bytes;
        release(document.to_string().as_bytes(), &app(), 7, &grant)
    };
    assert!(verify(&document, 72_031).is_ok());
    let refusal = verify(&document, 72_030).expect_err("a byte more");
    assert!(refusal.reason == Reason::OverQuota && refusal.detail.contains("the grant gives 72030"), "{refusal}");
    document["functions"]["copy"]["bundle"]["sha256"] = json!("0".repeat(64));
    assert_eq!(verify(&document, 72_031 + 72_012).expect_err("two bundles").reason, Reason::OverQuota);
    assert!(verify(&document, 72_031 + 72_013).is_ok());
    assert_eq!(grant().share.disk_bytes, 10 << 30);
}

#[test]
fn a_control_is_for_its_app_and_goes_somewhere() {
    let good = json!({
        "format": 1, "app": "shop", "seq": 12, "issued": "2026-11-22T12:00:00Z", "release": 7, "base": 6, "step": 0,
        "state": "running", "since": "2026-11-22T12:00:00Z", "reason": null,
    });
    let read = |document: &Value| control(document.to_string().as_bytes(), &app());
    assert!(read(&good).is_ok());
    for (key, value, detail) in [
        ("app", json!("bank"), "is for the app"),
        ("seq", json!(0), "counts from 1"),
        ("release", json!(0), "counts from 1"),
        ("base", json!(7), "to itself"),
        ("state", json!("gone"), "unknown variant"),
        ("reason", json!("x".repeat(1_001)), "1000 bytes"),
        ("more", json!(1), "unknown field"),
    ] {
        let mut document = good.clone();
        document[key] = value;
        let refusal = read(&document).expect_err(key);
        assert!(refusal.reason == Reason::Parse && refusal.detail.contains(detail), "{key}: {refusal}");
    }
    let mut back = good.clone();
    (back["state"], back["base"]) = (json!("rolled_back"), json!(0));
    assert!(read(&back).unwrap_err().detail.contains("back to nothing"));
    let mut other = good;
    (other["format"], other["new"]) = (json!(2), json!(1));
    assert_eq!(read(&other).unwrap_err().reason, Reason::FormatUnknown);
}
