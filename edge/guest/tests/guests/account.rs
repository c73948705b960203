//! What is charged: CPU as the thread's clock has it, and nothing for waiting.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::harness::{Ask, Settled, Share};

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
async fn what_calls_are_charged_agrees_with_the_clock_of_their_thread() {
    // One guest thread of its own, so that its clock counts nothing else.
    let settings = eyot_guest::Settings { threads: 1, ..crate::harness::settings() };
    let runtime = eyot_guest::Runtime::new(settings).expect("a runtime");
    let share = Arc::<Share>::default();
    Ask::on(&runtime, "echo").share(&share).send().await.expect("an answer");
    share.settled().await;
    let thread = share.thread.load(Ordering::SeqCst);
    let before_us = thread_us(thread);
    let mut charged_us = 0;
    for _ in 0..20 {
        let body = eyot_plan::body::full(vec![b'x'; 1 << 20]);
        let ask = Ask::on(&runtime, "echo").body(body).share(&share);
        let meter = Arc::clone(&ask.meter);
        ask.send().await.expect("an answer");
        share.settled().await;
        charged_us += meter.cpu_us();
    }
    let clock_us = thread_us(thread) - before_us;
    // Besides guests the thread only wakes, sleeps and hands over.
    assert!(charged_us <= clock_us && charged_us * 2 >= clock_us, "charged {charged_us} us of {clock_us} us");
}

/// The CPU of a thread of this process, in microseconds, as the kernel counts it.
fn thread_us(thread: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).expect("procfs");
    let ns: u64 = stat.split(' ').next().and_then(|ns| ns.parse().ok()).expect("a count");
    ns / 1000
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
