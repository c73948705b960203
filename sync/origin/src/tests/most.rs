//! What an origin takes at most: of one request, of one node, and of all at once.

use std::time::Duration;

use bytes::Bytes;
use eyot_bundle::digest::Digest;
use eyot_bundle::refusal::Reason;
use eyot_link::body::{self, Body};
use eyot_link::get::{Get, get};
use eyot_link::line::{Patience, Protocol};
use eyot_link::problem::Problem;
use eyot_link::signature::{self, Covered};
use eyot_link::tls::Authorities;
use eyot_link::wire::{AppReport, Load, Refused, Report, Window};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::{BodyExt as _, Channel};

use super::house::{House, Origin, block_on, name, release, token};
use super::publish::{change, round};

/// One raw request.
pub(super) struct Ask {
    pub(super) protocol: Protocol,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
}

impl Ask {
    pub(super) fn get(path: &str, headers: HeaderMap) -> Self {
        Self { protocol: Protocol::H2, method: Method::GET, path: path.to_owned(), headers, body: body::empty() }
    }

    /// The upload of a blob by the shop's publisher, who signed for `bytes`.
    fn put(house: &House, origin: &Origin, bytes: &[u8], body: Body) -> Self {
        let digest = Digest::of(bytes);
        let path = format!("/v1/blobs/{digest}");
        let authority = origin.bound.wire[0].to_string();
        let covered = Covered { method: "PUT", authority: &authority, path: &path, query: None };
        let nonce = Digest::of(eyot_bundle::sign::Key::generate().expect("randomness").id().as_bytes()).to_string();
        let now_s = jiff::Timestamp::now().as_second();
        let fields = signature::sign(&covered, digest, now_s, &nonce[..32], &house.publishers["shop"]);
        let mut headers = HeaderMap::new();
        fields.expect("a signature").insert_into(&mut headers);
        Self { protocol: Protocol::H2, method: Method::PUT, path, headers, body }
    }

    /// The request of it at an origin; no test here is about how soon that is given up.
    fn at(self, house: &House, origin: &Origin) -> Get {
        let Self { protocol, method, path, headers, body } = self;
        let url = format!("https://{}{path}", origin.bound.wire[0]).parse().expect("a URL");
        let authorities = Authorities::Pem(house.ca_pem().as_bytes().to_vec());
        let patience = Patience::each(60_000);
        Get { url, protocol, connect: None, authorities, method, headers, body, patience, head_ms: 60_000 }
    }
}

/// A node's way in.
pub(super) fn bearer(node: &str) -> HeaderMap {
    let value = format!("Bearer {}", token(node)).parse().expect("a field");
    HeaderMap::from_iter([(http::header::AUTHORIZATION, value)])
}

pub(super) async fn asked(house: &House, origin: &Origin, ask: Ask) -> Response<Body> {
    get(ask.at(house, origin)).await.expect("a response")
}

/// The status and code of an answer.
async fn told(response: Response<Body>) -> (StatusCode, String) {
    let status = response.status();
    let bytes = body::read(response.into_body(), "origin", 1 << 20).await.expect("a body");
    let problem: Problem = serde_json::from_slice(&bytes).unwrap_or_default();
    (status, problem.code)
}

/// An upload that is in progress: the origin reads it, and its end is missing.
pub(super) struct Fed {
    rest: Bytes,
    sender: http_body_util::channel::Sender<Bytes, eyot_link::error::Error>,
    answer: tokio::task::JoinHandle<(StatusCode, String)>,
}

impl Fed {
    /// Sends the rest; what came of it.
    pub(super) async fn end(mut self) -> (StatusCode, String) {
        let _ = self.sender.send_data(self.rest).await;
        drop(self.sender);
        self.answer.await.expect("an answer")
    }
}

