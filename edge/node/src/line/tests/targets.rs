//! Targets that ask somebody: functions on the real runtime, upstreams on a real socket.

#[path = "../../../../../tests/guests/make.rs"]
mod guests;

use std::convert::Infallible;
use std::net::SocketAddr;

use eyot_bundle::digest::Digest;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::*;

/// An upstream that tells what it was asked: the request's line, its fields, its body's length. It ends with the test.
pub(super) async fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let served =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(tell));
            tokio::spawn(served);
        }
    });
    address
}

async fn tell(request: hyper::Request<Incoming>) -> Result<Response<Full<bytes::Bytes>>, Infallible> {
    let mut told = format!("{} {}\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        told.push_str(&format!("{name}: {}\n", value.to_str().unwrap_or("?")));
    }
    let body = request.into_body().collect().await.map(|body| body.to_bytes().len()).unwrap_or(0);
    told.push_str(&format!("{body} bytes\n"));
    let mut response = Response::new(Full::from(told));
    for (name, value) in [("alt-svc", "h3=\":1\""), ("connection", "x-hop"), ("x-hop", "1"), ("x-kept", "1")] {
        response.headers_mut().insert(name, value.parse().expect("a value"));
    }
    Ok(response)
}

const LOOPBACK: &str = r#"[{"net": "127.0.0.0/8"}]"#;

pub(super) fn loopback() -> Value {
    serde_json::from_str(LOOPBACK).expect("JSON")
}

impl House {
    /// Compiles a guest as a stage would, and gives the release's words for it.
    pub(super) fn function(&self, name: &str, egress: &[&str]) -> Value {
        let wasm = guests::wasm(name);
        let digest = Digest::of(&wasm);
        let artefact = eyot_guest::compile::compile(&wasm).expect("a good component");
        self.node.runtime.artefacts().store(digest, &artefact).expect("a place for it");
        json!({"bundle": {"sha256": digest, "size": wasm.len()}, "world": "wasi:http/incoming-handler@0.2",
            "egress": egress})
    }
}

pub(super) fn route(path: &str, function: &str) -> Value {
    json!({"id": path, "host": "shop.test", "path": path, "target": {"function": function}})
}

