//! Tests of the snapshot: whose a host is, and how generations end.

use eyot_bundle::secret::Identity;
use std::time::Duration;

use eyot_bundle::grant::Grant;
use eyot_bundle::release::{Limits, Release};

use super::*;
use crate::blobs::Blobs;
use crate::entry::Ground;
use crate::secrets::Vault;
use crate::shares::{Capacity, Shares};
use crate::telemetry::Telemetry;

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn hosts(texts: &[&str]) -> Vec<HostPattern> {
    texts.iter().map(|text| text.parse().expect("a host")).collect()
}

fn entry(app: &str, number: u64) -> Arc<Entry> {
    let release: Release = serde_json::from_value(serde_json::json!({
        "format": 1, "app": app, "number": number, "created": "2026-11-22T12:00:00Z", "hosts": ["a.test"],
        "routes": [{"id": "a.test/*", "host": "a.test", "path": "/*", "target": {"respond": {"status": 204}}}],
    }))
    .expect("a release");
    let grant: Grant =
        serde_json::from_value(serde_json::json!({"state": "active", "hosts": ["a.test"]})).expect("a grant");
    let capacity = Capacity { slots: 100, threads: 1, memory_bytes: 0, wait: Duration::ZERO, waiting_max: 0 };
    let share = Shares::new(capacity, Arc::new(Telemetry::new())).of(&release.app, &grant.share);
    let folder = tempfile::tempdir().expect("a folder");
    let blobs = || Blobs::open(folder.path()).expect("blobs");
    let (vault, blobs) = (Vault::new(Identity::generate(), blobs()), blobs());
    let file = folder.path().join("stores.redb");
    let options = eyot_state::Options { file, nats: None, redis: None, clock: eyot_state::Clock::system() };
    let stores = eyot_state::Stores::new(options).expect("stores");
    let fetch = eyot_fetch::Fetch::new(eyot_fetch::Options::default()).expect("a client");
    let upstreams = crate::upstreams::Upstreams::new(fetch, "eyot".to_owned());
    let purges = Arc::new(eyot_cache::purges::Purges::in_memory(None, 0));
    let rooms = eyot_cache::rooms::Rooms::new(1 << 20, eyot_cache::room::Common::new(purges));
    let ground = Ground {
        ceilings: Limits::default(),
        vault: &vault,
        blobs: &blobs,
        stores: &stores,
        upstreams: &upstreams,
        rooms: &rooms,
        telemetry: &Arc::new(Telemetry::new()),
        allow_private: &[],
    };
    Arc::new(Entry::build(&ground, &release, &grant, share).expect("a good release"))
}

fn serving(texts: &[&str], entry: &Arc<Entry>) -> App {
    App { hosts: hosts(texts), state: State::Serving(Arc::clone(entry)) }
}

#[test]
fn a_host_belongs_to_one_app_and_says_what_that_app_does() {
    let snapshots = Snapshots::default();
    snapshots.put(name("shop"), serving(&["shop.test", "*.shop.test"], &entry("shop", 7)));
    snapshots.put(name("late"), App { hosts: hosts(&["late.test"]), state: State::NotReady });
    snapshots.put(name("gone"), App { hosts: hosts(&["api.shop.test"]), state: State::Suspended });
    for (host, expect) in [
        ("shop.test", Ok(7)),
        ("a.b.shop.test", Ok(7)),
        ("late.test", Err(("late", Code::NotReady))),
        ("api.shop.test", Err(("gone", Code::Suspended))),
        ("other.test", Err(("", Code::NoRoute))),
    ] {
        let found = snapshots.find(host).map(|entry| entry.release);
        let found = found.map_err(|stray| (stray.app.to_string(), stray.fault.code));
        assert_eq!(found, expect.map_err(|(app, code)| (app.to_owned(), code)), "{host}");
    }
    snapshots.remove(&name("gone"));
    assert_eq!(snapshots.find("api.shop.test").ok().map(|entry| entry.release), Some(7));
}

#[tokio::test]
async fn a_swap_leaves_other_apps_alone_and_closes_what_is_four_generations_old() {
    let snapshots = Snapshots::default();
    let other = entry("other", 1);
    snapshots.put(name("other"), serving(&["other.test"], &other));
    let entries: Vec<_> = (1..=6).map(|number| entry("shop", number)).collect();
    for entry in &entries {
        snapshots.put(name("shop"), serving(&["shop.test"], entry));
    }
    let closed = |entry: &Arc<Entry>| futures_now(entry.closed());
    assert_eq!(entries.iter().map(closed).collect::<Vec<_>>(), [true, true, false, false, false, false]);
    assert!(!closed(&other));
    snapshots.put(name("shop"), serving(&["shop.test"], &entries[0]));
    assert!(!closed(&entries[0]), "what is put in use again goes on");
    assert!(closed(&entries[2]), "and is the newest now");
    snapshots.put(name("shop"), App { hosts: hosts(&["shop.test"]), state: State::Suspended });
    assert!(entries.iter().all(closed), "a suspended app ends what still streams");
}

#[test]
fn an_entry_ends_with_its_last_request() {
    let snapshots = Snapshots::default();
    snapshots.put(name("shop"), serving(&["shop.test"], &entry("shop", 1)));
    let held = snapshots.find("shop.test").ok().expect("it serves");
    let ended = Arc::downgrade(&held);
    snapshots.put(name("shop"), serving(&["shop.test"], &entry("shop", 2)));
    assert_eq!(ended.strong_count(), 1, "only the request holds it");
    drop(held);
    assert_eq!(ended.strong_count(), 0);
}

/// Whether a future is ready at once.
fn futures_now(future: impl Future<Output = ()>) -> bool {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    std::pin::pin!(future).poll(&mut context).is_ready()
}
