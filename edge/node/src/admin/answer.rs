//! What the admin answers: a table of paths, and the documents behind them.

use bytes::Bytes;
use eyot_plan::arrival::Protocol;
use eyot_plan::fault::Code;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Method, Response, StatusCode, Uri};
use http_body_util::Full;
use serde_json::{Value, json};

use super::{Shown, purge};
use crate::cached;
use crate::snapshot::State;

/// The door a request of the admin came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// Loopback: health and metrics.
    Tcp,
    /// The socket file: everything.
    Unix,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Cache,
    Certificates,
    Drain,
    Health,
    Metrics,
    Purge,
    Readiness,
    ResetTrust,
    Status,
    Undrain,
    Upgrade,
    UpgradeStatus,
}

/// Path, method, whether only the socket file has it.
const PATHS: &[(&str, Method, bool, Asked)] = &[
    ("/drain", Method::POST, true, Asked::Drain),
    ("/healthz", Method::GET, false, Asked::Health),
    ("/metrics", Method::GET, false, Asked::Metrics),
    ("/purge", Method::POST, true, Asked::Purge),
    ("/readyz", Method::GET, false, Asked::Readiness),
    ("/reset-trust", Method::POST, true, Asked::ResetTrust),
    ("/status", Method::GET, true, Asked::Status),
    ("/status/cache", Method::GET, true, Asked::Cache),
    ("/status/certs", Method::GET, true, Asked::Certificates),
    ("/status/upgrade", Method::GET, true, Asked::UpgradeStatus),
    ("/undrain", Method::POST, true, Asked::Undrain),
    ("/upgrade", Method::POST, true, Asked::Upgrade),
];

pub(super) fn answer(shown: &Shown, door: Door, method: &Method, uri: &Uri) -> Response<Full<Bytes>> {
    let path = uri.path();
    match find(door, method, path) {
        Ok(Asked::Purge) => match purge::purge(&shown.node.purger, uri.query().unwrap_or_default()) {
            Ok(done) => document(&done),
            Err((status, why)) => respond(status, "text/plain; charset=utf-8", format!("{why}\n")),
        },
        Ok(Asked::Cache) => match uri.query().map(|query| cache(shown, query)) {
            None => document(&cached::shown::stats(&shown.node)),
            Some(Ok(found)) => document(&found),
            Some(Err(why)) => respond(StatusCode::BAD_REQUEST, "text/plain; charset=utf-8", format!("{why}\n")),
        },
        Ok(asked) => give(shown, asked),
        Err(StatusCode::METHOD_NOT_ALLOWED) => {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "another method\n");
            let allow = PATHS.iter().find(|row| row.0 == path).map_or("GET", |row| row.1.as_str());
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_str(allow).unwrap_or(HeaderValue::from_static("GET")));
            response
        }
        Err(status) => text(status, "nothing is here\n"),
    }
}

/// What is kept of the URL that the query names: `url=`, percent-encoded.
fn cache(shown: &Shown, query: &str) -> Result<Value, String> {
    let url = query.strip_prefix("url=").ok_or("say which: url=…")?;
    let url = purge::decode(url).ok_or("`url` is not percent-encoded UTF-8")?;
    cached::shown::lookup(&shown.node, &url)
}

fn find(door: Door, method: &Method, path: &str) -> Result<Asked, StatusCode> {
    let row = PATHS.iter().find(|row| row.0 == path && (door == Door::Unix || !row.2));
    match row {
        None => Err(StatusCode::NOT_FOUND),
        Some(row) if row.1 != *method => Err(StatusCode::METHOD_NOT_ALLOWED),
        Some(row) => Ok(row.3),
    }
}

fn give(shown: &Shown, asked: Asked) -> Response<Full<Bytes>> {
    let ready = &shown.node.ready;
    match asked {
        // It is not asked by its path alone.
        Asked::Cache => document(&cached::shown::stats(&shown.node)),
        Asked::Certificates => document(&certificates(shown)),
        Asked::Drain | Asked::Undrain => {
            let draining = asked == Asked::Drain;
            ready.drain(draining);
            tracing::info!(draining, "the operator asked for it");
            document(&json!({ "draining": draining }))
        }
        Asked::Health => text(StatusCode::OK, "ok\n"),
        Asked::Metrics => metrics(shown),
        // It is not asked by its path alone.
        Asked::Purge => text(StatusCode::BAD_REQUEST, "say what to purge\n"),
        Asked::Readiness if ready.is_ready() => text(StatusCode::OK, "ready\n"),
        Asked::Readiness if ready.is_draining() => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        Asked::Readiness => text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
        Asked::ResetTrust if shown.pull.reset_trust() => {
            tracing::warn!("the operator asked to forget the ledger and begin anew from the configured root");
            document(&json!({ "reset": true }))
        }
        Asked::ResetTrust => text(StatusCode::SERVICE_UNAVAILABLE, "too many orders wait\n"),
        Asked::Status => document(&status(shown)),
        Asked::Upgrade => match shown.upgrades.ask() {
            Ok(()) => document(&shown.upgrades.view()),
            Err(why) => respond(StatusCode::CONFLICT, "text/plain; charset=utf-8", format!("{why}\n")),
        },
        Asked::UpgradeStatus => document(&shown.upgrades.view()),
    }
}

fn respond(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", body)
}

fn document(value: &Value) -> Response<Full<Bytes>> {
    respond(StatusCode::OK, "application/json", format!("{value:#}\n"))
}

