//! What was answered is kept, whatever ends the origin; and many writers lose nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use eyot_bundle::trust::Trust;
use eyot_link::wire::{Base64, OperatorUpload, Publish};
use jiff::Timestamp;

use super::house::{House, block_on, name, release, wasm, with_function};
use super::publish::round;
use crate::blobs::Blobs as _;
use crate::blobs::files::FileBlobs;
use crate::catalog::Catalog;
use crate::denied::Denied;
use crate::heads::redb::RedbHeads;
use crate::job::Job;
use crate::signer::Signer;

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            // What is being written aside may be gone by now.
            let _ = std::fs::copy(entry.path(), to);
        }
    }
}

#[test]
fn an_origin_that_was_killed_holds_all_that_it_had_answered() {
    let mut house = House::new();
    let mut earlier: Vec<eyot_bundle::release::Release> = Vec::new();
    drop(house.start_granted());
    for number in 1..=4_u64 {
        let origin = house.start();
        let shop = house.publisher(&origin, "shop");
        let salt = format!("bundle {number}");
        let one = with_function(
            release("shop", number, &earlier.iter().map(|one| one.number).collect::<Vec<_>>()),
            &wasm(&salt),
        );
        block_on(async {
            let known = shop.releases(&one.app).await.expect("the releases");
            assert_eq!((known.role_version, known.releases.len() as u64), (number - 1, number - 1));
            shop.put_blob(wasm(&salt)).await.expect("an upload");
            let publish = house.publish(&one, &earlier.iter().collect::<Vec<_>>());
            assert_eq!(shop.publish(&one.app, &publish).await.expect("a publish").seq, number + 1);
        });
        earlier.push(one);
        // Its threads end where they stand; the image of its disk at this moment starts too.
        let image = tempfile::tempdir().expect("a folder");
        copy_folder(&house.folder.path().join("state"), image.path());
        drop(origin);
        std::fs::remove_dir_all(house.folder.path().join("state")).expect("the folder");
        copy_folder(image.path(), &house.folder.path().join("state"));
    }
    let origin = house.start();
    let records = block_on(house.publisher(&origin, "shop").audit()).expect("the audit").records;
    assert_eq!(records.iter().filter(|record| record.action == "publish" && record.result == "done").count(), 4);
    origin.stop();
}

#[test]
fn a_state_that_does_not_verify_is_not_served() {
    let mut house = House::new();
    let origin = house.start_granted();
    block_on(house.publisher(&origin, "shop").publish(&name("shop"), &house.publish(&release("shop", 1, &[]), &[])))
        .expect("a publish");
    origin.stop();
    let root = std::fs::read(house.folder.path().join("root.json")).expect("the root");
    let strange = House::new();
    std::fs::copy(strange.folder.path().join("root.json"), house.folder.path().join("root.json")).expect("a copy");
    assert!(matches!(house.try_start(), Err(crate::Error::State(_))), "another operator's root");
    std::fs::write(house.folder.path().join("root.json"), root).expect("the root");
    drop(house.start());
    let blobs = house.folder.path().join("state/blobs/sha256");
    let mut changed = 0;
    for shard in std::fs::read_dir(blobs).expect("a folder") {
        for blob in std::fs::read_dir(shard.expect("a shard").path()).expect("a folder") {
            let path = blob.expect("a blob").path();
            let bytes = std::fs::read(&path).expect("the blob");
            if bytes.windows(14).any(|window| window == b"\"_type\":\"snaps")
                && String::from_utf8_lossy(&bytes).contains("app-shop")
            {
                std::fs::remove_file(&path).expect("the blob");
                std::fs::write(&path, String::from_utf8_lossy(&bytes).replace("\"version\":2", "\"version\":3"))
                    .expect("a lie");
                changed += 1;
            }
        }
    }
    assert_eq!(changed, 1);
    assert!(matches!(house.try_start(), Err(crate::Error::State(_))), "a snapshot that was changed");
}

/// The stores of an origin that does not run.
fn stores(house: &House) -> (RedbHeads, FileBlobs) {
    let state = house.config().state;
    let heads = RedbHeads::open(&state.join("heads.redb")).expect("the heads");
    (heads, FileBlobs::open(&state.join("blobs")).expect("the blobs"))
}

async fn catalog(house: &House, (heads, blobs): &(RedbHeads, FileBlobs)) -> Arc<Catalog<RedbHeads, FileBlobs>> {
    let config = house.config();
    let signer = Signer::load(&config.keys, config.expiry).expect("the keys");
    let root = Bytes::from(std::fs::read(&config.root).expect("the root"));
    Arc::new(Catalog::open(heads.clone(), blobs.clone(), signer, root, config.quotas).await.expect("a catalog"))
}

