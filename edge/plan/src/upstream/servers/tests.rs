//! Whole upstreams under a clock and lots of the test's own: who is asked, who is not, and how often in all.

use std::collections::BTreeMap;

use eyot_bundle::release::upstream::{Breaker, HashBy, Retries};

use super::super::retry::{Failure, may};
use super::*;

/// An upstream of so many servers, with more said of it.
fn upstream(servers: usize, more: impl FnOnce(&mut Upstream)) -> Upstream {
    let servers = (0..servers).map(|server| format!("http://10.0.0.{server}:80")).collect();
    let mut upstream = Upstream { servers, ..Upstream::default() };
    more(&mut upstream);
    upstream
}

fn ask(now_ms: u64, tried: &[usize]) -> Ask<'_> {
    Ask { now_ms, random: balance::key(&now_ms.to_be_bytes()), key: 7, tried }
}

/// Who is asked of so many requests, a millisecond apart, each of which ends well at once.
fn asked(servers: &mut Servers, from_ms: u64, requests: u64) -> BTreeMap<usize, usize> {
    let mut counts = BTreeMap::new();
    for now_ms in from_ms..from_ms + requests {
        let chosen = servers.choose(&ask(now_ms, &[])).expect("a server");
        *counts.entry(chosen.server).or_default() += 1;
        servers.ended(chosen, now_ms, Outcome::Good);
    }
    counts
}

#[test]
fn each_way_to_balance_asks_whom_it_says() {
    for (balance, weights, expect) in [
        (Balance::Failover, vec![], vec![(0, 300)]),
        (Balance::LeastRequests, vec![], vec![(0, 100), (1, 100), (2, 100)]),
        (Balance::Weighted, vec![3, 2, 1], vec![(0, 150), (1, 100), (2, 50)]),
    ] {
        let mut servers = Servers::new(&upstream(3, |it| (it.balance, it.weights) = (balance, weights)), 0);
        let counts = asked(&mut servers, 0, 300);
        for (server, count) in &expect {
            let found = counts.get(server).copied().unwrap_or(0);
            assert!(found.abs_diff(*count) <= 10, "{balance:?}: {counts:?}");
        }
        assert_eq!(counts.len(), expect.len(), "{balance:?}: {counts:?}");
    }
    let by_hash = upstream(3, |it| (it.balance, it.hash) = (Balance::Hash, Some(HashBy::Client)));
    assert_eq!(asked(&mut Servers::new(&by_hash, 0), 0, 300).len(), 1);
}

