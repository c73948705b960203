//! A node that pulls from a parent in memory: what it activates, what it refuses, and what is left after each.

mod anew;
mod deaths;
mod pace;
mod world;

use std::path::PathBuf;

use eyot_bundle::control::State;
use eyot_bundle::grant::GrantState;
use eyot_bundle::release::Step;
use eyot_bundle::secret::Identity;
use eyot_bundle::sign::Key;

use super::*;
use crate::blobs::Blobs;
use crate::compile::{Compilers, Options};
use crate::secrets::Vault;
use crate::shield::Shields;
use world::{Memory, Seen, World, grant, name, release, with_function};

/// A component that no compiler takes.
const WASM: &[u8] = b"\0asm\x0d\0\x01\0";

struct Node {
    folder: tempfile::TempDir,
    pull: Option<Pull<Memory, Seen>>,
    handle: Option<Handle>,
    seen: Arc<Seen>,
    status: Arc<Status>,
    telemetry: Arc<Telemetry>,
    compiler: PathBuf,
}

impl Node {
    fn new(world: &World) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (seen, status) = (Arc::<Seen>::default(), Arc::<Status>::default());
        let (telemetry, compiler) = (Arc::new(Telemetry::new()), PathBuf::from("/nonexistent/compiler"));
        let mut node = Self { folder, pull: None, handle: None, seen, status, telemetry, compiler };
        node.start(world);
        node
    }

    /// Ends the process, so to say, and starts it anew.
    fn start(&mut self, world: &World) {
        self.pull = None;
        self.seen = Arc::default();
        self.status = Arc::default();
        let state = self.folder.path();
        let settings = eyot_guest::Settings {
            slots: 1,
            threads: 1,
            memory_bytes_max: 64 << 20,
            code_bytes_max: 1 << 20,
            queued_max: 1,
            queue_wait_ms: 1000,
            artefacts: state.join("compiled"),
            key: [7; 32],
        };
        let options = Options {
            program: self.compiler.clone(),
            processes: 1,
            memory_bytes: 1 << 30,
            cpu_ms: 1000,
            threads: 1,
            known: None,
        };
        let stage = Stage::new(
            world.parent.clone(),
            Blobs::open(state).expect("blobs"),
            Compilers::new(options),
            eyot_guest::Runtime::new(settings).expect("a runtime"),
            Vault::new(Identity::generate(), Blobs::open(state).expect("blobs")),
            Arc::clone(&self.telemetry),
        );
        let setup = Setup {
            stage: Arc::new(stage),
            apps: Arc::clone(&self.seen),
            status: Arc::clone(&self.status),
            telemetry: Arc::clone(&self.telemetry),
            node: name("fra-1"),
            region: "eu-fra".to_owned(),
            state: state.to_owned(),
            root: world.root.clone(),
            poll_ms: 20_000,
            answers: crate::acme::Answers::default(),
            purger: Arc::new(crate::purge::Purger::new(None, None, Arc::clone(&self.telemetry), Arc::default())),
            shields: Arc::new(Shields::new(name("fra-1"), "eu-fra".to_owned(), Arc::new(Identity::generate()), None)),
        };
        let (pull, handle) = Pull::start(setup).expect("started");
        (self.pull, self.handle) = (Some(pull), Some(handle));
    }

    fn pull(&mut self) -> &mut Pull<Memory, Seen> {
        self.pull.as_mut().expect("running")
    }

    /// One round, and all that follows from it.
    async fn round(&mut self) {
        let pull = self.pull();
        pull.round(BTreeMap::new()).await;
        while !pull.jobs.is_idle() {
            let done = pull.jobs.next().await.expect("one ends");
            pull.finish(done);
        }
        pull.tidy();
    }

    /// What answers, app by app.
    fn answers(&self) -> String {
        let seen = self.seen.0.lock().expect("whole");
        seen.iter().map(|(app, word)| format!("{app} {word}")).collect::<Vec<_>>().join(", ")
    }

    fn refused(&self, app: &str) -> Option<(u64, Reason)> {
        let facts = self.status.facts();
        let refused = facts.apps.get(&name(app)).and_then(|app| app.refused.clone());
        refused.map(|(release, refusal)| (release, refusal.reason))
    }
}

