//! Blobs on disk by their digest: `blobs/sha256/ab/abcdef…`, whole, checked and read-only, or not there at all.
//!
//! It must never know what a blob is for; who needs which is the caller's to say.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use eyot_bundle::digest::{Digest, Hasher};
use eyot_bundle::refusal::{Reason, Refusal};

use crate::ledger::durable::sync_folder;

/// Room that a download leaves free on the disk, in bytes.
const SPARE_BYTES: u64 = 64 << 20;
/// How much of a blob is read at once, in bytes.
const READ_BYTES: usize = 64 << 10;

/// The blobs of one node.
#[derive(Clone, Debug)]
pub struct Blobs {
    folder: PathBuf,
}

impl Blobs {
    /// The blobs in `state`, a node's state folder.
    ///
    /// # Errors
    /// If the folders can neither be found nor made.
    pub fn open(state: &Path) -> io::Result<Self> {
        let folder = state.join("blobs");
        fs::create_dir_all(folder.join("sha256"))?;
        fs::create_dir_all(folder.join("tmp"))?;
        Ok(Self { folder })
    }

    /// Where a blob is, or would be.
    pub fn path(&self, digest: Digest) -> PathBuf {
        let name = digest.to_string();
        self.folder.join("sha256").join(&name[..2]).join(name)
    }

    /// Whether a blob of this size is here.
    pub fn has(&self, digest: Digest, size: u64) -> bool {
        fs::metadata(self.path(digest)).is_ok_and(|file| file.is_file() && file.len() == size)
    }

    /// Where a download of it grows; what is there of an earlier one is gone on with.
    pub fn part(&self, digest: Digest) -> PathBuf {
        self.folder.join("tmp").join(format!("{digest}.part"))
    }

    /// Where what is made of it grows, until somebody takes it.
    pub fn out(&self, digest: Digest) -> PathBuf {
        self.folder.join("tmp").join(format!("{digest}.out"))
    }

    /// Refuses a download that the disk has no room for.
    ///
    /// # Errors
    /// [`Reason::DiskFull`].
    pub fn room_for(&self, size: u64) -> Result<(), Refusal> {
        let disk = rustix::fs::statvfs(&self.folder).map_err(|error| full(&error.into()))?;
        let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free_bytes >= size.saturating_add(SPARE_BYTES) {
            return Ok(());
        }
        Err(Refusal::new(Reason::DiskFull, format!("a blob of {size} bytes, and {free_bytes} are free")))
    }

    /// Takes in the download in [`Self::part`]: checks it, and puts it into its place durably.
    ///
    /// # Errors
    /// [`Reason::DigestMismatch`] if it is another blob; it is thrown away then. [`Reason::DiskFull`].
    pub fn keep(&self, digest: Digest, size: u64) -> Result<(), Refusal> {
        let part = self.part(digest);
        if !is(&part, digest, size).map_err(|error| full(&error))? {
            let _ = fs::remove_file(&part);
            return Err(Refusal::new(Reason::DigestMismatch, format!("blob {digest}: other bytes came")));
        }
        let place = || {
            let path = self.path(digest);
            let folder = path.parent().unwrap_or(&self.folder);
            if !folder.exists() {
                fs::create_dir_all(folder)?;
                sync_folder(&self.folder.join("sha256"))?;
            }
            let file = File::open(&part)?;
            file.set_permissions(Permissions::from_mode(0o444))?;
            file.sync_all()?;
            fs::rename(&part, &path)?;
            sync_folder(folder)
        };
        place().map_err(|error| full(&error))
    }

    /// Whether the blob still has the bytes of its digest. One that does not is removed.
    pub fn sound(&self, digest: Digest, size: u64) -> bool {
        let path = self.path(digest);
        let sound = is(&path, digest, size).unwrap_or(false);
        if !sound {
            let _ = fs::remove_file(path);
        }
        sound
    }

