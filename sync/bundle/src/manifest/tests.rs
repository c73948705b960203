//! Manifests as developers write them: a good one with all its keys, and a folder of bad ones with what is said of each.

use super::*;
use crate::component::WORLD;
use crate::release::upstream::{Balance, HashBy, Hedge, ProxyProtocol, TlsVersion};
use crate::release::{BundleOf, Engine, Run, Target, policy};

const GOOD: &str = r#"
app = "shop"
hosts = ["shop.example.com", "*.shop.example.com"]

[publish]
origin = "https://origin.example.net:7443"
ca = "fleet-ca.pem"

[functions.cart]
path = "functions/cart"
build = "cargo build --release --target wasm32-wasip2"
wasm = "target/wasm32-wasip2/release/cart.wasm"
limits = { cpu = "50ms", wall = "10s", idle = "60s", memory = "64MiB", subrequests = 8, body = "100MiB", header = "64KiB" }
egress = ["https://api.bank.example", "https://*.cdn.example:8443", "*"]
env = { MODE = "live" }
config = { currency = "EUR" }
secrets = ["PAYMENT_KEY"]
stores = { default = "carts" }
calls = ["cart"]
reuse = { requests = 128, idle = "2s" }
purge = true

[files.site]
path = "public"
not_found = "404.html"

[stores.carts]
engine = "nats"
consistency = "eventual"
ttl = "1h"
value_max = "64KiB"
keys_max = 1_000

[[schedules]]
cron = "*/5 * * * *"
zone = "Europe/Berlin"
run = "each-node"
function = "cart"

[[queues]]
engine = "nats"
subject = "orders.>"
function = "cart"
concurrency = 4
attempts = 3
backoff = ["500ms", "1m"]
dead_letter = "orders-dead"

[upstreams.api]
servers = ["https://api-1.internal:8443", "https://api-2.internal:8443"]
tls = { name = "api.internal", ca = "api-ca.pem", min_version = "1.3", client_certificate = "us.pem", client_key = "API_KEY" }
proxy_protocol = "v2"
shield = "eu-fra"
timeouts = { connect = "3s", first_byte = "30s", between_bytes = "30s", total = "5m", tunnel_idle = "1h" }
balance = "hash"
weights = [3, 1]
hash = "cookie:uid"
health = { path = "/healthz", interval = "5s", timeout = "1s", expect = "200-399", healthy = 1, unhealthy = 2 }
passive = { failures = 3, eject = "30s" }
retries = { attempts = 1, budget = 10, on = ["connect", "503"] }
hedge = { after = "200ms" }
breaker = { failures = 40, requests = 50, window = "30s", open = "10s" }
slow_start = "1m"
http = "2"
connections_max = 64
queue = { length = 100, wait = "500ms" }

[upstreams.quic]
servers = ["https://quic.internal"]
http = "3"

[[routes]]
host = "shop.example.com"
path = "/cart/*"
methods = ["GET", "POST"]
function = "cart"
before = ["cart"]
on_fault = "open"
fallback = { upstream = "api" }
early_data = true
limits = { requests = ["100/1s", "1000/1h"], key = "header:X-Api-Key", body = "1MiB", response_body = "8MiB" }
access = { allow = ["203.0.113.0/24", "2001:db8::1"], deny = ["203.0.113.9"], countries = { deny = ["XX"] } }
auth = { realm = "staff", basic = { alice = "pbkdf2-sha256$10000$MDEyMzQ1Njc4OWFiY2RlZg$I1fRzPdik5F+m1JYkXkqwnEmFt/dm1VokeoVyG9DVvs" }, bearer = { ci = "sha256$ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" }, pass = true }
cors = { origins = ["https://app.example", "https://*.app.example"], methods = ["PUT"], headers = ["x-a"], expose = ["x-b"], credentials = true, max_age = "1h" }
rewrite = "/v2{rest}"
headers = { request = { set = { x-a = "1" }, add = { x-b = "2" }, remove = ["x-c"] }, response = { add = { vary = "x-d" } } }
compress = { encodings = ["zstd", "gzip"], min = "2KiB", types = ["application/x-thing"] }
maintenance = { retry_after = "10m", allow = ["10.0.0.0/8"], page = "<p>soon</p>" }
security_headers = { hsts = "30d", hsts_subdomains = true, nosniff = false, frame = "DENY", referrer = "", csp = "default-src 'self'" }

