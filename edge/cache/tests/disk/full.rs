//! Bounds: the tier's own, and the disk's.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use bytes::Bytes;
use eyot_cache::disk::{CHUNK, Disk, Options};

use crate::child::{command, folder};
use crate::tool::{PLENTY, body, bytes, fill, id, objects, open, options, store, whole};

/// What the objects take of the disk, or less: those that went while they were looked at did not all take it at once.
fn allocated(folder: &Path) -> u64 {
    let seen: Vec<_> =
        objects(folder).into_iter().filter_map(|file| Some((file.metadata().ok()?.blocks() * 512, file))).collect();
    let still = objects(folder);
    seen.iter().filter(|(_, file)| still.contains(file)).map(|(bytes, _)| bytes).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bound_of_bytes_holds_at_every_time_with_many_that_store_and_read() {
    const BOUND: u64 = 40 * CHUNK as u64;
    let folder = tempfile::tempdir().expect("a folder");
    let disk = open(folder.path(), BOUND).await;
    let writers: Vec<_> = (0..8_u64)
        .map(|task| {
            let disk = disk.clone();
            tokio::spawn(async move {
                let mut stored = 0;
                for number in 0..40 {
                    let own = task * 1000 + number;
                    let length = usize::try_from(own % 9).expect("small") * CHUNK / 2;
                    stored += u32::from(store(&disk, own, own, &bytes(own, 200), &bytes(own, length), 9000).await);
                    for own in [own, own - number / 2] {
                        if let Some(reader) = disk.read(&id(own)).await {
                            assert_eq!(reader.meta(), &bytes(own, 200));
                            let _ = disk.remeta(id(own), bytes(own, 200)).await;
                            let length = usize::try_from(own % 9).expect("small") * CHUNK / 2;
                            assert!(body(&reader).await.expect("held") == bytes(own, length));
                        }
                    }
                }
                stored
            })
        })
        .collect();
    let mut most = 0;
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        assert!(disk.stats().bytes <= BOUND);
        most = most.max(allocated(folder.path()));
        tokio::task::yield_now().await;
    }
    let mut stored = 0;
    for writer in writers {
        stored += writer.await.expect("stored");
    }
    assert!(most <= BOUND, "{most} bytes were allocated");
    assert!(disk.stats().evicted > 0 && stored > 100, "{stored} {:?}", disk.stats());
    let (counted, allocated) = (disk.stats().bytes, allocated(folder.path()));
    assert!(allocated <= counted && counted <= allocated + 10_000 * 512, "{allocated} {counted}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_faster_than_the_disk_is_given_up_and_who_waits_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let little = Options { queue_bytes_max: 1 << 20, ..options(PLENTY) };
    let disk = Disk::open(folder.path().to_path_buf(), little).await.expect("opened");
    let much = bytes(1, 64 * CHUNK);
    let begin = |own| disk.begin_write(id(own), id(own), b"").expect("the disk is idle");
    let writers: Vec<_> = (0..7).map(begin).collect();
    let fills = writers.into_iter().map(|writer| fill(writer, much.clone(), Bytes::new(), CHUNK));
    let waits: Vec<_> = fills.map(tokio::spawn).collect();
    for wait in waits {
        assert!(wait.await.expect("stored"));
    }
    let mut writer = disk.begin_write(id(9), id(9), b"").expect("a writer");
    let gave_up = (0..100).any(|_| !writer.push(much.clone()));
    assert!(gave_up && !writer.finish(Bytes::new()).await);
    assert_eq!((disk.stats().objects, disk.stats().declined, disk.stats().write_errors), (7, 1, 0));
    assert!(whole(&disk, 3).await.expect("an object").1 == much);
    disk.close().await;
    assert_eq!(objects(folder.path()).len(), 7);
}

#[tokio::test]
async fn what_is_read_is_not_thrown_out_and_counts_until_it_is_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = open(folder.path(), 8 * CHUNK as u64).await;
    let large = bytes(1, 5 * CHUNK);
    assert!(store(&disk, 1, 1, b"", &large, CHUNK).await);
    let reader = disk.read(&id(1)).await.expect("an object");
    // Not room enough for another one while that is read.
    assert!(!store(&disk, 2, 2, b"", &large, CHUNK).await);
    assert!(whole(&disk, 1).await.is_some());
    let before = disk.stats().bytes;
    assert!(disk.remove(&id(1)).await);
    assert_eq!(disk.stats().bytes, before);
    assert!(!store(&disk, 2, 2, b"", &large, CHUNK).await);
    assert!(body(&reader).await.expect("held") == large);
    drop(reader);
    assert_eq!(disk.stats().bytes, 0);
    assert!(store(&disk, 2, 2, b"", &large, CHUNK).await);
}

#[tokio::test]
async fn no_more_objects_are_kept_than_may_be_also_when_the_bounds_were_lowered() {
    let folder = tempfile::tempdir().expect("a folder");
    let few = Options { objects_max: 100, ..options(PLENTY) };
    let disk = Disk::open(folder.path().to_path_buf(), few).await.expect("opened");
    for own in 0..300 {
        assert!(store(&disk, own, own, b"", &bytes(own, 10), 10).await);
        assert_eq!(disk.stats().objects, objects(folder.path()).len());
    }
    assert_eq!((disk.stats().objects, disk.stats().evicted), (100, 200));
    disk.close().await;
    let disk = open(folder.path(), 50 * 5000).await;
    assert!((40..=54).contains(&disk.stats().objects) && disk.stats().bytes <= 50 * 5000, "{:?}", disk.stats());
    assert!(whole(&disk, 299).await.is_some(), "the newest stay");
}

