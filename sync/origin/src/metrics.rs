//! The origin's metrics. All of them stand here.

use std::collections::BTreeMap;

use eyot_link::events::Turn;
use eyot_link::status::FleetNode;
use http::StatusCode;
use jiff::Timestamp;
use metrics::with_local_recorder;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::fleet::Fleet;
use crate::view::View;

/// A node that has not reported for this long is silent, in seconds.
const SILENT_S: i64 = 120;

/// The metrics of one origin, apart from those of any other in the process.
pub(crate) struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        with_local_recorder(&recorder, || {
            metrics::describe_counter!("eyot_origin_calls_total", "Calls of the wire, by status.");
            metrics::describe_counter!("eyot_origin_publishes_total", "Tries to publish, by what came of them.");
            metrics::describe_counter!("eyot_origin_purges_total", "Purges, by kind and what came of them.");
            metrics::describe_counter!(
                "eyot_origin_turns_total",
                "Turns of schedules that nodes asked for, by answer."
            );
            metrics::describe_gauge!(
                "eyot_origin_nodes",
                "Nodes by region and state: watching, reporting, silent, revoked."
            );
            metrics::describe_gauge!("eyot_origin_streams", "Streams that nodes hold.");
            metrics::describe_gauge!("eyot_snapshot_seq", "The number of the state.");
            metrics::describe_gauge!("eyot_metadata_expiry_timestamp_seconds", "When a role expires.");
            metrics::describe_gauge!("eyot_certificate_expiry_timestamp_seconds", "When a certificate ends.");
            metrics::describe_gauge!("eyot_build_info", "1, with the version.");
        });
        Self { recorder, handle }
    }

    /// Counts a call.
    pub(crate) fn call(&self, status: StatusCode) {
        with_local_recorder(&self.recorder, || {
            metrics::counter!("eyot_origin_calls_total", "status" => status.as_u16().to_string()).increment(1);
        });
    }

    /// Counts a try to publish. Apps come from the operator's metadata, results from the codes.
    pub(crate) fn publish(&self, app: &str, result: &'static str) {
        with_local_recorder(&self.recorder, || {
            metrics::counter!("eyot_origin_publishes_total", "app" => app.to_owned(), "result" => result).increment(1);
        });
    }

    /// Counts a purge. Apps come from the operator's metadata, kinds and results are few.
    pub(crate) fn purge(&self, app: &str, kind: &'static str, result: &'static str) {
        with_local_recorder(&self.recorder, || {
            let labels = [("app", app.to_owned()), ("kind", kind.to_owned()), ("result", result.to_owned())];
            metrics::counter!("eyot_origin_purges_total", &labels).increment(1);
        });
    }

    /// Counts an answer to a node that asked for a turn of a schedule. Apps come from the operator's metadata.
    pub(crate) fn turn(&self, app: &str, turn: Turn) {
        let result = match turn {
            Turn::Later(_) => "later",
            Turn::Past => "past",
            Turn::Yours(_) => "yours",
        };
        with_local_recorder(&self.recorder, || {
            metrics::counter!("eyot_origin_turns_total", "app" => app.to_owned(), "result" => result).increment(1);
        });
    }

    /// All metrics in Prometheus' text.
    pub(crate) fn render(&self, view: &View, fleet: &Fleet, certificates: &[(String, f64)], now: Timestamp) -> String {
        with_local_recorder(&self.recorder, || {
            for ((region, state), count) in count(&fleet.nodes(view, None), now) {
                metrics::gauge!("eyot_origin_nodes", "region" => region, "state" => state).set(count);
            }
            metrics::gauge!("eyot_origin_streams").set(number(fleet.streams() as u64));
            metrics::gauge!("eyot_snapshot_seq").set(number(view.seq()));
            for (role, expires) in view.trust.expiries() {
                let seconds = number(u64::try_from(expires.as_second()).unwrap_or(0));
                metrics::gauge!("eyot_metadata_expiry_timestamp_seconds", "role" => role).set(seconds);
            }
            for (name, seconds) in certificates {
                metrics::gauge!("eyot_certificate_expiry_timestamp_seconds", "name" => name.clone()).set(*seconds);
            }
            metrics::gauge!("eyot_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        });
        self.handle.render()
    }
}

/// A count as Prometheus has it: exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "metrics are floats")]
fn number(count: u64) -> f64 {
    count as f64
}

/// Nodes by region and state. A state that no node of a region is in counts 0, so that an old count does not stay.
fn count<N>(nodes: &BTreeMap<N, FleetNode>, now: Timestamp) -> BTreeMap<(String, &'static str), f64> {
    let mut counts = BTreeMap::new();
    for node in nodes.values() {
        for state in ["reporting", "revoked", "silent", "watching"] {
            counts.entry((node.region.clone(), state)).or_insert(0.0);
        }
        let fresh = node.reported.is_some_and(|at| now.as_second().saturating_sub(at.as_second()) < SILENT_S);
        let state = match (node.revoked, node.watching, fresh) {
            (true, _, _) => "revoked",
            (_, true, _) => "watching",
            (_, _, true) => "reporting",
            _ => "silent",
        };
        *counts.entry((node.region.clone(), state)).or_insert(0.0) += 1.0;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_silent_once_two_minutes_have_passed_without_a_report_or_a_stream() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        for (watching, revoked, reported, now, state) in [
            (false, false, None, 0, "silent"),
            (false, false, Some(0), 119, "reporting"),
            (false, false, Some(0), 120, "silent"),
            (true, false, Some(0), 120, "watching"),
            (true, true, Some(0), 0, "revoked"),
        ] {
            let region = "eu-fra".to_owned();
            let node = FleetNode { region, revoked, watching, reported: reported.map(at), report: None };
            let counts = count(&[("fra-1", node)].into(), at(now));
            let found: Vec<_> =
                counts.iter().filter(|(_, count)| **count > 0.0).map(|((_, state), _)| *state).collect();
            assert_eq!(found, [state], "{reported:?} at {now}");
            assert_eq!(counts.len(), 4, "every state is told");
        }
    }
}
