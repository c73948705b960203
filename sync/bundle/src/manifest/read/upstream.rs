//! What a manifest says of an upstream.

use super::check;
use crate::manifest::{ClientSource, UpstreamSource};
use crate::release::upstream::{
    Balance, Breaker, HashBy, Health, Hedge, Http, Passive, ProxyProtocol, Queue, Retries, RetryOn, Statuses, Timeouts,
    TlsVersion, Upstream, UpstreamTls,
};
use crate::text::Table;
use crate::verify::{checks, parts, upstream as checks_upstream};

pub(super) fn upstream(table: &mut Table<'_>) -> UpstreamSource {
    let noted = table.noted();
    let servers = table.strings("servers").and_then(|list| checks::servers(&list).map(|()| list)).required();
    let balance = &[
        ("least-requests", Balance::LeastRequests),
        ("weighted", Balance::Weighted),
        ("hash", Balance::Hash),
        ("failover", Balance::Failover),
    ];
    let balance = table.choice("balance", balance).or_default();
    let weights = table.integers("weights").or(Vec::new());
    let hash = table.parsed::<HashBy>("hash").optional();
    let Tls { tls, ca, client } = tls(&mut table.table("tls"));
    let upstream = Upstream {
        servers,
        balance,
        weights,
        hash,
        health: present(table, "health", health),
        passive: passive(&mut table.table("passive")),
        retries: retries(&mut table.table("retries")),
        hedge: present(table, "hedge", hedge),
        breaker: present(table, "breaker", breaker),
        slow_start_ms: table.duration_ms("slow_start").or(0),
        connections_max: table.integer("connections_max").optional(),
        queue: queue(&mut table.table("queue")),
        tls,
        http: table.choice("http", &[("2", Http::H2), ("3", Http::H3)]).or_default(),
        proxy_protocol: table
            .choice("proxy_protocol", &[("v1", ProxyProtocol::V1), ("v2", ProxyProtocol::V2)])
            .optional(),
        timeouts: timeouts(&mut table.table("timeouts")),
        shield: table.string("shield").optional(),
    };
    check(table, noted, || checks_upstream::upstream(&upstream));
    UpstreamSource { upstream, ca, client }
}

/// What is read of a table that may be absent.
fn present<T>(table: &mut Table<'_>, key: &str, read: impl FnOnce(&mut Table<'_>) -> T) -> Option<T> {
    let mut inner = table.table(key);
    inner.is_present().then(|| read(&mut inner))
}

fn health(table: &mut Table<'_>) -> Health {
    let default = Health::default();
    Health {
        path: table.string("path").required(),
        interval_ms: table.duration_ms("interval").or(default.interval_ms),
        timeout_ms: table.duration_ms("timeout").or(default.timeout_ms),
        expect: table.parsed::<Statuses>("expect").or(default.expect),
        healthy: table.integer("healthy").or(default.healthy),
        unhealthy: table.integer("unhealthy").or(default.unhealthy),
    }
}

fn passive(table: &mut Table<'_>) -> Passive {
    let default = Passive::default();
    Passive {
        failures: table.integer("failures").or(default.failures),
        eject_ms: table.duration_ms("eject").or(default.eject_ms),
    }
}

fn retries(table: &mut Table<'_>) -> Retries {
    let default = Retries::default();
    let words = [
        ("connect", RetryOn::Connect),
        ("reset", RetryOn::Reset),
        ("timeout", RetryOn::Timeout),
        ("502", RetryOn::BadGateway),
        ("503", RetryOn::Unavailable),
        ("504", RetryOn::GatewayTimeout),
    ];
    let on = table.strings("on").and_then(|list| {
        let meant = |text: &String| words.iter().find(|(word, _)| word == text).map(|(_, on)| *on);
        let known = || words.map(|(word, _)| format!("`{word}`")).join(", ");
        let each = list.iter().map(|text| meant(text).ok_or_else(|| format!("`{text}` is none of {}", known())));
        each.collect::<Result<_, _>>()
    });
    Retries {
        attempts: table.integer("attempts").or(default.attempts),
        budget_percent: table.integer("budget").or(default.budget_percent),
        on: on.or(default.on),
    }
}

fn hedge(table: &mut Table<'_>) -> Hedge {
    Hedge { after_ms: table.duration_ms("after").required() }
}

fn breaker(table: &mut Table<'_>) -> Breaker {
    let default = Breaker::default();
    Breaker {
        failures_percent: table.integer("failures").or(default.failures_percent),
        requests: table.integer("requests").or(default.requests),
        window_ms: table.duration_ms("window").or(default.window_ms),
        open_ms: table.duration_ms("open").or(default.open_ms),
    }
}

fn queue(table: &mut Table<'_>) -> Queue {
    let default = Queue::default();
    Queue { length: table.integer("length").or(default.length), wait_ms: table.duration_ms("wait").or(default.wait_ms) }
}

/// What is said of TLS, and the files, which are not read yet.
struct Tls {
    tls: Option<UpstreamTls>,
    ca: Option<String>,
    client: Option<ClientSource>,
}

fn tls(table: &mut Table<'_>) -> Tls {
    let noted = table.noted();
    let name = table.string("name").not_empty().optional();
    let ca = table.string("ca").not_empty().optional();
    let versions = &[("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)];
    let min_version = table.choice("min_version", versions).or_default();
    let certificate = table.string("client_certificate").not_empty().optional();
    let key = table.string("client_key").not_empty().optional();
    let tls = UpstreamTls { name, min_version, ..UpstreamTls::default() };
    check(table, noted, || {
        checks::upstream_tls(&tls)?;
        key.as_deref().map_or(Ok(()), parts::secret_name)?;
        match certificate.is_some() == key.is_some() {
            true => Ok(()),
            false => Err("`client_certificate`, a file, and `client_key`, a secret, need each other".to_owned()),
        }
    });
    let client = certificate.zip(key).map(|(certificate, key)| ClientSource { certificate, key });
    Tls { tls: (tls != UpstreamTls::default()).then_some(tls), ca, client }
}

fn timeouts(table: &mut Table<'_>) -> Timeouts {
    let default = Timeouts::default();
    let noted = table.noted();
    let timeouts = Timeouts {
        connect_ms: table.duration_ms("connect").or(default.connect_ms),
        first_byte_ms: table.duration_ms("first_byte").or(default.first_byte_ms),
        between_bytes_ms: table.duration_ms("between_bytes").or(default.between_bytes_ms),
        total_ms: table.duration_ms("total").or(default.total_ms),
        tunnel_idle_ms: table.duration_ms("tunnel_idle").or(default.tunnel_idle_ms),
    };
    check(table, noted, || checks::timeouts(&timeouts));
    timeouts
}
