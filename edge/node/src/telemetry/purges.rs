//! What is counted of purges.

use eyot_bundle::name::Name;
use metrics::{Counter, Gauge, Recorder as _};
use metrics_exporter_prometheus::PrometheusRecorder;

use super::family::Family;
use super::{Telemetry, Text};

/// Who asked for a purge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A function on this node.
    Function,
    /// The operator of this node.
    Operator,
    /// The parents' log.
    Parent,
}

/// The metrics of purges.
pub(super) struct Purges {
    purges: Family<Counter, 2>,
    position: Family<Gauge, 0>,
}

impl Purges {
    pub(super) fn new() -> Self {
        Self {
            purges: Family::new("eyot_purges_total", ["app", "source"]),
            position: Family::new("eyot_purge_position", []),
        }
    }

    pub(super) fn describe(recorder: &PrometheusRecorder) {
        recorder.describe_counter("eyot_purges_total".into(), None, "Purges done here, by who asked.".into());
        let position = "How far this node is with its parents' log of purges.";
        recorder.describe_gauge("eyot_purge_position".into(), None, position.into());
    }
}

impl Telemetry {
    /// A purge of `app` was done here.
    pub fn purged(&self, app: &Name, source: Source) {
        let source = match source {
            Source::Function => "function",
            Source::Operator => "operator",
            Source::Parent => "parent",
        };
        let app = app.as_str().to_owned().into();
        self.purges.purges.with(&self.recorder, [app, Text::const_str(source)]).increment(1);
    }

    /// This node has done the purges up to `n` of its parents' log.
    #[expect(clippy::cast_precision_loss, reason = "a number far below 2^52")]
    pub fn purge_position(&self, n: u64) {
        self.purges.position.with(&self.recorder, []).set(n as f64);
    }
}