#[tokio::test]
async fn an_upstream_sees_who_asked_and_by_whom_and_the_client_what_is_for_it() {
    let house = house();
    let server = upstream().await;
    let servers = json!({"api": {"servers": ["http://127.0.0.1:1", format!("http://{server}")]}});
    let route = json!({"id": "api", "host": "shop.test", "path": "/*", "target": {"upstream": "api"}});
    house.granted(1, &json!({"routes": [route], "upstreams": servers}), &loopback());
    for _ in 0..2 {
        let request = Request::post("https://shop.test/a/b?c=d")
            .header("x-forwarded-for", "10.0.0.1")
            .header("eyot-secret", "1")
            .header("x-own", "1");
        let response = house.ask(request, body::full("12345")).await;
        assert_eq!(response.status(), 200);
        let fields = response.headers().clone();
        assert!(fields.contains_key("x-kept"));
        assert!(!fields.contains_key("x-hop") && !fields.contains_key("alt-svc"));
        assert_eq!(fields["via"], "1.1 eyot");
        let id = fields["x-request-id"].to_str().expect("text").to_owned();
        let told = text(response).await;
        for line in [
            "POST /a/b?c=d\n",
            &format!("host: {server}\n"),
            "via: 3 eyot\n",
            "cdn-loop: eyot; fleet=eyot\n",
            "forwarded: for=203.0.113.7;host=\"shop.test\";proto=https\n",
            "x-forwarded-for: 203.0.113.7\n",
            &format!("x-request-id: {id}\n"),
            "x-own: 1\n",
            "5 bytes\n",
        ] {
            assert!(told.contains(line), "{line} is not in\n{told}");
        }
        assert!(!told.contains("10.0.0.1") && !told.contains("eyot-secret"), "{told}");
    }
    house.counts(r#"eyot_upstream_requests_total{app="shop",upstream="api",result="ok"} 2"#);
    house.counts(r#"eyot_upstream_requests_total{app="shop",upstream="api",result="upstream_unreachable"}"#);
}

#[tokio::test]
async fn a_function_answers_and_what_it_spent_is_told() {
    let house = house();
    let functions = json!({"hello": house.function("hello", &[])});
    house.release(417, &json!({"routes": [route("/*", "hello")], "functions": functions}));
    let response = house.get("/").await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["eyot-release"], "shop/417");
    assert!(response.headers()["server-timing"].to_str().is_ok_and(|timing| timing.starts_with("cpu;dur=")));
    assert!(text(response).await.starts_with("hello"));
    house.node.runtime.idle().await;
    house.counts(r#"eyot_function_calls_total{app="shop",function="hello",release="417"} 1"#);
    house.counts(r#"eyot_function_cpu_seconds_count{app="shop",function="hello"} 1"#);
    house.counts("eyot_queue_seconds_count 1");
}

#[tokio::test]
async fn a_function_at_fault_is_told_with_its_limit_and_opens_where_the_route_says_so() {
    let house = house();
    let mut spin = house.function("spin", &[]);
    spin["limits"] = json!({"cpu_us": 5000});
    let mut open = route("/open/*", "spin");
    open["on_fault"] = json!("open");
    open["fallback"] = json!({"respond": {"status": 200, "body": "instead\n"}});
    house.release(1, &json!({"routes": [route("/*", "spin"), open], "functions": {"spin": spin}}));
    let response = house.get("/").await;
    assert_eq!(response.status(), 503);
    let status = "eyot; error=http_response_incomplete; details=\"cpu_budget_exceeded\"";
    assert_eq!(response.headers()["proxy-status"], status);
    let problem: Value = serde_json::from_str(&text(response).await).expect("JSON");
    assert_eq!((&problem["limit"], &problem["allowed"]), (&json!("cpu_us"), &json!(5000)));
    assert_eq!(text(house.get("/open/x").await).await, "instead\n");
    house.counts(r#"eyot_faults_total{app="shop",route="/open/*",code="cpu_budget_exceeded",side="function"} 1"#);
}

#[tokio::test]
async fn a_function_fetches_only_what_its_release_names_and_its_grant_opens() {
    let house = house();
    let server = upstream().await;
    let allowed = format!("http://{server}");
    let functions = json!({"open": house.function("fetch", &[&allowed]), "shut": house.function("fetch", &[])});
    let parts = json!({"routes": [route("/open/*", "open"), route("/shut/*", "shut")], "functions": functions});
    let ask = |path: &str| Request::get(format!("https://shop.test{path}")).header("x-url", format!("{allowed}/x"));
    house.release(1, &parts);
    let response = house.ask(ask("/open/1"), body::empty()).await;
    assert_eq!(response.status(), 502, "loopback is in no grant");
    house.granted(2, &parts, &loopback());
    let response = house.ask(ask("/shut/1"), body::empty()).await;
    assert_eq!(response.status(), 502, "the release names no origin");
    let response = house.ask(ask("/open/1"), body::empty()).await;
    assert_eq!(response.status(), 200);
    let id = response.headers()["x-request-id"].to_str().expect("text").to_owned();
    let told = text(response).await;
    for line in ["GET /x\n", "cdn-loop: eyot; fleet=eyot; calls=0; cpu=", &format!("x-request-id: {id}\n")] {
        assert!(told.contains(line), "{line} is not in\n{told}");
    }
}

#[tokio::test]
async fn a_parent_of_the_node_is_refused_to_its_apps_whatever_they_were_granted() {
    let server = upstream().await;
    let (parent, apart) = (house_of(&format!("https://{server}")), house());
    for (house, status) in [(&apart, 200), (&parent, 502)] {
        let route = json!({"id": "api", "host": "shop.test", "path": "/*", "target": {"upstream": "api"}});
        let upstreams = json!({"api": {"servers": [format!("http://{server}")]}});
        house.granted(1, &json!({"routes": [route], "upstreams": upstreams}), &loopback());
        assert_eq!(house.get("/").await.status(), status);
    }
    parent.counts(r#"code="egress_denied",side="upstream"} 1"#);
}
