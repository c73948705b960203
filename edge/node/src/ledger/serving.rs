//! The `serving` file: what was active when it was last written, as exact signed bytes. A node whose ledger is lost
//! verifies it and goes on answering with it. It is never a floor, and whoever can write it can only hide things.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use eyot_bundle::name::Name;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Files;
use super::durable::replace;

/// Its name in the state folder.
pub const NAME: &str = "serving";
/// A file of more bytes is none.
const BYTES_MAX: u64 = 256 << 20;

/// What was active.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serving {
    /// When it was accepted, by this node's clock.
    pub accepted: Timestamp,
    /// The release of each app that answered.
    pub apps: BTreeMap<Name, u64>,
    /// The ledger's files of that time.
    pub files: Files,
}

/// The file's own form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    accepted: Timestamp,
    apps: BTreeMap<Name, u64>,
    files: BTreeMap<String, String>,
}

/// Where it is.
pub fn path(folder: &Path) -> PathBuf {
    folder.join(NAME)
}

/// Writes it durably.
///
/// # Errors
/// What the system said; the old one stands then.
pub fn write(folder: &Path, serving: &Serving) -> io::Result<()> {
    let files = serving.files.iter().map(|(name, bytes)| (name.clone(), STANDARD.encode(bytes))).collect();
    let written = Written { accepted: serving.accepted, apps: serving.apps.clone(), files };
    replace(&path(folder), &serde_json::to_vec(&written)?)
}

/// Reads it, if it is there and whole. What is in it is not verified.
pub fn read(folder: &Path) -> Option<Serving> {
    read_within(folder, BYTES_MAX)
}

/// The same, if it has no more than `bytes_max` bytes.
pub(super) fn read_within(folder: &Path, bytes_max: u64) -> Option<Serving> {
    let mut bytes = Vec::new();
    File::open(path(folder)).ok()?.take(bytes_max).read_to_end(&mut bytes).ok()?;
    let written: Written = serde_json::from_slice(&bytes).ok()?;
    let file = |(name, text): (String, String)| Some((name, STANDARD.decode(text).ok()?));
    let files = written.files.into_iter().map(file).collect::<Option<Files>>()?;
    Some(Serving { accepted: written.accepted, apps: written.apps, files })
}
