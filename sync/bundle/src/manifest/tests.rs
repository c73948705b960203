//! Manifests as developers write them: a good one with all its keys, and a folder of bad ones with what is said of each.

use super::*;
use crate::component::WORLD;
use crate::release::{Engine, Run, Target};

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
tls = { name = "api.internal", ca = "api-ca.pem" }
timeouts = { connect = "3s", first_byte = "30s", between_bytes = "30s", total = "5m", tunnel_idle = "1h" }

[[routes]]
host = "shop.example.com"
path = "/cart/*"
methods = ["GET", "POST"]
function = "cart"
before = ["cart"]
on_fault = "open"
fallback = { upstream = "api" }
early_data = true

[[routes]]
host = "*.shop.example.com"
path = "/*"
redirect = { to = "https://shop.example.com{path}{query}" }

[[routes]]
host = "shop.example.com"
path = "/site/*"
files = "site"

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
    assert_eq!(manifest.ca_files().collect::<Vec<_>>(), ["api-ca.pem"]);
    let facts = ComponentFacts { world: WORLD.to_owned(), imports: vec!["wasi:io/streams@0.2.0".to_owned()] };
    let built = Built { sha256: Digest::of(b"component"), size: 9, facts };
    let edition = Edition { number: 3, previous: vec![2], min_release: 1, created: jiff::Timestamp::UNIX_EPOCH };
    let cas = BTreeMap::from([("api-ca.pem".to_owned(), "-----BEGIN CERTIFICATE-----\n".to_owned())]);
    let functions = BTreeMap::from([("cart".parse().unwrap(), built)]);
    let bundle = Bundle { sha256: Digest::of(b"tar"), size: 1024 };
    let files = BTreeMap::from([("site".parse().unwrap(), bundle)]);
    let secrets = BTreeMap::from([("PAYMENT_KEY".to_owned(), Secret { sealed: bundle, version: 2 })]);
    assert_eq!(manifest.secrets().into_iter().collect::<Vec<_>>(), ["PAYMENT_KEY"]);
    let made = Made { functions, cas, files, secrets };
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
    assert_eq!(text.matches("\"early_data\":true").count(), text.matches("early_data").count());
    assert!(text.contains("\"tunnel_idle_ms\":3600000"), "{text}");
    assert!(matches!(&release.routes[1].target, Target::Redirect(redirect) if redirect.status == 308));
    assert_eq!(release.rollout.salt, "shop/3");
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

    let without = [
        Made { functions: BTreeMap::new(), ..made.clone() },
        Made { cas: BTreeMap::new(), ..made.clone() },
        Made { files: BTreeMap::new(), ..made.clone() },
        Made { secrets: BTreeMap::new(), ..made.clone() },
    ];
    for made in without {
        let refusal = manifest.release(edition.clone(), &made).unwrap_err();
        assert_eq!(refusal.reason, Reason::MissingBlob);
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
