//! The metrics of schedules and queues. Their labels are apps and what stands for a route in their releases.

use eyot_state::Ended;
use metrics::{Counter, Gauge, Recorder as _};
use metrics_exporter_prometheus::PrometheusRecorder;

use super::family::Family;
use super::{Telemetry, Text};

/// What came of a time of a schedule on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScheduleResult {
    /// The origin did not say whose turn it was; it is asked again.
    Away,
    /// It was run, and its function answered well.
    Done,
    /// Another node has run it.
    Elsewhere,
    /// It was run, and its function failed.
    Failed,
    /// Times were missed, so long ago that they are not made up.
    Missed,
}

impl ScheduleResult {
    fn label(self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Done => "done",
            Self::Elsewhere => "elsewhere",
            Self::Failed => "failed",
            Self::Missed => "missed",
        }
    }
}

/// The families of events.
pub(super) struct Events {
    schedules: Family<Counter, 3>,
    messages: Family<Counter, 3>,
    connected: Family<Gauge, 2>,
}

impl Events {
    pub(super) fn new() -> Self {
        Self {
            schedules: Family::new("eyot_schedule_times_total", ["app", "route", "result"]),
            messages: Family::new("eyot_queue_messages_total", ["app", "route", "result"]),
            connected: Family::new("eyot_queue_connected", ["app", "route"]),
        }
    }

    pub(super) fn describe(recorder: &PrometheusRecorder) {
        for (name, text) in [
            ("eyot_schedule_times_total", "Times of schedules, by what came of them on this node."),
            ("eyot_queue_messages_total", "Tries of messages of queues, by how they ended."),
        ] {
            recorder.describe_counter(name.into(), None, text.into());
        }
        recorder.describe_gauge("eyot_queue_connected".into(), None, "1 while messages of a queue can be had.".into());
    }
}

impl Telemetry {
    /// This came of a time of a schedule.
    pub fn schedule(&self, app: &Text, route: &Text, result: ScheduleResult) {
        let values = [app.clone(), route.clone(), Text::const_str(result.label())];
        self.events.schedules.with(&self.recorder, values).increment(1);
    }

    /// So a try of a message ended.
    pub fn message(&self, app: &Text, route: &Text, how: Ended) {
        let result = match how {
            Ended::Dead => "dead",
            Ended::Done => "done",
            Ended::Dropped => "dropped",
            Ended::Retried => "retried",
            Ended::Unheard => "unheard",
        };
        self.events.messages.with(&self.recorder, [app.clone(), route.clone(), Text::const_str(result)]).increment(1);
    }

    /// Whether messages of a queue can be had.
    pub fn queue(&self, app: &Text, route: &Text, connected: bool) {
        let value = if connected { 1.0 } else { 0.0 };
        self.events.connected.with(&self.recorder, [app.clone(), route.clone()]).set(value);
    }
}