#[test]
fn a_server_that_probes_find_down_is_not_asked_and_without_any_other_nobody_is() {
    let probed = |it: &mut Upstream| it.health = Some(Probes { healthy: 2, unhealthy: 1, ..Probes::default() });
    let mut servers = Servers::new(&upstream(2, probed), 0);
    servers.probed(0, 0, false);
    assert_eq!(asked(&mut servers, 0, 50).keys().collect::<Vec<_>>(), [&1]);
    servers.probed(1, 50, false);
    assert_eq!(servers.choose(&ask(50, &[])), Err(Unavailable::Down));
    servers.probed(0, 50, true);
    assert_eq!(servers.choose(&ask(50, &[])), Err(Unavailable::Down), "one good answer is not yet two");
    servers.probed(0, 50, true);
    assert_eq!(asked(&mut servers, 50, 50).keys().collect::<Vec<_>>(), [&0]);
    assert_eq!(servers.healthy().map(|(_, healthy)| healthy).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn a_server_that_fails_is_taken_out_and_the_last_ones_are_asked_all_the_same() {
    let passive = |it: &mut Upstream| it.passive = Passive { failures: 3, eject_ms: 1_000 };
    let mut servers = Servers::new(&upstream(2, passive), 0);
    let fail = |servers: &mut Servers, server: usize| {
        for _ in 0..3 {
            let others: Vec<_> = (0..2).filter(|other| *other != server).collect();
            let chosen = servers.choose(&ask(0, &others)).expect("the other");
            servers.ended(chosen, 0, Outcome::Failed);
        }
    };
    fail(&mut servers, 0);
    assert_eq!(asked(&mut servers, 0, 50).keys().collect::<Vec<_>>(), [&1]);
    assert_eq!(servers.choose(&ask(0, &[1])), Err(Unavailable::Tried), "no retry goes to what is out");
    fail(&mut servers, 1);
    assert_eq!(asked(&mut servers, 50, 50).len(), 2, "both are out, and no probe said so");
    let trial = servers.choose(&ask(1_000, &[])).expect("a trial");
    let other = servers.choose(&ask(1_000, &[])).expect("the other's");
    assert_ne!(trial.server, other.server, "one at a time");
    servers.ended(trial, 1_000, Outcome::Good);
    servers.ended(other, 1_000, Outcome::Good);
    assert!(servers.healthy().all(|(_, healthy)| healthy));
}

#[test]
fn a_retry_goes_to_another_server_and_ends_when_there_is_none() {
    let mut servers = Servers::new(&upstream(3, |_| {}), 0);
    let mut tried = Vec::new();
    for _ in 0..3 {
        let chosen = servers.choose(&ask(0, &tried)).expect("another");
        tried.push(chosen.server);
        servers.ended(chosen, 0, Outcome::Unreachable);
    }
    tried.sort_unstable();
    assert_eq!((tried.as_slice(), servers.choose(&ask(0, &tried))), (&[0, 1, 2][..], Err(Unavailable::Tried)));
}

#[test]
fn an_open_breaker_says_when_to_come_back_and_lets_one_request_through_then() {
    let breaker = Breaker { failures_percent: 50, requests: 4, window_ms: 8_000, open_ms: 5_000 };
    let mut servers = Servers::new(&upstream(2, |it| it.breaker = Some(breaker)), 0);
    for _ in 0..4 {
        let chosen = servers.choose(&ask(0, &[])).expect("closed");
        servers.ended(chosen, 0, Outcome::Failed);
    }
    assert_eq!(servers.choose(&ask(1_000, &[])), Err(Unavailable::Open(4_000)));
    let trial = servers.choose(&ask(5_000, &[])).expect("the one");
    assert!(matches!(servers.choose(&ask(5_000, &[])), Err(Unavailable::Open(_))));
    servers.ended(trial, 5_000, Outcome::Good);
    assert_eq!(asked(&mut servers, 5_000, 10).values().sum::<usize>(), 10);
}

#[test]
fn a_new_release_keeps_what_is_known_of_servers_that_it_names_too() {
    let probed = |it: &mut Upstream| {
        it.health = Some(Probes { unhealthy: 1, ..Probes::default() });
        it.slow_start_ms = 10_000;
    };
    let mut before = Servers::new(&upstream(2, probed), 0);
    before.probed(0, 0, false);
    (0..10).for_each(|_| assert!(before.retries(0)));
    let mut after = Servers::new(&upstream(3, probed), 0);
    after.inherit(&before, 20_000);
    assert_eq!(after.healthy().map(|(_, healthy)| healthy).collect::<Vec<_>>(), [false, true, true]);
    let counts = asked(&mut after, 20_000, 1_000);
    assert!(counts[&1] > 0 && !counts.contains_key(&0), "{counts:?}");
    assert!(!Servers::retries(&mut { after.clone() }, 0), "the budget is not new");
    let mut unprobed = Servers::new(&upstream(2, |_| {}), 0);
    unprobed.inherit(&before, 0);
    assert!(unprobed.healthy().all(|(_, healthy)| healthy), "nobody probes it any more");
}

/// A client over an upstream whose servers all reset each connection: how often they are asked for so many requests.
fn storm(retries: &Retries, requests: u64) -> u64 {
    let mut servers = Servers::new(&upstream(4, |it| it.retries = retries.clone()), 0);
    let mut asked = 0;
    for now_ms in 0..requests {
        servers.begins();
        let mut tried = Vec::new();
        for attempt in 0..=retries.attempts {
            if attempt > 0 && !servers.retries(now_ms) {
                break;
            }
            let Ok(chosen) = servers.choose(&ask(now_ms, &tried)) else { break };
            asked += 1;
            tried.push(chosen.server);
            servers.ended(chosen, now_ms, Failure::Reset.outcome());
            if !may(retries, &http::Method::GET, Failure::Reset) {
                break;
            }
        }
    }
    asked
}

#[test]
fn an_upstream_that_fails_everything_is_asked_a_fifth_more_and_no_storm() {
    let retries = Retries { attempts: 5, ..Retries::default() };
    let asked = storm(&retries, 10_000);
    assert!((11_000..=12_030).contains(&asked), "{asked}");
    assert_eq!(storm(&Retries { attempts: 0, ..retries }, 10_000), 10_000);
}

/// Any order of events, with lots drawn from `seed`: what is under way never goes below nothing, and a server that was
/// chosen was one that may be asked.
fn simulate(seed: u64) {
    let mut lot = seed;
    let mut draw = |below: u64| {
        lot = balance::key(&lot.to_be_bytes());
        lot % below
    };
    let balances = [Balance::Failover, Balance::Hash, Balance::LeastRequests, Balance::Weighted];
    let count = 1 + usize::try_from(draw(5)).expect("small");
    let upstream = upstream(count, |it| {
        it.balance = balances[usize::try_from(draw(4)).expect("small")];
        it.health = (draw(2) == 0).then(Probes::default);
        it.breaker = (draw(3) == 0).then(Breaker::default);
        it.slow_start_ms = draw(2) * 5_000;
    });
    let mut servers = Servers::new(&upstream, 0);
    let (mut now_ms, mut under_way) = (0, Vec::new());
    for _ in 0..400 {
        now_ms += draw(300);
        match draw(4) {
            0 => servers.probed(usize::try_from(draw(5)).expect("small"), now_ms, draw(3) > 0),
            1 | 2 => {
                let down = servers.servers.iter().all(|it| it.health.standing(now_ms, it.under_way) == Standing::Down);
                let asked = Ask { now_ms, random: draw(u64::MAX), key: draw(9), tried: &[] };
                match servers.choose(&asked) {
                    Ok(chosen) => {
                        let server = &servers.servers[chosen.server];
                        assert_ne!(server.health.standing(now_ms, server.under_way - 1), Standing::Down, "seed {seed}");
                        under_way.push(chosen);
                    }
                    Err(Unavailable::Down) => assert!(down, "seed {seed}"),
                    Err(Unavailable::Open(_)) => assert!(upstream.breaker.is_some(), "seed {seed}"),
                    Err(Unavailable::Tried) => panic!("seed {seed}: nothing was tried"),
                }
            }
            _ if under_way.is_empty() => {}
            _ => {
                let outcomes = [Outcome::Failed, Outcome::Good, Outcome::Neutral, Outcome::Unreachable];
                let chosen = under_way.swap_remove(usize::try_from(draw(under_way.len() as u64)).expect("small"));
                servers.ended(chosen, now_ms, outcomes[usize::try_from(draw(4)).expect("small")]);
            }
        }
        let counted: usize = servers.servers.iter().map(|it| it.under_way as usize).sum();
        assert_eq!(counted, under_way.len(), "seed {seed}");
    }
    // Whatever happened, an upstream whose servers answer again is asked again before long.
    for chosen in under_way {
        servers.ended(chosen, now_ms, Outcome::Neutral);
    }
    for _ in 0..20 {
        now_ms += 60_000;
        (0..count).for_each(|server| servers.probed(server, now_ms, true));
        if let Ok(chosen) = servers.choose(&ask(now_ms, &[])) {
            servers.ended(chosen, now_ms, Outcome::Good);
        }
    }
    assert!(servers.choose(&ask(now_ms, &[])).is_ok(), "seed {seed}");
}

#[test]
fn nothing_that_happens_in_any_order_loses_count_or_leaves_an_upstream_shut() {
    (0..1_000).for_each(simulate);
}