#[test]
fn two_origins_on_the_same_heads_lose_no_publish_and_agree() {
    let mut house = House::new();
    house.start_granted().stop();
    let stores = stores(&house);
    block_on(async {
        let now = Timestamp::now();
        let origins = [catalog(&house, &stores).await, catalog(&house, &stores).await];
        let mut tasks = tokio::task::JoinSet::new();
        for (origin, app) in origins.iter().zip(["shop", "blog"]) {
            let publishes: Vec<Publish> = (1..=5)
                .map(|number| {
                    let earlier: Vec<_> =
                        (1..number).map(|number| release(app, number, &(1..number).collect::<Vec<_>>())).collect();
                    house.publish(
                        &release(app, number, &(1..number).collect::<Vec<_>>()),
                        &earlier.iter().collect::<Vec<_>>(),
                    )
                })
                .collect();
            let (origin, app) = (Arc::clone(origin), name(app));
            tasks.spawn(async move {
                for publish in publishes {
                    origin.run(&Job::Publish { app: app.clone(), publish }, now).await.map(drop)?;
                }
                Ok::<_, Denied>(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.expect("a task").expect("every publish");
        }
        for origin in origins {
            origin.reload().await.expect("the newest");
            let view = origin.view();
            assert_eq!(view.seq(), 11);
            for app in ["shop", "blog"] {
                assert_eq!(view.apps[app].trust.releases.len(), 5, "{app}");
                assert_eq!(
                    view.apps[app].control.as_ref().map(|control| (control.release, control.base)),
                    Some((5, 4))
                );
            }
        }
    });
}

#[test]
fn what_expires_is_signed_anew_in_time_and_only_then() {
    let mut house = House::new();
    house.start_granted().stop();
    let stores = stores(&house);
    block_on(async {
        let origin = catalog(&house, &stores).await;
        let start = origin.view().trust.time_floor();
        let at = |hours: i64| start + jiff::SignedDuration::from_hours(hours);
        let publish = house.publish(&release("shop", 1, &[]), &[]);
        origin.run(&Job::Publish { app: name("shop"), publish }, start).await.expect("a publish");
        let version = |role: &str| origin.view().state.files[&format!("{role}.json")].version;
        let keep = |hours: i64| {
            let origin = Arc::clone(&origin);
            async move {
                let due = origin.is_due(&origin.view(), at(hours));
                origin.run(&Job::Keep, at(hours)).await.expect("nothing fails");
                due
            }
        };
        for (hours, due, timestamp, snapshot, director) in [
            (0, false, 2, 2, 1),
            (1, true, 3, 2, 1),
            (1, false, 3, 2, 1),
            (3, true, 4, 2, 1),
            (90, true, 5, 3, 2),
            (480, true, 6, 4, 3),
        ] {
            assert_eq!(keep(hours).await, due, "{hours}");
            assert_eq!(
                (version("timestamp"), version("snapshot"), version("director")),
                (timestamp, snapshot, director),
                "{hours}"
            );
        }
        // A clock that was set back does not sign an earlier time.
        assert!(!keep(-1000).await);
        assert_eq!(origin.view().trust.time_floor(), at(480));
    });
}

#[test]
fn an_origin_whose_clock_ran_a_year_ahead_is_believed_again_once_it_is_right() {
    let mut house = House::new();
    house.start_granted().stop();
    let stores = stores(&house);
    let clock = jiff::Timestamp::now();
    let root = std::fs::read(house.folder.path().join("root.json")).expect("the root");
    let mut trust = Trust::new(&root).expect("the root");
    block_on(async {
        let wrong = catalog(&house, &stores).await;
        wrong.run(&Job::Keep, clock + jiff::SignedDuration::from_hours(24 * 365)).await.expect("it signs");
        follow(&wrong, &mut trust, clock).await;
        assert!(trust.expired(clock).is_empty() && trust.refused().is_empty());
        drop(wrong);
        let right = catalog(&house, &stores).await;
        let publish = house.publish(&release("shop", 1, &[]), &[]);
        right.run(&Job::Publish { app: name("shop"), publish }, clock).await.expect("nothing has expired");
        follow(&right, &mut trust, clock).await;
        assert_eq!(trust.apps()[0].releases.len(), 1, "{:?}", trust.refused());
    });
}

/// A node's round, by its own clock.
async fn follow(origin: &Catalog<RedbHeads, FileBlobs>, trust: &mut Trust, clock: jiff::Timestamp) {
    trust.begin();
    let view = origin.view();
    while let Some(want) = trust.wants().into_iter().next() {
        let Some(file) = view.metadata(&want.file) else {
            trust.absent(&want.file);
            continue;
        };
        let bytes = origin.blobs.get(file.sha256, 0..file.length).await.expect("a store").expect("the file");
        let _ = trust.feed(&want.file, &bytes, clock);
    }
}

#[test]
fn what_no_release_names_is_swept_after_a_day_and_what_one_names_is_not() {
    let mut house = House::new();
    let origin = house.start_granted();
    let shop = house.publisher(&origin, "shop");
    let used = wasm("used");
    let one = with_function(release("shop", 1, &[]), &used);
    block_on(async {
        shop.put_blob(used.clone()).await.expect("an upload");
        shop.put_blob(wasm("unused")).await.expect("an upload");
        shop.publish(&one.app, &house.publish(&one, &[])).await.expect("a publish");
    });
    origin.stop();
    let stores = stores(&house);
    let digest = |salt: &str| eyot_bundle::digest::Digest::of(&wasm(salt));
    block_on(async {
        let origin = catalog(&house, &stores).await;
        let held = async |salt: &str| {
            let uploads = origin.uploads(&name("shop")).await.expect("the uploads");
            (uploads.holds(digest(salt)), origin.blobs.size(digest(salt)).await.expect("an answer").is_some())
        };
        assert_eq!(origin.sweep(Timestamp::now()).await.expect("a sweep"), 0);
        assert_eq!((held("used").await, held("unused").await), ((true, true), (true, true)));
        let later = Timestamp::now() + jiff::SignedDuration::from_hours(25);
        // The timestamps that were replaced go too.
        assert!(origin.sweep(later).await.expect("a sweep") > 1);
        assert_eq!((held("used").await, held("unused").await), ((true, true), (false, false)));
        let publish = house.publish(&release("shop", 2, &[1]), &[&one]);
        origin.run(&Job::Publish { app: name("shop"), publish }, later).await.expect("all that is needed is there");
        origin.sweep(later).await.expect("a sweep");
    });
    drop(stores);
    drop(house.start());
}

#[test]
fn a_new_root_and_new_online_keys_are_followed() {
    let mut house = House::new();
    house.start_granted().stop();
    house.new_online_keys();
    let origin = house.start();
    let node = house.node(&origin, "fra-1");
    let upload = OperatorUpload {
        metadata: [("2.root.json".to_owned(), Base64(house.root(2)))].into(),
        ..OperatorUpload::default()
    };
    let root = std::fs::read(house.folder.path().join("root.json")).expect("the root");
    block_on(async {
        let mut trust = Trust::new(&root).expect("the root");
        round(&mut trust, &node, &BTreeMap::new()).await;
        assert_eq!((trust.seq(), trust.root_version()), (1, 1));
        house.operator_client(&origin).upload(&upload).await.expect("the upload");
        round(&mut trust, &node, &BTreeMap::new()).await;
        assert_eq!((trust.seq(), trust.root_version()), (2, 2));
        house
            .publisher(&origin, "shop")
            .publish(&name("shop"), &house.publish(&release("shop", 1, &[]), &[]))
            .await
            .expect("a publish");
        round(&mut trust, &node, &BTreeMap::new()).await;
        assert_eq!(trust.seq(), 3);
    });
    origin.stop();
    drop(house.start());
}

#[test]
fn an_origin_killed_in_the_middle_of_a_publish_holds_the_old_state_or_the_new() {
    let mut house = House::new();
    drop(house.start_granted());
    let mut number = 0;
    for round in 0..8_u64 {
        let origin = house.start();
        let shop = house.publisher(&origin, "shop");
        let known = block_on(shop.releases(&name("shop"))).expect("the releases");
        assert!(
            [number, number + 1].contains(&known.role_version),
            "{number} was answered, {} is kept",
            known.role_version
        );
        number = known.role_version + 1;
        let one = release("shop", number, &[]);
        let publish = house.publish(&one, &[]);
        let (killed, is_killed) = tokio::sync::oneshot::channel::<()>();
        let asked = std::thread::spawn(move || {
            block_on(async move {
                tokio::select! {
                    published = shop.publish(&one.app, &publish) => published.is_ok(),
                    _ = is_killed => false,
                }
            })
        });
        // Each round ends it a little later: in its handshake, its checks, its writes, its answer.
        let until = std::time::Instant::now() + std::time::Duration::from_millis(round * 12);
        while std::time::Instant::now() < until {
            std::thread::yield_now();
        }
        drop(origin);
        drop(killed);
        if !asked.join().expect("the publisher's end") {
            number -= 1;
        }
    }
}

/// A connection to a process that was killed looks alive until it times out: what only reads does not wait for that.
#[test]
fn a_client_finds_an_origin_that_was_killed_and_started_again() {
    let mut house = House::new();
    let origin = house.start_granted();
    house.port = origin.bound.wire[0].port();
    let node = house.node(&origin, "fra-1");
    let before = block_on(node.metadata("timestamp.json")).expect("an answer");
    drop(origin);
    let _origin = house.start();
    assert_eq!(block_on(node.metadata("timestamp.json")).expect("an answer"), before);
}
