//! What the tier promises to those who use it.

use bytes::Bytes;
use eyot_cache::disk::{CHUNK, Disk, META_BYTES_MAX, Options};

use crate::tool::{PLENTY, body, bytes, id, objects, open, options, remains, store, whole};

#[tokio::test]
async fn what_was_stored_is_read_whatever_its_size_and_pieces_also_by_the_next_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut disk = open(folder.path(), PLENTY).await;
    let lengths = [0, 1, 2000, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 5 * CHUNK + 17];
    let pieces = [1000, CHUNK, 3 * CHUNK];
    let cases: Vec<_> = lengths.iter().flat_map(|length| pieces.map(|piece| (*length, piece))).zip(0..).collect();
    for ((length, piece), own) in &cases {
        assert!(store(&disk, 7, *own, &bytes(*own, 300), &bytes(*own, *length), *piece).await, "{length} {piece}");
    }
    for _ in 0..2 {
        for ((length, piece), own) in &cases {
            let (meta, body) = whole(&disk, *own).await.expect("an object");
            assert!(meta == bytes(*own, 300) && body == bytes(*own, *length), "{length} {piece}");
        }
        assert_eq!(disk.find(&id(7)).await.len(), cases.len());
        assert_eq!((disk.stats().objects, disk.stats().hits), (cases.len(), cases.len() as u64));
        disk.close().await;
        disk = open(folder.path(), PLENTY).await;
    }
}

#[tokio::test]
async fn a_body_is_read_from_any_offset() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = open(folder.path(), PLENTY).await;
    let stored = bytes(1, 2 * CHUNK + 10);
    assert!(store(&disk, 1, 1, b"", &stored, 5000).await);
    let reader = disk.read(&id(1)).await.expect("an object");
    for at in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 9] {
        let end = (at / CHUNK * CHUNK + CHUNK).min(stored.len());
        assert_eq!(reader.at(at as u64).await.expect("read"), stored[at..end], "{at}");
    }
    for at in [2 * CHUNK as u64 + 10, 3 * CHUNK as u64, u64::MAX] {
        assert_eq!(reader.at(at).await, Ok(Bytes::new()), "{at}");
    }
}

#[tokio::test]
async fn one_process_has_the_folder_until_it_closes_it_and_what_it_reads_it_reads_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = open(folder.path(), PLENTY).await;
    let stored = bytes(1, 3 * CHUNK);
    assert!(store(&first, 1, 1, b"", &stored, CHUNK).await);
    let reader = first.read(&id(1)).await.expect("an object");
    assert!(Disk::open(folder.path().to_path_buf(), options(PLENTY)).await.is_err());
    first.close().await;
    let second = open(folder.path(), PLENTY).await;
    assert!(first.begin_write(id(2), id(2), b"").is_none() && first.find(&id(1)).await.is_empty());
    assert!(second.remove(&id(1)).await);
    assert!(body(&reader).await.expect("read") == stored);
}

#[tokio::test]
async fn what_was_begun_before_all_was_cleared_or_closed_does_not_come_after_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = open(folder.path(), PLENTY).await;
    let begun = |disk: &Disk| {
        let mut writer = disk.begin_write(id(1), id(1), b"").expect("a writer");
        assert!(writer.push(bytes(1, 3 * CHUNK)));
        writer
    };
    let before = begun(&disk);
    assert!(disk.clear().await);
    assert!(!before.finish(Bytes::new()).await);
    let left = begun(&disk);
    // What is asked for comes in its turn: its file is there, and then is not.
    assert!(disk.remove(&id(2)).await);
    assert_eq!(objects(folder.path()).len(), 1);
    drop(left);
    assert!(disk.remove(&id(2)).await);
    assert!(objects(folder.path()).is_empty() && disk.stats().bytes == 0);
    let before = begun(&disk);
    disk.close().await;
    assert!(!before.finish(Bytes::new()).await);
    let disk = open(folder.path(), PLENTY).await;
    assert_eq!(disk.stats().objects, 0);
    assert!(objects(folder.path()).is_empty());
}