[[routes]]
host = "*.shop.example.com"
path = "/*"
redirect = { to = "https://shop.example.com{path}{query}" }
maintenance = false

[[routes]]
host = "shop.example.com"
path = "/site/*"
files = "site"
limits = { requests = "5/1m" }
cors = { origins = "*" }
compress = true
maintenance = true
security_headers = true

[[routes]]
host = "shop.example.com"
path = "/up"
respond = { status = 200, headers = { content-type = "text/plain" }, body = "ok" }

[rollout]
steps = [ { percent = 0.5, bake = "2m" }, { select = "*", percent = 100 } ]
"#;

#[test]
fn a_manifest_with_every_key_becomes_a_release_that_its_grant_takes() {
    let manifest = Manifest::parse("eyot.toml", GOOD).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(manifest.pem_files().collect::<Vec<_>>(), ["api-ca.pem", "us.pem"]);
    let facts = ComponentFacts { world: WORLD.to_owned(), imports: vec!["wasi:io/streams@0.2.0".to_owned()] };
    let built = Built { sha256: Digest::of(b"component"), size: 9, facts };
    let edition = Edition { number: 3, previous: vec![2], min_release: 1, created: jiff::Timestamp::UNIX_EPOCH };
    let pems = ["api-ca.pem", "us.pem"].map(|file| (file.to_owned(), "-----BEGIN CERTIFICATE-----\n".to_owned()));
    let pems = BTreeMap::from(pems);
    let functions = BTreeMap::from([("cart".parse().unwrap(), built)]);
    let bundle = Bundle { sha256: Digest::of(b"tar"), size: 1024 };
    let files = BTreeMap::from([("site".parse().unwrap(), bundle)]);
    let secret = |name: &str, version| (name.to_owned(), Secret { sealed: bundle, version });
    let secrets = BTreeMap::from([secret("API_KEY", 5), secret("PAYMENT_KEY", 2)]);
    assert_eq!(manifest.secrets().into_iter().collect::<Vec<_>>(), ["API_KEY", "PAYMENT_KEY"]);
    let made = Made { functions, pems, files, secrets };
    let release = manifest.release(edition.clone(), &made).unwrap();

    let grant = serde_json::from_str(
        r#"{"state":"active","hosts":["shop.example.com","*.shop.example.com"],"stores":["nats"]}"#,
    )
    .unwrap();
    crate::verify::check(&release, &manifest.app, 3, &grant).unwrap();
    let cart = &release.functions["cart"];
    assert_eq!(cart.egress, ["https://api.bank.example:443", "https://*.cdn.example:8443", "*"]);
    assert_eq!((cart.limits.cpu_us, cart.limits.memory_bytes, cart.limits.subrequests), (50_000, 64 << 20, 8));
    assert_eq!(release.routes[0].id, "shop.example.com/cart/* GET,POST");
    assert_eq!(release.routes.iter().map(|route| route.early_data).collect::<Vec<_>>(), [true, false, false, false]);
    let text = serde_json::to_string(&release).unwrap();
    let hash = Some(HashBy::Cookie("uid".to_owned()));
    assert_eq!(text.matches("\"early_data\":true").count(), text.matches("early_data").count());
    assert!(text.contains("\"tunnel_idle_ms\":3600000"), "{text}");
    assert!(matches!(&release.routes[1].target, Target::Redirect(redirect) if redirect.status == 308));
    assert_eq!(release.rollout.salt, "shop/3");
    policies(&release);
    let steps: Vec<_> = release.rollout.steps.iter().map(|step| (step.percent_bp, step.bake_ms)).collect();
    assert_eq!(steps, [(50, 120_000), (10_000, 0)]);

    assert_eq!((cart.secrets["PAYMENT_KEY"].version, cart.stores["default"].as_str()), (2, "carts"));
    assert_eq!((cart.config["currency"].as_str(), cart.calls.len(), cart.purge), ("EUR", 1, true));
    assert_eq!(cart.reuse, Reuse { requests: 128, idle_ms: 2_000 });
    let carts = Store { engine: Engine::Nats, ttl_ms: Some(3_600_000), ..release.stores["carts"] };
    assert_eq!((carts, carts.value_max_bytes, carts.keys_max), (release.stores["carts"], 64 << 10, 1_000));
    assert_eq!(release.routes[0].before, ["cart".parse().unwrap()]);
    assert_eq!(release.files["site"].index.as_deref(), Some("index.html"));
    assert_eq!(
        (release.schedules[0].run, release.queues[0].backoff_ms.as_slice()),
        (Run::EachNode, &[500, 60_000][..])
    );

    let api = &release.upstreams["api"];
    assert_eq!((api.balance, api.weights.as_slice(), &api.hash), (Balance::Hash, &[3, 1][..], &hash));
    assert_eq!((api.retries.attempts, api.retries.on.len(), api.hedge), (1, 2, Some(Hedge { after_ms: 200 })));
    assert_eq!((api.slow_start_ms, api.connections_max, api.queue.wait_ms), (60_000, Some(64), 500));
    assert_eq!(api.breaker.map(|breaker| breaker.open_ms), Some(10_000));
    assert_eq!(api.health.as_ref().map(|health| health.expect.to_string()).as_deref(), Some("200-399"));
    assert_eq!((api.proxy_protocol, text.matches("proxy_protocol").count()), (Some(ProxyProtocol::V2), 1));
    assert_eq!((api.shield.as_deref(), text.matches("shield").count()), (Some("eu-fra"), 1));
    assert!(release.upstreams["quic"].http.takes_3() && !api.http.takes_3());
    assert_eq!(text.matches("\"http\":").count(), 1, "what is the default is not written: {text}");
    let tls = api.tls.as_ref().unwrap();
    let client = tls.client.as_ref().unwrap();
    assert_eq!((tls.min_version, client.secret.as_str(), client.key.version), (TlsVersion::V1_3, "API_KEY", 5));
    let named = release.named_bundles().filter(|(what, _)| matches!(what, BundleOf::Secret("API_KEY")));
    assert_eq!(named.count(), 1, "a key is brought like all secrets");
    assert_eq!(serde_json::from_str::<Release>(&text).unwrap(), release);

    let without = [
        Made { functions: BTreeMap::new(), ..made.clone() },
        Made { pems: BTreeMap::new(), ..made.clone() },
        Made { files: BTreeMap::new(), ..made.clone() },
        Made { secrets: BTreeMap::new(), ..made.clone() },
    ];
    for made in without {
        let refusal = manifest.release(edition.clone(), &made).unwrap_err();
        assert_eq!(refusal.reason, Reason::MissingBlob);
    }
}

