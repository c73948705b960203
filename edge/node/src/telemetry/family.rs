//! One metric family: its series by their label values, bounded in number.
//!
//! A series is made at its first use and kept. It knows no request: label values come from the snapshot.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder, SharedString};
use metrics_exporter_prometheus::PrometheusRecorder;

/// Series of a family; beyond it the route becomes [`OTHER`].
pub(super) const SERIES_MAX: usize = 10_000;
/// What stands for the routes that no longer fit.
const OTHER: SharedString = SharedString::const_str("_other");

/// What a family hands out.
pub(super) trait Handle: Clone {
    /// The recorder's handle of the series `key`.
    fn of(recorder: &PrometheusRecorder, key: &Key) -> Self;
}

const METADATA: Metadata<'static> = Metadata::new("eyot", Level::INFO, None);

impl Handle for Counter {
    fn of(recorder: &PrometheusRecorder, key: &Key) -> Self {
        recorder.register_counter(key, &METADATA)
    }
}

impl Handle for Gauge {
    fn of(recorder: &PrometheusRecorder, key: &Key) -> Self {
        recorder.register_gauge(key, &METADATA)
    }
}

impl Handle for Histogram {
    fn of(recorder: &PrometheusRecorder, key: &Key) -> Self {
        recorder.register_histogram(key, &METADATA)
    }
}

/// A family of `N` labels.
pub(super) struct Family<H, const N: usize> {
    /// Its name, with its unit last.
    name: &'static str,
    /// Its labels' names.
    labels: [&'static str; N],
    /// Its series so far.
    series: RwLock<HashMap<[SharedString; N], H>>,
}

impl<H: Handle, const N: usize> Family<H, N> {
    pub(super) fn new(name: &'static str, labels: [&'static str; N]) -> Self {
        Self { name, labels, series: RwLock::default() }
    }

    /// The series of these label values. Over [`SERIES_MAX`] the label `route` is [`OTHER`]; over twice that, or in a
    /// family without routes, every label is.
    pub(super) fn with(&self, recorder: &PrometheusRecorder, values: [SharedString; N]) -> H {
        let (found, count) = self.find(&values);
        if let Some(handle) = found {
            return handle;
        }
        if count < SERIES_MAX {
            return self.add(recorder, values);
        }
        let folded = self.folded(values, count >= 2 * SERIES_MAX);
        self.find(&folded).0.unwrap_or_else(|| self.add(recorder, folded))
    }

    fn find(&self, values: &[SharedString; N]) -> (Option<H>, usize) {
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        (series.get(values).cloned(), series.len())
    }

    fn add(&self, recorder: &PrometheusRecorder, values: [SharedString; N]) -> H {
        let labels: Vec<_> =
            self.labels.iter().zip(&values).map(|(name, value)| Label::new(*name, value.clone())).collect();
        let handle = H::of(recorder, &Key::from_parts(self.name, labels));
        self.series.write().unwrap_or_else(PoisonError::into_inner).insert(values, handle.clone());
        handle
    }

    fn folded(&self, mut values: [SharedString; N], all: bool) -> [SharedString; N] {
        let all = all || !self.labels.contains(&"route");
        for (name, value) in self.labels.iter().zip(&mut values) {
            if all || *name == "route" {
                *value = OTHER;
            }
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[test]
    fn the_series_that_no_longer_fit_share_the_route_other() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let family: Family<Counter, 2> = Family::new("things_total", ["app", "route"]);
        for route in 0..SERIES_MAX + 5 {
            family.with(&recorder, ["shop".into(), route.to_string().into()]).increment(1);
        }
        assert_eq!(family.find(&["shop".into(), "0".into()]).1, SERIES_MAX + 1);
        let text = recorder.handle().render();
        assert!(text.contains("things_total{app=\"shop\",route=\"_other\"} 5"));
    }
}