    /// Removes all blobs that are not `needed`, and downloads that are not of them. How many it removed.
    pub fn sweep(&self, needed: &BTreeSet<Digest>) -> usize {
        let mut removed = 0;
        let mut consider = |path: PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let digest = name.strip_suffix(".part").unwrap_or(name).parse();
            if !digest.is_ok_and(|digest| needed.contains(&digest)) && fs::remove_file(path).is_ok() {
                removed += 1;
            }
        };
        for folder in entries(&self.folder.join("sha256")) {
            entries(&folder).into_iter().for_each(&mut consider);
        }
        entries(&self.folder.join("tmp")).into_iter().for_each(consider);
        removed
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Whether the file has exactly these bytes.
fn is(path: &Path, digest: Digest, size: u64) -> io::Result<bool> {
    let mut file = File::open(path)?.take(size.saturating_add(1));
    let (mut hasher, mut length) = (Hasher::default(), 0);
    let mut piece = vec![0; READ_BYTES];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(length == size && hasher.finish() == digest),
            read => {
                hasher.update(&piece[..read]);
                length += read as u64;
            }
        }
    }
}

fn full(error: &io::Error) -> Refusal {
    Refusal::new(Reason::DiskFull, format!("the blob store: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Blobs) {
        let folder = tempfile::tempdir().expect("a folder");
        let blobs = Blobs::open(folder.path()).expect("blobs");
        (folder, blobs)
    }

    #[test]
    fn a_blob_is_kept_only_as_what_its_digest_says() {
        let (_folder, blobs) = store();
        let digest = Digest::of(b"hello");
        for (bytes, size, expect) in [
            (&b"hellO"[..], 5, Err(Reason::DigestMismatch)),
            (b"hell", 5, Err(Reason::DigestMismatch)),
            (b"hello and more", 5, Err(Reason::DigestMismatch)),
            (b"hello", 4, Err(Reason::DigestMismatch)),
            (b"hello", 5, Ok(())),
        ] {
            fs::write(blobs.part(digest), bytes).expect("written");
            assert_eq!(blobs.keep(digest, size).map_err(|refusal| refusal.reason), expect);
            assert_eq!(blobs.has(digest, 5), expect.is_ok());
            assert!(!blobs.part(digest).exists(), "nothing is left behind");
        }
        assert_eq!(
            blobs.keep(digest, 5).map_err(|refusal| refusal.reason),
            Err(Reason::DiskFull),
            "no download is there"
        );
        let mode = fs::metadata(blobs.path(digest)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o444);
    }

    #[test]
    fn a_blob_that_rotted_is_removed() {
        let (_folder, blobs) = store();
        let digest = Digest::of(b"hello");
        fs::write(blobs.part(digest), b"hello").expect("written");
        blobs.keep(digest, 5).expect("kept");
        assert!(blobs.sound(digest, 5));
        fs::remove_file(blobs.path(digest)).expect("removed");
        fs::write(blobs.path(digest), b"hellp").expect("written");
        assert!(blobs.has(digest, 5) && !blobs.sound(digest, 5) && !blobs.has(digest, 5));
    }

    #[test]
    fn what_nobody_needs_is_swept_and_the_rest_stays() {
        let (_folder, blobs) = store();
        let (needed, other) = (Digest::of(b"needed"), Digest::of(b"other!"));
        for (digest, bytes) in [(needed, b"needed"), (other, b"other!")] {
            fs::write(blobs.part(digest), bytes).expect("written");
            blobs.keep(digest, 6).expect("kept");
            fs::write(blobs.part(digest), b"begun").expect("written");
        }
        assert_eq!(blobs.sweep(&BTreeSet::from([needed])), 2);
        assert!(blobs.has(needed, 6) && !blobs.has(other, 6));
        assert!(blobs.part(needed).exists() && !blobs.part(other).exists());
    }

    #[test]
    fn a_blob_larger_than_the_disk_is_refused_before_it_is_fetched() {
        let (_folder, blobs) = store();
        assert!(blobs.room_for(1).is_ok());
        assert_eq!(blobs.room_for(u64::MAX).map_err(|refusal| refusal.reason), Err(Reason::DiskFull));
    }
}
