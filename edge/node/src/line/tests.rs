//! Tests of the line: arrivals answered by a node that is whole but for its listeners and its pull.

use std::time::SystemTime;

use eyot_plan::arrival::{Interim, Tls, TlsVersion};
use http_body_util::{BodyExt as _, StreamBody};
use serde_json::{Value, json};

use super::*;
use crate::config::{Config, Environment};
use crate::run;
use crate::snapshot::{App, State};
use crate::sockets::Sockets;

mod before;
mod calls;
mod early;
mod files;
mod known;
mod late;
mod limits;
mod passed;
mod policy;
mod targets;
mod tunnels;
mod upstreams;

/// A node in a folder of its own.
struct House {
    node: Node,
    _folder: tempfile::TempDir,
}

fn house() -> House {
    house_of("https://origin.test")
}

/// A node with this parent.
fn house_of(parent: &str) -> House {
    house_told(parent, |_| {})
}

/// A node with this parent, and what else is told to it.
fn house_told(parent: &str, tell: impl FnOnce(&mut Config)) -> House {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().display();
    let source = format!(
        r#"
        [node]
        id = "test-1"
        state = "{path}/state"
        [listen]
        http = ["127.0.0.1:0"]
        [origin]
        urls = ["{parent}"]
        ca = "ca.pem"
        root = "root.json"
        token = "./token"
        [functions]
        slots = 2
        threads = 1
        compile = {{ cache = "{path}/cache" }}
        [log]
        access = "off"
        [debug]
        headers = true
        "#
    );
    let mut config = Config::parse_in(&Environment::default(), "node.toml", &source).expect("a good config");
    tell(&mut config);
    House { node: run::build(config, &Sockets::default()).expect("a node"), _folder: folder }
}

impl House {
    fn release(&self, number: u64, parts: &Value) {
        self.granted(number, parts, &json!([]));
    }

    /// A release of an app that may reach these private networks.
    fn granted(&self, number: u64, parts: &Value, egress_private: &Value) {
        let mut release = json!({
            "format": 1, "app": "shop", "number": number, "created": "2026-11-22T12:00:00Z", "hosts": ["shop.test"],
        });
        release.as_object_mut().expect("an object").extend(parts.as_object().expect("an object").clone());
        let release = serde_json::from_value(release).expect("a release");
        let grant = json!({"state": "active", "hosts": ["shop.test"], "share": {"concurrency": 4},
            "egress_private": egress_private});
        let grant: eyot_bundle::grant::Grant = serde_json::from_value(grant).expect("a grant");
        let entry = self.node.entry(&release, &grant).expect("a good release");
        let name = entry.app.clone();
        self.node.snapshots.put(name, App { hosts: grant.hosts, state: State::Serving(entry) });
    }

    async fn ask(&self, request: http::request::Builder, body: Body) -> Response<Body> {
        self.node.answer(Box::new(arrival(request, body))).await
    }

    async fn get(&self, path: &str) -> Response<Body> {
        self.ask(Request::get(format!("https://shop.test{path}")), body::empty()).await
    }

