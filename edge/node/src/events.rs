//! Events: what calls functions that nobody asks. The schedules and queues of every app that answers here, as long as this
//! process is the one that is to run them.
//!
//! An event is a request like any other once it is made: its function is called by the pieces of the request line, under
//! the same budgets, and goes on record. No listener can bring one: its host is never taken from outside.
//!
//! When an app's release changes, the events of the earlier one are told to stop, and those of the later begin; what is
//! under way goes on to its end.

mod beat;
mod message;
mod queue;
mod turns;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use eyot_bundle::name::Name;
use eyot_link::client::Client;
use eyot_state::Queues;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::entry::Entry;
use crate::node::Node;
use crate::snapshot::State;
use turns::Files;

/// What all events of a node have in common.
pub(crate) struct Ground {
    node: Arc<Node>,
    /// Whom to ask whose turn it is.
    client: Client,
    /// Where messages come from; none: this node has no NATS.
    queues: Option<Queues>,
    files: Files,
    /// The name of this process, as the origin knows it.
    process: String,
    /// Up to which moment each schedule of each app was looked at.
    looked: Mutex<HashMap<(Name, String), Timestamp>>,
}

impl Ground {
    fn looked(&self, app: &Name, schedule: &str) -> Option<Timestamp> {
        let looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        looked.get(&(app.clone(), schedule.to_owned())).copied()
    }

    /// Forgets what no crew looks at.
    fn forget(&self, crews: &HashMap<Name, Crew>) {
        let is_looked_at = |(app, id): &(Name, String)| {
            crews.get(app).is_some_and(|crew| crew.entry.events.schedules.iter().any(|schedule| schedule.id == *id))
        };
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        looked.retain(|key, _| is_looked_at(key));
    }

    fn look(&self, app: &Name, schedule: &str, until: Timestamp) {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        looked.insert((app.clone(), schedule.to_owned()), until);
    }
}

/// The events of a node, until this is dropped.
pub(crate) struct Events(JoinSet<()>);

impl Events {
    /// Begins to run them. Nothing new begins once `stop` has turned true.
    pub(crate) fn start(node: &Arc<Node>, client: Client, queues: Option<Queues>, stop: watch::Receiver<bool>) -> Self {
        let ground = Arc::new(Ground {
            node: Arc::clone(node),
            client,
            queues,
            files: Files::new(&node.config.node.state),
            process: uuid::Uuid::new_v4().to_string(),
            looked: Mutex::default(),
        });
        Self(JoinSet::from_iter([follow(ground, stop)]))
    }

    /// Waits until what is under way has ended, after it was stopped.
    pub(crate) async fn ended(mut self) {
        while self.0.join_next().await.is_some() {}
    }
}

/// The events of one release of an app.
struct Crew {
    entry: Arc<Entry>,
    stop: watch::Sender<bool>,
}

/// Sees to it that what is run is what answers.
async fn follow(ground: Arc<Ground>, mut stop: watch::Receiver<bool>) {
    ground.files.tidy().await;
    let mut changes = ground.node.snapshots.changes();
    let mut crews: HashMap<Name, Crew> = HashMap::new();
    let mut working = JoinSet::new();
    loop {
        changes.mark_unchanged();
        settle(&ground, &mut crews, &mut working);
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            changed = changes.changed() => if changed.is_err() { break },
        }
        while working.try_join_next().is_some() {}
    }
    for crew in crews.values() {
        crew.stop.send_replace(true);
    }
    while working.join_next().await.is_some() {}
}

fn settle(ground: &Arc<Ground>, crews: &mut HashMap<Name, Crew>, working: &mut JoinSet<()>) {
    let snapshot = ground.node.snapshots.load();
    let serving = |app: &Name| match snapshot.apps().get(app).map(|app| &app.state) {
        Some(State::Serving(entry)) => Some(Arc::clone(entry)),
        _ => None,
    };
    crews.retain(|app, crew| {
        let stays = serving(app).is_some_and(|entry| Arc::ptr_eq(&entry, &crew.entry));
        if !stays {
            crew.stop.send_replace(true);
        }
        stays
    });
    for app in snapshot.apps().keys() {
        let Some(entry) = serving(app).filter(|entry| !entry.events.is_empty()) else { continue };
        if crews.contains_key(app) {
            continue;
        }
        let stop = watch::Sender::new(false);
        for schedule in &entry.events.schedules {
            working.spawn(beat::run(Arc::clone(ground), Arc::clone(&entry), Arc::clone(schedule), stop.subscribe()));
        }
        for queue in &entry.events.queues {
            working.spawn(queue::run(Arc::clone(ground), Arc::clone(&entry), Arc::clone(queue), stop.subscribe()));
        }
        crews.insert(app.clone(), Crew { entry, stop });
    }
    ground.forget(crews);
}
