//! All metrics of the node, in one place: their names, labels and buckets (`docs/formats.md`, section 7).
//!
//! It must never take a label value from a request: apps, routes and targets come from the snapshot, the rest are
//! closed sets of this file. Each node has its own recorder, so that several may run in one process.

mod cache;
mod compression;
mod events;
mod family;
mod place;
mod purges;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError, RwLock};
use std::time::{Duration, Instant};

use eyot_bundle::name::Name;
use eyot_bundle::refusal::Reason;
use eyot_plan::arrival::Protocol;
use eyot_plan::fault::Code;
use metrics::{Counter, Gauge, Histogram, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};

pub use cache::CACHE_RESULTS;
pub use compression::Compressed;
pub use events::ScheduleResult;
use family::Family;
pub use place::{EVENT, Place, RequestEnd};
pub use purges::Source;

/// A label's value, cheap to clone.
pub type Text = SharedString;

/// Bounds of what takes from microseconds to minutes, in seconds.
const SECONDS: [f64; 16] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0, 60.0];
/// Bounds of memory, in bytes: 64 KiB to 1 GiB.
const BYTES: [f64; 8] =
    [65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0, 67_108_864.0, 268_435_456.0, 1_073_741_824.0];
/// The states a ledger may be in.
const LEDGER_STATES: [&str; 3] = ["ok", "floor_lost", "none"];

/// Panics of this process, counted by the hook of [`count_panics`].
static PANICS: AtomicU64 = AtomicU64::new(0);

/// Counts every panic of this process from now on, and logs where it was.
pub fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.fetch_add(1, Ordering::Relaxed);
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            tracing::error!(place, "a panic");
            before(info);
        }));
    });
}

/// The metrics of one node.
pub struct Telemetry {
    recorder: PrometheusRecorder,
    requests: Family<Counter, 5>,
    request_seconds: Family<Histogram, 3>,
    faults: Family<Counter, 4>,
    request_bytes: Family<Counter, 2>,
    response_bytes: Family<Counter, 2>,
    function_calls: Family<Counter, 3>,
    function_cpu_seconds: Family<Histogram, 2>,
    function_memory_bytes: Family<Histogram, 2>,
    function_subrequests: Family<Counter, 2>,
    upstream_requests: Family<Counter, 3>,
    cache: cache::Cache,
    compression: compression::Compression,
    connections: Family<Gauge, 1>,
    datagrams_relayed: Family<Counter, 1>,
    slots: Family<Gauge, 1>,
    queue_seconds: Family<Histogram, 0>,
    snapshot_seq: Family<Gauge, 0>,
    snapshot_age_seconds: Family<Gauge, 0>,
    parent_seq: Family<Gauge, 1>,
    refusals: Family<Counter, 2>,
    metadata_expiry: Family<Gauge, 1>,
    certificate_expiry: Family<Gauge, 1>,
    ledger_state: Family<Gauge, 1>,
    log_dropped: Family<Counter, 1>,
    panics: Family<Counter, 0>,
    compile_seconds: Family<Histogram, 0>,
    build_info: Family<Gauge, 3>,
    events: events::Events,
    purges: purges::Purges,
    /// When the snapshot changed last.
    snapshot_at: RwLock<Instant>,
    /// What the listeners had counted of each fault when they were last asked.
    listeners: Mutex<HashMap<Code, u64>>,
}

/// What one call of a function spent.
pub struct CallEnd {
    /// Its app.
    pub app: Text,
    /// Its function.
    pub function: Text,
    /// The release it is of.
    pub release: Text,
    /// CPU time, in microseconds.
    pub cpu_us: u64,
    /// The most memory it had, in bytes.
    pub memory_bytes: u64,
    /// Outbound requests.
    pub subrequests: u64,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self::new()
    }
}