#[tokio::test]
async fn what_is_asked_for_outlasts_a_scan() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = open(folder.path(), 200 * 5000).await;
    for own in 0..50 {
        assert!(store(&disk, own, own, b"", &bytes(own, 10), 10).await);
        assert!(whole(&disk, own).await.is_some());
    }
    for own in 1000..4000 {
        assert!(store(&disk, own, own, b"", &bytes(own, 10), 10).await);
    }
    let mut stayed = 0;
    for own in 0..50 {
        stayed += usize::from(whole(&disk, own).await.is_some());
    }
    assert_eq!(stayed, 50);
    assert!(disk.stats().evicted > 2500);
}

#[tokio::test]
async fn on_a_disk_that_others_fill() {
    let Some(folder) = folder() else { return };
    let tier = folder.join("tier");
    let disk = open(&tier, PLENTY).await;
    let own = |round: u64| round % 40;
    let mut stored = 0;
    for round in 0..300_u64 {
        if round == 100 {
            // They take what there is.
            let _ = std::fs::write(folder.join("others"), vec![1; 1 << 20]);
        }
        let length = usize::try_from(round % 5).expect("small") * CHUNK / 2;
        let meta = round.to_le_bytes();
        stored += u32::from(store(&disk, own(round), own(round), &meta, &bytes(round, length), 30_000).await);
        for own in [round % 40, round * 7 % 40, round * 11 % 40] {
            let Some(reader) = disk.read(&id(own)).await else { continue };
            let round = u64::from_le_bytes(reader.meta()[..].try_into().expect("eight"));
            let length = usize::try_from(round % 5).expect("small") * CHUNK / 2;
            assert!(body(&reader).await.expect("what is on the disk can be read") == bytes(round, length));
            if round % 3 == 0 {
                let _ = disk.remeta(id(own), Bytes::copy_from_slice(&round.to_le_bytes())).await;
            }
        }
    }
    let stats = disk.stats();
    assert!(stats.write_errors > 0 && stats.evicted > 0 && stats.damaged == 0, "{stats:?}");
    assert!(stored > 150, "it goes on with less: {stored}");
    disk.close().await;
    assert!(open(&tier, PLENTY).await.stats().objects > 0);
}

#[test]
fn a_full_disk_costs_hits_and_what_is_there_is_still_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let mount = format!("mount -t tmpfs -o size=3m none {} && exec \"$@\"", folder.path().display());
    let through = ["unshare", "-Urm", "sh", "-c", &mount, "sh"];
    let out = command("full::on_a_disk_that_others_fill", folder.path(), &through).output().expect("run");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
    assert!(String::from_utf8_lossy(&out.stdout).contains("1 passed"));
}

#[tokio::test]
async fn on_a_disk_that_becomes_read_only() {
    let Some(folder) = folder() else { return };
    let tier = folder.join("tier");
    let disk = open(&tier, 20 * CHUNK as u64).await;
    for own in 0..10 {
        assert!(store(&disk, own, own, b"", &bytes(own, CHUNK), CHUNK).await);
    }
    let patient = Options { retry: std::time::Duration::from_secs(3600), ..options(PLENTY) };
    let patient = Disk::open(folder.join("patient"), patient).await.expect("opened");
    assert!(store(&patient, 1, 1, b"", &bytes(1, 10), 10).await);
    let remount = |how: &str| {
        let mut mount = std::process::Command::new("mount");
        assert!(mount.args(["-o", how, "none"]).arg(&folder).status().expect("run").success());
    };
    remount("remount,ro");
    for own in 0..10 {
        assert!(!store(&disk, own + 10, own + 10, b"", &bytes(own, 2 * CHUNK), CHUNK).await);
        assert!(!disk.remeta(id(own), Bytes::new()).await);
    }
    assert!(!disk.remove(&id(3)).await, "it is on the disk still");
    let mut found = 0;
    for own in 0..10 {
        if let Some((_, body)) = whole(&disk, own).await {
            assert!(body == bytes(own, CHUNK));
            found += 1;
        }
    }
    assert!(found > 0 && disk.stats().write_errors > 0, "{:?}", disk.stats());
    assert!(!store(&patient, 2, 2, b"", &bytes(2, 10), 10).await);
    assert!(patient.begin_write(id(2), id(2), b"").is_none() && whole(&patient, 1).await.is_some());
    assert_eq!(patient.stats().write_errors, 1);
    remount("remount,rw");
    assert!(patient.begin_write(id(2), id(2), b"").is_none(), "it waits for its time");
    assert!(store(&disk, 30, 30, b"", &bytes(30, CHUNK), CHUNK).await);
    assert!(disk.remove(&id(30)).await);
    assert_eq!(objects(&tier).len(), disk.stats().objects, "what could not be removed then is gone now");
}

#[test]
fn a_disk_that_becomes_read_only_is_read_and_written_again_when_it_can_be() {
    let folder = tempfile::tempdir().expect("a folder");
    let mount = format!("mount -t tmpfs -o size=8m none {} && exec \"$@\"", folder.path().display());
    let through = ["unshare", "-Urm", "sh", "-c", &mount, "sh"];
    let out = command("full::on_a_disk_that_becomes_read_only", folder.path(), &through).output().expect("run");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
}