/// What of the routes' policies is written by other names than it is read.
fn policies(release: &Release) {
    let [cart, moved, site, up] = [0, 1, 2, 3].map(|at| &release.routes[at].policy);
    let rate = cart.rate.as_ref().unwrap();
    let windows: Vec<_> = rate.windows.iter().map(|window| (window.requests, window.window_ms)).collect();
    assert_eq!(
        (windows.as_slice(), rate.key.to_string().as_str()),
        (&[(100, 1_000), (1_000, 3_600_000)][..], "header:x-api-key")
    );
    assert_eq!((cart.body_bytes, cart.response_body_bytes), (Some(1 << 20), Some(8 << 20)));
    let access = cart.access.as_ref().unwrap();
    assert_eq!(access.allow.iter().map(ToString::to_string).collect::<Vec<_>>(), ["203.0.113.0/24", "2001:db8::1/128"]);
    assert_eq!((cart.cors.as_ref().unwrap().max_age_s, cart.maintenance.as_ref().unwrap().retry_after_s), (3_600, 600));
    assert_eq!(cart.security_headers.as_ref().unwrap().hsts_s, 30 * 24 * 3_600);
    assert!(moved.is_none() && up.is_none());
    assert_eq!(site.rate.as_ref().unwrap().key, policy::RateKey::Client);
    assert_eq!(
        (site.compress.as_ref().unwrap(), site.maintenance.as_ref().unwrap()),
        (&policy::Compress::default(), &policy::Maintenance::default())
    );
    let text = serde_json::to_string(release).unwrap();
    assert_eq!(text.matches("\"policy\"").count(), 2, "what says nothing is not written: {text}");
    assert_eq!(serde_json::from_str::<Release>(&text).unwrap(), *release);
}