impl Telemetry {
    /// Metrics that all stand at zero.
    pub fn new() -> Self {
        let mut builder = PrometheusBuilder::new();
        for (suffix, buckets) in [("_seconds", &SECONDS[..]), ("_memory_bytes", &BYTES[..])] {
            builder = builder
                .set_buckets_for_metric(Matcher::Suffix(suffix.to_owned()), buckets)
                .expect("the bounds are fixed and some");
        }
        let telemetry = Self {
            recorder: builder.build_recorder(),
            requests: Family::new("eyot_requests_total", ["app", "route", "target", "protocol", "status"]),
            request_seconds: Family::new("eyot_request_seconds", ["app", "route", "target"]),
            faults: Family::new("eyot_faults_total", ["app", "route", "code", "side"]),
            request_bytes: Family::new("eyot_request_bytes_total", ["app", "route"]),
            response_bytes: Family::new("eyot_response_bytes_total", ["app", "route"]),
            function_calls: Family::new("eyot_function_calls_total", ["app", "function", "release"]),
            function_cpu_seconds: Family::new("eyot_function_cpu_seconds", ["app", "function"]),
            function_memory_bytes: Family::new("eyot_function_memory_bytes", ["app", "function"]),
            function_subrequests: Family::new("eyot_function_subrequests_total", ["app", "function"]),
            upstream_requests: Family::new("eyot_upstream_requests_total", ["app", "upstream", "result"]),
            cache: cache::Cache::new(),
            compression: compression::Compression::new(),
            connections: Family::new("eyot_connections", ["protocol"]),
            datagrams_relayed: Family::new("eyot_datagrams_relayed_total", ["result"]),
            slots: Family::new("eyot_slots", ["state"]),
            queue_seconds: Family::new("eyot_queue_seconds", []),
            snapshot_seq: Family::new("eyot_snapshot_seq", []),
            snapshot_age_seconds: Family::new("eyot_snapshot_age_seconds", []),
            parent_seq: Family::new("eyot_parent_seq", ["parent"]),
            refusals: Family::new("eyot_refusals_total", ["app", "reason"]),
            metadata_expiry: Family::new("eyot_metadata_expiry_timestamp_seconds", ["role"]),
            certificate_expiry: Family::new("eyot_certificate_expiry_timestamp_seconds", ["name"]),
            ledger_state: Family::new("eyot_ledger_state", ["state"]),
            log_dropped: Family::new("eyot_log_dropped_total", ["log"]),
            panics: Family::new("eyot_panics_total", []),
            compile_seconds: Family::new("eyot_compile_seconds", []),
            build_info: Family::new("eyot_build_info", ["version", "commit", "wasmtime"]),
            events: events::Events::new(),
            purges: purges::Purges::new(),
            snapshot_at: RwLock::new(Instant::now()),
            listeners: Mutex::default(),
        };
        telemetry.describe();
        telemetry
    }

    fn describe(&self) {
        for (name, text) in COUNTERS {
            self.recorder.describe_counter((*name).into(), None, (*text).into());
        }
        for (name, text) in GAUGES {
            self.recorder.describe_gauge((*name).into(), None, (*text).into());
        }
        for (name, unit, text) in HISTOGRAMS {
            self.recorder.describe_histogram((*name).into(), Some(*unit), (*text).into());
        }
        cache::Cache::describe(&self.recorder);
        compression::Compression::describe(&self.recorder);
        events::Events::describe(&self.recorder);
        purges::Purges::describe(&self.recorder);
        self.panics.with(&self.recorder, []).absolute(0);
        self.ledger_state("none");
    }

    /// A request met a fault, whether or not its fallback answered.
    pub fn fault(&self, app: &Text, route: &Text, code: Code) {
        let code_and_side = (Text::const_str(code.name()), Text::const_str(code.side().label()));
        self.faults.with(&self.recorder, [app.clone(), route.clone(), code_and_side.0, code_and_side.1]).increment(1);
    }

    /// The listeners have answered `total` requests with this fault themselves, since they began.
    pub fn listener_faults(&self, code: Code, total: u64) {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let before = listeners.insert(code, total).unwrap_or(0);
        if total > before {
            let values = ["", "", code.name(), code.side().label()].map(Text::const_str);
            self.faults.with(&self.recorder, values).increment(total - before);
        }
    }

    /// A call of a function ended.
    #[expect(clippy::cast_precision_loss, reason = "a histogram's sample may round")]
    pub fn call(&self, end: CallEnd) {
        let recorder = &self.recorder;
        let place = [end.app.clone(), end.function.clone()];
        self.function_calls.with(recorder, [end.app, end.function, end.release]).increment(1);
        let cpu = Duration::from_micros(end.cpu_us).as_secs_f64();
        self.function_cpu_seconds.with(recorder, place.clone()).record(cpu);
        self.function_memory_bytes.with(recorder, place.clone()).record(end.memory_bytes as f64);
        self.function_subrequests.with(recorder, place).increment(end.subrequests);
    }

