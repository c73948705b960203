//! Handlers of WASI 0.3: the same contract, with tasks, streams and futures in one store.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use eyot_bundle::release::Limits;
use eyot_guest::{LogStream, Sender};
use eyot_plan::body::{self, Body};
use eyot_plan::fault::{Code, Fault};
use http::{HeaderMap, HeaderValue, Method, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

use crate::harness::{Ask, End, Out, Settled, Share, beside_neighbours, end};

type Tight = fn(&mut Limits);

/// Guest, path, what is tight, how it ends.
const TABLE: &[(&str, &str, Tight, End)] = &[
    ("p3-hello", "/", |_| {}, End::Good(200)),
    ("p3-hostile", "/spin", |limits| limits.cpu_us = 20_000, End::Instead(Code::CpuBudgetExceeded)),
    ("p3-hostile", "/yield", |limits| limits.cpu_us = 20_000, End::Instead(Code::CpuBudgetExceeded)),
    ("p3-hostile", "/tasks", |limits| limits.cpu_us = 20_000, End::Instead(Code::CpuBudgetExceeded)),
    ("p3-hostile", "/trap", |_| {}, End::Instead(Code::FunctionTrapped)),
    ("p3-hostile", "/recurse", |_| {}, End::Instead(Code::FunctionTrapped)),
    ("p3-hostile", "/allocate", |limits| limits.memory_bytes = 16 << 20, End::Instead(Code::MemoryExceeded)),
    ("p3-hostile", "/sleep", |limits| limits.wall_ms = 50, End::Instead(Code::WallTimeExceeded)),
    ("p3-hostile", "/sleep?5", |_| {}, End::Good(200)),
    ("p3-hostile", "/wait", |limits| limits.wall_ms = 50, End::Instead(Code::WallTimeExceeded)),
    ("p3-hostile", "/error", |_| {}, End::Instead(Code::FunctionGaveNoResponse)),
    ("p3-hostile", "/handles?4000", |_| {}, End::Good(200)),
    ("p3-hostile", "/handles?4097", |_| {}, End::Instead(Code::FunctionTrapped)),
    ("p3-hostile", "/streams?2000", |_| {}, End::Good(200)),
    ("p3-hostile", "/streams?2049", |_| {}, End::Instead(Code::FunctionTrapped)),
    ("p3-hostile", "/futures?2049", |_| {}, End::Instead(Code::FunctionTrapped)),
    ("p3-hostile", "/random?65536", |_| {}, End::Good(200)),
    ("p3-hostile", "/fields?1000", |_| {}, End::Instead(Code::FunctionTrapped)),
    ("p3-hostile", "/exit?3", |_| {}, End::Instead(Code::FunctionTrapped)),
    ("p3-body", "/endless", |limits| limits.cpu_us = 20_000, End::Broken(Code::CpuBudgetExceeded)),
    ("p3-body", "/slow", |limits| limits.idle_ms = 50, End::Broken(Code::WallTimeExceeded)),
    ("p3-body", "/trap", |_| {}, End::Broken(Code::FunctionTrapped)),
    ("p3-body", "/leak", |_| {}, End::Instead(Code::FunctionTrapped)),
    ("p3-body", "/trailers", |_| {}, End::Instead(Code::FunctionTrapped)),
    ("p3-body", "/length", |_| {}, End::Instead(Code::FunctionTrapped)),
    ("p3-body", "/error", |_| {}, End::Instead(Code::FunctionTrapped)),
    ("p3-body", "/big-trailers", |limits| limits.header_bytes = 32 << 10, End::Instead(Code::ResponseTooLarge)),
    ("p3-body", "/big-trailers", |_| {}, End::Good(200)),
    ("p3-body", "/after", |_| {}, End::Good(200)),
    ("p3-fetch", "/many?33", |_| {}, End::Good(200)),
];

/// Whether it ended as expected: what fails soon may fail before its head has left, or after.
fn agrees(ended: End, expect: End) -> bool {
    match (ended, expect) {
        (End::Broken(ended) | End::Instead(ended), End::Instead(expect)) => ended == expect,
        _ => ended == expect,
    }
}

#[tokio::test]
async fn every_hostile_task_ends_as_the_contract_says_and_its_neighbours_are_answered() {
    for (guest, path, tight, expect) in TABLE {
        let answered = beside_neighbours(Ask::new(guest).path(path).limits(tight).send()).await;
        let text = format!("{answered:?}");
        assert!(agrees(end(answered), *expect), "{guest} {path}: {text}");
    }
}

/// A body of so many pieces of so many bytes, then trailers.
fn pieces(count: usize, bytes: usize, trailers: Option<HeaderMap>) -> Body {
    let data = (0..count).map(move |_| Ok(Frame::data(Bytes::from(vec![b'x'; bytes]))));
    let frames = data.chain(trailers.map(Frame::trailers).map(Ok));
    StreamBody::new(futures_util::stream::iter(frames.collect::<Vec<Result<_, Fault>>>())).boxed_unsync()
}

#[tokio::test]
async fn a_task_hands_a_body_on_or_copies_it_with_its_trailers() {
    for (path, count, bytes) in
        [("/", 0, 0), ("/", 1, 1200), ("/", 9, 1 << 20), ("/copy", 0, 0), ("/copy", 1000, 1200), ("/copy", 9, 1 << 20)]
    {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("42"));
        let answer = Ask::new("p3-echo").path(path).body(pieces(count, bytes, Some(trailers.clone()))).send().await;
        let answer = answer.expect("an answer");
        assert!(answer.broken.is_none(), "{path} {count}: {:?}", answer.broken);
        for (field, expect) in [("x-path", path), ("x-method", "Method::Post"), ("x-authority", "app.example")] {
            assert_eq!(answer.fields[field], expect);
        }
        assert_eq!(answer.fields["x-scheme"], "Some(Scheme::Https)");
        assert_eq!(answer.bytes.len(), count * bytes);
        assert_eq!(answer.trailers, Some(trailers), "{path} {count} of {bytes}");
    }
}

