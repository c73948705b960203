//! The witness: a small file that says which commit of the ledger is the last one, under a key of this node.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use aws_lc_rs::hmac;
use eyot_bundle::digest::Digest;
use serde::{Deserialize, Serialize};

use super::durable::replace;
use super::state::{self, State};

/// A witness of more bytes is none.
const BYTES_MAX: u64 = 1024;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Witness {
    commit: u64,
    sha256: Digest,
    mac: Digest,
}

pub(super) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(BYTES_MAX).read_to_end(&mut bytes).map(|_| Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn write(folder: &Path, key: &hmac::Key, state: &State, bytes: &[u8]) -> io::Result<()> {
    let sha256 = Digest::of(bytes);
    let witness = Witness { commit: state.commit, sha256, mac: mac(key, state.commit, sha256) };
    replace(&folder.join(super::WITNESS), &serde_json::to_vec(&witness)?)
}

/// Refuses a ledger that is older than its witness, or another one. One commit newer is in order: a crash came between
/// the two.
pub(super) fn check(key: &hmac::Key, witness: &[u8], state: &State, bytes: &[u8]) -> Result<(), String> {
    let witness: Witness = serde_json::from_slice(witness).map_err(|error| format!("its witness is torn: {error}"))?;
    if mac(key, witness.commit, witness.sha256) != witness.mac {
        return Err("its witness was changed".to_owned());
    }
    if state.commit < witness.commit {
        return Err(format!("it is at commit {}, its witness saw {}", state.commit, witness.commit));
    }
    if state.commit == witness.commit && Digest::of(bytes) != witness.sha256 {
        return Err(format!("commit {} is not the one its witness saw", state.commit));
    }
    Ok(())
}

fn mac(key: &hmac::Key, commit: u64, sha256: Digest) -> Digest {
    state::mac(key, &[b"witness\0", &commit.to_be_bytes(), sha256.as_bytes()])
}
