//! An operator, an origin and publishers in memory, and a node that pulls from them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use eyot_bundle::control::{Control, State};
use eyot_bundle::digest::Digest;
use eyot_bundle::fleet::Denied;
use eyot_bundle::grant::{Ceilings, Grant, GrantState, Share};
use eyot_bundle::name::Name;
use eyot_bundle::refusal::Refusal;
use eyot_bundle::release::{Bundle, FORMAT, Function, Limits, Release, Respond, Rollout, Route, Target};
use eyot_bundle::sign::{self, Delegation, Header, Holders, Key, Pin, RootRoles};
use eyot_bundle::trust::{TargetFile, app_role};
use eyot_link::error::Error;
use eyot_link::purge::Since;
use eyot_link::wire::{Report, ReportAnswer, WatchLine};
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::super::parent::{Parent, Watch};
use crate::activate::{Apps, Standing, Vitals};

pub(super) fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

/// All that a parent gives.
#[derive(Clone, Default)]
pub(super) struct Shelf {
    pub(super) metadata: BTreeMap<String, Vec<u8>>,
    pub(super) targets: BTreeMap<(String, Digest), Vec<u8>>,
    pub(super) blobs: BTreeMap<Digest, Vec<u8>>,
    /// The highest sequence it says it heard of.
    pub(super) heard: u64,
    /// Whether it is away.
    pub(super) away: bool,
    /// What it never answers.
    pub(super) mute: Option<&'static str>,
    /// What it was asked, and when.
    pub(super) asks: Arc<Mutex<Vec<(&'static str, Instant)>>>,
    /// How many ask it now, and how many did at most.
    pub(super) asking: Arc<(AtomicUsize, AtomicUsize)>,
}

/// A parent that gives what is on its shelf.
#[derive(Clone, Default)]
pub(super) struct Memory(pub(super) Arc<Mutex<Shelf>>);

impl Memory {
    /// The shelf, after giving way once: a test that stops a round can stop it at every question it asks.
    async fn look(&self, what: &'static str) -> Result<Shelf, Error> {
        let shelf = self.0.lock().expect("whole").clone();
        shelf.asks.lock().expect("whole").push((what, Instant::now()));
        if shelf.mute == Some(what) {
            std::future::pending::<()>().await;
        }
        let now = shelf.asking.0.fetch_add(1, Ordering::Relaxed) + 1;
        shelf.asking.1.fetch_max(now, Ordering::Relaxed);
        tokio::task::yield_now().await;
        shelf.asking.0.fetch_sub(1, Ordering::Relaxed);
        let shelf = self.0.lock().expect("whole").clone();
        if shelf.away { Err(Error::Connect { url: "memory".to_owned(), cause: "away".to_owned() }) } else { Ok(shelf) }
    }
}

fn missing() -> Error {
    Error::Refused { url: "memory".to_owned(), status: 404, problem: Box::default() }
}

pub(super) struct NoWatch;

impl Watch for NoWatch {
    fn url(&self) -> &str {
        "memory"
    }

    async fn next(&mut self) -> Result<WatchLine, Error> {
        std::future::pending().await
    }
}

impl Parent for Memory {
    type Watch = NoWatch;

    async fn metadata(&self, file: &str) -> Result<Option<Bytes>, Error> {
        let what = if file == "timestamp.json" { "timestamp" } else { "metadata" };
        Ok(self.look(what).await?.metadata.get(file).cloned().map(Bytes::from))
    }

    async fn target(&self, path: &str, sha256: Digest, _length_max: usize) -> Result<Bytes, Error> {
        self.look("target").await?.targets.get(&(path.to_owned(), sha256)).cloned().map(Bytes::from).ok_or_else(missing)
    }

    async fn blob(&self, digest: Digest, _size: u64, into: &Path) -> Result<(), Error> {
        let bytes = self.look("blob").await?.blobs.get(&digest).cloned().ok_or_else(missing)?;
        std::fs::write(into, bytes).map_err(|cause| Error::Disk { path: into.to_owned(), cause })
    }

    async fn watch(&self, _seq: u64, _purged: Option<&Since>) -> Result<NoWatch, Error> {
        self.look("watch").await.map(|_| NoWatch)
    }

    async fn report(&self, _report: &Report) -> Result<ReportAnswer, Error> {
        Ok(ReportAnswer { seq: self.look("report").await?.heard })
    }

    async fn tail(&self, _: &str, _: Bytes) -> Result<bool, Error> {
        Ok(false)
    }
}

/// A snapshot that only remembers: the release of each app, or how it stands, and how often an app was put there.
#[derive(Default)]
pub(super) struct Seen(pub(super) Mutex<BTreeMap<Name, String>>, pub(super) AtomicUsize);

impl Apps for Seen {
    type Entry = u64;

