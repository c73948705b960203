//! The origin's online keys and what they sign: `director`, `snapshot`, `timestamp`. All but the keys comes as an
//! argument, the time too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use eyot_bundle::sign::{self, Header, Key, Pin, PublicKey, SignError};
use eyot_bundle::trust::TargetFile;
use jiff::Timestamp;

use crate::config::{Expiry, Keys};

/// A key file larger than this is none, in bytes.
const KEY_BYTES_MAX: u64 = 16 << 10;
/// `timestamp` is signed anew at least this often, in milliseconds.
const TIMESTAMP_EVERY_MS: u64 = 3_600_000;

/// The online keys. Shown, they show their ids only.
#[derive(Debug)]
pub struct Signer {
    timestamp: Key,
    snapshot: Key,
    director: Key,
    expiry: Expiry,
}

/// Why there is no signer.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// A key file is not usable.
    #[error("key `{name}` ({}): {cause}", path.display())]
    Key {
        /// Its name in the configuration.
        name: String,
        /// Where it was looked for.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
}

/// Where a configured secret lies: a path if it has a `/`, else a systemd credential.
pub(crate) fn secret_path(name: &str) -> PathBuf {
    match std::env::var_os("CREDENTIALS_DIRECTORY") {
        Some(folder) if !name.contains('/') => Path::new(&folder).join(name),
        _ => PathBuf::from(name),
    }
}

impl Signer {
    /// A signer of keys that are at hand.
    pub fn new(timestamp: Key, snapshot: Key, director: Key, expiry: Expiry) -> Self {
        Self { timestamp, snapshot, director, expiry }
    }

    /// Reads the keys of the configuration.
    ///
    /// # Errors
    /// [`SignerError::Key`] names the first that is not usable.
    pub fn load(keys: &Keys, expiry: Expiry) -> Result<Self, SignerError> {
        Ok(Self::new(load(&keys.timestamp)?, load(&keys.snapshot)?, load(&keys.director)?, expiry))
    }

    /// The keys that the root must name, by role.
    pub(crate) fn by_root(&self) -> [(&'static str, PublicKey); 2] {
        [("timestamp", self.timestamp.public()), ("snapshot", self.snapshot.public())]
    }

    pub(crate) fn director(&self, version: u64, controls: &[TargetFile], now: Timestamp) -> Result<Vec<u8>, SignError> {
        let header = Header { version, expires: after(now, self.expiry.director_ms) };
        sign::delegated(header, controls, &[&self.director])
    }

    pub(crate) fn snapshot(
        &self,
        version: u64,
        roles: &BTreeMap<String, Pin>,
        now: Timestamp,
    ) -> Result<Vec<u8>, SignError> {
        let header = Header { version, expires: after(now, self.expiry.snapshot_ms) };
        sign::snapshot(header, roles, &[&self.snapshot])
    }

    pub(crate) fn timestamp(&self, version: u64, snapshot: Pin, now: Timestamp) -> Result<Vec<u8>, SignError> {
        let header = Header { version, expires: after(now, self.expiry.timestamp_ms) };
        sign::timestamp(header, now, snapshot, &[&self.timestamp])
    }

    /// Whether a `timestamp` issued then is due to be signed anew: after an hour, or a quarter of its life.
    pub(crate) fn timestamp_due(&self, issued: Timestamp, now: Timestamp) -> bool {
        now >= after(issued, TIMESTAMP_EVERY_MS.min(self.expiry.timestamp_ms / 4))
    }

    /// Whether `snapshot` or `director` is due: in the last half of its life.
    pub(crate) fn role_due(&self, role: &str, expires: Timestamp, now: Timestamp) -> bool {
        let life_ms = if role == "snapshot" { self.expiry.snapshot_ms } else { self.expiry.director_ms };
        after(now, life_ms / 2) >= expires
    }
}

/// `ms` after `time`, at most the end of time.
fn after(time: Timestamp, ms: u64) -> Timestamp {
    time.checked_add(Duration::from_millis(ms)).unwrap_or(Timestamp::MAX)
}

fn load(name: &str) -> Result<Key, SignerError> {
    let path = secret_path(name);
    let failed = |cause: String| SignerError::Key { name: name.to_owned(), path: path.clone(), cause };
    let size = std::fs::metadata(&path).map_err(|error| failed(error.to_string()))?.len();
    if size > KEY_BYTES_MAX {
        return Err(failed("the file is too large for a key".to_owned()));
    }
    let text = std::fs::read_to_string(&path).map_err(|error| failed(error.to_string()))?;
    Key::from_pem(&text).map_err(|error| failed(error.to_string()))
}