#[test]
fn every_line_that_the_document_of_policies_shows_is_a_good_one() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/policy.md");
    let text = std::fs::read_to_string(path).expect("the document");
    let blocks = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let lines: Vec<_> = blocks.flat_map(str::lines).filter(|line| !line.starts_with("path =")).collect();
    assert!(lines.len() >= 14, "{lines:?}");
    let hashes = [
        (
            "pbkdf2-sha256$100000$…$…",
            "pbkdf2-sha256$10000$MDEyMzQ1Njc4OWFiY2RlZg$I1fRzPdik5F+m1JYkXkqwnEmFt/dm1VokeoVyG9DVvs",
        ),
        ("sha256$…", "sha256$ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    ];
    for line in lines {
        let line = hashes.iter().fold(line.to_owned(), |line, (shown, hash)| line.replace(shown, hash));
        let route = "[[routes]]\nhost = \"a.example\"\npath = \"/api/*\"\nrespond = { status = 200 }";
        let manifest = format!("app = \"shop\"\nhosts = [\"a.example\"]\n{route}\n{line}\n");
        let read = Manifest::parse("docs/policy.md", &manifest).unwrap_or_else(|problems| panic!("{line}\n{problems}"));
        assert!(!read.routes[0].policy.is_none(), "{line}");
    }
}

/// Each `*.toml` has beside it the problems it must give, one a line as `line: text`. With `EYOT_BLESS` set they are
/// written instead of compared.
#[test]
fn each_bad_manifest_gives_all_its_problems_at_once_with_file_and_line() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/manifest_bad");
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).expect("the folder of bad manifests") {
        let file = entry.expect("an entry").path();
        if file.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let source = std::fs::read_to_string(&file).expect("a manifest");
        let problems = Manifest::parse("eyot.toml", &source).expect_err(&file.display().to_string());
        let found: String = problems.0.iter().map(|problem| format!("{}: {}\n", problem.line, problem.text)).collect();
        let errors = file.with_extension("errors");
        if std::env::var_os("EYOT_BLESS").is_some() {
            std::fs::write(&errors, &found).expect("the expected problems are written");
        }
        let expected = std::fs::read_to_string(&errors).unwrap_or_default();
        assert_eq!(found, expected, "{}", file.display());
        seen += 1;
    }
    assert!(seen >= 10, "only {seen} bad manifests were found");
}

#[test]
fn what_a_component_asks_for_and_will_find_empty_is_said() {
    let route = "[[routes]]\nhost = \"a.example\"\npath = \"/*\"\nfunction = \"f\"";
    let source = |keys: &str| {
        let manifest = format!(
            "app = \"shop\"\nhosts = [\"a.example\"]\n[functions.f]\npath = \".\"\nwasm = \"f.wasm\"\n{keys}\n{route}"
        );
        Manifest::parse("eyot.toml", &manifest).expect("a good manifest").functions["f"].clone()
    };
    let imports = [
        "eyot:edge/client@0.1.0",
        "eyot:edge/secrets@0.1.0",
        "wasi:config/store@0.2.0-rc.1",
        "wasi:keyvalue/store@0.2.0-draft2",
    ];
    let facts = |imports: &[&str]| ComponentFacts {
        world: WORLD.to_owned(),
        imports: imports.iter().map(|import| (*import).to_owned()).collect(),
    };
    let said = source("").unbound(&facts(&imports));
    assert!(said.len() == 3 && said[0].contains("`stores`") && said[2].contains("`secrets`"), "{said:?}");
    assert_eq!(source("config = { mode = \"live\" }").unbound(&facts(&imports)).len(), 2);
    assert_eq!(source("").unbound(&facts(&imports[..1])), [""; 0]);
}