    fn build(&self, release: &Release, _grant: &Grant) -> Result<u64, Refusal> {
        Ok(release.number)
    }

    fn put(&self, app: &Name, _grant: &Grant, standing: Standing<u64>) {
        let word = match standing {
            Standing::NotReady => "not ready".to_owned(),
            Standing::Serving(number) => number.to_string(),
            Standing::Suspended => "suspended".to_owned(),
        };
        self.0.lock().expect("whole").insert(app.clone(), word);
        self.1.fetch_add(1, Ordering::Relaxed);
    }

    fn remove(&self, app: &Name) {
        self.0.lock().expect("whole").remove(app);
    }

    fn loaded(&self) {}

    fn vitals(&self) -> Vitals {
        Vitals::default()
    }
}

/// Who signs.
pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) parent: Memory,
    pub(super) root: Vec<u8>,
    pub(super) keys: BTreeMap<String, Key>,
    pub(super) grants: BTreeMap<Name, Grant>,
    pub(super) listed: BTreeMap<String, BTreeMap<String, TargetFile>>,
    versions: BTreeMap<String, u64>,
    pins: BTreeMap<String, Pin>,
    pub(super) timestamp_hours: i64,
    snapshot_hours: i64,
}

pub(super) fn grant(app: &str) -> Grant {
    Grant {
        state: GrantState::Active,
        hosts: vec![format!("{app}.example.com").parse().expect("a host")],
        limits: Ceilings::default(),
        share: Share::default(),
        egress_private: Vec::new(),
        stores: eyot_bundle::grant::own_engine(),
        placement: "*".to_owned(),
        keys: Default::default(),
    }
}

/// A release that answers everything with its number.
pub(super) fn release(app: &str, number: u64) -> Release {
    let host: eyot_bundle::host::HostPattern = format!("{app}.example.com").parse().expect("a host");
    let respond = Respond { status: 200, headers: BTreeMap::new(), body: number.to_string() };
    let path = "/*".parse().expect("a path");
    let route = Route {
        id: format!("{app}.example.com/*"),
        host: host.clone(),
        path,
        methods: Vec::new(),
        target: Target::Respond(respond),
        before: Vec::new(),
        on_fault: Default::default(),
        fallback: None,
        early_data: false,
        cache: None,
        policy: Default::default(),
    };
    Release {
        format: FORMAT,
        app: name(app),
        number,
        created: Timestamp::UNIX_EPOCH,
        previous: (1..number).rev().take(2).collect(),
        min_release: 0,
        hosts: vec![host],
        functions: BTreeMap::new(),
        upstreams: BTreeMap::new(),
        files: Default::default(),
        stores: Default::default(),
        schedules: Vec::new(),
        queues: Vec::new(),
        routes: vec![route],
        rollout: Rollout { salt: format!("{app}/{number}"), ..Rollout::default() },
    }
}

/// The same with a function whose component is `wasm`.
pub(super) fn with_function(mut release: Release, wasm: &[u8]) -> Release {
    let function = Function {
        bundle: Bundle { sha256: Digest::of(wasm), size: wasm.len() as u64 },
        world: "wasi:http/incoming-handler@0.2".to_owned(),
        imports: Vec::new(),
        limits: Limits::default(),
        egress: Vec::new(),
        env: BTreeMap::new(),
        config: Default::default(),
        secrets: Default::default(),
        stores: Default::default(),
        calls: Vec::new(),
        reuse: Default::default(),
        purge: false,
    };
    release.functions.insert(name("f"), function);
    release.routes[0].target = Target::Function(name("f"));
    release
}

impl World {
    pub(super) fn new(apps: &[&str]) -> Self {
        let roles = ["root", "targets", "snapshot", "timestamp", "fleet", "director"].map(str::to_owned);
        let roles = roles.into_iter().chain(apps.iter().map(|app| app_role(&name(app))));
        let keys: BTreeMap<_, _> = roles.map(|role| (role, Key::generate().expect("a key"))).collect();
        let holders = |role: &str| Holders::one(keys[role].public());
        let root = RootRoles {
            root: holders("root"),
            snapshot: holders("snapshot"),
            targets: holders("targets"),
            timestamp: holders("timestamp"),
        };
        let now = Timestamp::now();
        let header = Header { version: 1, expires: now + SignedDuration::from_hours(9000) };
        let root = sign::root(header, &root, &[&keys["root"]]).expect("signed");
        let mut world = Self {
            now,
            parent: Memory::default(),
            root,
            keys,
            grants: apps.iter().map(|app| (name(app), grant(app))).collect(),
            listed: BTreeMap::new(),
            versions: BTreeMap::new(),
            pins: BTreeMap::new(),
            timestamp_hours: 24,
            snapshot_hours: 160,
        };
        world.targets();
        world.role("fleet");
        world.role("director");
        world.online();
        world
    }

