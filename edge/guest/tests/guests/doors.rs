//! The doors: what a guest sees of the world, what it says, and how it gets out.

use std::sync::Arc;

use eyot_guest::{LogStream, Remaining, Sender};
use eyot_plan::body;
use eyot_plan::fault::{Code, Fault};
use http::Response;
use http_body_util::BodyExt;

use crate::harness::{Ask, End, Out, end};

#[tokio::test]
async fn a_guest_sees_its_environment_and_no_files_sockets_or_names() {
    let answer = Ask::new("env").env("MODE", "live").send().await.expect("an answer");
    let expect = "env MODE=live\nargs 0\nread false\nlist false\nconnect false\nlisten false\nudp false\nresolve false";
    assert_eq!(answer.text(), expect);
}

#[tokio::test]
async fn what_a_guest_says_goes_to_the_log_in_bounded_lines() {
    let ask = Ask::new("log-flood");
    let log = Arc::clone(&ask.log);
    assert_eq!(ask.send().await.expect("an answer").text(), "said\n");
    let lines = log.written.lock().expect("not poisoned");
    assert_eq!(lines[0], (LogStream::Stdout, "a line".to_owned()));
    assert_eq!(lines[1], (LogStream::Stderr, "another\u{1b}[31m".to_owned()));
    assert!(lines.iter().all(|(_, line)| line.len() <= 4 << 10));
    assert!(lines.iter().map(|(_, line)| line.len()).sum::<usize>() <= 64 << 10);
    assert!(lines.last().expect("a line").1.contains("dropped"));
}

#[tokio::test]
async fn a_fetch_goes_through_the_door_streamed_both_ways() {
    let out = Out::new(|request| {
        Box::pin(async move {
            assert_eq!(request.uri(), "https://up.example:8443/path?query");
            assert!(!request.headers().contains_key("host"));
            let whole = request.into_body().collect().await?;
            Ok(Response::new(body::full(whole.to_bytes())))
        })
    });
    let ask = Ask::new("fetch").field("x-url", "https://up.example:8443/path?query");
    let answer = ask.body(body::full(vec![b'y'; 3 << 20])).fetch(out).send().await.expect("an answer");
    assert_eq!(answer.bytes.len(), 3 << 20);
}

#[tokio::test]
async fn a_guest_is_told_why_a_fetch_failed_and_can_still_answer() {
    let table = [
        (Code::EgressDenied, "DestinationIpProhibited"),
        (Code::UpstreamTimeout, "HttpResponseTimeout"),
        (Code::UpstreamUnreachable, "ConnectionRefused"),
        (Code::LoopDetected, "LoopDetected"),
        (Code::Overloaded, "InternalError(None)"),
    ];
    for (code, told) in table {
        let out = Out::new(move |_| {
            Box::pin(std::future::ready(Err(Fault::new(code).because("10.1.2.3 is a secret address"))))
        });
        let ask = Ask::new("fetch").field("x-url", "http://up.example/");
        let answer = ask.fetch(out).send().await.expect("an answer");
        assert!(answer.text().contains(told) && !answer.text().contains("secret"), "{}", answer.text());
    }
}

#[tokio::test]
async fn an_upstream_that_hangs_ends_with_the_wall_time_and_its_fetch_is_dropped() {
    struct Dropped(Option<tokio::sync::oneshot::Sender<()>>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.take().map(|sender| sender.send(()));
        }
    }
    let (sender, dropped) = tokio::sync::oneshot::channel();
    let sender = std::sync::Mutex::new(Some(sender));
    let out = Out::new(move |_| {
        let guard = Dropped(sender.lock().expect("not poisoned").take());
        Box::pin(async move {
            let _guard = guard;
            std::future::pending().await
        })
    });
    let ask = Ask::new("fetch").field("x-url", "http://up.example/").limits(|limits| limits.wall_ms = 50);
    assert_eq!(end(ask.fetch(out).send().await), End::Instead(Code::WallTimeExceeded));
    dropped.await.expect("the fetch is dropped");
}

/// A way out that leads back in, eight times.
fn back_in(depth: u32) -> Arc<Out> {
    Out::new(move |request| {
        Box::pin(async move {
            if depth == 8 {
                return Err(Code::LoopDetected.into());
            }
            let remaining = request.extensions().get::<Sender>().expect("every request has it").remaining;
            assert_eq!(remaining.subrequests, 32 - depth);
            let again = Ask::new("fetch-itself").lent(remaining).fetch(back_in(depth + 1));
            again.begin().await
        })
    })
}

#[tokio::test]
async fn a_guest_that_asks_itself_ends_at_the_depth_its_door_allows_with_what_its_caller_has_left() {
    let answer = Ask::new("fetch-itself").fetch(back_in(1)).begin().await.expect("an answer");
    assert_eq!(answer.status(), 508);
    answer.into_body().collect().await.expect("a body");
}

#[tokio::test]
async fn a_call_for_another_gets_no_more_than_that_has_left() {
    let lent = Remaining { cpu_us: 5_000, subrequests: 3 };
    let fault = Ask::new("spin").lent(lent).send().await.expect_err("a fault");
    assert_eq!(fault.limit.map(|limit| limit.allowed), Some(5_000));
    let ask = Ask::new("many-fetches").path("/kind").env("TARGET", "a.example");
    let lent = Remaining { cpu_us: 2_000_000, subrequests: 3 };
    assert_eq!(ask.lent(lent).send().await.expect("an answer").text(), "3");
}

#[tokio::test]
async fn a_fetch_that_the_guest_drops_is_cancelled() {
    // `many-fetches` is cut off at its first refusal, while nothing else is under way; here the guest is ended instead.
    let (sender, mut under_way) = tokio::sync::mpsc::unbounded_channel::<()>();
    let out = Out::new(move |_| {
        let sender = sender.clone();
        Box::pin(async move {
            let _open = sender;
            std::future::pending().await
        })
    });
    let call = Ask::new("fetch").field("x-url", "http://up.example/").fetch(out).begin();
    let left = tokio::time::timeout(std::time::Duration::from_millis(50), call).await;
    assert!(left.is_err(), "it still waited");
    assert!(under_way.recv().await.is_none(), "both ends are gone");
}

#[tokio::test]
async fn what_those_it_calls_spend_ends_the_one_that_was_asked_and_all_of_them() {
    let out = Out::new(|request| {
        Box::pin(async move {
            let sender = request.extensions().get::<Sender>().expect("every request has it").clone();
            assert_eq!((sender.depth, sender.remaining.subrequests), (0, 31));
            Ask::new("spin").called_by(&sender).begin().await
        })
    });
    let ask = Ask::new("fetch-itself").limits(|limits| limits.cpu_us = 50_000).fetch(out);
    let fault = ask.begin().await.map(drop).expect_err("its budget is spent, though not by itself");
    let limit = fault.limit.expect("a limit");
    assert_eq!((fault.code, limit.name, limit.allowed), (Code::CpuBudgetExceeded, "cpu_us", 50_000));
}
