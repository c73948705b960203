//! A folder of files as it is shipped: one POSIX tar (ustar, IEEE Std 1003.1), so that any tool reads it. The same folder
//! always makes the same bytes: entries in order, no owner, no time.
//!
//! Below `identity/` are the files; below `br/`, `zstd/` and `gzip/` those that were made smaller, under the same paths. It
//! opens no file: what is packed comes in as bytes, and what is read comes by blocks from whoever has them.

pub mod media;
mod tar;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::verify::parts::FILES_BYTES_MAX;

/// Files of one folder.
pub const COUNT_MAX: usize = 20_000;
/// The path of a file, in bytes; each of its segments has at most [`SEGMENT_BYTES_MAX`].
pub const PATH_BYTES_MAX: usize = 240;
/// A segment of a path, in bytes.
pub const SEGMENT_BYTES_MAX: usize = 100;
/// A block of a tar, in bytes.
pub const BLOCK_BYTES: usize = 512;

/// How the bytes of a file are written (RFC 9110, section 8.4.1), the preferred first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Brotli (RFC 7932).
    Br,
    /// Zstandard (RFC 8878).
    Zstd,
    /// gzip (RFC 1952).
    Gzip,
    /// As they are.
    Identity,
}

impl Encoding {
    /// All, the preferred first.
    pub const ALL: [Self; 4] = [Self::Br, Self::Zstd, Self::Gzip, Self::Identity];

    /// Its name in `Content-Encoding`, and of its folder.
    pub fn label(self) -> &'static str {
        match self {
            Self::Br => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Identity => "identity",
        }
    }
}

/// Why files are not packed, or what was packed is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

fn error(text: impl Into<String>) -> Error {
    Error(text.into())
}

/// Whether a path within a folder can be shipped.
///
/// # Errors
/// Why not.
pub fn check_path(path: &str) -> Result<(), Error> {
    let short = || path.chars().take(80).collect::<String>();
    let segment = |segment: &str| !segment.is_empty() && segment != "." && segment != "..";
    if !path.split('/').all(segment) || path.chars().any(|char| char.is_control() || char == '\\') {
        return Err(error(format!("`{}` is no path of a file", short())));
    }
    if path.len() > PATH_BYTES_MAX || path.split('/').any(|segment| segment.len() > SEGMENT_BYTES_MAX) {
        let text = format!("has more than {PATH_BYTES_MAX} bytes, or {SEGMENT_BYTES_MAX} in one of its segments");
        return Err(error(format!("`{}` {text}", short())));
    }
    Ok(())
}

/// Packs files by their paths, each in one or more encodings, `identity` among them.
///
/// # Errors
/// For what cannot be shipped.
pub fn pack<B: AsRef<[u8]>>(files: &BTreeMap<String, BTreeMap<Encoding, B>>) -> Result<Vec<u8>, Error> {
    if files.is_empty() || files.len() > COUNT_MAX {
        return Err(error(format!("{} files; a folder needs 1 to {COUNT_MAX}", files.len())));
    }
    let mut entries = BTreeMap::new();
    for (path, variants) in files {
        check_path(path)?;
        if !variants.contains_key(&Encoding::Identity) {
            return Err(error(format!("`{path}` is not there as it is")));
        }
        entries
            .extend(variants.iter().map(|(encoding, bytes)| (format!("{}/{path}", encoding.label()), bytes.as_ref())));
    }
    let bytes = tar::length(entries.values().map(|bytes| bytes.len()));
    if bytes as u64 > FILES_BYTES_MAX {
        return Err(error(format!("{bytes} bytes in all; at most {FILES_BYTES_MAX} are shipped as one folder")));
    }
    let mut out = Vec::with_capacity(bytes);
    for (name, bytes) in entries {
        tar::append(&mut out, &name, bytes)?;
    }
    out.resize(out.len() + 2 * BLOCK_BYTES, 0);
    Ok(out)
}

/// Where the files of a packed folder are in its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    files: BTreeMap<String, Vec<Variant>>,
}

/// A file in one encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    /// How it is written.
    pub encoding: Encoding,
    /// Where it begins.
    pub offset: u64,
    /// Its bytes.
    pub size: u64,
}

impl Index {
    /// The index of a packed folder of `size` bytes, of which `block` gives those of [`BLOCK_BYTES`] at an offset.
    ///
    /// # Errors
    /// For what [`pack`] does not make, and what `block` says.
    pub fn read(size: u64, mut block: impl FnMut(u64) -> Result<[u8; BLOCK_BYTES], String>) -> Result<Self, Error> {
        let (mut at, mut last, mut index) = (0_u64, String::new(), Self::default());
        loop {
            let beyond = || error("ends within a file");
            if at.checked_add(BLOCK_BYTES as u64).is_none_or(|end| end > size) {
                return Err(beyond());
            }
            let Some(entry) = tar::read(&block(at).map_err(error)?)? else { break };
            if entry.name <= last {
                return Err(error(format!("`{}` is not in its order", entry.name)));
            }
            let offset = at + BLOCK_BYTES as u64;
            at = offset.checked_add(tar::padded(entry.size)).filter(|end| *end <= size).ok_or_else(beyond)?;
            index.add(&entry.name, offset, entry.size)?;
            last = entry.name;
        }
        if index.files.is_empty() || index.files.values().any(|variants| !variants.iter().any(Variant::is_plain)) {
            return Err(error("has no files, or one of which only a smaller form is there"));
        }
        Ok(index)
    }

    fn add(&mut self, name: &str, offset: u64, size: u64) -> Result<(), Error> {
        let (folder, path) = name.split_once('/').unwrap_or_default();
        let encoding = Encoding::ALL.into_iter().find(|encoding| encoding.label() == folder);
        let encoding = encoding.ok_or_else(|| error(format!("`{name}` is in no folder of an encoding")))?;
        check_path(path)?;
        let variants = self.files.entry(path.to_owned()).or_default();
        variants.push(Variant { encoding, offset, size });
        if self.files.len() > COUNT_MAX {
            return Err(error(format!("more than {COUNT_MAX} files")));
        }
        Ok(())
    }

    /// The file of this path, in all its encodings.
    pub fn get(&self, path: &str) -> Option<&[Variant]> {
        self.files.get(path).map(Vec::as_slice)
    }

    /// The files and their encodings.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[Variant])> {
        self.files.iter().map(|(path, variants)| (path.as_str(), variants.as_slice()))
    }
}

impl Variant {
    fn is_plain(&self) -> bool {
        self.encoding == Encoding::Identity
    }
}

#[cfg(test)]
mod tests;