    /// An upstream answered (`ok`), or met the fault `code`.
    pub fn upstream(&self, app: &Text, upstream: &Text, fault: Option<Code>) {
        let result = Text::const_str(fault.map_or("ok", Code::name));
        self.upstream_requests.with(&self.recorder, [app.clone(), upstream.clone(), result]).increment(1);
    }

    /// How many connections of `protocol` there are.
    #[expect(clippy::cast_precision_loss, reason = "a gauge of a count far below 2^52")]
    pub fn connections(&self, protocol: Protocol, count: u64) {
        self.connections.with(&self.recorder, [Text::const_str(protocol.label())]).set(count as f64);
    }

    /// Where the kernel does not steer QUIC: `passed` datagrams were passed on to their endpoints since the start, and for
    /// `dropped` there was no room, or nobody.
    pub fn datagrams_relayed(&self, passed: u64, dropped: u64) {
        for (result, total) in [("passed", passed), ("dropped", dropped)] {
            self.datagrams_relayed.with(&self.recorder, [Text::const_str(result)]).absolute(total);
        }
    }

    /// How many slots for calls are in `state`: `used` or `free`; `kept` are beside them, for instances that wait for another call.
    pub fn slots(&self, state: &'static str, count: u32) {
        self.slots.with(&self.recorder, [Text::const_str(state)]).set(f64::from(count));
    }

    /// A call waited this long for its app's share of the node.
    pub fn queued(&self, wait: Duration) {
        self.queue_seconds.with(&self.recorder, []).record(wait.as_secs_f64());
    }

