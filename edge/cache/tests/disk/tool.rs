//! What the tests store, and how they look at what is there.

use std::path::Path;

use bytes::Bytes;
use eyot_cache::disk::{CHUNK, Damaged, Disk, Id, OpenError, Options, Reader, Writer};

/// More than any of these tests stores.
pub(crate) const PLENTY: u64 = 1 << 30;

pub(crate) fn id(number: u64) -> Id {
    let mut id = [0xa5; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    id
}

/// Bytes that follow from `seed`, no two places alike.
pub(crate) fn bytes(seed: u64, length: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let word = |state: &mut u64| {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        state.to_le_bytes()
    };
    let mut out: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| word(&mut state)).collect();
    out.truncate(length);
    out.into()
}

/// With less of everything than a node has, and no waiting after a failure.
pub(crate) fn options(bytes_max: u64) -> Options {
    let retry = std::time::Duration::ZERO;
    Options { objects_max: 10_000, object_bytes_max: bytes_max, retry, ..Options::new(bytes_max) }
}

fn is_busy(error: &OpenError) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    source.is_some_and(|source| source.kind() == std::io::ErrorKind::ResourceBusy)
}

pub(crate) async fn open(folder: &Path, bytes_max: u64) -> Disk {
    let mut tries = 0;
    let disk = loop {
        match Disk::open(folder.to_path_buf(), options(bytes_max)).await {
            // A process that another test begins has all open files of this one for a moment.
            Err(error) if is_busy(&error) && tries < 1_000 => {
                tries += 1;
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            opened => break opened.expect("opened"),
        }
    };
    while disk.stats().recovering {
        tokio::task::yield_now().await;
    }
    disk
}

/// Stores an object whose body comes in pieces of `piece` bytes.
pub(crate) async fn store(disk: &Disk, primary: u64, own: u64, meta: &[u8], body: &Bytes, piece: usize) -> bool {
    let Some(writer) = disk.begin_write(id(primary), id(own), meta) else { return false };
    fill(writer, body.clone(), Bytes::copy_from_slice(meta), piece).await
}

/// Writes as fast as the disk takes it.
pub(crate) async fn fill(mut writer: Writer, mut body: Bytes, meta: Bytes, piece: usize) -> bool {
    while !body.is_empty() {
        writer.ready().await;
        if !writer.push(body.split_to(piece.min(body.len()))) {
            return false;
        }
    }
    writer.finish(meta).await
}

/// The whole body, in chunks that are as long as they should be.
pub(crate) async fn body(reader: &Reader) -> Result<Vec<u8>, Damaged> {
    reader.answers();
    let mut out = Vec::new();
    for number in 0..reader.chunks() {
        let chunk = reader.chunk(number).await?;
        assert!(chunk.len() == CHUNK || number + 1 == reader.chunks());
        out.extend_from_slice(&chunk);
    }
    assert_eq!(out.len() as u64, reader.body_bytes());
    Ok(out)
}

/// Meta and body of an object.
pub(crate) async fn whole(disk: &Disk, own: u64) -> Option<(Bytes, Vec<u8>)> {
    let reader = disk.read(&id(own)).await?;
    assert_eq!(reader.id(), id(own));
    Some((reader.meta().clone(), body(&reader).await.ok()?))
}

/// All files of a folder, with their lengths.
pub(crate) fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        if entry.file_type().expect("a type").is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// The files of objects.
pub(crate) fn objects(folder: &Path) -> Vec<std::path::PathBuf> {
    files(&folder.join("objects"))
}

/// What a process that dies now leaves.
pub(crate) fn remains(of: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a folder");
    for file in files(of) {
        let to = copy.path().join(file.strip_prefix(of).expect("below"));
        std::fs::create_dir_all(to.parent().expect("a folder")).expect("made");
        // Who lives may go on removing files.
        let _ = std::fs::copy(file, to);
    }
    copy
}
