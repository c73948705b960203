//! The door to what functions keep in the node's cache by names of their own.

use std::pin::Pin;

use eyot_plan::body::Body;

/// The objects of an app.
pub trait Objects: Send + Sync {
    /// What is kept by `name` and good, without waiting for another call.
    fn find(&self, name: String) -> Looking;

    /// What is kept by `name`, or the turn to make it; waits for whoever has that.
    fn lookup(&self, name: String) -> Looking;
}

/// A lookup under way. It runs on the runtime of the I/O; dropped, it waits no longer. None: there is no cache.
pub type Looking = Pin<Box<dyn Future<Output = Option<Looked>> + Send>>;

/// What was found.
#[derive(Default)]
pub struct Looked {
    /// What is kept, or still coming.
    pub object: Option<Box<dyn Object>>,
    /// The turn to make it.
    pub slot: Option<Box<dyn Slot>>,
}

/// An object.
pub trait Object: Send {
    /// What its maker said of it.
    fn metadata(&self) -> Vec<u8>;

    /// How old it is, in milliseconds.
    fn age_ms(&self) -> u64;

    /// How long it is still fresh, in milliseconds; 0 or less: it is stale, for so long.
    fn left_ms(&self) -> i64;

    /// Its length in bytes, as far as that is known.
    fn length(&self) -> Option<u64>;

    /// Its bytes from the first on: once. It is read on the runtime of the I/O.
    fn take(&mut self) -> Option<Body>;
}

/// The turn to make an object. Dropped, it passes to another.
pub trait Slot: Send {
    /// Keeps what `body` brings, on the runtime of the I/O, in whose context this is called.
    ///
    /// # Errors
    /// Why nothing is kept of it.
    fn make(self: Box<Self>, making: Making, body: Body) -> Result<Made, Unmade>;
}

/// Whether an object is kept, once that is known.
pub type Made = Pin<Box<dyn Future<Output = bool> + Send>>;

/// What is said of an object that is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Making {
    /// How long it is fresh, in milliseconds.
    pub fresh_ms: u64,
    /// How long after that it is given while it is made anew, in milliseconds.
    pub stale_ms: u64,
    /// The surrogate keys it is purged by.
    pub keys: Vec<String>,
    /// What is found with it.
    pub metadata: Vec<u8>,
    /// How long its body is, if that is known, in bytes.
    pub length: Option<u64>,
}

/// Why nothing is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmade {
    /// It would be kept for too long, or too much is said of it.
    Invalid,
    /// Its body is longer than what is kept.
    TooLarge,
}
