//! The node's snapshot, as activation changes it.

use std::sync::Arc;

use eyot_bundle::grant::Grant;
use eyot_bundle::name::Name;
use eyot_bundle::refusal::Refusal;
use eyot_bundle::release::Release;
use eyot_link::tail::{Activated, Line, Refused};
use eyot_link::wire::Load;

use super::{Apps, Standing, Vitals};
use crate::entry::Entry;
use crate::node::Node;
use crate::snapshot::{App, State};
use crate::tap::Following;

impl Apps for Node {
    type Entry = Arc<Entry>;

    fn build(&self, release: &Release, grant: &Grant) -> Result<Arc<Entry>, Refusal> {
        self.entry(release, grant)
    }

    fn put(&self, app: &Name, grant: &Grant, standing: Standing<Arc<Entry>>) {
        let mut activated = None;
        let state = match standing {
            Standing::NotReady => State::NotReady,
            Standing::Serving(entry) => {
                activated = Some(entry.release);
                State::Serving(entry)
            }
            Standing::Suspended => State::Suspended,
        };
        self.snapshots.put(app.clone(), App { hosts: grant.hosts.clone(), state });
        if let Some(release) = activated {
            let time = jiff::Timestamp::now();
            let told = || Line::Activated(Activated { time, app: app.to_string(), release });
            self.access.tap().tell(app.as_str(), told);
        }
    }

    fn refused(&self, app: &Name, release: u64, refusal: &Refusal) {
        self.access.tap().tell(app.as_str(), || {
            Line::Refused(Refused {
                time: jiff::Timestamp::now(),
                app: app.to_string(),
                release,
                reason: refusal.reason.code().to_owned(),
                detail: refusal.detail.clone(),
            })
        });
    }

    fn follow(&self, app: &Name) -> Option<Following> {
        self.access.tap().follow(Some(app.clone()))
    }

    fn remove(&self, app: &Name) {
        self.snapshots.remove(app);
    }

    fn loaded(&self) {
        self.ready.loaded();
    }

    fn vitals(&self) -> Vitals {
        let slots = f64::from(self.config.functions.slots.max(1));
        let free = u32::try_from(self.runtime.slots_free()).map_or(slots, f64::from);
        let load = Load { slots: (1.0 - free / slots).clamp(0.0, 1.0), ..Load::default() };
        Vitals { load, draining: self.ready.is_draining(), ..Vitals::default() }
    }
}
