//! What is charged: CPU as the thread's clock has it, and nothing for waiting.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::harness::{Ask, Settled};

#[tokio::test]
async fn a_guest_that_spins_is_charged_its_budget_and_little_more() {
    let ask = Ask::new("spin").limits(|limits| limits.cpu_us = 50_000);
    let (meter, share) = (Arc::clone(&ask.meter), Arc::clone(&ask.share));
    ask.send().await.expect_err("a fault");
    share.settled().await;
    let used_us = meter.cpu_us();
    // A tick comes each millisecond of wall time; on a machine that is shared it may come late, but the thread's own CPU
    // time does not go on while it is preempted.
    assert!((50_000..75_000).contains(&used_us), "{used_us} us");
    assert_eq!(share.cpu_us.load(Ordering::SeqCst), used_us, "the allowance is drawn on by the same");
}

#[tokio::test]
async fn a_guest_that_sleeps_is_charged_next_to_nothing() {
    let slept = Ask::new("sleep").path("/?300");
    let woke = Ask::new("sleep").path("/?0");
    let meters = [Arc::clone(&slept.meter), Arc::clone(&woke.meter)];
    slept.send().await.expect("an answer");
    woke.send().await.expect("an answer");
    let [slept_us, woke_us] = meters.map(|meter| meter.cpu_us());
    assert!(slept_us < woke_us + 20_000, "{slept_us} us against {woke_us} us");
}

#[tokio::test]
async fn what_all_calls_are_charged_agrees_with_the_clocks_of_the_guest_threads() {
    // One guest thread of its own, so that its clock counts nothing else.
    let settings = eyot_guest::Settings { threads: 1, ..crate::harness::settings() };
    let runtime = eyot_guest::Runtime::new(settings).expect("a runtime");
    runtime.warm(crate::harness::code("echo")).await.expect("warm");
    let before_us = guest_threads_us();
    let mut charged_us = 0;
    for _ in 0..20 {
        let body = eyot_plan::body::full(vec![b'x'; 1 << 20]);
        let ask = Ask::on(&runtime, "echo").body(body);
        let (meter, share) = (Arc::clone(&ask.meter), Arc::clone(&ask.share));
        ask.send().await.expect("an answer");
        share.settled().await;
        charged_us += meter.cpu_us();
    }
    let clock_us = guest_threads_us() - before_us;
    // Other tests run guests too, so the clocks of all guest threads are an upper bound; alone they are within a factor 2.
    assert!(charged_us <= clock_us + 10_000, "charged {charged_us} us of {clock_us} us");
    if std::env::var_os("NEXTEST").is_some() || only_test() {
        assert!(charged_us * 2 >= clock_us, "charged {charged_us} us of {clock_us} us");
    }
}

/// Whether this is the only test that runs.
fn only_test() -> bool {
    std::env::args().any(|argument| argument == "--exact")
}

/// The CPU of all guest threads of this process, in microseconds, as the kernel counts it.
fn guest_threads_us() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("procfs");
    let us = |path: std::path::PathBuf| {
        let name = std::fs::read_to_string(path.join("comm")).ok()?;
        let stat = std::fs::read_to_string(path.join("schedstat")).ok()?;
        let ns: u64 = stat.split(' ').next()?.parse().ok()?;
        name.starts_with("eyot-guest").then_some(ns / 1000)
    };
    tasks.filter_map(|task| us(task.ok()?.path())).sum()
}

#[tokio::test]
async fn peak_memory_and_subrequests_are_counted() {
    let ask = Ask::new("allocate").path("/kind").limits(|limits| limits.memory_bytes = 16 << 20);
    let meter = Arc::clone(&ask.meter);
    ask.send().await.expect("an answer");
    assert!((8 << 20..=16 << 20).contains(&meter.memory_bytes()), "{} bytes", meter.memory_bytes());
    let ask = Ask::new("many-fetches").path("/kind").env("TARGET", "a.example");
    let meter = Arc::clone(&ask.meter);
    assert_eq!(ask.send().await.expect("an answer").text(), "32");
    assert_eq!(meter.subrequests(), 32);
}