#[tokio::test]
async fn what_is_removed_or_stored_anew_before_it_was_found_again_stays_so() {
    let folder = tempfile::tempdir().expect("a folder");
    for round in 0..20 {
        let disk = open(folder.path(), PLENTY).await;
        for own in 0..100 {
            assert!(store(&disk, own % 10, own, b"old", &bytes(own, 10), 10).await);
        }
        disk.close().await;
        // It serves while it looks at what is there.
        let disk = Disk::open(folder.path().to_path_buf(), options(PLENTY)).await.expect("opened");
        let gone: Vec<u64> = match round % 4 {
            0 => {
                assert!(disk.remove(&id(3)).await);
                vec![3]
            }
            1 => {
                assert!(disk.remove_primary(&id(4)).await);
                (0..100).filter(|own| own % 10 == 4).collect()
            }
            2 => {
                assert!(disk.clear().await);
                (0..100).collect()
            }
            _ => Vec::new(),
        };
        assert!(store(&disk, 5, 5, b"new", &bytes(5, 10), 10).await);
        while disk.stats().recovering {
            tokio::task::yield_now().await;
        }
        for own in 0..100 {
            let expect: Option<&[u8]> = match own {
                5 => Some(b"new"),
                own => (!gone.contains(&own)).then_some(b"old"),
            };
            let meta = whole(&disk, own).await.map(|object| object.0);
            assert_eq!(meta.as_deref(), expect, "{own} in round {round}");
        }
        disk.close().await;
    }
}

#[tokio::test]
async fn what_was_cleared_stays_so_when_the_process_dies_before_its_files_are_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = open(folder.path(), PLENTY).await;
    for own in 0..1000 {
        assert!(store(&disk, own, own, b"", &bytes(own, 10), 10).await);
    }
    assert!(disk.clear().await);
    let left = remains(folder.path());
    assert!(disk.find(&id(7)).await.is_empty());
    assert!(!objects(left.path()).is_empty(), "it died too late for this test to mean something");
    let disk = open(left.path(), PLENTY).await;
    assert_eq!((disk.stats().objects, objects(left.path()).len()), (0, 0));
    assert!(store(&disk, 1, 1, b"", &bytes(1, 10), 10).await);
}

#[tokio::test]
async fn more_variants_of_one_id_than_a_reader_would_look_through_are_not_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = open(folder.path(), PLENTY).await;
    for own in 0..100 {
        assert!(store(&disk, 1, own, b"", &bytes(own, 10), 10).await);
    }
    let mut found: Vec<_> = disk.find(&id(1)).await.iter().map(eyot_cache::disk::Reader::id).collect();
    found.sort_unstable();
    assert_eq!(found, (68..100).map(id).collect::<Vec<_>>());
    assert_eq!(objects(folder.path()).len(), 32);
}

#[tokio::test]
async fn what_is_larger_than_it_may_be_is_not_stored() {
    let folder = tempfile::tempdir().expect("a folder");
    let few = Options { object_bytes_max: 1000, ..options(PLENTY) };
    let disk = Disk::open(folder.path().to_path_buf(), few).await.expect("opened");
    assert!(store(&disk, 1, 1, b"", &bytes(1, 1000), 100).await);
    assert!(!store(&disk, 1, 1, b"", &bytes(1, 1001), 100).await);
    let meta = vec![0; META_BYTES_MAX + 1];
    assert!(disk.begin_write(id(1), id(1), &meta).is_none());
    assert!(!disk.begin_write(id(1), id(1), b"").expect("a writer").finish(meta.clone().into()).await);
    assert!(!disk.remeta(id(1), meta.into()).await);
    let (meta, body) = whole(&disk, 1).await.expect("the first is still there");
    assert!(meta.is_empty() && body == bytes(1, 1000));
}

#[tokio::test]
async fn a_folder_of_another_layout_is_emptied_and_one_of_somebody_else_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = open(folder.path(), PLENTY).await;
    assert!(store(&disk, 1, 1, b"", &bytes(1, 10), 10).await);
    disk.close().await;
    for owner in ["", "eyot disk tier 2\n1 1\n", "eyot disk tier 1\n1 18446744073709551615\n", "\u{fffd}"] {
        std::fs::write(folder.path().join("owner"), owner).expect("written");
        let disk = open(folder.path(), PLENTY).await;
        assert_eq!((disk.stats().objects, objects(folder.path()).len()), (0, 0), "{owner}");
        assert!(store(&disk, 1, 1, b"", &bytes(1, 10), 10).await);
        disk.close().await;
    }
    let theirs = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(theirs.path().join("objects")).expect("made");
    std::fs::write(theirs.path().join("objects/theirs"), b"dear").expect("written");
    assert!(Disk::open(theirs.path().to_path_buf(), options(PLENTY)).await.is_err());
    assert!(theirs.path().join("objects/theirs").exists());
}