    /// The node runs the state `seq` from now on.
    #[expect(clippy::cast_precision_loss, reason = "a sequence far below 2^52")]
    pub fn snapshot(&self, seq: u64) {
        self.snapshot_seq.with(&self.recorder, []).set(seq as f64);
        *self.snapshot_at.write().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// The parent at `url` said it is at `seq`.
    #[expect(clippy::cast_precision_loss, reason = "a sequence far below 2^52")]
    pub fn parent_seq(&self, url: &str, seq: u64) {
        self.parent_seq.with(&self.recorder, [url.to_owned().into()]).set(seq as f64);
    }

    /// A release of `app` was refused.
    pub fn refusal(&self, app: &Name, reason: Reason) {
        let app = app.as_str().to_owned().into();
        self.refusals.with(&self.recorder, [app, Text::const_str(reason.code())]).increment(1);
    }

    /// The metadata of `role` expires at `at`.
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^52")]
    pub fn metadata_expiry(&self, role: &str, at: jiff::Timestamp) {
        self.metadata_expiry.with(&self.recorder, [role.to_owned().into()]).set(at.as_second() as f64);
    }

    /// The certificate of `name` expires at `at`, in seconds since 1970.
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^52")]
    pub fn certificate_expiry(&self, name: &str, at: i64) {
        self.certificate_expiry.with(&self.recorder, [name.to_owned().into()]).set(at as f64);
    }

    /// The ledger is in `state`: `ok`, `floor_lost` or `none`.
    pub fn ledger_state(&self, state: &str) {
        for known in LEDGER_STATES {
            let is = if known == state { 1.0 } else { 0.0 };
            self.ledger_state.with(&self.recorder, [Text::const_str(known)]).set(is);
        }
    }

    /// Lines of the log named `log` (`access` or `function`) were dropped because it was full.
    pub fn log_dropped(&self, log: &'static str, lines: u64) {
        self.log_dropped.with(&self.recorder, [Text::const_str(log)]).increment(lines);
    }

    /// One component was compiled.
    pub fn compiled(&self, took: Duration) {
        self.compile_seconds.with(&self.recorder, []).record(took.as_secs_f64());
    }

    /// What this build is.
    pub fn build(&self, version: &'static str, commit: &'static str, wasmtime: &'static str) {
        let values = [version, commit, wasmtime].map(Text::const_str);
        self.build_info.with(&self.recorder, values).set(1.0);
    }

    /// Folds the samples of the histograms into their buckets. Without it they are kept one by one: call it each second.
    pub fn upkeep(&self) {
        self.recorder.handle().run_upkeep();
    }

    /// All of it, as Prometheus' text format.
    pub fn render(&self) -> String {
        let changed = *self.snapshot_at.read().unwrap_or_else(PoisonError::into_inner);
        self.snapshot_age_seconds.with(&self.recorder, []).set(changed.elapsed().as_secs_f64());
        self.panics.with(&self.recorder, []).absolute(PANICS.load(Ordering::Relaxed));
        self.recorder.handle().render()
    }
}

const COUNTERS: &[(&str, &str)] = &[
    ("eyot_datagrams_relayed_total", "Datagrams of QUIC passed on, or dropped, where the kernel does not steer them."),
    ("eyot_faults_total", "Requests that met a fault, by its code and the side at fault."),
    ("eyot_function_calls_total", "Calls of functions."),
    ("eyot_function_subrequests_total", "Outbound requests of functions."),
    ("eyot_log_dropped_total", "Log lines dropped because the log was full."),
    ("eyot_panics_total", "Panics of this process."),
    ("eyot_refusals_total", "Releases this node refused, by reason."),
    ("eyot_request_bytes_total", "Bytes of request bodies."),
    ("eyot_requests_total", "Requests that ended."),
    ("eyot_response_bytes_total", "Bytes of response bodies."),
    ("eyot_upstream_requests_total", "Requests to upstreams, by how they ended."),
];

const GAUGES: &[(&str, &str)] = &[
    ("eyot_build_info", "What this build is."),
    ("eyot_certificate_expiry_timestamp_seconds", "When a certificate expires."),
    ("eyot_connections", "Open connections."),
    ("eyot_ledger_state", "1 for the state the ledger is in."),
    ("eyot_metadata_expiry_timestamp_seconds", "When the metadata of a role expires."),
    ("eyot_parent_seq", "The sequence a parent is at."),
    ("eyot_slots", "Slots for calls of functions, and beside them instances that wait for another call."),
    ("eyot_snapshot_age_seconds", "Since when nothing changed."),
    ("eyot_snapshot_seq", "The sequence this node is at."),
];

const HISTOGRAMS: &[(&str, Unit, &str)] = &[
    ("eyot_compile_seconds", Unit::Seconds, "How long compiling a component took."),
    ("eyot_function_cpu_seconds", Unit::Seconds, "CPU time of one call."),
    ("eyot_function_memory_bytes", Unit::Bytes, "The most memory of one call."),
    ("eyot_queue_seconds", Unit::Seconds, "How long a call waited for its app's share of the node."),
    ("eyot_request_seconds", Unit::Seconds, "How long a request took, to its last byte."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_counted_under_the_labels_of_its_route() {
        let telemetry = Telemetry::new();
        let labels: [Text; 3] = ["shop", "shop.example.com/*", "function:cart"].map(Text::const_str);
        let end = |status| RequestEnd {
            app: &labels[0],
            route: &labels[1],
            target: &labels[2],
            protocol: Some(Protocol::H3),
            status,
            wall: Duration::from_millis(3),
            in_bytes: 0,
            out_bytes: 512,
        };
        let place = Place::default();
        for place in [&place, &place, &Place::default()] {
            telemetry.request(&end(200), place);
        }
        // More than a place keeps.
        for status in 400..420 {
            telemetry.request(&end(status), &place);
            telemetry.request(&end(status), &place);
        }
        telemetry.request(&end(999), &place);
        telemetry.fault(&"shop".into(), &"shop.example.com/*".into(), Code::FunctionTrapped);
        let text = telemetry.render();
        for line in [
            r#"eyot_requests_total{app="shop",route="shop.example.com/*",target="function:cart",protocol="h3",status="200"} 3"#,
            r#"eyot_requests_total{app="shop",route="shop.example.com/*",target="function:cart",protocol="h3",status="other"} 1"#,
            r#"eyot_requests_total{app="shop",route="shop.example.com/*",target="function:cart",protocol="h3",status="400"} 2"#,
            r#"eyot_requests_total{app="shop",route="shop.example.com/*",target="function:cart",protocol="h3",status="419"} 2"#,
            r#"eyot_request_seconds_bucket{app="shop",route="shop.example.com/*",target="function:cart",le="0.005"} 44"#,
            r#"eyot_faults_total{app="shop",route="shop.example.com/*",code="function_trapped",side="function"} 1"#,
            r#"eyot_response_bytes_total{app="shop",route="shop.example.com/*"} 22528"#,
            "# TYPE eyot_panics_total counter",
            r#"eyot_ledger_state{state="none"} 1"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
