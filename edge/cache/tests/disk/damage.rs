//! Files that are not what was written: bits are flipped, ends cut off, files swapped, lengths made up. Never a wrong
//! byte, never a panic.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use eyot_cache::disk::format::{Loaded, Source};
use eyot_cache::disk::{CHUNK, Disk};

use crate::tool::{PLENTY, body, bytes, id, objects, open, options, store};

/// Between which offsets bits are flipped, past the heads.
const STEP: usize = 4099;

/// What was stored: the metas that each object had, and its body.
type Stored = BTreeMap<u64, (Vec<Bytes>, Bytes)>;

/// A folder with objects of all kinds.
async fn filled(folder: &Path) -> Stored {
    let disk = open(folder, PLENTY).await;
    let mut stored = Stored::new();
    for (own, length) in (0..).zip([0, 700, CHUNK, 3 * CHUNK + 5]) {
        let (mut metas, body) = (vec![bytes(own, 500)], bytes(own, length));
        assert!(store(&disk, 1, own, &metas[0], &body, 10_000).await);
        if own % 2 == 1 {
            metas.push(bytes(own + 100, 400));
            assert!(disk.remeta(id(own), metas[1].clone()).await);
        }
        stored.insert(own, (metas, body));
    }
    disk.close().await;
    stored
}

/// Reads all that is there, each object by both ways; gives how many of them were whole.
async fn read_all(disk: &Disk, stored: &Stored) -> usize {
    let mut whole = 0;
    for primary in 0..3 {
        for reader in disk.find(&id(primary)).await {
            let own = u64::from_be_bytes(reader.id()[..8].try_into().expect("eight"));
            let (metas, expect) = &stored[&own];
            assert!((primary, reader.id()) == (1, id(own)), "an object of somebody else");
            assert!(metas.contains(reader.meta()), "the meta of {own}");
            if let Ok(body) = body(&reader).await {
                assert!(body == *expect, "the body of {own}");
                whole += 1;
            }
        }
    }
    for own in stored.keys() {
        assert!(disk.read(&id(*own)).await.is_none_or(|reader| reader.id() == id(*own)));
    }
    whole
}

#[tokio::test]
async fn a_flipped_bit_anywhere_costs_at_most_the_object_that_it_is_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let stored = filled(folder.path()).await;
    let (mut flipped, mut noticed) = (0, 0);
    for file in objects(folder.path()) {
        let good = std::fs::read(&file).expect("read");
        let all = (0..256).step_by(3).chain((256..good.len()).step_by(STEP)).chain([good.len() - 1]);
        for at in all {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            // As the file is found by a process that begins, and as it becomes under one that runs.
            for begins in [true, false].into_iter().filter(|begins| !begins || at % 4 == 0) {
                std::fs::write(&file, if begins { &bad } else { &good }).expect("written");
                let disk = open(folder.path(), PLENTY).await;
                std::fs::write(&file, &bad).expect("written");
                let whole = read_all(&disk, &stored).await;
                assert!(whole >= stored.len() - 1, "{at} of {}", file.display());
                noticed += stored.len() - whole;
                flipped += 1;
                disk.close().await;
            }
        }
        std::fs::write(&file, &good).expect("written");
    }
    assert!(noticed > flipped / 4, "{noticed} of {flipped}");
}

#[tokio::test]
async fn a_file_that_was_cut_off_or_grew_or_is_another_costs_at_most_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let stored = filled(folder.path()).await;
    let files = objects(folder.path());
    let all: Vec<_> = files.iter().map(|file| std::fs::read(file).expect("read")).collect();
    for (file, good) in files.iter().zip(&all) {
        let cut = |to: usize| good[..to.min(good.len())].to_vec();
        let mut bad: Vec<_> = [0, 1, 127, 128, 256, 300, 1000, CHUNK, good.len() - 1].map(cut).into();
        bad.push([&good[..], &[0; 100_000]].concat());
        bad.push(vec![0; good.len()]);
        bad.push([&good[128..256], &good[..128], &good[256..]].concat());
        bad.extend(all.iter().filter(|other| *other != good).cloned());
        for bad in bad {
            std::fs::write(file, &bad).expect("written");
            let disk = open(folder.path(), PLENTY).await;
            assert!(read_all(&disk, &stored).await >= stored.len() - 1);
            disk.close().await;
        }
        std::fs::write(file, good).expect("written");
    }
}

