//! A small operator, origin and publishers in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::grant::{Ceilings, Grant, GrantState, Share};
use crate::refusal::{Reason, Refusal};
use crate::sign::{self, Delegation, Header, Holders, Key, Pin, RootRoles};
use crate::trust::{TargetFile, Trust};

pub(super) type Walked = Vec<(String, Result<bool, Refusal>)>;

/// All keys, and every file a parent would give, by its name on the wire.
#[derive(Clone)]
pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) keys: BTreeMap<String, Arc<Key>>,
    pub(super) roots: Vec<Vec<u8>>,
    pub(super) files: BTreeMap<String, Vec<u8>>,
    pub(super) delegations: Vec<Delegation>,
    pub(super) listed: BTreeMap<String, Vec<TargetFile>>,
    pub(super) versions: BTreeMap<String, u64>,
    pub(super) pins: BTreeMap<String, Pin>,
    pub(super) snapshot_version: u64,
    pub(super) timestamp_version: u64,
}

pub(super) fn grant(host: &str) -> Grant {
    Grant {
        state: GrantState::Active,
        hosts: vec![host.parse().unwrap()],
        limits: Ceilings::default(),
        share: Share::default(),
        egress_private: Vec::new(),
        stores: crate::grant::own_engine(),
        placement: "*".to_owned(),
        keys: Default::default(),
    }
}

impl World {
    /// An operator with one key a role, an origin, and these apps with a publisher each.
    pub(super) fn new(apps: &[&str]) -> Self {
        let mut world = Self {
            now: "2026-11-22T12:00:00Z".parse().unwrap(),
            keys: BTreeMap::new(),
            roots: Vec::new(),
            files: BTreeMap::new(),
            delegations: Vec::new(),
            listed: BTreeMap::new(),
            versions: BTreeMap::new(),
            pins: BTreeMap::new(),
            snapshot_version: 0,
            timestamp_version: 0,
        };
        world.root();
        let (fleet, director) = (world.holders("fleet"), world.holders("director"));
        world.delegations.extend([Delegation::fleet(fleet), Delegation::director(director)]);
        for app in apps {
            let app = app.parse().unwrap();
            let holders = world.holders(&crate::trust::app_role(&app));
            let delegation = Delegation::app(&app, holders, grant(&format!("{app}.example.com")));
            sign::delegate(&mut world.delegations, delegation).unwrap();
        }
        world.targets();
        world.listed.insert("fleet".to_owned(), vec![TargetFile::new("fleet/nodes.json", b"{}")]);
        world.role("fleet");
        world.role("director");
        world.online();
        world
    }

    pub(super) fn key(&mut self, role: &str) -> Arc<Key> {
        self.keys.entry(role.to_owned()).or_insert_with(|| Arc::new(Key::generate().unwrap())).clone()
    }

    pub(super) fn holders(&mut self, role: &str) -> Holders {
        Holders::one(self.key(role).public())
    }

    fn next(&mut self, role: &str, hours: i64) -> Header {
        let version = self.versions.entry(role.to_owned()).or_default();
        *version += 1;
        Header { version: *version, expires: self.now + SignedDuration::from_hours(hours) }
    }

    /// The next root, signed by the holder before as well (`root-before`, if there is one).
    pub(super) fn root(&mut self) {
        let roles = RootRoles {
            root: self.holders("root"),
            snapshot: self.holders("snapshot"),
            targets: self.holders("targets"),
            timestamp: self.holders("timestamp"),
        };
        let header = self.next("root", 24 * 365);
        let (key, before) = (self.key("root"), self.keys.get("root-before").cloned());
        let signers: Vec<&Key> = [Some(&*key), before.as_deref()].into_iter().flatten().collect();
        let bytes = sign::root(header, &roles, &signers).unwrap();
        self.files.insert(format!("{}.root.json", header.version), bytes.clone());
        self.roots.push(bytes);
    }

    pub(super) fn targets(&mut self) {
        let header = self.next("targets", 24 * 180);
        let bytes = sign::targets(header, &self.delegations.clone(), &[&self.key("targets")]).unwrap();
        self.put("targets", header.version, bytes);
    }

