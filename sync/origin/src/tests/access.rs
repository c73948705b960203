//! Who may ask, how much, and what strangers and the revoked are told.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};

use bytes::Bytes;
use eyot_bundle::digest::Digest;
use eyot_bundle::fleet::Denied;
use eyot_bundle::sign;
use eyot_bundle::trust::{TargetFile, Trust};
use eyot_link::body;
use eyot_link::line::Protocol;
use eyot_link::problem::Problem;
use eyot_link::signature::{self, Covered};
use eyot_link::wire::UPLOAD_BYTES_MAX;
use http::{HeaderMap, Method, StatusCode};

use super::house::{House, Origin, block_on, name, release, token, wasm, with_function};
use super::most::{Ask, asked};
use super::publish::{change, round};

/// One raw request.
async fn raw(
    house: &House,
    origin: &Origin,
    protocol: Protocol,
    method: Method,
    path: &str,
    headers: HeaderMap,
    bytes: Bytes,
) -> (StatusCode, Problem) {
    let response =
        asked(house, origin, Ask { protocol, method, path: path.to_owned(), headers, body: body::full(bytes) }).await;
    let status = response.status();
    let bytes = body::read(response.into_body(), "origin", 1 << 20).await.expect("a body");
    (status, serde_json::from_slice(&bytes).unwrap_or_default())
}

fn signed(
    house: &House,
    origin: &Origin,
    method: &str,
    path: &str,
    bytes: &[u8],
    now_s: i64,
    nonce: &str,
) -> HeaderMap {
    let authority = origin.bound.wire[0].to_string();
    let covered = Covered { method, authority: &authority, path, query: None };
    let fields = signature::sign(&covered, Digest::of(bytes), now_s, nonce, &house.publishers["shop"]);
    let mut headers = HeaderMap::new();
    fields.expect("a signature").insert_into(&mut headers);
    headers
}

#[test]
fn a_signed_request_counts_once_now_and_for_its_body_over_every_protocol() {
    let mut house = House::new();
    let origin = house.start_granted();
    let now_s = jiff::Timestamp::now().as_second();
    for (protocol, nonce) in [(Protocol::H1, "1"), (Protocol::H2, "2"), (Protocol::H3, "3")] {
        let nonce = nonce.repeat(16);
        let ask = |headers: HeaderMap, path: &'static str, bytes: &'static [u8]| {
            let method = if bytes.is_empty() { Method::GET } else { Method::POST };
            block_on(raw(&house, &origin, protocol, method, path, headers, bytes.into()))
        };
        let headers = signed(&house, &origin, "GET", "/v1/apps", b"", now_s, &nonce);
        assert_eq!(ask(headers.clone(), "/v1/apps", b"").0, StatusCode::OK, "{protocol:?}");
        assert_eq!(ask(headers.clone(), "/v1/apps", b"").1.code, "replayed", "{protocol:?}");
        assert_eq!(ask(headers, "/v1/fleet", b"").1.code, "signature", "{protocol:?}");
        let old = signed(&house, &origin, "GET", "/v1/apps", b"", now_s - 400, &nonce);
        assert_eq!(ask(old, "/v1/apps", b"").1.code, "clock", "{protocol:?}");
        let path = "/v1/apps/shop/rollout";
        let other = signed(&house, &origin, "POST", path, b"one body", now_s, &format!("{nonce}b"));
        assert_eq!(ask(other, path, b"another body").1.code, "signature", "{protocol:?}");
        let bad = signed(&house, &origin, "POST", path, b"no JSON", now_s, &format!("{nonce}c"));
        assert_eq!(ask(bad, path, b"no JSON").1.code, "bad_request", "{protocol:?}");
    }
}

