//! Whether an upstream says only what it may, for a manifest and a release alike.

use std::collections::BTreeSet;

use super::checks;
use crate::release::upstream::{Balance, Breaker, Health, Passive, Queue, Retries, Upstream, UpstreamTls};

const UPSTREAMS_MAX: usize = 100;
/// Servers that every node that runs the app asks again and again.
const PROBED_MAX: usize = 256;
const WEIGHT_MAX: u32 = 1_000;
const PATH_BYTES_MAX: usize = 2_048;
/// Nodes ask each server by themselves: more often than this they would be a burden.
const INTERVAL_MS_LEAST: u64 = 1_000;
const INTERVAL_MS_MAX: u64 = 3_600_000;
const STREAK_MAX: u32 = 100;
const EJECT_MS: (u64, u64) = (100, 3_600_000);
const ATTEMPTS_MAX: u32 = 5;
const BUDGET_PERCENT_MAX: u32 = 100;
const HEDGE_MS: (u64, u64) = (1, 60_000);
const BREAKER_REQUESTS_MAX: u32 = 100_000;
const BREAKER_MS: (u64, u64) = (1_000, 600_000);
const SLOW_START_MS_MAX: u64 = 3_600_000;
const CONNECTIONS_MAX: u32 = 10_000;
const REGION_BYTES_MAX: usize = 64;
const QUEUE_LENGTH_MAX: u32 = 10_000;
const QUEUE_WAIT_MS_MAX: u64 = 60_000;

/// Whether there are not too many of them, nor too many servers that every node probes.
pub(crate) fn count<'a>(upstreams: impl Iterator<Item = &'a Upstream>) -> Result<(), String> {
    let (mut all, mut probed) = (0, 0);
    for upstream in upstreams {
        all += 1;
        probed += upstream.health.as_ref().map_or(0, |_| upstream.servers.len());
    }
    if all > UPSTREAMS_MAX {
        return Err(format!("{all} upstreams; at most {UPSTREAMS_MAX}"));
    }
    if probed > PROBED_MAX {
        return Err(format!("{probed} servers with `health`; at most {PROBED_MAX}"));
    }
    Ok(())
}

pub(crate) fn upstream(upstream: &Upstream) -> Result<(), String> {
    checks::servers(&upstream.servers)?;
    balance(upstream)?;
    upstream.health.as_ref().map_or(Ok(()), health)?;
    passive(upstream.passive)?;
    retries(&upstream.retries)?;
    upstream.hedge.map_or(Ok(()), |hedge| within("hedge.after", hedge.after_ms, HEDGE_MS, "ms"))?;
    upstream.breaker.map_or(Ok(()), breaker)?;
    within("slow_start", upstream.slow_start_ms, (0, SLOW_START_MS_MAX), "ms")?;
    let connections = upstream.connections_max.map_or(1, u64::from);
    within("connections_max", connections, (1, CONNECTIONS_MAX.into()), "connections")?;
    queue(upstream.queue)?;
    checks::timeouts(&upstream.timeouts)?;
    upstream.tls.as_ref().map_or(Ok(()), checks::upstream_tls)?;
    if let Some(region) = &upstream.shield
        && (region.is_empty() || region.len() > REGION_BYTES_MAX || region.contains(char::is_control))
    {
        return Err(format!("`shield` is the name of a region, of 1 to {REGION_BYTES_MAX} bytes"));
    }
    if upstream.http.takes_3() && upstream.proxy_protocol.is_some() {
        return Err("has a `proxy_protocol`, for which HTTP/3 has no place".to_owned());
    }
    // What has to be so would not be so.
    let is_said = |tls: &UpstreamTls| tls.client.is_some() || !tls.min_version.takes_1_2();
    let needs_tls = upstream.http.takes_3() || upstream.tls.as_ref().is_some_and(is_said);
    if needs_tls && upstream.servers.iter().any(|server| server.starts_with("http://")) {
        return Err("says what needs TLS, and a server of it has none: write `https://`".to_owned());
    }
    Ok(())
}

fn within(key: &str, value: u64, (least, most): (u64, u64), unit: &str) -> Result<(), String> {
    if value < least || value > most {
        return Err(format!("`{key}` is {value} {unit}; it may be {least} to {most}"));
    }
    Ok(())
}

fn balance(upstream: &Upstream) -> Result<(), String> {
    let weights = &upstream.weights;
    if !weights.is_empty() && weights.len() != upstream.servers.len() {
        return Err(format!("{} weights for {} servers", weights.len(), upstream.servers.len()));
    }
    if weights.iter().any(|weight| *weight == 0 || *weight > WEIGHT_MAX) {
        return Err(format!("a weight is 0, or over {WEIGHT_MAX}"));
    }
    if !weights.is_empty() && upstream.balance == Balance::Failover {
        return Err("has `weights`, which mean nothing where `balance` is failover".to_owned());
    }
    match (upstream.balance, &upstream.hash) {
        (Balance::Hash, None) => Err("balances by hash, and its `hash` does not say of what".to_owned()),
        (Balance::Failover | Balance::LeastRequests | Balance::Weighted, Some(_)) => {
            Err("has a `hash`; it needs `balance = \"hash\"`".to_owned())
        }
        (Balance::Hash, Some(_)) | (_, None) => Ok(()),
    }
}

fn health(health: &Health) -> Result<(), String> {
    let Health { path, interval_ms, timeout_ms, expect: _, healthy, unhealthy } = health;
    let legal = |byte: u8| byte.is_ascii_graphic() && !b"\"#<>\\^`{|}".contains(&byte);
    if !path.starts_with('/') || path.len() > PATH_BYTES_MAX || !path.bytes().all(legal) {
        return Err("`health.path` is no path: write `/healthz`".to_owned());
    }
    within("health.interval", *interval_ms, (INTERVAL_MS_LEAST, INTERVAL_MS_MAX), "ms")?;
    within("health.timeout", *timeout_ms, (1, INTERVAL_MS_MAX), "ms")?;
    within("health.healthy", (*healthy).into(), (1, STREAK_MAX.into()), "answers")?;
    within("health.unhealthy", (*unhealthy).into(), (1, STREAK_MAX.into()), "answers")
}

fn passive(passive: Passive) -> Result<(), String> {
    within("passive.failures", passive.failures.into(), (0, STREAK_MAX.into()), "failures")?;
    within("passive.eject", passive.eject_ms, EJECT_MS, "ms")
}

fn retries(retries: &Retries) -> Result<(), String> {
    within("retries.attempts", retries.attempts.into(), (0, ATTEMPTS_MAX.into()), "tries")?;
    within("retries.budget", retries.budget_percent.into(), (0, BUDGET_PERCENT_MAX.into()), "percent")?;
    let distinct: BTreeSet<_> = retries.on.iter().collect();
    if distinct.len() == retries.on.len() { Ok(()) } else { Err("`retries.on` says something twice".to_owned()) }
}

fn breaker(breaker: Breaker) -> Result<(), String> {
    within("breaker.failures", breaker.failures_percent.into(), (1, 100), "percent")?;
    within("breaker.requests", breaker.requests.into(), (1, BREAKER_REQUESTS_MAX.into()), "requests")?;
    within("breaker.window", breaker.window_ms, BREAKER_MS, "ms")?;
    within("breaker.open", breaker.open_ms, BREAKER_MS, "ms")
}

fn queue(queue: Queue) -> Result<(), String> {
    within("queue.length", queue.length.into(), (0, QUEUE_LENGTH_MAX.into()), "requests")?;
    within("queue.wait", queue.wait_ms, (1, QUEUE_WAIT_MS_MAX), "ms")
}
