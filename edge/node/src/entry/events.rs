//! What of an app is not asked by anyone: its schedules and queues, ready to be run.

use std::collections::BTreeMap;
use std::sync::Arc;

use eyot_bundle::cron::Cron;
use eyot_bundle::digest::Digest;
use eyot_bundle::name::Name;
use eyot_bundle::refusal::{Reason, Refusal};
use eyot_bundle::release::{self, Release, Run};

use super::{Function, missing};
use crate::telemetry::{Place, Text};

/// The schedules and queues of a release.
#[derive(Default)]
pub struct Events {
    /// Its schedules.
    pub schedules: Vec<Arc<Schedule>>,
    /// Its queues.
    pub queues: Vec<Arc<Queue>>,
}

/// A schedule.
pub struct Schedule {
    /// 16 hexadecimal digits, the same for the same schedule in any release.
    pub id: String,
    /// When it is due.
    pub cron: Cron,
    /// The same, as it is written: `*/5 * * * * Europe/Berlin`.
    pub written: String,
    /// Which nodes run it.
    pub run: Run,
    /// What is called.
    pub target: EventTarget,
}

/// A queue.
pub struct Queue {
    /// As the release says it.
    pub spec: release::Queue,
    /// What is called.
    pub target: EventTarget,
}

/// What an event is brought to.
pub struct EventTarget {
    /// `schedule:*/5 * * * * UTC` or `queue:orders.>`: what stands for a route's id.
    pub route: Text,
    /// `function:sweep`.
    pub label: Text,
    /// The function.
    pub function: Arc<Function>,
    /// The metrics of its events.
    pub place: Arc<Place>,
}

impl Events {
    pub(super) fn of(release: &Release, functions: &BTreeMap<&Name, Arc<Function>>) -> Result<Self, Refusal> {
        let target = |route: String, name: &Name| {
            let function = Arc::clone(functions.get(name).ok_or_else(|| missing(name))?);
            let label = format!("function:{name}").into();
            Ok(EventTarget { route: route.into(), label, function, place: Arc::default() })
        };
        let schedule = |it: &release::Schedule| {
            let cron = Cron::parse(&it.cron, &it.zone);
            let cron = cron.map_err(|error| Refusal::new(Reason::Parse, error.to_string()))?;
            let written = format!("{} {}", it.cron, it.zone);
            let target = target(format!("schedule:{written}"), &it.function)?;
            Ok(Arc::new(Schedule { id: id(it), cron, written, run: it.run, target }))
        };
        let queue = |it: &release::Queue| {
            let target = target(format!("queue:{}", it.subject), &it.function)?;
            Ok(Arc::new(Queue { spec: it.clone(), target }))
        };
        Ok(Self {
            schedules: release.schedules.iter().map(schedule).collect::<Result<_, Refusal>>()?,
            queues: release.queues.iter().map(queue).collect::<Result<_, Refusal>>()?,
        })
    }

    /// Whether there is nothing to be run.
    pub fn is_empty(&self) -> bool {
        self.schedules.is_empty() && self.queues.is_empty()
    }
}

fn id(schedule: &release::Schedule) -> String {
    let release::Schedule { cron, zone, run, function } = schedule;
    let cron: Vec<&str> = cron.split_ascii_whitespace().collect();
    let digest = Digest::of(format!("{}\n{zone}\n{run:?}\n{function}", cron.join(" ")).as_bytes()).to_string();
    digest.get(..16).unwrap_or(&digest).to_owned()
}