/// Two apps with release 1 each, and a node that runs them.
async fn running() -> (World, Node) {
    let mut world = World::new(&["blog", "shop"]);
    world.publish(&release("blog", 1));
    world.publish(&release("shop", 1));
    let mut node = Node::new(&world);
    node.round().await;
    assert_eq!(node.answers(), "blog 1, shop 1");
    (world, node)
}

#[tokio::test]
async fn a_publish_becomes_active_and_survives_a_restart_with_the_origin_away() {
    let (mut world, mut node) = running().await;
    world.publish(&release("shop", 2));
    node.round().await;
    assert_eq!(node.answers(), "blog 1, shop 2");
    assert_eq!((node.refused("shop"), node.refused("blog")), (None, None));
    world.shelf(|shelf| shelf.away = true);
    node.start(&world);
    assert_eq!(node.answers(), "blog 1, shop 2", "before any parent was asked");
    node.round().await;
    assert_eq!(node.answers(), "blog 1, shop 2");
    assert!(node.status.facts().unreachable.is_some());
}

#[tokio::test]
async fn a_granted_app_without_a_release_is_not_ready_and_no_refusal() {
    let world = World::new(&["shop"]);
    let mut node = Node::new(&world);
    node.round().await;
    assert_eq!((node.answers().as_str(), node.refused("shop")), ("shop not ready", None));
}

