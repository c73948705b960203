//! Blobs as files `sha256/ab/abcdef…`, mode 0444. Each is written aside, synced, then renamed into place and its folder
//! synced: after a power cut a name holds all of its bytes or does not exist.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use eyot_bundle::digest::{Digest, Hasher};

use super::{Blobs, BlobsError, Writing};

/// At most this much is read in one call, in bytes.
const READ_BYTES_MAX: u64 = 4 << 20;

/// Blobs in a folder. Cheap to clone.
#[derive(Clone, Debug)]
pub struct FileBlobs(Arc<Folder>);

#[derive(Debug)]
struct Folder {
    root: PathBuf,
    /// Counts what is being written, for its name.
    written: AtomicU64,
}

impl FileBlobs {
    /// Blobs under `root`, which is made. What an earlier process left unfinished is removed.
    ///
    /// # Errors
    /// [`BlobsError::Failed`] if it cannot be.
    pub fn open(root: &Path) -> Result<Self, BlobsError> {
        let aside = root.join("tmp");
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(|error| failed(&aside, &error))?;
        }
        for folder in [&aside, &root.join("sha256")] {
            fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
        }
        Ok(Self(Arc::new(Folder { root: root.to_owned(), written: AtomicU64::new(0) })))
    }
}

impl Folder {
    fn path(&self, digest: Digest) -> PathBuf {
        let name = digest.to_string();
        let shard = name.get(..2).unwrap_or_default();
        self.root.join("sha256").join(shard).join(&name)
    }

    fn size(&self, digest: Digest) -> Result<Option<u64>, BlobsError> {
        let path = self.path(digest);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(&path, &error)),
        }
    }

    fn read(&self, digest: Digest, range: &Range<u64>) -> Result<Option<Bytes>, BlobsError> {
        let path = self.path(digest);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&path, &error)),
        };
        let length = range.end.saturating_sub(range.start);
        if length > READ_BYTES_MAX {
            return Err(BlobsError::Failed(format!("{length} bytes are too many for one read")));
        }
        let mut read = || -> io::Result<Vec<u8>> {
            file.seek(SeekFrom::Start(range.start))?;
            let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
            file.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        read().map(|bytes| Some(bytes.into())).map_err(|error| failed(&path, &error))
    }

    fn sweep(&self, keep: &BTreeSet<Digest>, before: SystemTime) -> Result<usize, BlobsError> {
        let mut removed = 0;
        let root = self.root.join("sha256");
        let mut sweep = || -> io::Result<()> {
            for shard in fs::read_dir(&root)? {
                for blob in fs::read_dir(shard?.path())? {
                    let blob = blob?;
                    let digest = blob.file_name().to_str().and_then(|name| name.parse().ok());
                    let kept = digest.is_some_and(|digest| keep.contains(&digest));
                    if !kept && blob.metadata()?.modified()? < before {
                        fs::remove_file(blob.path())?;
                        removed += 1;
                    }
                }
            }
            Ok(())
        };
        sweep().map_err(|error| failed(&root, &error))?;
        Ok(removed)
    }

    fn begin(self: &Arc<Self>) -> Result<Unfinished, BlobsError> {
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let path = self.root.join("tmp").join(format!("{}-{number}", std::process::id()));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|error| failed(&path, &error))?;
        Ok(Unfinished { folder: Arc::clone(self), path, file, hasher: Hasher::default() })
    }
}

/// A file written aside; removed when dropped before its end.
#[derive(Debug)]
pub struct FileWriting(Option<Unfinished>);

struct Unfinished {
    folder: Arc<Folder>,
    path: PathBuf,
    file: File,
    hasher: Hasher,
}

impl std::fmt::Debug for Unfinished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Unfinished({})", self.path.display())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // After the rename there is nothing of this name; before it, what is left goes with the next start too.
        let _ = fs::remove_file(&self.path);
    }
}

impl Unfinished {
    fn write(&mut self, piece: &[u8]) -> Result<(), BlobsError> {
        self.hasher.update(piece);
        self.file.write_all(piece).map_err(|error| failed(&self.path, &error))
    }

    fn finish(mut self, digest: Digest) -> Result<(), BlobsError> {
        if std::mem::take(&mut self.hasher).finish() != digest {
            return Err(BlobsError::Digest(digest));
        }
        let to = self.folder.path(digest);
        let place = || -> io::Result<()> {
            self.file.set_permissions(fs::Permissions::from_mode(0o444))?;
            self.file.sync_all()?;
            let shard = to.parent().ok_or_else(|| io::Error::other("a blob has a folder"))?;
            fs::create_dir_all(shard)?;
            fs::rename(&self.path, &to)?;
            File::open(shard)?.sync_all()?;
            File::open(self.folder.root.join("sha256"))?.sync_all()
        };
        place().map_err(|error| failed(&to, &error))
    }
}

