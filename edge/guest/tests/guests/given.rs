//! `wasi:config`, `wasi:logging` and `eyot:edge`: a guest is told what its doors know, and what it gives is checked first.

use std::net::Ipv6Addr;
use std::sync::{Arc, Mutex};

use eyot_guest::{
    Caller, Client, Edge, Facts, Geo, Hint, LogLevel, Purge, PurgeError, Purged, Purging, Rate, Rated, Secret,
    SecretError,
};
use eyot_plan::arrival::{Protocol, Tls, TlsVersion};
use eyot_plan::body;

use crate::harness::Ask;

/// What a node knows, and what it was asked.
#[derive(Default)]
struct Known {
    asked: Mutex<Vec<String>>,
}

impl Known {
    fn note(&self, what: String) {
        self.asked.lock().expect("not poisoned").push(what);
    }
}

impl Edge for Known {
    fn facts(&self) -> Facts {
        let tls = Tls { version: TlsVersion::V1_3, sni: Some("shop.example".to_owned()) };
        let client =
            Client { address: Ipv6Addr::LOCALHOST.into(), protocol: Protocol::H3, tls: Some(tls), early: true };
        let caller = Caller::Function("auth".parse().expect("a name"));
        Facts { client: Some(client), caller, node: "ams-1".to_owned(), region: "eu".to_owned() }
    }

    fn geo(&self) -> Option<Geo> {
        Some(Geo { country: Some("BE".to_owned()), latitude: Some(51.25), asn: Some(64_496), ..Geo::default() })
    }

    fn secret(&self, name: &str) -> Result<Secret, SecretError> {
        match name {
            "key" => Ok(Secret::new(Arc::new(b"a secret".to_vec()))),
            "sealed" => Err(SecretError::Unavailable),
            _ => Err(SecretError::NoSuchSecret),
        }
    }

    fn rate(&self, rate: &Rate<'_>) -> Rated {
        self.note(format!("{rate:?}"));
        Rated { allowed: true, remaining: rate.limit - rate.cost, reset_ms: rate.window_ms }
    }

    fn hint(&self, hint: Hint) {
        self.note(format!("{hint:?}"));
    }

    fn purge(&self, purge: Purge) -> Purging {
        self.note(format!("{purge:?}"));
        let refused = match purge.what {
            Purged::App => PurgeError::NotPermitted,
            _ => PurgeError::Unavailable,
        };
        Box::pin(std::future::ready(Err(refused)))
    }
}

/// What the guest answers to each of these lines.
async fn told(ask: Ask, script: &[(&str, &str)]) {
    let lines: Vec<_> = script.iter().map(|(line, _)| *line).collect();
    let answer = ask.body(body::full(lines.join("\n"))).send().await.expect("an answer");
    let told: Vec<_> = answer.text().lines().map(str::to_owned).collect();
    assert_eq!(told.len(), script.len());
    for ((line, expect), told) in script.iter().zip(told) {
        assert_eq!(told, *expect, "{line}");
    }
}

