//! What is counted of the cache.

use eyot_cache::rooms::Rooms;
use metrics::{Counter, Gauge, Recorder as _};
use metrics_exporter_prometheus::PrometheusRecorder;

use super::family::Family;
use super::{Telemetry, Text};

const REQUESTS: &str = "eyot_cache_requests_total";
const BROKEN: &str = "eyot_cache_fill_errors_total";
const SHIELDED: &str = "eyot_shield_requests_total";
const BYTES: &str = "eyot_cache_bytes";
const OBJECTS: &str = "eyot_cache_objects";

/// What becomes of requests that the cache is asked for.
pub const CACHE_RESULTS: [&str; 6] = ["hit", "stale", "revalidated", "collapsed", "miss", "bypass"];

/// The families of the cache.
pub(super) struct Cache {
    requests: Family<Counter, 3>,
    broken: Family<Counter, 2>,
    shielded: Family<Counter, 3>,
    bytes: Family<Gauge, 2>,
    objects: Family<Gauge, 2>,
}

impl Cache {
    pub(super) fn new() -> Self {
        Self {
            requests: Family::new(REQUESTS, ["app", "route", "result"]),
            broken: Family::new(BROKEN, ["app", "route"]),
            shielded: Family::new(SHIELDED, ["app", "upstream", "result"]),
            bytes: Family::new(BYTES, ["tier", "app"]),
            objects: Family::new(OBJECTS, ["tier", "app"]),
        }
    }

    pub(super) fn describe(recorder: &PrometheusRecorder) {
        recorder.describe_counter(
            REQUESTS.into(),
            None,
            "Requests of routes that keep answers, by what became of them.".into(),
        );
        recorder.describe_counter(BROKEN.into(), None, "Bodies that broke off while they were kept.".into());
        let shielded = "What other nodes were asked for in the place of an upstream, by what came of it.";
        recorder.describe_counter(SHIELDED.into(), None, shielded.into());
        recorder.describe_gauge(BYTES.into(), None, "What is kept, in memory by apps, on disk of all.".into());
        recorder.describe_gauge(OBJECTS.into(), None, "URLs of which something is kept; on disk, answers.".into());
    }
}

impl Telemetry {
    /// What is kept now.
    #[expect(clippy::cast_precision_loss, reason = "numbers far below 2^52")]
    pub fn cache_holds(&self, rooms: &Rooms) {
        let Cache { bytes, objects, .. } = &self.cache;
        let kept = |tier, app: Text, stats: (u64, u64)| {
            let labels = [Text::const_str(tier), app];
            objects.with(&self.recorder, labels.clone()).set(stats.0 as f64);
            bytes.with(&self.recorder, labels).set(stats.1 as f64);
        };
        for (app, stats) in rooms.stats() {
            let app = Text::from(app);
            kept("memory", app, (stats.objects, stats.bytes));
        }
        if let Some(disk) = rooms.common().disk_stats() {
            kept("disk", Text::const_str(""), (disk.objects as u64, disk.bytes));
        }
    }

    /// Where requests of a route are counted with this one of [`CACHE_RESULTS`].
    pub fn cache_requests(&self, app: &Text, route: &Text, result: &'static str) -> Counter {
        self.cache.requests.with(&self.recorder, [app.clone(), route.clone(), Text::const_str(result)])
    }

    /// Where bodies of answers of a route are counted that broke off while they were kept.
    pub fn cache_broken(&self, app: &Text, route: &Text) -> Counter {
        self.cache.broken.with(&self.recorder, [app.clone(), route.clone()])
    }

    /// Another node was asked in the place of an upstream: it `answered`, `refused`, or was `unreachable`.
    pub fn shielded(&self, app: &Text, upstream: &Text, result: &'static str) {
        let labels = [app.clone(), upstream.clone(), Text::const_str(result)];
        self.cache.shielded.with(&self.recorder, labels).increment(1);
    }
}