/// Begins an upload of `bytes`, which must be more than a client can send without being read.
pub(super) async fn fed(house: &House, origin: &Origin, bytes: &Bytes) -> Fed {
    let (mut sender, body) = Channel::new(1);
    let ask = Ask::put(house, origin, bytes, body.boxed_unsync());
    let request = ask.at(house, origin);
    let answer = tokio::spawn(async move { told(get(request).await.expect("a response")).await });
    let (most, rest) = (bytes.slice(..bytes.len() - 1), bytes.slice(bytes.len() - 1..));
    for piece in most.chunks(16 << 10) {
        sender.send_data(Bytes::copy_from_slice(piece)).await.expect("it is read");
    }
    Fed { rest, sender, answer }
}

#[test]
fn a_blob_has_so_many_bytes_whether_it_says_so_before_or_not() {
    let mut house = House::new();
    house.bounds.wire.blob_bytes_max = 1000;
    let origin = house.start_granted();
    for (size, announced, status) in [
        (1000, true, StatusCode::CREATED),
        (1001, true, StatusCode::PAYLOAD_TOO_LARGE),
        (999, false, StatusCode::CREATED),
        (1000, false, StatusCode::CREATED),
        (1001, false, StatusCode::PAYLOAD_TOO_LARGE),
    ] {
        block_on(async {
            let bytes = Bytes::from(vec![b'x'; size]);
            let body = if announced {
                body::full(bytes.clone())
            } else {
                let (mut sender, body) = Channel::new(2);
                sender.send_data(bytes.clone()).await.expect("room");
                body.boxed_unsync()
            };
            let answer = told(asked(&house, &origin, Ask::put(&house, &origin, &bytes, body)).await).await;
            let code = if status == StatusCode::CREATED { "" } else { "too_large" };
            assert_eq!(answer, (status, code.to_owned()), "{size}, announced: {announced}");
        });
    }
    assert_eq!(crate::wire::Limits::default().blob_bytes_max, 64 << 20);
}

#[test]
fn a_body_that_takes_too_long_is_given_up() {
    let mut house = House::new();
    let granted = house.start_granted();
    granted.stop();
    house.bounds.wire.body_time_max = Duration::from_millis(1);
    let origin = house.start();
    let (_never, body) = Channel::new(1);
    block_on(async {
        let put = Ask::put(&house, &origin, b"a blob", body.boxed_unsync());
        let answer = told(asked(&house, &origin, put).await).await;
        assert_eq!(answer, (StatusCode::REQUEST_TIMEOUT, "too_slow".to_owned()));
        let (_never, body) = Channel::new(1);
        let path = "/v1/report".to_owned();
        let body = body.boxed_unsync();
        let report = Ask { method: Method::POST, path, body, ..Ask::get("", bearer("fra-1")) };
        let answer = told(asked(&house, &origin, report).await).await;
        assert_eq!(answer, (StatusCode::REQUEST_TIMEOUT, "too_slow".to_owned()));
    });
}

#[test]
fn so_many_uploads_are_taken_at_once_and_the_next_is_told_to_come_again() {
    let mut house = House::new();
    house.bounds.wire.uploads_max = 2;
    let origin = house.start_granted();
    let large = |salt: u8| Bytes::from(vec![salt; 2 << 20]);
    block_on(async {
        let (one, two) = (fed(&house, &origin, &large(1)).await, fed(&house, &origin, &large(2)).await);
        let put = || Ask::put(&house, &origin, b"small", body::full(Bytes::from_static(b"small")));
        let full = (StatusCode::SERVICE_UNAVAILABLE, "overloaded".to_owned());
        assert_eq!(told(asked(&house, &origin, put()).await).await, full);
        let publish = house.publish(&release("shop", 1, &[]), &[]);
        let refused = house.publisher(&origin, "shop").publish(&name("shop"), &publish).await.expect_err("full");
        assert_eq!(refused.code(), Some("overloaded"));
        assert_eq!(one.end().await.0, StatusCode::CREATED);
        assert_eq!(told(asked(&house, &origin, put()).await).await.0, StatusCode::CREATED);
        assert_eq!(two.end().await.0, StatusCode::CREATED);
    });
}