    fn header(&mut self, role: &str, hours: i64) -> Header {
        let version = self.versions.entry(role.to_owned()).or_default();
        *version += 1;
        Header { version: *version, expires: self.now + SignedDuration::from_hours(hours) }
    }

    fn put(&mut self, role: &str, version: u64, bytes: Vec<u8>) {
        self.pins.insert(role.to_owned(), Pin::of(version, &bytes));
        self.shelf(|shelf| drop(shelf.metadata.insert(format!("{version}.{role}.json"), bytes)));
    }

    pub(super) fn shelf(&self, change: impl FnOnce(&mut Shelf)) {
        change(&mut self.parent.0.lock().expect("whole"));
    }

    /// The pauses between what it was asked of this kind.
    pub(super) fn pauses(&self, what: &str) -> Vec<Duration> {
        let asks = Arc::clone(&self.parent.0.lock().expect("whole").asks);
        let at: Vec<_> = asks.lock().expect("whole").iter().filter(|ask| ask.0 == what).map(|ask| ask.1).collect();
        at.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    pub(super) fn targets(&mut self) {
        let holders = |role: &str| Holders::one(self.keys[role].public());
        let mut delegations = vec![Delegation::fleet(holders("fleet")), Delegation::director(holders("director"))];
        for (app, grant) in &self.grants {
            delegations.push(Delegation::app(app, holders(&app_role(app)), grant.clone()));
        }
        let header = self.header("targets", 4000);
        let bytes = sign::targets(header, &delegations, &[&self.keys["targets"]]).expect("signed");
        self.put("targets", header.version, bytes);
    }

    pub(super) fn role(&mut self, role: &str) {
        let header = self.header(role, 4000);
        let files: Vec<_> = self.listed.get(role).into_iter().flat_map(BTreeMap::values).cloned().collect();
        let bytes = sign::delegated(header, &files, &[&self.keys[role]]).expect("signed");
        self.put(role, header.version, bytes);
    }

    pub(super) fn online(&mut self) {
        let header = self.header("snapshot", self.snapshot_hours);
        let bytes = sign::snapshot(header, &self.pins, &[&self.keys["snapshot"]]).expect("signed");
        let pin = Pin::of(header.version, &bytes);
        self.shelf(|shelf| drop(shelf.metadata.insert(format!("{}.snapshot.json", header.version), bytes)));
        let header = self.header("timestamp", self.timestamp_hours);
        let bytes = sign::timestamp(header, self.now, pin, &[&self.keys["timestamp"]]).expect("signed");
        self.shelf(|shelf| drop(shelf.metadata.insert("timestamp.json".to_owned(), bytes)));
    }

    /// Signs `role` again as one that expired long ago.
    pub(super) fn expire(&mut self, role: &str) {
        let now = self.now;
        let (long_ago, hours) = (now - SignedDuration::from_hours(5000), self.timestamp_hours);
        match role {
            "timestamp" => self.timestamp_hours = -1,
            "snapshot" => {}
            "targets" => {
                self.now = long_ago;
                self.targets();
            }
            role => {
                self.now = long_ago;
                self.role(role);
            }
        }
        self.now = now;
        self.snapshot_hours = if role == "snapshot" { -1 } else { 160 };
        self.online();
        (self.timestamp_hours, self.snapshot_hours) = (hours, 160);
    }

    fn list(&mut self, role: &str, path: String, bytes: Vec<u8>) {
        let file = TargetFile::new(path.clone(), &bytes);
        self.shelf(|shelf| drop(shelf.targets.insert((path.clone(), file.sha256), bytes)));
        self.listed.entry(role.to_owned()).or_default().insert(path, file);
        self.role(role);
    }

    /// Publishes, and lets the director roll it out to all.
    pub(super) fn publish(&mut self, release: &Release) {
        let (app, number) = (release.app.clone(), release.number);
        let bytes = sign::document(release).expect("a document");
        self.list(&app_role(&app), format!("releases/{app}/{number}.json"), bytes);
        self.control(&app, number, release.previous.first().copied().unwrap_or(0), State::Done);
    }

    pub(super) fn control(&mut self, app: &Name, release: u64, base: u64, state: State) {
        let seq = self.versions["director"];
        let control = Control {
            format: 1,
            app: app.clone(),
            seq,
            issued: self.now,
            release,
            base,
            step: 0,
            state,
            since: self.now,
            reason: None,
        };
        self.list("director", format!("control/{app}.json"), sign::document(&control).expect("a document"));
        self.online();
    }

    pub(super) fn deny(&mut self, digest: Digest) {
        let denied = sign::document(&Denied { digests: vec![digest] }).expect("a document");
        self.list("fleet", "fleet/denied.json".to_owned(), denied);
        self.online();
    }
}