#[tokio::test]
async fn a_guest_is_told_what_its_release_configures() {
    let ask = Ask::new("given").config("mode", "live").config("rate", "10");
    let all = r#"[("mode", "live"), ("rate", "10")]"#;
    told(ask, &[("config mode", r#"Some("live")"#), ("config other", "None"), ("configs", all)]).await;
}

#[tokio::test]
async fn what_a_guest_logs_keeps_its_level_and_context() {
    let ask = Ask::new("given");
    let log = Arc::clone(&ask.log);
    told(ask, &[("log warn cart it is full", "()"), ("log critical - gone", "()")]).await;
    let logged = log.logged.lock().expect("not poisoned").clone();
    let said = |level, context: &str, text: &str| (level, context.to_owned(), text.to_owned());
    assert_eq!(logged, [said(LogLevel::Warn, "cart", "it is full"), said(LogLevel::Critical, "-", "gone")]);
}

#[tokio::test]
async fn earlier_drafts_that_are_the_same_on_the_wire_are_served() {
    let ask = Ask::new("drafts").config("mode", "live");
    let log = Arc::clone(&ask.log);
    let answer = ask.send().await.expect("an answer");
    assert_eq!(answer.text(), "Ok(Some(\"live\"))\nOk([(\"mode\", \"live\")])\n");
    assert_eq!(log.logged.lock().expect("not poisoned")[0].2, "it works");
}

#[tokio::test]
async fn a_guest_is_told_who_asks_and_where_it_is() {
    let connection = concat!(
        r#"Some(Connection { address: "::1", protocol: Protocol::H3, "#,
        r#"tls: Some(Tls { version: "1.3", sni: Some("shop.example"), early-data: true }) })"#
    );
    let geo = concat!(
        r#"Some(Location { country: Some("BE"), region: None, city: None, "#,
        "latitude: Some(51.25), longitude: None, asn: Some(64496) })"
    );
    let here = concat!(
        r#"Place { node: "ams-1", region: "eu", app: "app", release: 1, "#,
        r#"function: "function", request-id: "id" }"#
    );
    let script = [("client", connection), ("geo", geo), ("caller", r#"Caller::Function("auth")"#), ("here", here)];
    told(Ask::new("given").edge(&Arc::new(Known::default())), &script).await;
    let closed = [("client", "None"), ("geo", "None"), ("caller", "Caller::Public")];
    told(Ask::new("given"), &closed).await;
}

#[tokio::test]
async fn a_guest_gets_the_secrets_that_are_bound_to_it_and_no_others() {
    let script = [
        ("secret key", r#""a secret""#),
        ("secret sealed", r#"failed: "unavailable""#),
        ("secret other", r#"failed: "no-such-secret""#),
    ];
    told(Ask::new("given").edge(&Arc::new(Known::default())), &script).await;
    let secret = Secret::new(Arc::new(b"a secret".to_vec()));
    assert_eq!(format!("{secret:?}"), "Secret(…)");
}

#[tokio::test]
async fn windows_hints_and_purges_are_checked_before_the_node_is_asked() {
    let (long, many) = ("k".repeat(257), "k ".repeat(65));
    let invalid = r#"failed: "invalid""#;
    let lines = [
        ("rate 10 60000 user".to_owned(), "(true, 9, 60000)"),
        ("rate 10 60000 user 3".to_owned(), "(true, 7, 60000)"),
        ("rate 0 60000 user".to_owned(), invalid),
        ("rate 10 999 user".to_owned(), invalid),
        ("rate 10 86400001 user".to_owned(), invalid),
        ("rate 10 60000 user 0".to_owned(), invalid),
        (format!("rate 10 60000 {long}"), invalid),
        ("keys-of shop cart".to_owned(), "()"),
        (format!("keys-of {long}"), invalid),
        (format!("keys-of {}", many.trim()), invalid),
        ("keep 1000".to_owned(), "()"),
        ("keep 99999999999999".to_owned(), invalid),
        ("purge app".to_owned(), r#"failed: "not-permitted""#),
        ("purge key cart soft".to_owned(), r#"failed: "unavailable""#),
        ("purge url https://shop.example/a".to_owned(), r#"failed: "unavailable""#),
        ("purge url /a".to_owned(), invalid),
    ];
    let known = Arc::new(Known::default());
    let script: Vec<_> = lines.iter().map(|(line, expect)| (line.as_str(), *expect)).collect();
    told(Ask::new("given").edge(&known), &script).await;
    let asked = known.asked.lock().expect("not poisoned").clone();
    let expect = [
        r#"Rate { key: "user", limit: 10, window_ms: 60000, cost: 1 }"#,
        r#"Rate { key: "user", limit: 10, window_ms: 60000, cost: 3 }"#,
        r#"Keys(["shop", "cart"])"#,
        "Ttl(1000)",
        "Purge { what: App, soft: false }",
        r#"Purge { what: Key("cart"), soft: true }"#,
        r#"Purge { what: Url("https://shop.example/a"), soft: false }"#,
    ];
    assert_eq!(asked, expect);
}

#[tokio::test]
async fn a_guest_sees_what_is_left_of_its_budget_shrink() {
    let ask = Ask::new("given").limits(|limits| (limits.subrequests, limits.memory_bytes) = (7, 64 << 20));
    let ask = ask.body(body::full("left\nspin 3000000\nleft"));
    let answer = ask.send().await.expect("an answer");
    let left = |line: usize| -> Vec<u64> {
        let line = answer.text().lines().nth(line).expect("a line");
        line.split(' ').map(|number| number.parse().expect("a number")).collect()
    };
    let (before, after) = (left(0), left(2));
    assert!(before[0] <= 2_000_000 && after[0] < before[0], "{before:?} {after:?}");
    assert_eq!((before[1], after[1]), (7, 7));
    assert!(before[2] < 64 << 20 && before[3] <= 60_000 && after[3] <= before[3], "{before:?} {after:?}");
}

#[test]
fn a_component_that_asks_for_what_only_another_platform_has_is_refused_by_name_with_what_to_do() {
    let importing = |import: &str| {
        let handler = "wasi:http/incoming-handler@0.2.0";
        let text =
            format!(r#"(component (import "{import}" (instance)) (instance $it) (export "{handler}" (instance $it)))"#);
        eyot_bundle::component::inspect(&wat::parse_str(text).expect("a component"))
    };
    for (import, advice) in [
        ("fermyon:spin/key-value@2.0.0", "wasi:keyvalue/store@0.2.0-draft2"),
        ("spin:sqlite/sqlite@3.0.0", "only by HTTP"),
        ("wasi:keyvalue/store@0.2.0-draft", "0.2.0-draft2"),
        ("acme:db/client@1.0.0", "wac plug"),
    ] {
        let detail = importing(import).expect_err("refused").detail;
        assert!(detail.contains(import) && detail.contains(advice), "{detail}");
    }
    assert_eq!(importing("wasi:config/runtime@0.2.0-draft").expect("given").imports.len(), 1);
}