#[tokio::test]
async fn another_meta_is_there_whole_or_not_at_all_wherever_its_writing_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = open(folder.path(), PLENTY).await;
    let stored = bytes(1, CHUNK + 9);
    let mut meta = bytes(100, 300);
    assert!(store(&disk, 1, 1, &meta, &stored, CHUNK).await);
    let file = objects(folder.path()).remove(0);
    // Such as have room before the body and such as have not, growing and shrinking.
    for (turn, length) in [200, 300, 301, 5000, 4000, 20_000, 0, 64].into_iter().enumerate() {
        let before = std::fs::read(&file).expect("read");
        let next = bytes(turn as u64, length);
        assert!(disk.remeta(id(1), next.clone()).await);
        let after = std::fs::read(&file).expect("read");
        let serial = u64::from_le_bytes(after[turn % 2 * 128 + 16..][..8].try_into().expect("eight"));
        let check = |image: &[u8], expect: &[&Bytes]| {
            let loaded = Loaded::load(&image, serial).expect("read").expect("an object");
            assert!(expect.contains(&&loaded.meta), "turn {turn}");
            let body = [0, 1].map(|number| loaded.chunk(&image, number).expect("read").expect("a chunk")).concat();
            assert!(body == stored, "turn {turn}");
        };
        let mut image = before.clone();
        image.resize(after.len().max(before.len()), 0);
        check(&image, &[&meta]);
        // First what is behind the heads, then the head; and, as a loss of power may have it, the head alone.
        let mut torn = image.clone();
        torn[..256].copy_from_slice(&after[..256]);
        check(&torn, &[&meta, &next]);
        for at in (256..after.len()).chain(0..256).filter(|at| before.get(*at) != Some(&after[*at])) {
            image[at] = after[at];
            if at < 256 || at % 61 == 0 {
                check(&image, &[&meta, &next]);
            }
        }
        check(&after, &[&next]);
        meta = next;
    }
    assert!(
        std::fs::metadata(&file).expect("there").len() < (3 * 20_000 + 2 * CHUNK) as u64,
        "it does not grow and grow"
    );
}

#[tokio::test]
async fn chunks_that_stand_in_the_place_of_others_are_not_given() {
    let (start, stride) = (256, CHUNK + 16);
    // The same bytes in every chunk: only where they stand tells them apart.
    let same = Bytes::from([&[7; CHUNK][..]; 4].concat());
    for (file, chunk) in [(0, 1), (1, 0)] {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = open(folder.path(), PLENTY).await;
        for own in 0..2 {
            assert!(store(&disk, 1, own, b"", &same, CHUNK).await);
        }
        let files = objects(folder.path());
        let good = [0, 1].map(|file: usize| std::fs::read(&files[file]).expect("read"));
        let from = &good[file][start + chunk * stride..][..stride];
        std::fs::write(&files[0], [&good[0][..start], from, &good[0][start + stride..]].concat()).expect("written");
        let mut damaged = 0;
        for reader in disk.find(&id(1)).await {
            damaged += usize::from(reader.chunk(0).await.is_err());
            assert!(reader.chunk(2).await.is_ok());
        }
        assert_eq!((damaged, disk.stats().damaged, disk.stats().objects), (1, 1, 1));
    }
}

#[tokio::test]
async fn what_is_no_file_of_ours_is_no_object() {
    let folder = tempfile::tempdir().expect("a folder");
    let stored = filled(folder.path()).await;
    let place = |name: &str| folder.path().join("objects").join(name);
    std::fs::write(place("00/readme"), b"a file").expect("written");
    std::fs::write(place("01/0000010000000001.bak"), b"a file").expect("written");
    std::fs::create_dir(place("02/0000010000000f02")).expect("made");
    std::os::unix::fs::symlink("/etc/hostname", place("03/0000010000000f03")).expect("linked");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        place("04/0000010000000f04"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .expect("made");
    let disk = open(folder.path(), PLENTY).await;
    assert_eq!(read_all(&disk, &stored).await, stored.len());
    assert_eq!(objects(folder.path()).len(), stored.len());
}

/// A file that says that it has as many bytes as it is asked for.
struct Endless<'a>(&'a [u8]);

impl Source for Endless<'_> {
    fn read(&self, at: u64, bytes: usize) -> std::io::Result<Vec<u8>> {
        assert!(bytes <= 1 << 20, "{bytes} bytes at once");
        let mut out = self.0.read(at, bytes)?;
        out.resize(bytes, 0);
        Ok(out)
    }
}

#[tokio::test]
async fn lengths_that_were_made_up_are_refused_even_under_a_right_sum() {
    let folder = tempfile::tempdir().expect("a folder");
    filled(folder.path()).await;
    let good = std::fs::read(&objects(folder.path())[1]).expect("read");
    let serial = u64::from_le_bytes(good[16..24].try_into().expect("eight"));
    assert!(Loaded::load(&Endless(&good), serial).expect("read").is_some());
    for field in [8, 64, 72, 80, 88] {
        for value in [0, 1, 255, 1 << 20, 1 << 40, (1 << 40) + 1, 1 << 63, u64::MAX - 15, u64::MAX] {
            let mut bad = good.clone();
            for head in [0, 128] {
                bad[head + field..head + field + 8].copy_from_slice(&value.to_le_bytes());
            }
            eyot_cache::disk::format::seal(&mut bad);
            if let Some(loaded) = Loaded::load(&Endless(&bad), serial).expect("read") {
                for number in [0, 1, 1 << 24, 1 << 47, u64::MAX] {
                    let _ = loaded.chunk(&Endless(&bad), number).expect("read");
                }
            }
            std::fs::write(&objects(folder.path())[1], &bad).expect("written");
            let disk = Disk::open(folder.path().to_path_buf(), options(PLENTY)).await.expect("opened");
            while disk.stats().recovering {
                tokio::task::yield_now().await;
            }
            for reader in disk.find(&id(1)).await {
                for number in [0, 1, reader.chunks().saturating_sub(1), u64::MAX] {
                    let _ = reader.chunk(number).await;
                }
            }
            disk.close().await;
            std::fs::write(folder.path().join("objects").join(name(serial)), &good).expect("written");
        }
    }
}

fn name(serial: u64) -> String {
    format!("{:02x}/{serial:016x}", serial % 256)
}
