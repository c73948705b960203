//! Compiled artefacts on disk: `<wasm digest>-<compatibility>.cwasm`, and beside it its MAC.
//!
//! An artefact is trusted machine code, so whoever could change the file would own the node: each carries an HMAC-SHA256
//! under a key of this node, over its name and its bytes, and is loaded only if that holds. All of it may be lost.

use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;
use eyot_bundle::digest::Digest;

use crate::compile;
use crate::settings::Error;

/// An artefact larger than this is not loaded, in bytes.
const ARTEFACT_BYTES_MAX: u64 = 1 << 30;

/// The artefacts of one node.
pub struct Artefacts {
    folder: PathBuf,
    key: hmac::Key,
    compatibility: Digest,
}

impl fmt::Debug for Artefacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Artefacts").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Artefacts {
    /// The artefacts in `folder`, which is made if it is not there, under the node's `key`.
    pub fn new(folder: impl Into<PathBuf>, key: &[u8; 32]) -> Result<Self, Error> {
        let folder = folder.into();
        fs::create_dir_all(&folder).map_err(Error::file(&folder))?;
        let compatibility = compile::compatibility()?;
        Ok(Self { folder, key: hmac::Key::new(hmac::HMAC_SHA256, key), compatibility })
    }

    /// Where the artefact of a component is, or would be.
    pub fn path(&self, wasm: Digest) -> PathBuf {
        self.folder.join(format!("{wasm}-{}.cwasm", self.compatibility))
    }

    /// Whether there is one. Whether it holds is seen when it is loaded.
    pub fn has(&self, wasm: Digest) -> bool {
        let path = self.path(wasm);
        path.exists() && mac_path(&path).exists()
    }

    /// Keeps what [`compile::compile`] gave for the component of this digest.
    pub fn store(&self, wasm: Digest, artefact: &[u8]) -> Result<(), Error> {
        let path = self.path(wasm);
        let mut mac = self.mac(wasm);
        mac.update(artefact);
        replace(&path, artefact)?;
        replace(&mac_path(&path), mac.sign().as_ref())
    }

    /// Removes one: what cannot be run is not to be found.
    pub fn forget(&self, wasm: Digest) {
        let path = self.path(wasm);
        let _ = fs::remove_file(mac_path(&path));
        let _ = fs::remove_file(path);
    }

    /// The path and size of an artefact whose MAC holds. One that does not is removed.
    pub(crate) fn open(&self, wasm: Digest) -> Result<(PathBuf, u64), Error> {
        let path = self.path(wasm);
        let missing = |_| Error::Missing(wasm);
        let expected = fs::read(mac_path(&path)).map_err(missing)?;
        let file = File::open(&path).map_err(missing)?;
        let size = file.metadata().map_err(Error::file(&path))?.len();
        if size > ARTEFACT_BYTES_MAX {
            self.forget(wasm);
            return Err(Error::TooLarge(wasm, size));
        }
        let mut file = file.take(ARTEFACT_BYTES_MAX);
        let mut mac = self.mac(wasm);
        let mut piece = vec![0; 256 << 10];
        let mut bytes = 0_u64;
        loop {
            let read = file.read(&mut piece).map_err(Error::file(&path))?;
            if read == 0 {
                break;
            }
            mac.update(&piece[..read]);
            bytes += read as u64;
        }
        if aws_lc_rs::constant_time::verify_slices_are_equal(mac.sign().as_ref(), &expected).is_err() {
            self.forget(wasm);
            return Err(Error::Altered(wasm));
        }
        Ok((path, bytes))
    }

    fn mac(&self, wasm: Digest) -> hmac::Context {
        let mut mac = hmac::Context::with_key(&self.key);
        mac.update(wasm.as_bytes());
        mac.update(self.compatibility.as_bytes());
        mac
    }
}

fn mac_path(path: &Path) -> PathBuf {
    path.with_extension("mac")
}

/// Writes a file beside its place and renames it there.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut aside = path.to_owned();
    aside.as_mut_os_string().push(format!(".{}.part", std::process::id()));
    let write = || {
        let mut file = File::create(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&aside, path)
    };
    write().map_err(Error::file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artefact_is_opened_only_as_it_was_stored_and_where_it_was_stored() {
        let folder = tempfile::tempdir().expect("a folder");
        let artefacts = Artefacts::new(folder.path(), &[7; 32]).expect("artefacts");
        let (one, other) = (Digest::of(b"one"), Digest::of(b"other"));
        assert!(!artefacts.has(one));
        assert!(matches!(artefacts.open(one), Err(Error::Missing(_))));
        artefacts.store(one, b"machine code").expect("stored");
        assert!(artefacts.has(one));
        assert_eq!(artefacts.open(one).expect("opened").1, 12);

        fs::copy(artefacts.path(one), artefacts.path(other)).expect("copied");
        fs::copy(mac_path(&artefacts.path(one)), mac_path(&artefacts.path(other))).expect("copied");
        assert!(matches!(artefacts.open(other), Err(Error::Altered(_))), "under another name");

        let foreign = Artefacts::new(folder.path(), &[8; 32]).expect("artefacts");
        foreign.store(other, b"machine code").expect("stored");
        assert!(matches!(artefacts.open(other), Err(Error::Altered(_))), "under another key");

        fs::write(artefacts.path(one), b"machine codE").expect("written");
        assert!(matches!(artefacts.open(one), Err(Error::Altered(_))), "one bit");
        assert!(!artefacts.has(one), "what was altered is removed");

        artefacts.store(one, b"machine code").expect("stored");
        artefacts.forget(one);
        assert!(!artefacts.has(one) && matches!(artefacts.open(one), Err(Error::Missing(_))));
    }
    #[test]
    fn an_artefact_over_its_size_is_removed_and_not_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let artefacts = Artefacts::new(folder.path(), &[7; 32]).expect("artefacts");
        let wasm = Digest::of(b"large");
        artefacts.store(wasm, b"machine code").expect("stored");
        // A file of holes takes no room on disk.
        let file = File::options().write(true).open(artefacts.path(wasm)).expect("opened");
        file.set_len(ARTEFACT_BYTES_MAX + 1).expect("a sparse file");
        assert!(matches!(artefacts.open(wasm), Err(Error::TooLarge(_, size)) if size == ARTEFACT_BYTES_MAX + 1));
        assert!(!artefacts.has(wasm));
    }
}
