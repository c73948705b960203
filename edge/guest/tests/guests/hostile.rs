//! The table of hostile guests.

use eyot_bundle::release::Limits;
use eyot_plan::fault::Code;

use crate::harness::{Ask, End, beside_neighbours, end};

type Tight = fn(&mut Limits);

/// Guest, path, environment, what is tight, how it ends.
type Row = (&'static str, &'static str, &'static [(&'static str, &'static str)], Tight, End);

const TABLE: &[Row] = &[
    ("spin", "/", &[], |limits| limits.cpu_us = 20_000, End::Instead(Code::CpuBudgetExceeded)),
    ("spin-start", "/", &[("SPIN", "1")], |limits| limits.cpu_us = 20_000, End::Instead(Code::CpuBudgetExceeded)),
    ("spin-start", "/", &[], |_| {}, End::Good(200)),
    ("allocate", "/", &[], |limits| limits.memory_bytes = 16 << 20, End::Instead(Code::MemoryExceeded)),
    ("allocate", "/kind", &[], |limits| limits.memory_bytes = 16 << 20, End::Good(200)),
    ("allocate", "/kind", &[], |limits| limits.memory_bytes = 1 << 20, End::Instead(Code::MemoryExceeded)),
    ("two-memories", "/", &[], |limits| limits.memory_bytes = 32 << 20, End::Instead(Code::MemoryExceeded)),
    ("grow-tables", "/", &[], |_| {}, End::Instead(Code::MemoryExceeded)),
    ("recurse", "/", &[], |_| {}, End::Instead(Code::FunctionTrapped)),
    ("never-answer", "/", &[], |_| {}, End::Instead(Code::FunctionGaveNoResponse)),
    ("answer-twice", "/", &[], |_| {}, End::Instead(Code::FunctionTrapped)),
    ("half-then-trap", "/", &[], |_| {}, End::Instead(Code::FunctionTrapped)),
    ("half-then-trap", "/later", &[], |_| {}, End::Broken(Code::FunctionTrapped)),
    ("leak", "/", &[], |_| {}, End::Instead(Code::FunctionTrapped)),
    ("leak", "/later", &[], |_| {}, End::Broken(Code::FunctionTrapped)),
    ("leak", "/length", &[], |_| {}, End::Instead(Code::FunctionTrapped)),
    ("endless-body", "/", &[], |limits| limits.cpu_us = 20_000, End::Broken(Code::CpuBudgetExceeded)),
    ("slow-body", "/", &[], |limits| limits.idle_ms = 50, End::Broken(Code::WallTimeExceeded)),
    ("endless-headers", "/", &[], |_| {}, End::Instead(Code::ResponseTooLarge)),
    ("endless-headers", "/some", &[], |limits| limits.header_bytes = 32 << 10, End::Instead(Code::ResponseTooLarge)),
    ("endless-headers", "/some", &[], |_| {}, End::Good(200)),
    ("endless-headers", "/some/trailers", &[], |it| it.header_bytes = 32 << 10, End::Instead(Code::ResponseTooLarge)),
    ("endless-headers", "/some/trailers", &[], |_| {}, End::Good(200)),
    ("host-calls", "/handles?4000", &[], |_| {}, End::Good(200)),
    ("host-calls", "/handles?4096", &[], |_| {}, End::Instead(Code::FunctionTrapped)),
    ("host-calls", "/random?65536", &[], |_| {}, End::Good(200)),
    ("host-calls", "/random?65537", &[], |_| {}, End::Instead(Code::FunctionTrapped)),
    ("host-calls", "/give?4194000", &[], |_| {}, End::Good(200)),
    ("host-calls", "/give?4194400", &[], |_| {}, End::Instead(Code::FunctionTrapped)),
    ("many-fetches", "/", &[("TARGET", "a.example")], |_| {}, End::Instead(Code::SubrequestsExceeded)),
    ("many-fetches", "/kind", &[("TARGET", "a.example")], |_| {}, End::Good(200)),
    ("sleep", "/", &[], |limits| limits.wall_ms = 50, End::Instead(Code::WallTimeExceeded)),
    ("sleep", "/?5", &[], |_| {}, End::Good(200)),
    ("fill", "/", &[], |limits| limits.cpu_us = 50_000, End::Instead(Code::CpuBudgetExceeded)),
    ("exit", "/", &[], |_| {}, End::Instead(Code::FunctionGaveNoResponse)),
    ("exit", "/?3", &[], |_| {}, End::Instead(Code::FunctionTrapped)),
    ("exit", "/answered", &[], |_| {}, End::Good(200)),
    ("log-flood", "/", &[], |_| {}, End::Good(200)),
];

#[tokio::test]
async fn every_hostile_guest_ends_as_the_contract_says_and_its_neighbours_are_answered() {
    for (guest, path, env, tight, expect) in TABLE {
        let ask = env.iter().fold(Ask::new(guest).path(path), |ask, (name, value)| ask.env(name, value));
        let answered = beside_neighbours(ask.limits(tight).send()).await;
        let text = format!("{answered:?}");
        assert_eq!(end(answered), *expect, "{guest} {path}: {text}");
    }
}

#[tokio::test]
async fn a_fault_of_a_limit_says_which_what_it_allows_and_what_was_used() {
    let table: &[(&str, Tight, &str)] = &[
        ("spin", |limits| limits.cpu_us = 20_000, "cpu_us"),
        ("allocate", |limits| limits.memory_bytes = 16 << 20, "memory_bytes"),
        ("sleep", |limits| limits.wall_ms = 50, "wall_ms"),
        ("endless-headers", |_| {}, "header_bytes"),
    ];
    for (guest, tight, name) in table {
        let fault = Ask::new(guest).limits(tight).send().await.expect_err("a fault");
        let limit = fault.limit.expect("a limit");
        assert_eq!(limit.name, *name, "{guest}");
        assert!(limit.used >= limit.allowed, "{guest}: {limit:?}");
    }
}

#[tokio::test]
async fn hundreds_of_hostile_calls_at_once_end_and_leave_nothing_behind() {
    let hostile = ["spin", "allocate", "recurse", "half-then-trap", "never-answer", "fill"];
    let calls: Vec<_> = (0..120)
        .map(|count| {
            let ask = Ask::new(hostile[count % hostile.len()]);
            ask.limits(|limits| (limits.cpu_us, limits.memory_bytes) = (5_000, 80 << 20)).send()
        })
        .collect();
    let ends = beside_neighbours(futures_util::future::join_all(calls)).await;
    for answered in ends {
        let text = format!("{answered:?}");
        assert!(!matches!(end(answered), End::Good(_)), "{text}");
    }
}