#[test]
fn sizes_that_a_client_chooses_are_bounded_and_paths_that_are_none_are_told_so() {
    let mut house = House::new();
    let origin = house.start_granted();
    let with_token = || {
        HeaderMap::from_iter([(
            http::header::AUTHORIZATION,
            format!("Bearer {}", token("fra-1")).parse().expect("a field"),
        )])
    };
    let now_s = jiff::Timestamp::now().as_second();
    let large = vec![b' '; 300 << 10];
    let (status, problem) =
        block_on(raw(&house, &origin, Protocol::H2, Method::POST, "/v1/report", with_token(), large.into()));
    assert_eq!((status, problem.code.as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "too_large"));
    let large = vec![b' '; UPLOAD_BYTES_MAX + 1];
    let path = "/v1/apps/shop/releases";
    let headers = signed(&house, &origin, "POST", path, &large, now_s, "0123456789abcdef");
    let (_, problem) = block_on(raw(&house, &origin, Protocol::H3, Method::POST, path, headers, large.into()));
    assert_eq!(problem.code, "too_large");
    for (method, path, code) in [
        (Method::GET, "/", "not_found"),
        (Method::GET, "/v1", "not_found"),
        (Method::GET, "/v1/", "not_found"),
        (Method::GET, "/v2/apps", "not_found"),
        (Method::DELETE, "/v1/apps", "method_not_allowed"),
        (Method::GET, "/v1/metadata/../../etc/passwd", "not_found"),
        (Method::GET, "/v1/metadata/%2e%2e%2fheads.redb", "not_found"),
        (Method::GET, "/v1/blobs/xyz", "bad_request"),
        (Method::GET, "/v1/watch?seq=-1", "bad_request"),
        (Method::GET, "/v1/targets/releases/shop/1.json", "not_found"),
        (Method::GET, "/v1/apps/UPPER/releases", "bad_request"),
        (Method::GET, "/v1/fleet", "not_yours"),
        (Method::GET, "/v1/audit", "not_yours"),
    ] {
        let (status, problem) =
            block_on(raw(&house, &origin, Protocol::H2, method.clone(), path, with_token(), Bytes::new()));
        assert_eq!((problem.code.as_str(), problem.status), (code, status.as_u16()), "{method} {path}");
    }
}

#[test]
fn one_app_does_not_see_another() {
    let mut house = House::new();
    let origin = house.start_granted();
    let (shop, blog) = (house.publisher(&origin, "shop"), house.publisher(&origin, "blog"));
    let wasm = wasm("secret");
    let one = with_function(release("shop", 1, &[]), &wasm);
    block_on(async {
        let digest = shop.put_blob(wasm.clone()).await.expect("an upload");
        shop.publish(&one.app, &house.publish(&one, &[])).await.expect("a publish");
        assert!(shop.has_blob(digest).await.expect("an answer") && !blog.has_blob(digest).await.expect("an answer"));
        assert!(blog.metadata("1.app-shop.json").await.expect("an answer").is_none());
        assert!(blog.metadata("1.targets.json").await.expect("an answer").is_some());
        let listed = super::house::file(&one);
        let target = blog.target(&listed.path, listed.sha256, 1 << 20).await;
        assert_eq!(target.expect_err("not theirs").code(), Some("not_found"));
        let nodes = TargetFile::new("fleet/nodes.json", &sign::document(&House::nodes()).expect("a document"));
        assert!(shop.target(&nodes.path, nodes.sha256, 1 << 20).await.is_ok(), "secrets are sealed to nodes");
        let denied = TargetFile::new("fleet/denied.json", &sign::document(&Denied::default()).expect("a document"));
        assert!(shop.target(&denied.path, denied.sha256, 1 << 20).await.is_err(), "the operator's own");
        assert!(house.node(&origin, "fra-1").target(&nodes.path, nodes.sha256, 1 << 20).await.is_ok());
        assert!(shop.target(&listed.path, listed.sha256, 1 << 20).await.is_ok());
        assert_eq!(blog.releases(&one.app).await.expect_err("not theirs").code(), Some("not_found"));
        let apps: Vec<_> = blog.apps().await.expect("the apps").apps.into_keys().collect();
        assert_eq!(apps, [name("blog")]);
        assert!(blog.audit().await.expect("the audit").records.is_empty());
        // A publisher verifies on its own machine, and what it may not see does not stop it.
        let root = std::fs::read(house.folder.path().join("root.json")).expect("the root");
        let mut trust = Trust::new(&root).expect("the root");
        round(&mut trust, &blog, &BTreeMap::new()).await;
        let apps: Vec<_> = trust.apps().into_iter().map(|app| (app.app, app.releases.len())).collect();
        assert_eq!(apps, [(name("shop"), 0), (name("blog"), 0)]);
        round(&mut trust, &shop, &BTreeMap::new()).await;
        assert_eq!(trust.apps()[0].releases.len(), 1);
    });
}