#[tokio::test]
async fn a_bad_release_leaves_its_app_as_it_was_and_the_other_goes_on() {
    let outside = |number| {
        let mut bad = release("shop", number);
        bad.hosts[0] = "blog.example.com".parse().expect("a host");
        bad.routes[0].host = bad.hosts[0].clone();
        bad
    };
    let mut format = release("shop", 2);
    format.format = 9;
    for (bad, reason) in [
        (outside(2), Reason::HostNotGranted),
        (format, Reason::FormatUnknown),
        (with_function(release("shop", 2), WASM), Reason::MissingBlob),
    ] {
        let (mut world, mut node) = running().await;
        world.publish(&bad);
        world.publish(&release("blog", 2));
        node.round().await;
        assert_eq!(node.answers(), "blog 2, shop 1");
        assert_eq!(node.refused("shop"), Some((2, reason)));
        assert_eq!(node.refused("blog"), None);
        let counted = format!(r#"eyot_refusals_total{{app="shop",reason="{}"}} 1"#, reason.code());
        assert!(node.telemetry.render().contains(&counted), "{counted}");
        node.start(&world);
        assert_eq!(node.answers(), "blog 2, shop 1");
        world.publish(&release("shop", 3));
        node.round().await;
        assert_eq!((node.answers().as_str(), node.refused("shop")), ("blog 2, shop 3", None));
    }
}

#[tokio::test]
async fn what_does_not_compile_is_fetched_and_refused_and_what_has_other_bytes_is_never_kept() {
    let (mut world, mut node) = running().await;
    let digest = Digest::of(WASM);
    world.publish(&with_function(release("shop", 2), WASM));
    world.shelf(|shelf| drop(shelf.blobs.insert(digest, b"\0asm\x0d\0\x01\x01".to_vec())));
    node.round().await;
    assert_eq!(node.refused("shop"), Some((2, Reason::DigestMismatch)));
    world.shelf(|shelf| drop(shelf.blobs.insert(digest, WASM.to_vec())));
    world.publish(&with_function(release("shop", 3), WASM));
    node.round().await;
    assert_eq!(node.refused("shop"), Some((3, Reason::CompileFailed)));
    assert_eq!(node.answers(), "blog 1, shop 1");
    assert!(node.pull().setup.stage.blobs.has(digest, WASM.len() as u64));
}

#[tokio::test]
async fn a_rollback_goes_to_a_named_previous_even_with_expired_metadata() {
    let (mut world, mut node) = running().await;
    world.publish(&release("shop", 2));
    node.round().await;
    world.control(&name("shop"), 2, 1, State::RolledBack);
    node.round().await;
    assert_eq!(node.answers(), "blog 1, shop 1");
    node.start(&world);
    assert_eq!(node.answers(), "blog 1, shop 1");
}

#[tokio::test]
async fn a_rollback_below_min_release_is_refused() {
    let (mut world, mut node) = running().await;
    let mut new = release("shop", 2);
    new.min_release = 2;
    world.publish(&new);
    node.round().await;
    assert_eq!(node.answers(), "blog 1, shop 2");
    world.control(&name("shop"), 2, 1, State::RolledBack);
    node.round().await;
    assert_eq!(node.answers(), "blog 1, shop 2");
    assert_eq!(node.refused("shop"), Some((2, Reason::OlderThanFloor)));
}

#[tokio::test]
async fn the_grant_ends_an_app_and_lets_it_come_back() {
    let (mut world, mut node) = running().await;
    for (state, answers) in [
        (GrantState::Suspended, "blog 1, shop suspended"),
        (GrantState::Active, "blog 1, shop 1"),
        (GrantState::Removed, "blog 1"),
        (GrantState::Active, "blog 1, shop 1"),
    ] {
        world.grants.get_mut(&name("shop")).expect("granted").state = state;
        world.targets();
        world.online();
        node.round().await;
        assert_eq!(node.answers(), answers);
        node.start(&world);
        assert_eq!(node.answers(), answers, "after a restart");
    }
}

#[tokio::test]
async fn an_app_whose_host_was_taken_back_stops() {
    let (mut world, mut node) = running().await;
    world.grants.insert(name("shop"), grant("other"));
    world.targets();
    world.online();
    node.round().await;
    assert_eq!(node.answers(), "blog 1, shop not ready");
    assert_eq!(node.refused("shop"), Some((1, Reason::HostNotGranted)));
}

#[tokio::test]
async fn what_a_revoked_key_signed_stops_and_what_its_successor_signs_runs() {
    let (mut world, mut node) = running().await;
    world.keys.insert("app-shop".to_owned(), Key::generate().expect("a key"));
    world.targets();
    world.online();
    node.round().await;
    assert_eq!(node.answers(), "blog 1, shop not ready");
    assert_eq!(node.refused("shop").map(|(_, reason)| reason), Some(Reason::WrongKey));
    node.start(&world);
    assert_eq!(node.answers(), "blog 1, shop not ready", "after a restart");
    world.publish(&release("shop", 2));
    node.round().await;
    assert_eq!((node.answers().as_str(), node.refused("shop")), ("blog 1, shop 2", None));
}

#[tokio::test]
async fn a_denied_digest_never_starts() {
    let (mut world, mut node) = running().await;
    world.shelf(|shelf| drop(shelf.blobs.insert(Digest::of(WASM), WASM.to_vec())));
    world.deny(Digest::of(WASM));
    world.publish(&with_function(release("shop", 2), WASM));
    node.round().await;
    assert_eq!(node.refused("shop"), Some((2, Reason::Incompatible)));
    assert!(!node.pull().setup.stage.blobs.has(Digest::of(WASM), WASM.len() as u64), "it is not even fetched");
}

#[tokio::test]
async fn expired_metadata_stops_what_is_new_and_nothing_else() {
    let (mut world, mut node) = running().await;
    world.publish(&release("shop", 2));
    node.round().await;
    world.shelf(|shelf| shelf.away = true);
    // The publisher's next is known to the node, its word is not fresh any more when the node looks at it.
    let pull = node.pull();
    let expired = Some("timestamp".to_owned());
    let app = pull.trust.apps().into_iter().find(|app| app.app == name("shop")).expect("granted");
    let mut record = pull.records[&name("shop")].clone();
    let job = |record: &AppRecord| crate::stage::prepare::Job {
        app: app.clone(),
        record: record.clone(),
        known: crate::stage::prepare::documents_of(&name("shop"), &pull.files),
        node: name("fra-1"),
        now: pull.now(),
        clock: Timestamp::now(),
        expired: expired.clone(),
        denied: Arc::default(),
    };
    assert!(pull.setup.stage.prepare(job(&record)).await.is_ok(), "what runs goes on");
    record.active = Some(1);
    let refused = pull.setup.stage.prepare(job(&record)).await.expect_err("new");
    assert_eq!((refused.0, refused.1.reason), (2, Reason::Expired));
}

#[tokio::test]
async fn a_signed_time_that_runs_ahead_shortens_no_bake() {
    let (mut world, mut node) = running().await;
    let mut second = release("shop", 2);
    let step = |percent_bp| Step { select: "*".to_owned(), percent_bp, bake_ms: 3_600_000 };
    second.rollout.steps = vec![step(0), step(10_000)];
    world.publish(&second);
    node.round().await;
    assert_eq!(node.answers(), "blog 1, shop 1", "the first step takes nobody in");
    world.now += jiff::SignedDuration::from_hours(1000);
    world.online();
    node.pull().jobs.again(&name("shop"));
    node.round().await;
    assert!(node.pull().trust.time_floor() > Timestamp::now(), "it is believed");
    assert_eq!(node.answers(), "blog 1, shop 1");
}

#[tokio::test]
async fn a_torn_ledger_is_floor_lost_and_the_node_goes_on_until_the_operator_resets_it() {
    let (mut world, mut node) = running().await;
    node.pull = None;
    let store = node.folder.path().join("ledger.redb");
    let bytes = std::fs::read(&store).expect("read");
    std::fs::write(&store, &bytes[..bytes.len() / 2]).expect("torn");
    node.start(&world);
    assert_eq!(node.answers(), "blog 1, shop 1", "from the serving file");
    assert_eq!(node.status.facts().ledger.word(), "floor_lost");
    world.publish(&release("shop", 2));
    node.round().await;
    assert_eq!(node.answers(), "blog 1, shop 1", "nothing new is taken");
    node.pull().reset();
    assert_eq!(node.answers(), "blog 1, shop 1");
    node.round().await;
    assert_eq!((node.answers().as_str(), node.status.facts().ledger.word()), ("blog 1, shop 2", "ok"));
}

#[tokio::test]
async fn a_serving_file_that_was_changed_serves_nothing_that_was_not_signed() {
    let (world, mut node) = running().await;
    node.pull = None;
    std::fs::remove_file(node.folder.path().join("ledger.redb")).expect("gone");
    let mut written = serving::read(node.folder.path()).expect("there");
    let forged = eyot_bundle::sign::document(&release("shop", 1)).expect("a document");
    let forged = String::from_utf8(forged).expect("text").replace("\"1\"", "\"x\"");
    written.files.insert("releases/shop/1.json".to_owned(), forged.into_bytes());
    serving::write(node.folder.path(), &written).expect("written");
    node.start(&world);
    assert_eq!(node.answers(), "blog 1, shop not ready");
    assert_eq!(node.refused("shop"), Some((1, Reason::DigestMismatch)));
}

#[tokio::test]
async fn a_parent_that_remembers_more_of_this_node_tells_an_old_disk() {
    let (world, mut node) = running().await;
    let seq = node.pull().trust.seq();
    node.pull().answered(Ok(eyot_link::wire::ReportAnswer { seq }));
    assert_eq!(node.status.facts().ledger.word(), "ok");
    node.pull().answered(Ok(eyot_link::wire::ReportAnswer { seq: seq + 1 }));
    assert_eq!(node.status.facts().ledger.word(), "floor_lost");
    drop(world);
}

#[tokio::test]
async fn a_parent_that_goes_back_or_gives_rubbish_moves_nothing() {
    let (mut world, mut node) = running().await;
    let before = world.parent.0.lock().expect("whole").clone();
    world.publish(&release("shop", 2));
    node.round().await;
    world.shelf(|shelf| *shelf = before);
    node.round().await;
    assert_eq!(node.answers(), "blog 1, shop 2");
    assert_eq!(node.status.facts().roles["timestamp"].reason, Reason::OlderThanFloor);
    world.shelf(|shelf| shelf.metadata.values_mut().for_each(|bytes| bytes.truncate(bytes.len() / 2)));
    node.round().await;
    assert_eq!(node.answers(), "blog 1, shop 2");
    assert_eq!(node.status.facts().roles["timestamp"].reason, Reason::Parse);
}