    pub(super) fn role(&mut self, role: &str) {
        let header = self.next(role, 24 * 365);
        let files = self.listed.get(role).cloned().unwrap_or_default();
        let bytes = sign::delegated(header, &files, &[&self.key(role)]).unwrap();
        self.put(role, header.version, bytes);
    }

    /// Makes `bytes` what a parent gives for this version, and what the next snapshot pins.
    pub(super) fn put(&mut self, role: &str, version: u64, bytes: Vec<u8>) {
        self.pins.insert(role.to_owned(), Pin::of(version, &bytes));
        self.files.insert(format!("{version}.{role}.json"), bytes);
    }

    pub(super) fn online(&mut self) {
        let (snapshot, timestamp) = (self.key("snapshot"), self.key("timestamp"));
        self.snapshot_version += 1;
        self.timestamp_version += 1;
        let header = Header { version: self.snapshot_version, expires: self.now + SignedDuration::from_hours(168) };
        let bytes = sign::snapshot(header, &self.pins, &[&snapshot]).unwrap();
        let pin = Pin::of(self.snapshot_version, &bytes);
        self.files.insert(format!("{}.snapshot.json", self.snapshot_version), bytes);
        let header = Header { version: self.timestamp_version, expires: self.now + SignedDuration::from_hours(24) };
        let bytes = sign::timestamp(header, self.now, pin, &[&timestamp]).unwrap();
        self.files.insert("timestamp.json".to_owned(), bytes);
    }

    pub(super) fn list(&mut self, role: &str, path: &str, bytes: &[u8]) {
        self.listed.entry(role.to_owned()).or_default().push(TargetFile::new(path, bytes));
        self.role(role);
        self.online();
    }

    pub(super) fn publish(&mut self, app: &str, number: u64) {
        if number == 1 && !self.pins.contains_key(&format!("app-{app}")) {
            self.role(&format!("app-{app}"));
        }
        self.list(&format!("app-{app}"), &format!("releases/{app}/{number}.json"), b"{}");
    }

    pub(super) fn control(&mut self, app: &str, text: &str) {
        self.list("director", &format!("control/{app}.json"), text.as_bytes());
    }

    pub(super) fn walk(&self, trust: &mut Trust) -> Walked {
        self.walk_at(trust, self.now)
    }

    /// One round against a parent that gives these files.
    pub(super) fn walk_at(&self, trust: &mut Trust, now: Timestamp) -> Walked {
        let mut walked = Walked::new();
        trust.begin();
        while let Some(want) = trust.wants().first().cloned() {
            assert!(walked.len() < 1000, "a round ends: {want:?}");
            let Some(bytes) = self.files.get(&want.file) else {
                trust.absent(&want.file);
                let missing = Err(Refusal::new(Reason::MissingBlob, "absent"));
                walked.push((want.file, if want.may_be_absent { Ok(false) } else { missing }));
                continue;
            };
            walked.push((want.file.clone(), trust.feed(&want.file, bytes, now).map(|fed| fed.persist)));
        }
        walked
    }

    /// What a ledger holds after `trust` walked this world: by ledger names.
    pub(super) fn ledger(&self, trust: &mut Trust) -> BTreeMap<String, Vec<u8>> {
        let mut ledger = BTreeMap::new();
        self.ledger_on(trust, &mut ledger);
        ledger
    }

    pub(super) fn ledger_on(&self, trust: &mut Trust, ledger: &mut BTreeMap<String, Vec<u8>>) {
        trust.begin();
        while let Some(want) = trust.wants().first().cloned() {
            let Some(bytes) = self.files.get(&want.file) else {
                trust.absent(&want.file);
                continue;
            };
            if let Ok(fed) = trust.feed(&want.file, bytes, self.now) {
                ledger.insert(fed.name, bytes.clone());
            }
        }
    }
}

#[track_caller]
pub(super) fn all_good(walked: &Walked) {
    assert!(walked.iter().all(|(_, fed)| fed.is_ok()), "{walked:#?}");
}

/// The files that were there or refused, with the reason.
pub(super) fn reasons(walked: &Walked) -> Vec<(&str, Option<Reason>)> {
    let told = walked.iter().filter(|(file, _)| !file.ends_with(".root.json"));
    told.map(|(file, fed)| (file.as_str(), fed.as_ref().err().map(|refusal| refusal.reason))).collect()
}