fn failed(path: &Path, error: &io::Error) -> BlobsError {
    BlobsError::Failed(format!("{}: {error}", path.display()))
}

/// Runs what waits for the disk apart from the threads that answer.
async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BlobsError> + Send + 'static,
) -> Result<T, BlobsError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| BlobsError::Failed(error.to_string()))?
}

impl Blobs for FileBlobs {
    type Writing = FileWriting;

    async fn size(&self, digest: Digest) -> Result<Option<u64>, BlobsError> {
        let folder = Arc::clone(&self.0);
        apart(move || folder.size(digest)).await
    }

    async fn get(&self, digest: Digest, range: Range<u64>) -> Result<Option<Bytes>, BlobsError> {
        let folder = Arc::clone(&self.0);
        apart(move || folder.read(digest, &range)).await
    }

    async fn put(&self, bytes: Bytes) -> Result<Digest, BlobsError> {
        let folder = Arc::clone(&self.0);
        apart(move || {
            let digest = Digest::of(&bytes);
            if folder.size(digest)?.is_none() {
                let mut writing = folder.begin()?;
                writing.write(&bytes)?;
                writing.finish(digest)?;
            }
            Ok(digest)
        })
        .await
    }

    async fn sweep(&self, keep: BTreeSet<Digest>, before: SystemTime) -> Result<usize, BlobsError> {
        let folder = Arc::clone(&self.0);
        apart(move || folder.sweep(&keep, before)).await
    }

    async fn begin(&self) -> Result<FileWriting, BlobsError> {
        let folder = Arc::clone(&self.0);
        apart(move || folder.begin().map(|writing| FileWriting(Some(writing)))).await
    }
}

/// A writing whose last piece was cut off by its caller's end.
fn cut_off() -> BlobsError {
    BlobsError::Failed("the upload was cut off".to_owned())
}

impl Writing for FileWriting {
    async fn write(&mut self, piece: Bytes) -> Result<(), BlobsError> {
        let mut writing = self.0.take().ok_or_else(cut_off)?;
        let writing = apart(move || writing.write(&piece).map(|()| writing)).await?;
        self.0 = Some(writing);
        Ok(())
    }

    async fn finish(mut self, digest: Digest) -> Result<(), BlobsError> {
        let writing = self.0.take().ok_or_else(cut_off)?;
        apart(move || writing.finish(digest)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, FileBlobs) {
        let folder = tempfile::tempdir().expect("a folder");
        let blobs = FileBlobs::open(folder.path()).expect("a store");
        (folder, blobs)
    }

    #[tokio::test]
    async fn a_blob_is_read_by_ranges_under_its_digest() {
        let (_folder, blobs) = store();
        let digest = blobs.put("hello".into()).await.expect("a put");
        assert_eq!(blobs.put("hello".into()).await.expect("a put"), digest);
        assert_eq!(blobs.size(digest).await.expect("a size"), Some(5));
        assert_eq!(blobs.get(digest, 1..3).await.expect("a read"), Some("el".into()));
        assert!(blobs.get(digest, 3..9).await.is_err());
        assert!(blobs.get(digest, 0..u64::MAX).await.is_err());
        assert_eq!(blobs.get(Digest::of(b"x"), 0..1).await.expect("a read"), None);
    }

    #[tokio::test]
    async fn pieces_with_another_digest_and_pieces_cut_off_leave_nothing() {
        let (folder, blobs) = store();
        let aside = || fs::read_dir(folder.path().join("tmp")).expect("a folder").count();
        for finished in [true, false] {
            let mut writing = blobs.begin().await.expect("a writing");
            writing.write("he".into()).await.expect("a piece");
            if finished {
                assert!(matches!(writing.finish(Digest::of(b"hello")).await, Err(BlobsError::Digest(_))));
            } else {
                drop(writing);
            }
            assert_eq!((aside(), blobs.size(Digest::of(b"hello")).await.expect("a size")), (0, None));
        }
        let mut writing = blobs.begin().await.expect("a writing");
        for piece in ["he", "llo"] {
            writing.write(piece.into()).await.expect("a piece");
        }
        writing.finish(Digest::of(b"hello")).await.expect("the end");
        assert_eq!((aside(), blobs.size(Digest::of(b"hello")).await.expect("a size")), (0, Some(5)));
        drop(blobs);
        fs::write(folder.path().join("tmp/left"), b"half").expect("a file");
        FileBlobs::open(folder.path()).expect("a store");
        assert_eq!(aside(), 0);
    }
}
