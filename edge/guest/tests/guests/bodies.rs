//! Bodies both ways: streamed, counted, with trailers, and cut off when the client leaves.

use std::sync::Arc;

use bytes::Bytes;
use eyot_plan::body::{self, Body};
use eyot_plan::fault::{Code, Fault};
use http::{HeaderMap, HeaderValue, Method};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

use crate::harness::{Ask, End, Settled, Share, end};

/// A body of so many pieces of so many bytes, then trailers.
fn pieces(count: usize, bytes: usize, trailers: Option<HeaderMap>) -> Body {
    let data = (0..count).map(move |_| Ok(Frame::data(Bytes::from(vec![b'x'; bytes]))));
    let frames = data.chain(trailers.map(Frame::trailers).map(Ok));
    StreamBody::new(futures_util::stream::iter(frames.collect::<Vec<Result<_, Fault>>>())).boxed_unsync()
}

#[tokio::test]
async fn a_body_of_any_size_comes_back_byte_by_byte_with_its_trailers() {
    for (count, bytes) in [(0, 0), (1, 1), (1, 1200), (1000, 1200), (9, 1 << 20)] {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("42"));
        let answer = Ask::new("echo").path("/a?b").body(pieces(count, bytes, Some(trailers.clone()))).send().await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.fields["x-path"], "/a?b");
        assert_eq!(answer.fields["x-method"], "Method::Post");
        assert_eq!(answer.fields["x-authority"], "app.example");
        assert_eq!(answer.bytes.len(), count * bytes);
        assert_eq!(answer.trailers, Some(trailers), "{count} of {bytes}");
    }
}

#[tokio::test]
async fn a_response_that_is_all_there_has_an_exact_size() {
    // A call that is preempted again and again comes in two parts; not each of fifty is.
    let mut exact = None;
    for _ in 0..50 {
        let response = Ask::new("hello").begin().await.expect("a response");
        exact = exact.or(http_body::Body::size_hint(response.body()).exact());
    }
    assert_eq!(exact, Some(6));
    let head = Ask::new("hello").method(Method::HEAD).begin().await.expect("a response");
    assert!(http_body::Body::is_end_stream(head.body()));
}

#[tokio::test]
async fn an_answer_with_trailers_has_no_exact_size_even_when_it_is_all_there() {
    // With one, HTTP/1.1 would send a Content-Length and lose the trailers.
    for _ in 0..50 {
        let trailers = HeaderMap::from_iter([(http::HeaderName::from_static("x-sum"), HeaderValue::from_static("42"))]);
        let response = Ask::new("echo").body(pieces(1, 10, Some(trailers))).begin().await.expect("a response");
        assert_eq!(http_body::Body::size_hint(response.body()).exact(), None);
    }
}

#[tokio::test]
async fn a_request_body_over_its_limit_is_refused_whether_it_was_announced_or_not() {
    let announced = Ask::new("echo").body(body::full(vec![0; 2000])).limits(|limits| limits.body_bytes = 1000);
    assert_eq!(end(announced.send().await), End::Instead(Code::RequestTooLarge));
    let streamed = Ask::new("echo").body(pieces(100, 100_000, None)).limits(|limits| limits.body_bytes = 1 << 20);
    let ended = end(streamed.send().await);
    assert!(matches!(ended, End::Broken(Code::RequestTooLarge) | End::Instead(Code::RequestTooLarge)), "{ended:?}");
}

#[tokio::test]
async fn a_request_body_that_breaks_off_is_the_clients_fault_when_the_guest_then_fails() {
    let frames = [Ok(Frame::data(Bytes::from_static(b"x"))), Err(Fault::new(Code::ClientTimeout))];
    let broken = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
    // The echo goes on with what it got: its answer is whole.
    assert_eq!(end(Ask::new("echo").body(broken).send().await), End::Good(200));
}

