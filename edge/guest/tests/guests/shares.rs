//! The node's and the app's share: slots, queue, memory of many calls, code in memory.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use eyot_guest::artefacts::Artefacts;
use eyot_guest::{Error, Runtime, Settings};
use eyot_plan::fault::Code;

use crate::harness::{Ask, End, Settled, Share, code, end, settings};

#[tokio::test]
async fn a_thousand_calls_that_allocate_at_once_share_what_the_app_has() {
    let share = Arc::new(Share { memory_bytes_max: Some(128 << 20), ..Share::default() });
    let calls = (0..1000).map(|_| {
        let ask = Ask::new("allocate").share(&share);
        ask.limits(|limits| (limits.memory_bytes, limits.wall_ms) = (64 << 20, 600_000)).send()
    });
    let ends = futures_util::future::join_all(calls).await;
    for answered in ends {
        let fault = answered.expect_err("a fault");
        assert!(matches!(fault.code, Code::AllowanceSpent | Code::MemoryExceeded), "{fault}");
    }
    share.settled().await;
    assert_eq!(share.memory_bytes.load(Ordering::SeqCst), 0, "all of it came back");
}

#[tokio::test]
async fn when_no_slot_comes_free_the_node_is_overloaded_and_says_when_to_try_again() {
    let runtime = Runtime::new(Settings { slots: 1, queue_wait_ms: 50, ..settings() }).expect("a runtime");
    let held = Ask::on(&runtime, "endless-body").begin().await.expect("a head");
    let fault = Ask::on(&runtime, "hello").send().await.expect_err("a fault");
    assert_eq!((fault.code, fault.retry_after), (Code::Overloaded, Some(1)));
    drop(held);
    // The slot comes free when the guest is gone, and the next call waits for that.
    let runtime_waits = Ask::on(&runtime, "hello");
    let answer = tokio::time::timeout(std::time::Duration::from_secs(60), async {
        let mut ask = runtime_waits;
        loop {
            match ask.send().await {
                Err(fault) if fault.code == Code::Overloaded => ask = Ask::on(&runtime, "hello"),
                answered => break answered,
            }
        }
    });
    assert_eq!(end(answer.await.expect("the slot came free")), End::Good(200));
}

#[tokio::test]
async fn code_is_loaded_when_called_and_evicted_by_bytes_but_not_while_in_use() {
    let runtime = Runtime::new(Settings { code_bytes_max: 1, ..settings() }).expect("a runtime");
    assert_eq!(runtime.code_bytes(), 0);
    let held = Ask::on(&runtime, "endless-body").begin().await.expect("a head");
    let one = runtime.code_bytes();
    assert!(one > 1);
    Ask::on(&runtime, "hello").send().await.expect("an answer");
    assert!(runtime.code_bytes() > one, "the one in use and the newest");
    drop(held);
    let share = Arc::<Share>::default();
    Ask::on(&runtime, "echo").share(&share).send().await.expect("an answer");
    share.settled().await;
    let both = runtime.code_bytes();
    Ask::on(&runtime, "sleep").path("/?1").send().await.expect("an answer");
    assert!(runtime.code_bytes() <= both, "what was used longest ago goes");
}

#[tokio::test]
async fn code_that_is_missing_or_was_altered_is_not_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = Runtime::new(Settings { artefacts: folder.path().into(), ..settings() }).expect("a runtime");
    let wasm = code("hello");
    assert_eq!(end(Ask::on(&runtime, "hello").send().await), End::Instead(Code::NotReady));
    assert!(matches!(runtime.warm(wasm).await, Err(Error::Missing(_))));
    let built = std::fs::read(Artefacts::new(settings().artefacts, &settings().key).expect("artefacts").path(wasm));
    runtime.artefacts().store(wasm, &built.expect("compiled")).expect("stored");
    runtime.warm(wasm).await.expect("warm");
    let other = Runtime::new(Settings { artefacts: folder.path().into(), key: [8; 32], ..settings() });
    let other = other.expect("a runtime");
    assert!(matches!(other.warm(wasm).await, Err(Error::Altered(_))));
    assert_eq!(end(Ask::on(&runtime, "hello").send().await), End::Good(200), "what is loaded stays");
}

#[tokio::test]
async fn guests_may_also_run_where_they_are_called() {
    let runtime = Runtime::inline(settings()).expect("a runtime");
    assert_eq!(Ask::on(&runtime, "hello").send().await.expect("an answer").text(), "hello\n");
    let spin = Ask::on(&runtime, "spin").limits(|limits| limits.cpu_us = 5_000);
    assert_eq!(end(spin.send().await), End::Instead(Code::CpuBudgetExceeded));
}
