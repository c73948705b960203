//! Heads: the few small values that change, each swapped only by who saw the last version. With [`crate::blobs`] this is
//! all the state an origin has, so origins beside each other share nothing else.
//!
//! Keys: `timestamp` (the whole signed state), `app/<name>` (what an app uploaded and when it published), `node/<id>`
//! (the highest sequence it reported), `events/<app>` (whose turn its schedules were).

pub mod redb;

use std::future::Future;

use bytes::Bytes;

/// A value with the version that a swap must name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Counted up from 1 with each swap of this key.
    pub version: u64,
    /// The value.
    pub value: Bytes,
}

/// Why a head could not be read or swapped.
#[derive(Debug, thiserror::Error)]
pub enum HeadsError {
    /// The store failed.
    #[error("the store of heads failed: {0}")]
    Failed(String),
    /// Somebody else swapped it first: read again, decide again.
    #[error("`{key}` was changed by another writer")]
    Moved {
        /// The key.
        key: String,
    },
}

/// A store of heads.
pub trait Heads: Send + Sync + 'static {
    /// The value of `key` and its version.
    fn get(&self, key: &str) -> impl Future<Output = Result<Option<Entry>, HeadsError>> + Send;

    /// Makes `value` the value of `key` if its version is still `was` (`None`: if there is none), durably, and gives
    /// the new version.
    ///
    /// # Errors
    /// [`HeadsError::Moved`] if it is not.
    fn swap(&self, key: &str, was: Option<u64>, value: Bytes) -> impl Future<Output = Result<u64, HeadsError>> + Send;

    /// Counts the swaps of all keys: whoever waits on it reads again what it follows.
    fn watch(&self) -> tokio::sync::watch::Receiver<u64>;

    /// Takes `key` for `holder` until `ttl_ms` from now, or longer if it is its holder already. `false`: another has it.
    fn lease(&self, key: &str, holder: &str, ttl_ms: u64) -> impl Future<Output = Result<bool, HeadsError>> + Send;
}