    fn counts(&self, line: &str) {
        let text = self.node.telemetry.render();
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

/// A request over HTTP/3.
fn arrival(request: http::request::Builder, body: Body) -> Arrival {
    Arrival {
        request: request.body(body).expect("a request"),
        protocol: Protocol::H3,
        client: "203.0.113.7:50000".parse().expect("an address"),
        tls: Some(Tls { version: TlsVersion::V1_3, sni: Some("shop.test".to_owned()) }),
        at: SystemTime::now(),
        connect: None,
        early: false,
        interim: Interim::none(),
    }
}

async fn text(response: Response<Body>) -> String {
    let bytes = response.into_body().collect().await.expect("a whole body").to_bytes();
    String::from_utf8(bytes.to_vec()).expect("text")
}

fn fixed() -> Value {
    json!({"routes": [
        {"id": "hello", "host": "shop.test", "path": "/hello", "methods": ["GET", "HEAD"],
         "target": {"respond": {"status": 200, "body": "hi\n",
            "headers": {"x-a": "b", "alt-svc": "h3=\":1\"", "proxy-status": "x", "cache-status": "x", "eyot-release": "x"}}}},
        {"id": "moved", "host": "shop.test", "path": "/old/*",
         "target": {"redirect": {"to": "https://www.shop.test{path}{query}", "status": 308}}},
        {"id": "api", "host": "shop.test", "path": "/api/*", "target": {"upstream": "api"}},
        {"id": "soft", "host": "shop.test", "path": "/soft/*", "target": {"upstream": "api"}, "on_fault": "open",
         "fallback": {"respond": {"status": 200, "body": "instead\n"}}},
    ], "upstreams": {"api": {"servers": ["http://127.0.0.1:9", "http://169.254.169.254"]}}})
}

#[tokio::test]
async fn a_fixed_response_is_ours_in_id_and_cannot_speak_for_the_node() {
    let house = house();
    house.release(417, &fixed());
    let response = house.get("/hello").await;
    assert_eq!(response.status(), 200);
    let headers = response.headers().clone();
    assert_eq!((&headers["x-a"], &headers["eyot-release"]), (&"b".parse().unwrap(), &"shop/417".parse().unwrap()));
    assert!(headers["x-request-id"].to_str().is_ok_and(|id| uuid::Uuid::parse_str(id).is_ok()));
    for name in ["alt-svc", "proxy-status", "cache-status", "server-timing"] {
        assert!(!headers.contains_key(name), "{name}");
    }
    assert_eq!(text(response).await, "hi\n");
    house.counts(r#"eyot_requests_total{app="shop",route="hello",target="respond",protocol="h3",status="200"} 1"#);
    house.counts(r#"eyot_response_bytes_total{app="shop",route="hello"} 3"#);
}

#[tokio::test]
async fn a_redirect_takes_the_path_along() {
    let house = house();
    house.release(1, &fixed());
    let response = house.get("/old/x?y=z").await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["location"]),
        (308, &"https://www.shop.test/old/x?y=z".parse().unwrap())
    );
}

#[tokio::test]
async fn what_cannot_be_answered_is_a_problem_with_its_code_and_a_metric() {
    let house = house();
    house.release(1, &fixed());
    let shop = eyot_bundle::host::HostPattern::Exact("late.test".to_owned());
    let late = App { hosts: vec![shop], state: State::NotReady };
    house.node.snapshots.put("late".parse().expect("a name"), late);
    let looped = "eyot; fleet=eyot, ".repeat(8);
    for (builder, body, status, app, route, code) in [
        (Request::get("https://other.test/"), body::empty(), 404, "", "", "no_route"),
        (Request::get("https://late.test/"), body::empty(), 503, "late", "", "not_ready"),
        (Request::get("https://shop.test/none"), body::empty(), 404, "shop", "", "no_route"),
        (Request::post("https://shop.test/hello"), body::empty(), 405, "shop", "", "method_not_allowed"),
        (
            Request::get("https://shop.test/hello").header("cdn-loop", looped.trim_end_matches(", ")),
            body::empty(),
            508,
            "shop",
            "hello",
            "loop_detected",
        ),
        (
            Request::get("https://shop.test/hello").header("x", "y".repeat(70_000)),
            body::empty(),
            431,
            "shop",
            "hello",
            "headers_too_large",
        ),
        (Request::get("https://shop.test/api/x"), body::empty(), 502, "shop", "api", "egress_denied"),
    ] {
        let response = house.ask(builder, body).await;
        assert_eq!(response.status().as_u16(), status, "{code}");
        assert_eq!(
            response.headers().get("allow").map(HeaderValue::as_bytes),
            (status == 405).then_some(&b"GET, HEAD"[..])
        );
        let id = response.headers()["x-request-id"].to_str().expect("text").to_owned();
        let problem: Value = serde_json::from_str(&text(response).await).expect("JSON");
        assert_eq!((&problem["code"], &problem["request_id"]), (&json!(code), &json!(id)));
        house.counts(&format!(r#"eyot_faults_total{{app="{app}",route="{route}",code="{code}""#));
    }
}

#[tokio::test]
async fn an_open_route_answers_by_its_fallback_unless_the_body_was_begun() {
    let house = house();
    house.release(1, &fixed());
    let response = house.get("/soft/x").await;
    assert_eq!((response.status().as_u16(), text(response).await.as_str()), (200, "instead\n"));
    let response = house.ask(Request::post("https://shop.test/soft/x"), body::full("not sent yet")).await;
    assert_eq!(text(response).await, "instead\n");
    house.counts(r#"eyot_faults_total{app="shop",route="soft",code="egress_denied",side="upstream"} 2"#);
    house.counts(r#"eyot_requests_total{app="shop",route="soft",target="respond",protocol="h3",status="200"} 2"#);
}

#[tokio::test]
async fn a_client_that_leaves_is_recorded_once() {
    let house = house();
    house.release(1, &fixed());
    drop(house.get("/hello").await);
    house.counts(r#"target="respond",protocol="h3",status="200"} 1"#);
    house.counts(r#"eyot_response_bytes_total{app="shop",route="hello"} 0"#);
}

#[tokio::test]
async fn a_body_that_grows_over_its_limit_ends_in_a_fault() {
    let house = house();
    house.release(1, &fixed());
    let target = house.node.snapshots.find("shop.test").ok().expect("it serves");
    let route = target.find("shop.test", "/hello", &http::Method::GET).expect("a route");
    let piece = bytes::Bytes::from(vec![0; 1 << 20]);
    let pieces = futures_util::stream::iter((0..101).map(move |_| Ok(http_body::Frame::data(piece.clone()))));
    let request = Request::post("https://shop.test/hello").body(StreamBody::new(pieces).boxed_unsync()).expect("one");
    let count = Arc::default();
    let (request, _) = admit(request, Came::default(), route, "eyot", &count).expect("not yet too large");
    let fault = request.into_body().collect().await.map(drop).expect_err("101 MiB");
    assert_eq!(fault.code, Code::RequestTooLarge);
}

#[tokio::test]
async fn a_panic_of_a_body_is_a_fault_and_counted() {
    let house = house();
    house.release(1, &fixed());
    let arrival = Arrival {
        request: Request::get("https://shop.test/").body(body::empty()).expect("a request"),
        protocol: Protocol::H1,
        client: "203.0.113.7:1".parse().expect("an address"),
        tls: None,
        at: SystemTime::now(),
        connect: None,
        early: false,
        interim: Interim::none(),
    };
    let record = Record::begin(&house.node.telemetry, &house.node.access, &arrival);
    let broken = StreamBody::new(futures_util::stream::poll_fn(|_| panic!("on purpose")));
    let response = respond(&house.node, Ok(Response::new(broken.boxed_unsync())), record);
    let fault = response.into_body().collect().await.map(drop).expect_err("it panicked");
    assert_eq!(fault.code, Code::InternalError);
    house.counts(r#"code="internal_error",side="node"} 1"#);
}

#[tokio::test]
async fn a_stream_of_a_release_that_is_four_releases_old_is_ended() {
    let house = house();
    house.release(1, &fixed());
    let entry = house.node.snapshots.find("shop.test").ok().expect("it serves");
    let arrival = Arrival {
        request: Request::get("https://shop.test/").body(body::empty()).expect("a request"),
        protocol: Protocol::H2,
        client: "203.0.113.7:1".parse().expect("an address"),
        tls: None,
        at: SystemTime::now(),
        connect: None,
        early: false,
        interim: Interim::none(),
    };
    let mut record = Record::begin(&house.node.telemetry, &house.node.access, &arrival);
    record.entry(&entry);
    drop(entry);
    let endless = StreamBody::new(futures_util::stream::pending());
    let response = respond(&house.node, Ok(Response::new(endless.boxed_unsync())), record);
    let reading = tokio::spawn(response.into_body().collect());
    let held: Vec<_> = (2..=5)
        .map(|number| {
            house.release(number, &fixed());
            house.node.snapshots.find("shop.test").ok().expect("it serves")
        })
        .collect();
    let fault = reading.await.expect("no panic").map(drop).expect_err("it was ended");
    assert_eq!((fault.code, held.len()), (Code::NotReady, 4));
}