#[test]
fn a_node_that_is_put_out_loses_its_stream_and_its_way_in() {
    let mut house = House::new();
    let origin = house.start_granted();
    let (node, other) = (house.node(&origin, "fra-1"), house.node(&origin, "fra-2"));
    block_on(async {
        let mut stream = node.watch(0, None).await.expect("a stream");
        let mut others = other.watch(0, None).await.expect("a stream");
        change(&mut stream).await;
        change(&mut others).await;
        let mut nodes = House::nodes();
        nodes.nodes.get_mut("fra-1").expect("the node").revoked = true;
        let upload = house.upload(&house.delegations(), &nodes);
        house.operator_client(&origin).upload(&upload).await.expect("the upload");
        assert_eq!(change(&mut others).await.seq, 2);
        assert!(stream.next().await.is_err(), "the stream ends");
        assert_eq!(node.metadata("timestamp.json").await.expect_err("no way in").code(), Some("unknown_token"));
    });
}

#[test]
fn an_ended_app_publishes_no_more_and_its_role_stays_as_a_tombstone() {
    let mut house = House::new();
    let origin = house.start_granted();
    let shop = house.publisher(&origin, "shop");
    block_on(async {
        let one = release("shop", 1, &[]);
        shop.publish(&one.app, &house.publish(&one, &[])).await.expect("a publish");
        let mut delegations = house.delegations();
        for delegation in &mut delegations {
            if let (true, Some(grant)) = (delegation.role == "app-shop", delegation.grant.as_mut()) {
                grant.state = eyot_bundle::grant::GrantState::Removed;
            }
        }
        let upload = house.upload(&delegations, &House::nodes());
        house.operator_client(&origin).upload(&upload).await.expect("the upload");
        let two = release("shop", 2, &[1]);
        let refused = shop.publish(&two.app, &house.publish(&two, &[&one])).await.expect_err("it has ended");
        assert_eq!(refused.code(), Some("removed"));
        assert!(house.node(&origin, "fra-1").metadata("1.app-shop.json").await.expect("an answer").is_some());
    });
}

#[test]
fn health_and_metrics_are_told_on_loopback() {
    let mut house = House::new();
    let ask = |origin: &Origin, path: &str| {
        #[expect(clippy::disallowed_methods, reason = "the test's own loopback")]
        let mut stream = std::net::TcpStream::connect(origin.bound.admin[0]).expect("a connection");
        write!(stream, "GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n").expect("a request");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("a response");
        text
    };
    let origin = house.start();
    assert!(ask(&origin, "/healthz").starts_with("HTTP/1.1 200"));
    let unready = ask(&origin, "/readyz");
    assert!(unready.starts_with("HTTP/1.1 503") && unready.contains("no targets"), "{unready}");
    let upload = house.upload(&house.delegations(), &House::nodes());
    block_on(house.operator_client(&origin).upload(&upload)).expect("the upload");
    assert!(ask(&origin, "/readyz").starts_with("HTTP/1.1 200"));
    block_on(house.publisher(&origin, "shop").publish(&name("shop"), &house.publish(&release("shop", 1, &[]), &[])))
        .expect("a publish");
    let metrics = ask(&origin, "/metrics");
    for line in [
        "eyot_snapshot_seq 2",
        "eyot_origin_publishes_total{app=\"shop\",result=\"done\"} 1",
        "eyot_origin_nodes{region=\"eu-fra\",state=\"silent\"} 2",
        "eyot_metadata_expiry_timestamp_seconds{role=\"app-shop\"}",
        "eyot_certificate_expiry_timestamp_seconds{name=",
    ] {
        assert!(metrics.contains(line), "{line} is not in:\n{metrics}");
    }
    for (path, status) in [("/", "404"), ("/metrics/x", "404")] {
        assert!(ask(&origin, path).starts_with(&format!("HTTP/1.1 {status}")));
    }
}
