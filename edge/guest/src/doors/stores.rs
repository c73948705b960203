//! The door to the stores of keys and values: which of them a function may open, and what it may ask of one.
//!
//! What is behind it bounds values, keys and counts; the guest's side bounds what is under way.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

/// The stores that a function's release binds.
pub trait Stores: Send + Sync {
    /// The store that the release binds to `name` for this function; none: it binds none.
    fn open(&self, name: &str) -> Option<Arc<dyn Store>>;
}

/// What is asked of a store, under way. It runs on the runtime of the I/O; dropping it gives up waiting, and what was to
/// be written may then be written or not.
pub type Storing<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>;

/// One store of an app. Each of its methods only begins: what it gives does the work.
pub trait Store: Send + Sync {
    /// The value of `key`.
    fn get(&self, key: String) -> Storing<Option<Bytes>>;

    /// Sets the value of `key`.
    fn set(&self, key: String, value: Bytes) -> Storing<()>;

    /// Deletes `key`; it need not be there.
    fn delete(&self, key: String) -> Storing<()>;

    /// Whether `key` has a value.
    fn exists(&self, key: String) -> Storing<bool>;

    /// Some of the keys, from `cursor` on or from the first.
    fn keys(&self, cursor: Option<String>) -> Storing<Page>;

    /// Adds `delta` to the number that is the value of `key`, 0 where there is none, and gives the sum.
    fn increment(&self, key: String, delta: i64) -> Storing<i64>;

    /// The value of `key` with its revision.
    fn current(&self, key: String) -> Storing<Current>;

    /// Sets the value of `key` if its revision is still `revision`; 0: if it has none. `false`: it is another.
    fn swap(&self, key: String, revision: u64, value: Bytes) -> Storing<bool>;

    /// The values of `keys`, in their order. At most 64 are asked for at once; how much they are together is bounded behind
    /// this door, for all of it is in memory.
    fn get_many(&self, keys: Vec<String>) -> Storing<Vec<Option<Bytes>>>;

    /// Sets several values. Where it fails, some may be set.
    fn set_many(&self, pairs: Vec<(String, Bytes)>) -> Storing<()>;

    /// Deletes several keys. Where it fails, some may be deleted.
    fn delete_many(&self, keys: Vec<String>) -> Storing<()>;
}

/// Some keys of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The keys.
    pub keys: Vec<String>,
    /// Where the next ones begin; none: these are the last.
    pub cursor: Option<String>,
}

/// A value with its revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Current {
    /// The value; none: the key has none.
    pub value: Option<Bytes>,
    /// Its revision; 0: the key has no value.
    pub revision: u64,
}

/// Why a store did not do what it was asked. Its text is safe to show to the function: no address, no credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The function may not do this.
    #[error("access denied")]
    AccessDenied,
    /// There is no such store.
    #[error("no such store")]
    NoSuchStore,
    /// Anything else: what went wrong, for the function.
    #[error("{0}")]
    Other(String),
}