#[test]
fn a_node_holds_eight_streams_and_all_nodes_so_many_until_one_ends() {
    let mut house = House::new();
    house.bounds.wire.streams_max = 10;
    let origin = house.start_granted();
    let (one, two) = (house.node(&origin, "fra-1"), house.node(&origin, "fra-2"));
    block_on(async {
        let mut held = Vec::new();
        for _ in 0..8 {
            held.push(one.watch(0, None).await.expect("a stream"));
        }
        assert_eq!(one.watch(0, None).await.expect_err("the ninth").code(), Some("streams"));
        let (_first, last) = (two.watch(0, None).await.expect("a stream"), two.watch(0, None).await.expect("a stream"));
        assert_eq!(two.watch(0, None).await.expect_err("the eleventh of all").code(), Some("overloaded"));
        drop(last);
        // The origin hears of the end of a stream when it hears of it.
        while let Err(error) = two.watch(0, None).await {
            assert_eq!(error.code(), Some("overloaded"), "{error}");
        }
        held.clear();
        while let Err(error) = one.watch(0, None).await {
            assert!(matches!(error.code(), Some("overloaded" | "streams")), "{error}");
        }
    });
}

#[test]
fn metadata_that_is_too_large_for_a_line_is_left_for_nodes_to_fetch() {
    for (inline_bytes_max, is_inline) in [(512 << 10, true), (100, false)] {
        let mut house = House::new();
        house.bounds.wire.inline_bytes_max = inline_bytes_max;
        let origin = house.start_granted();
        let node = house.node(&origin, "fra-1");
        let root = std::fs::read(house.folder.path().join("root.json")).expect("the root");
        let mut trust = eyot_bundle::trust::Trust::new(&root).expect("the root");
        block_on(async {
            let told = change(&mut node.watch(0, None).await.expect("a stream")).await;
            assert_eq!((told.seq, !told.inline.is_empty()), (1, is_inline));
            let inline = told.inline.into_iter().map(|(file, bytes)| (file, bytes.0.into())).collect();
            assert_eq!(round(&mut trust, &node, &inline).await == 0, is_inline);
            assert_eq!(trust.seq(), 1);
        });
    }
}

/// A report in which each list and text has `more` than is kept of it.
fn report(more: usize) -> Report {
    let text = |chars: usize| "é".repeat(chars + more);
    let window = Window {
        release: 1,
        start: jiff::Timestamp::UNIX_EPOCH,
        seconds: 5,
        requests: 2,
        faults: [(text(32), 1), ("cpu".to_owned(), 1)].into(),
        p50_us: 0,
        p99_us: 0,
        cpu_us: 0,
    };
    let refused = Refused { release: 1, reason: Reason::Parse, detail: text(500) };
    let app = AppReport { windows: vec![window; 16 + more], refused: Some(refused), ..AppReport::default() };
    Report {
        node: name("fra-1"),
        region: text(64),
        version: text(64),
        boot: text(64),
        seq: 1,
        purge: 0,
        ledger: text(64),
        clock_ms_off: 0,
        apps: [(name("shop"), app.clone()), (name("stranger"), app)].into(),
        load: Load::default(),
        draining: false,
    }
}

#[test]
fn of_a_report_no_more_is_kept_than_a_node_has_reason_to_send() {
    let mut house = House::new();
    let origin = house.start_granted();
    let (node, operator) = (house.node(&origin, "fra-1"), house.operator_client(&origin));
    for more in [0, 1] {
        block_on(async {
            node.report(&report(more)).await.expect("an answer");
            let kept = operator.fleet().await.expect("the fleet").nodes.remove("fra-1").expect("the node");
            let kept = kept.report.expect("its report");
            for text in [&kept.region, &kept.version, &kept.boot, &kept.ledger] {
                assert_eq!(text.chars().count(), 64, "{more} more");
            }
            assert_eq!(kept.apps.keys().collect::<Vec<_>>(), [&name("shop")], "{more} more");
            let app = &kept.apps["shop"];
            assert_eq!(app.windows.len(), 16, "{more} more");
            // A code of more than 64 bytes is none.
            assert!(app.windows.iter().all(|window| window.faults.len() == if more == 0 { 2 } else { 1 }));
            assert_eq!(app.refused.as_ref().expect("a refusal").detail.chars().count(), 500, "{more} more");
        });
    }
}
