//! The operator's keys folder: where each key and each signed document lies.
//!
//! ```text
//! root.key targets.key fleet.key publisher.key ca.key    private, offline; encrypted unless made with --plain
//! publisher.pub fleet-ca.pem                             public halves to hand out
//! root.json <n>.root.json targets.json fleet.json        signed metadata
//! nodes.json denied.json                                 what fleet.json vouches for
//! origin/*.key origin/origin.pem                         for the origin's machine: online keys and its certificate
//! nodes/<id>.token                                       for each node's machine
//! ```

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use eyot_bundle::sign::Key;

use crate::keyfile;

/// A keys folder.
#[derive(Clone, Debug)]
pub(crate) struct Keyring {
    folder: PathBuf,
}

impl Keyring {
    /// The keys in `folder`.
    pub(crate) fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file `name` in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The signing key `name`.
    pub(crate) fn key(&self, name: &str) -> anyhow::Result<Key> {
        keyfile::key(&self.path(&format!("{name}.key")))
    }

    /// The bytes of the document `name`.
    pub(crate) fn document(&self, name: &str) -> anyhow::Result<Vec<u8>> {
        let file = self.path(name);
        fs::read(&file).with_context(|| {
            format!(
                "{} is not there; make the keys first with `eyot keys init --keys {}`",
                file.display(),
                self.folder.display()
            )
        })
    }

    /// Puts the document `name` in place of what was there: whole, or not at all.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let file = self.path(name);
        let aside = self.path(&format!("{name}.new"));
        let context = || format!("writing {}", file.display());
        let mut opened = fs::File::create(&aside).with_context(context)?;
        opened.write_all(bytes).and_then(|()| opened.sync_all()).with_context(context)?;
        fs::rename(&aside, &file).with_context(context)
    }
}