/// The metrics, with what is only known by asking asked now.
fn metrics(shown: &Shown) -> Response<Full<Bytes>> {
    let telemetry = &shown.node.telemetry;
    for protocol in [Protocol::H1, Protocol::H2, Protocol::H3] {
        telemetry.connections(protocol, shown.counts.connections(protocol));
    }
    telemetry.datagrams_relayed(shown.counts.relayed(), shown.counts.relay_dropped());
    for code in Code::ALL {
        telemetry.listener_faults(code, shown.counts.faults(code));
    }
    telemetry.cache_holds(&shown.node.rooms);
    let (used, free) = slots(shown);
    telemetry.slots("used", used);
    telemetry.slots("free", free);
    telemetry.slots("kept", u32::try_from(shown.node.runtime.kept()).unwrap_or(u32::MAX));
    for (name, expires) in shown.certificates.expiries() {
        telemetry.certificate_expiry(&name, seconds(expires));
    }
    respond(
        StatusCode::OK,
        "text/plain; version=0.0.4; charset=utf-8",
        telemetry.render() + &shown.node.upstreams.render(),
    )
}

/// Slots for calls: used and free.
fn slots(shown: &Shown) -> (u32, u32) {
    let all = shown.node.config.functions.slots;
    let free = u32::try_from(shown.node.runtime.slots_free()).unwrap_or(all).min(all);
    (all - free, free)
}

fn seconds(at: std::time::SystemTime) -> i64 {
    jiff::Timestamp::try_from(at).map_or(i64::MAX, jiff::Timestamp::as_second)
}

fn certificates(shown: &Shown) -> Value {
    shown.certificates.shown().iter().map(certificate).collect()
}

fn certificate(shown: &eyot_front::Shown) -> Value {
    let time = |at| jiff::Timestamp::try_from(at).ok().map(|at| at.to_string());
    json!({
        "name": shown.names.first(),
        "names": shown.names,
        "issuer": shown.issuer,
        "algorithm": shown.algorithm,
        "source": shown.source.word(),
        "not_before": time(shown.begins),
        "expires": time(shown.expires),
        "ocsp_until": shown.stapled_until.and_then(time),
    })
}

fn status(shown: &Shown) -> Value {
    let node = &shown.node;
    let apps = node.snapshots.load();
    let apps: serde_json::Map<_, _> =
        apps.apps().iter().map(|(name, app)| (name.to_string(), app_state(&app.state))).collect();
    let (used, free) = slots(shown);
    let connections = [Protocol::H1, Protocol::H2, Protocol::H3];
    json!({
        "node": node.config.node.id,
        "region": node.config.node.region,
        "version": env!("CARGO_PKG_VERSION"),
        "boot": shown.boot.to_string(),
        "ready": node.ready.is_ready(),
        "draining": node.ready.is_draining(),
        "steering": if shown.counts.is_relaying() { "relay" } else { "kernel" },
        "apps": apps,
        "load": {
            "slots_used": used,
            "slots_free": free,
            "calls_queued": node.runtime.queued(),
            "code_bytes": node.runtime.code_bytes(),
            "connections": connections.map(|protocol| shown.counts.connections(protocol)).iter().sum::<u64>(),
        },
        "acme": (shown.acme)(),
        "sync": (shown.status)(),
    })
}

fn app_state(state: &State) -> Value {
    match state {
        State::NotReady => json!({ "state": "not_ready" }),
        State::Serving(entry) => json!({ "state": "serving", "release": entry.release }),
        State::Suspended => json!({ "state": "suspended" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_health_and_metrics_and_the_socket_file_has_all() {
        for (door, method, path, expect) in [
            (Door::Tcp, Method::GET, "/healthz", Ok(Asked::Health)),
            (Door::Tcp, Method::GET, "/readyz", Ok(Asked::Readiness)),
            (Door::Tcp, Method::GET, "/metrics", Ok(Asked::Metrics)),
            (Door::Tcp, Method::GET, "/status", Err(404)),
            (Door::Tcp, Method::GET, "/status/certs", Err(404)),
            (Door::Tcp, Method::POST, "/drain", Err(404)),
            (Door::Tcp, Method::POST, "/healthz", Err(405)),
            (Door::Unix, Method::GET, "/status", Ok(Asked::Status)),
            (Door::Tcp, Method::GET, "/status/cache", Err(404)),
            (Door::Unix, Method::GET, "/status/cache", Ok(Asked::Cache)),
            (Door::Unix, Method::GET, "/status/certs", Ok(Asked::Certificates)),
            (Door::Unix, Method::POST, "/drain", Ok(Asked::Drain)),
            (Door::Unix, Method::GET, "/drain", Err(405)),
            (Door::Unix, Method::POST, "/undrain", Ok(Asked::Undrain)),
            (Door::Tcp, Method::POST, "/reset-trust", Err(404)),
            (Door::Unix, Method::POST, "/reset-trust", Ok(Asked::ResetTrust)),
            (Door::Tcp, Method::POST, "/upgrade", Err(404)),
            (Door::Tcp, Method::GET, "/status/upgrade", Err(404)),
            (Door::Unix, Method::GET, "/upgrade", Err(405)),
            (Door::Unix, Method::POST, "/upgrade", Ok(Asked::Upgrade)),
            (Door::Unix, Method::GET, "/status/upgrade", Ok(Asked::UpgradeStatus)),
            (Door::Unix, Method::GET, "/", Err(404)),
        ] {
            let found = find(door, &method, path).map_err(|status| status.as_u16());
            assert_eq!(found, expect, "{door:?} {method} {path}");
        }
    }
}
