//! Beginning anew: a ledger that is lost, and the operator's reset of a node's trust. Neither takes away what answers;
//! only metadata that was verified since may.

use std::collections::BTreeMap;
use std::sync::Arc;

use eyot_bundle::name::Name;
use eyot_bundle::trust::Trust;
use jiff::Timestamp;

use super::parent::Parent;
use super::round::denied_of;
use super::{Pull, metadata};
use crate::activate::{Apps, World, held};
use crate::ledger::serving::{self, Serving};
use crate::ledger::{AppRecord, Change, Files, Ledger};
use crate::status::LedgerHealth;

/// What a `serving` file says, as far as it is signed.
struct Stand {
    trust: Trust,
    files: Files,
    records: BTreeMap<Name, AppRecord>,
}

impl<P: Parent, A: Apps> Pull<P, A> {
    /// Goes on without a ledger: with what answers already, or at a start with what the `serving` file has.
    pub(super) fn lost(&mut self, why: String) {
        tracing::error!(why, "floor_lost: nothing new is taken until the operator resets this node's trust");
        self.ledger = None;
        self.jobs.stop();
        self.health(LedgerHealth::FloorLost(why));
        if !self.records.is_empty() {
            return;
        }
        let Some(stand) = self.stand() else { return };
        (self.trust, self.files, self.records) = (stand.trust, stand.files, stand.records);
        self.settle();
    }

    fn stand(&self) -> Option<Stand> {
        let Serving { apps, files, .. } = serving::read(&self.setup.state)?;
        let trust = Trust::replay(&self.setup.root, metadata(&files)).ok()?;
        let record = |active| AppRecord { active: Some(active), ..AppRecord::default() };
        let records = apps.into_iter().map(|(app, active)| (app, record(active))).collect();
        Some(Stand { trust, files, records })
    }

    /// After a reset, and before any metadata was verified anew: what the `serving` file has answers until then.
    pub(super) fn stand_in(&mut self) {
        if self.trust.version("targets").is_some() {
            return;
        }
        let Some(mut stand) = self.stand() else { return };
        if self.records.is_empty() {
            self.take_over(&stand);
        }
        stand.files.extend(self.files.clone());
        stand.records.extend(self.records.clone());
        let denied = Arc::new(denied_of(&stand.files));
        let world = World { trust: &stand.trust, files: &stand.files, records: &stand.records, denied: &denied };
        for (app, release, refusal) in self.active.settle(&world) {
            self.refuse(&app, release, &refusal);
        }
    }

    /// A reset that was cut off before it noted what answers is brought to its end.
    fn take_over(&mut self, stand: &Stand) {
        let (apps, put) = answering(&stand.records, &stand.files);
        let change = Change { put, apps, ..Change::default() };
        // A ledger that does not take it is no reason to answer nothing.
        if let Some(Err(error)) = self.ledger.as_mut().map(|ledger| ledger.commit(&change)) {
            tracing::error!(%error, "what answers was not noted in the new ledger");
            return;
        }
        self.files.extend(change.put);
        self.records.extend(change.apps.into_iter().filter_map(|(app, record)| Some((app, record?))));
    }

    /// Forgets all floors and begins anew from the configured root. What answers goes on, and is not new.
    pub(super) fn reset(&mut self) {
        let (apps, put) = answering(&self.records, &self.files);
        self.ledger = None;
        self.jobs.stop();
        // What parents heard of this node before says nothing of its new beginning.
        self.asked = false;
        let fresh = Ledger::reset(&self.setup.state).map_err(|error| error.to_string());
        let fresh = fresh.and_then(|ledger| {
            Trust::new(&self.setup.root).map(|trust| (ledger, trust)).map_err(|refusal| refusal.to_string())
        });
        let (ledger, trust) = match fresh {
            Ok(fresh) => fresh,
            Err(why) => return self.lost(why),
        };
        tracing::warn!("the operator reset this node's trust: it begins anew from the configured root");
        (self.trust, self.ledger) = (trust, Some(ledger));
        self.files.clear();
        self.records.clear();
        self.health(LedgerHealth::Ok);
        if let Err(refusal) = self.commit(Change { put, apps, ..Change::default() }) {
            tracing::error!(detail = refusal.detail, "what answers was not noted in the new ledger");
        }
        self.show();
    }
}

/// What a reset keeps: of each app that answers its release and the one before it, as they are signed, when it was first
/// seen, and what took the process down. No floor.
fn answering(records: &BTreeMap<Name, AppRecord>, files: &Files) -> (BTreeMap<Name, Option<AppRecord>>, Files) {
    let now = Timestamp::now();
    let (mut apps, mut put) = (BTreeMap::new(), Files::new());
    for (app, record) in records.iter().filter(|(_, record)| record.active.is_some()) {
        let mut kept = AppRecord { min_release: 0, ..record.clone() };
        kept.seen.retain(|release, _| Some(*release) == record.active);
        // A bake counts by this node's own clock, whatever time was signed before.
        kept.seen.values_mut().for_each(|seen| *seen = (*seen).min(now));
        let documents = [record.active, record.previous].into_iter().flatten();
        let names = documents.map(|number| format!("releases/{app}/{number}.json")).chain([held(app)]);
        put.extend(names.filter_map(|name| files.get(&name).map(|bytes| (name.clone(), bytes.clone()))));
        apps.insert(app.clone(), Some(kept));
    }
    (apps, put)
}
