//! The metrics of what is compressed on its way.

use metrics::{Counter, Recorder as _};
use metrics_exporter_prometheus::PrometheusRecorder;

use super::family::Family;
use super::{Telemetry, Text};

const BEFORE: &str = "eyot_compressed_before_bytes_total";
const AFTER: &str = "eyot_compressed_after_bytes_total";

/// The families of compression.
pub(super) struct Compression {
    before: Family<Counter, 2>,
    after: Family<Counter, 2>,
}

impl Compression {
    pub(super) fn new() -> Self {
        let labels = ["app", "route"];
        Self { before: Family::new(BEFORE, labels), after: Family::new(AFTER, labels) }
    }

    pub(super) fn describe(recorder: &PrometheusRecorder) {
        for (name, text) in [
            (BEFORE, "Bytes of answers that were compressed on their way, as their targets gave them."),
            (AFTER, "The same bytes, as they were sent."),
        ] {
            recorder.describe_counter(name.into(), None, text.into());
        }
    }
}

impl Telemetry {
    /// Where it is counted what a route compresses.
    pub fn compressed(&self, app: &Text, route: &Text) -> Compressed {
        let of = |family: &Family<Counter, 2>| family.with(&self.recorder, [app.clone(), route.clone()]);
        Compressed { before: of(&self.compression.before), after: of(&self.compression.after) }
    }
}

/// Where it is counted what one route compresses.
#[derive(Clone)]
pub struct Compressed {
    before: Counter,
    after: Counter,
}

impl Compressed {
    /// So many bytes went into a compressor.
    pub fn before(&self, bytes: usize) {
        self.before.increment(bytes as u64);
    }

    /// So many came out.
    pub fn after(&self, bytes: usize) {
        self.after.increment(bytes as u64);
    }
}
