//! Instances that serve more than one call: by choice, one after another, and never after what was not a good end.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use eyot_bundle::release::Reuse;
use eyot_guest::{LogStream, Remaining, Runtime, Settings};
use eyot_plan::fault::Code;

use crate::harness::{Ask, End, Settled, Share, end, function, settings};

/// A runtime of one guest thread, so that who waits there is found.
fn runtime() -> Runtime {
    Runtime::new(Settings { threads: 1, ..settings() }).expect("a runtime")
}

/// What ends a call that spins soon.
const LITTLE: Remaining = Remaining { cpu_us: 20_000, subrequests: 1 };

const REUSE: Reuse = Reuse { requests: 4, idle_ms: 600_000 };

/// What a counting guest answers to one call after the other.
async fn counts(runtime: &Runtime, guest: &str, reuse: Reuse, paths: &[&str]) -> Vec<String> {
    let function = function(guest, reuse);
    let mut counts = Vec::new();
    for path in paths {
        let ask = Ask::of_function(runtime, &function).path(path);
        let ask = if *path == "/spin" { ask.lent(LITTLE) } else { ask };
        let share = Arc::clone(&ask.share);
        let answered = ask.send().await;
        share.settled().await;
        counts.push(answered.map_or_else(|fault| format!("{:?}", fault.code), |answer| answer.text().to_owned()));
    }
    counts
}

#[tokio::test]
async fn an_instance_serves_as_many_calls_as_were_chosen_and_by_default_one() {
    let runtime = runtime();
    for guest in ["counter", "p3-counter"] {
        assert_eq!(counts(&runtime, guest, Reuse::default(), &["/"; 3]).await, ["1", "1", "1"], "{guest}");
        assert_eq!(counts(&runtime, guest, REUSE, &["/"; 6]).await, ["1", "2", "3", "4", "1", "2"], "{guest}");
    }
}

#[tokio::test]
async fn an_instance_that_did_not_end_well_serves_no_other_call() {
    let runtime = runtime();
    for (guest, path) in [
        ("counter", "/trap"),
        ("counter", "/exit"),
        ("counter", "/spin"),
        ("counter", "/leak"),
        ("counter", "/half"),
        ("p3-counter", "/trap"),
        ("p3-counter", "/leak"),
    ] {
        let met = counts(&runtime, guest, REUSE, &["/", path, "/"]).await;
        assert_eq!((met[0].as_str(), met[2].as_str()), ("1", "1"), "{guest} {path}: {met:?}");
    }
}

#[tokio::test]
async fn an_instance_whose_client_left_serves_no_other_call() {
    let (runtime, function) = (runtime(), function("counter", REUSE));
    let share = Arc::<Share>::default();
    let waiting = Ask::of_function(&runtime, &function).path("/sleep").share(&share).send();
    assert!(tokio::time::timeout(std::time::Duration::from_millis(50), waiting).await.is_err(), "it still slept");
    share.settled().await;
    assert_eq!(runtime.kept(), 0);
    assert_eq!(Ask::of_function(&runtime, &function).send().await.expect("an answer").text(), "1");
}

#[tokio::test]
async fn an_instance_is_its_functions_alone() {
    let runtime = runtime();
    let (one, other) = (function("counter", REUSE), function("counter", REUSE));
    for expect in ["1", "2"] {
        for function in [&one, &other] {
            let ask = Ask::of_function(&runtime, function);
            let share = Arc::clone(&ask.share);
            assert_eq!(ask.send().await.expect("an answer").text(), expect);
            share.settled().await;
        }
    }
}

#[tokio::test]
async fn each_call_has_its_own_log_budget_and_share() {
    let (runtime, function) = (runtime(), function("counter", REUSE));
    for count in ["1", "2", "3"] {
        let ask = Ask::of_function(&runtime, &function).path("/print");
        let (log, meter, share) = (Arc::clone(&ask.log), Arc::clone(&ask.meter), Arc::clone(&ask.share));
        assert_eq!(ask.send().await.expect("an answer").text(), count);
        share.settled().await;
        let lines = log.written.lock().expect("not poisoned").clone();
        assert_eq!(
            lines,
            [(LogStream::Stdout, count.to_owned())],
            "what it began to say is said by the end of its call"
        );
        assert_eq!(meter.cpu_us(), share.cpu_us.load(Ordering::SeqCst));
        assert!(meter.memory_bytes() > 0);
    }
    let spins = Ask::of_function(&runtime, &function).path("/spin").lent(LITTLE);
    assert_eq!(end(spins.send().await), End::Instead(Code::CpuBudgetExceeded));
}

#[tokio::test]
async fn the_memory_of_an_instance_that_waits_is_its_apps_until_it_ends() {
    let (runtime, function) = (runtime(), function("counter", REUSE));
    let (first, second) = (Arc::<Share>::default(), Arc::<Share>::default());
    let call = async |share: &Arc<Share>| {
        let ask = Ask::of_function(&runtime, &function).path("/grow?8").share(share);
        let text = ask.send().await.expect("an answer").text().to_owned();
        share.settled().await;
        text
    };
    let bytes = |share: &Share| share.memory_bytes.load(Ordering::SeqCst);
    assert_eq!(call(&first).await, "1");
    let kept = bytes(&first);
    assert!(kept > 8 << 20);
    assert_eq!(call(&second).await, "2");
    assert_eq!(bytes(&first), 0);
    assert!(bytes(&second) > kept);
    // Where the app has no room for what it has kept, it has a new one.
    let full = Arc::new(Share { memory_bytes_max: Some(kept), ..Share::default() });
    assert_eq!(call(&full).await, "1");
    assert_eq!(bytes(&second), 0);
    assert_eq!(bytes(&full), kept);
    drop(runtime);
    assert_eq!(bytes(&full), 0);
}

#[tokio::test]
async fn an_instance_that_waits_too_long_ends_and_gives_its_memory_back() {
    let (runtime, function) = (runtime(), function("counter", Reuse { idle_ms: 1, ..REUSE }));
    let ask = Ask::of_function(&runtime, &function);
    let share = Arc::clone(&ask.share);
    ask.send().await.expect("an answer");
    while runtime.kept() > 0 || share.memory_bytes.load(Ordering::SeqCst) > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn so_many_instances_wait_and_no_more() {
    let runtime = runtime();
    let functions: Vec<_> = (0..300).map(|_| function("counter", REUSE)).collect();
    for function in &functions {
        Ask::of_function(&runtime, function).send().await.expect("an answer");
    }
    runtime.idle().await;
    assert_eq!(runtime.kept(), 256);
    let last = Ask::of_function(&runtime, &functions[299]).send().await.expect("an answer");
    let first = Ask::of_function(&runtime, &functions[0]).send().await.expect("an answer");
    assert_eq!((last.text(), first.text()), ("2", "1"), "who waited longest made room");
}
