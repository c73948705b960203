//! What functions are told of the client, the node and each other, and what they count and may purge.

use super::targets::{loopback, route};
use super::*;
use crate::geo::tests::{database, place};

/// An app of functions that do what they are told: `given` may purge, `other` not, and `relay` calls the first.
fn told(house: &House) {
    let mut given = house.function("given", &[]);
    given["purge"] = json!(true);
    given["config"] = json!({"mode": "live"});
    let mut relay = house.function("relay", &[]);
    relay["calls"] = json!(["given"]);
    let functions = json!({"given": given, "other": house.function("given", &[]), "relay": relay});
    let routes = json!([route("/other", "other"), route("/given", "relay"), route("/*", "given")]);
    house.granted(1, &json!({"routes": routes, "functions": functions}), &loopback());
}

/// What the function behind `path` answers to these lines.
async fn asked(house: &House, path: &str, lines: &str) -> Vec<String> {
    let request = Request::post(format!("https://shop.test{path}"));
    let response = house.ask(request, body::full(lines.to_owned())).await;
    assert_eq!(response.status(), 200);
    text(response).await.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_function_knows_its_client_its_place_and_its_caller() {
    let databases = tempfile::tempdir().expect("a folder");
    let places = databases.path().join("places");
    std::fs::write(&places, database(&place(51.05))).expect("written");
    let house = house_told("https://origin.test", |config| config.geo.places = Some(places));
    told(&house);
    let lines = asked(&house, "/", "client\ngeo\ncaller\nhere\nconfig mode").await;
    let client = concat!(
        r#"Some(Connection { address: "203.0.113.7", protocol: Protocol::H3, "#,
        r#"tls: Some(Tls { version: "1.3", sni: Some("shop.test"), early-data: false }) })"#
    );
    assert_eq!(lines[0], client);
    assert!(lines[1].contains(r#"city: Some("Ghent")"#) && lines[1].contains("asn: Some(64496)"), "{}", lines[1]);
    assert_eq!(lines[2], "Caller::Public");
    let here = r#"Place { node: "test-1", region: "default", app: "shop", release: 1, function: "given", request-id: "#;
    assert!(lines[3].starts_with(here), "{}", lines[3]);
    assert_eq!(lines[4], r#"Some("live")"#);
    let lines = asked(&house, "/given", "client\ncaller").await;
    assert_eq!(lines, [client, r#"Caller::Function("relay")"#]);
}

#[tokio::test]
async fn functions_of_an_app_count_together_and_purge_only_where_their_release_says_so() {
    let house = house();
    told(&house);
    let window = "rate 2 60000 user";
    let allowed = |line: &str| line.starts_with("(true");
    assert!(asked(&house, "/", window).await.iter().all(|line| allowed(line)));
    assert!(asked(&house, "/other", window).await.iter().all(|line| allowed(line)));
    assert!(!asked(&house, "/", window).await.iter().any(|line| allowed(line)), "the third of two");
    let purges = "purge app\npurge key a\nkeep 1000\nkeys-of a b";
    let (mine, others) = (asked(&house, "/", purges).await, asked(&house, "/other", purges).await);
    assert_eq!(mine, [r#"failed: "unavailable""#, r#"failed: "unavailable""#, "()", "()"]);
    assert_eq!(others, [r#"failed: "not-permitted""#, r#"failed: "not-permitted""#, "()", "()"]);
    assert_eq!(asked(&house, "/", "secret key\ngeo").await, [r#"failed: "no-such-secret""#, "None"]);
}