#[tokio::test]
async fn a_client_that_leaves_before_the_head_or_in_the_body_ends_the_guest() {
    let share = Arc::<Share>::default();
    let waiting = Ask::new("sleep").share(&share).begin();
    let left = tokio::time::timeout(std::time::Duration::from_millis(50), waiting).await;
    assert!(left.is_err(), "it still slept");
    share.settled().await;
    let response = Ask::new("endless-body").share(&share).begin().await.expect("a head");
    let mut body = response.into_body();
    body.frame().await.expect("a frame").expect("bytes");
    drop(body);
    share.settled().await;
    assert_eq!(share.memory_bytes.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_reader_that_stops_reading_stops_the_guest_and_costs_no_memory() {
    let ask = Ask::new("endless-body").limits(|limits| limits.idle_ms = 100);
    let (meter, share) = (Arc::clone(&ask.meter), Arc::clone(&ask.share));
    let response = ask.begin().await.expect("a head");
    share.settled().await;
    assert!(meter.cpu_us() < 1_000_000, "{} us for what no one read", meter.cpu_us());
    let mut bytes = 0;
    let mut body = response.into_body();
    let fault = loop {
        match body.frame().await.expect("a fault comes first") {
            Ok(frame) => bytes += frame.data_ref().map_or(0, Bytes::len),
            Err(fault) => break fault,
        }
    };
    assert_eq!(fault.code, Code::WallTimeExceeded);
    assert!(bytes <= 16 * (64 << 10), "{bytes} bytes were kept");
}

#[tokio::test]
async fn what_a_guest_does_after_its_answer_it_does_within_the_same_budget() {
    for (method, expect) in [(Method::GET, "said after the answer"), (Method::HEAD, "said after the answer")] {
        let ask = Ask::new("after").method(method);
        let (log, share) = (Arc::clone(&ask.log), Arc::clone(&ask.share));
        let answer = ask.send().await.expect("an answer");
        assert!(answer.broken.is_none());
        share.settled().await;
        assert_eq!(log.written.lock().expect("not poisoned").first().map(|(_, line)| line.as_str()), Some(expect));
    }
    // Over HTTP/1.1 nobody reads further than the length that was announced.
    let ask = Ask::new("after").path("/length");
    let (log, share) = (Arc::clone(&ask.log), Arc::clone(&ask.share));
    let mut response = ask.begin().await.expect("a head");
    let frame = response.body_mut().frame().await.expect("a frame").expect("bytes");
    assert_eq!(frame.data_ref().map(Bytes::len), Some(9));
    drop(response);
    share.settled().await;
    assert_eq!(log.written.lock().expect("not poisoned").len(), 1, "it was not cut off");
    let ask = Ask::new("after").path("/spin").limits(|limits| limits.cpu_us = 20_000);
    let (meter, share) = (Arc::clone(&ask.meter), Arc::clone(&ask.share));
    ask.send().await.expect("an answer");
    share.settled().await;
    assert!((20_000..60_000).contains(&meter.cpu_us()), "{} us", meter.cpu_us());
}

#[tokio::test]
async fn whoever_holds_a_witness_knows_that_a_call_is_over_and_how_whatever_its_client_did() {
    /// What the client does: waits for all of it, for the head, or not even for that.
    #[derive(Clone, Copy, Debug)]
    enum Client {
        Waits,
        LeavesAfterHead,
        LeavesAtOnce,
    }
    let cut = Some(Code::CpuBudgetExceeded);
    for (guest, path, client, least_us, fault) in [
        ("hello", "/", Client::Waits, 1, None),
        ("after", "/", Client::Waits, 1, None),
        ("after", "/spin", Client::Waits, 20_000, cut),
        ("spin", "/", Client::Waits, 20_000, cut),
        ("half-then-trap", "/later", Client::Waits, 1, Some(Code::FunctionTrapped)),
        ("slow-body", "/", Client::LeavesAfterHead, 1, None),
        ("sleep", "/", Client::LeavesAtOnce, 1, None),
    ] {
        let (witness, over) = tokio::sync::oneshot::channel::<()>();
        let ask = Ask::new(guest).path(path).limits(|limits| limits.cpu_us = 20_000).witness(witness);
        let (meter, share) = (Arc::clone(&ask.meter), Arc::clone(&ask.share));
        match client {
            Client::Waits => drop(ask.send().await),
            Client::LeavesAfterHead => drop(ask.begin().await.expect("a head")),
            Client::LeavesAtOnce => {
                let left = tokio::time::timeout(std::time::Duration::from_millis(50), ask.begin()).await;
                assert!(left.is_err(), "it still slept");
            }
        }
        over.await.expect_err("nothing is sent, it is dropped");
        let charged = share.cpu_us.load(std::sync::atomic::Ordering::SeqCst);
        assert!(meter.cpu_us() >= least_us, "{guest} {path} {client:?}: {} us", meter.cpu_us());
        assert_eq!(meter.cpu_us(), charged, "{guest} {path} {client:?}: all of it is in the meter by then");
        assert_eq!(meter.fault().map(|fault| fault.code), fault, "{guest} {path} {client:?}");
    }
}