#[tokio::test]
async fn an_answer_of_a_task_that_is_all_there_has_an_exact_size() {
    let mut exact = None;
    for _ in 0..50 {
        let response = Ask::new("p3-hello").begin().await.expect("a response");
        exact = exact.or(http_body::Body::size_hint(response.body()).exact());
    }
    assert_eq!(exact, Some(6));
}

#[tokio::test]
async fn a_request_body_over_its_limit_ends_the_task_that_reads_it() {
    let streamed = |path| Ask::new("p3-echo").path(path).body(pieces(100, 100_000, None));
    for path in ["/", "/copy"] {
        let ended = end(streamed(path).limits(|limits| limits.body_bytes = 1 << 20).send().await);
        assert!(agrees(ended, End::Instead(Code::RequestTooLarge)), "{path}: {ended:?}");
    }
}

#[tokio::test]
async fn a_task_ends_when_its_client_leaves() {
    let share = Arc::<Share>::default();
    let waiting = Ask::new("p3-hostile").path("/sleep").share(&share).begin();
    let left = tokio::time::timeout(std::time::Duration::from_millis(50), waiting).await;
    assert!(left.is_err(), "it still slept");
    share.settled().await;
    let response = Ask::new("p3-body").path("/endless").share(&share).begin().await.expect("a head");
    let mut body = response.into_body();
    body.frame().await.expect("a frame").expect("bytes");
    drop(body);
    share.settled().await;
    assert_eq!(share.memory_bytes.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_task_whose_answer_nobody_reads_on_stops_and_costs_no_memory() {
    let ask = Ask::new("p3-body").path("/endless").limits(|limits| limits.idle_ms = 100);
    let (meter, share) = (Arc::clone(&ask.meter), Arc::clone(&ask.share));
    let response = ask.begin().await.expect("a head");
    share.settled().await;
    assert!(meter.cpu_us() < 1_000_000, "{} us for what no one read", meter.cpu_us());
    let (mut bytes, mut body) = (0, response.into_body());
    let fault = loop {
        match body.frame().await.expect("a fault comes first") {
            Ok(frame) => bytes += frame.data_ref().map_or(0, Bytes::len),
            Err(fault) => break fault,
        }
    };
    assert_eq!(fault.code, Code::WallTimeExceeded);
    assert!(bytes <= 8 * (64 << 10), "{bytes} bytes were kept");
}

#[tokio::test]
async fn what_a_task_does_after_its_answer_it_does_within_the_same_budget() {
    for method in [Method::GET, Method::HEAD] {
        let ask = Ask::new("p3-body").path("/after").method(method);
        let (log, share) = (Arc::clone(&ask.log), Arc::clone(&ask.share));
        assert!(ask.send().await.expect("an answer").broken.is_none());
        share.settled().await;
        let lines = log.written.lock().expect("not poisoned");
        assert_eq!(lines.first().map(|(_, line)| line.as_str()), Some("said after the answer"));
    }
    let ask = Ask::new("p3-body").path("/spin").limits(|limits| limits.cpu_us = 20_000);
    let (meter, share) = (Arc::clone(&ask.meter), Arc::clone(&ask.share));
    let _ = ask.send().await;
    share.settled().await;
    assert_eq!(meter.fault().map(|fault| fault.code), Some(Code::CpuBudgetExceeded));
}

#[tokio::test]
async fn what_a_task_says_is_heard_whichever_wasi_it_says_it_by() {
    let ask = Ask::new("p3-hostile").path("/print");
    let (log, share) = (Arc::clone(&ask.log), Arc::clone(&ask.share));
    assert_eq!(end(ask.send().await), End::Good(200));
    share.settled().await;
    let lines = log.written.lock().expect("not poisoned").clone();
    let said = |line: &str| (LogStream::Stdout, line.to_owned());
    assert!(lines.contains(&said("a line")) && lines.contains(&said("another")), "{lines:?}");
    assert!(lines.contains(&said("and a third")), "{lines:?}");
}

#[tokio::test]
async fn a_fetch_of_a_task_goes_through_the_door_streamed_both_ways_and_is_counted_once() {
    let out = Out::new(|request| {
        Box::pin(async move {
            assert_eq!(request.uri(), "https://up.example:8443/path?query");
            assert!(!request.headers().contains_key("host"));
            assert_eq!(request.extensions().get::<Sender>().expect("every request has it").remaining.subrequests, 31);
            let whole = request.into_body().collect().await?;
            Ok(Response::new(body::full(whole.to_bytes())))
        })
    });
    let ask = Ask::new("p3-fetch").field("x-url", "https://up.example:8443/path?query");
    let ask = ask.body(body::full(vec![b'y'; 3 << 20])).fetch(out);
    let (meter, share) = (Arc::clone(&ask.meter), Arc::clone(&ask.share));
    let answer = ask.send().await.expect("an answer");
    assert!(answer.broken.is_none(), "{:?}", answer.broken);
    assert_eq!(answer.bytes.len(), 3 << 20);
    share.settled().await;
    assert_eq!(meter.subrequests(), 1);
    assert_eq!(meter.cpu_us(), share.cpu_us.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_task_is_told_why_a_fetch_failed_and_can_still_answer() {
    for (code, told) in
        [(Code::EgressDenied, "DestinationIpProhibited"), (Code::UpstreamTimeout, "HttpResponseTimeout")]
    {
        let out = Out::new(move |_| {
            Box::pin(std::future::ready(Err(Fault::new(code).because("10.1.2.3 is a secret address"))))
        });
        let answer = Ask::new("p3-fetch").fetch(out).send().await.expect("an answer");
        assert!(answer.text().contains(told) && !answer.text().contains("secret"), "{}", answer.text());
    }
    assert_eq!(Ask::new("p3-fetch").path("/many?40").send().await.expect("an answer").text(), "32");
}

#[tokio::test]
async fn a_request_that_a_task_leaves_unfinished_does_not_arrive_whole() {
    let (sender, mut ends) = tokio::sync::mpsc::unbounded_channel();
    let out = Out::new(move |request| {
        let sender = sender.clone();
        Box::pin(async move {
            // The upstream answers at once and reads on.
            tokio::spawn(async move { sender.send(request.into_body().collect().await.map(|_| ())) });
            Ok(Response::new(body::full("early")))
        })
    });
    let answer = Ask::new("p3-fetch").path("/unfinished").body(body::full("begun")).fetch(out).send().await;
    drop(answer);
    assert!(ends.recv().await.expect("it ends").is_err());
}
