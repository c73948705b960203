//! What is counted of the cache.

use metrics::{Counter, Recorder as _};
use metrics_exporter_prometheus::PrometheusRecorder;

use super::family::Family;
use super::{Telemetry, Text};

const REQUESTS: &str = "eyot_cache_requests_total";

/// What becomes of requests that the cache is asked for.
pub const CACHE_RESULTS: [&str; 6] = ["hit", "stale", "revalidated", "collapsed", "miss", "bypass"];

/// The families of the cache.
pub(super) struct Cache {
    requests: Family<Counter, 3>,
}

impl Cache {
    pub(super) fn new() -> Self {
        Self { requests: Family::new(REQUESTS, ["app", "route", "result"]) }
    }

    pub(super) fn describe(recorder: &PrometheusRecorder) {
        recorder.describe_counter(
            REQUESTS.into(),
            None,
            "Requests of routes that keep answers, by what became of them.".into(),
        );
    }
}

impl Telemetry {
    /// Where requests of a route are counted with this one of [`CACHE_RESULTS`].
    pub fn cache_requests(&self, app: &Text, route: &Text, result: &'static str) -> Counter {
        self.cache.requests.with(&self.recorder, [app.clone(), route.clone(), Text::const_str(result)])
    }
}
