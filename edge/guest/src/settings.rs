//! How much of the node guests may use, and what can go wrong outside of a call.

use std::fmt;
use std::path::PathBuf;

use eyot_bundle::digest::Digest;
use eyot_plan::fault::Fault;

/// More slots than these would not fit into the address space.
pub const SLOTS_MAX: u32 = 8192;

/// What the runtime is given. Ceilings for all apps together.
#[derive(Clone)]
pub struct Settings {
    /// How many calls run at once: 1 to [`SLOTS_MAX`].
    pub slots: u32,
    /// How many guest threads; 0: one for each core.
    pub threads: usize,
    /// The most linear memory one call may ever have, in bytes.
    pub memory_bytes_max: u64,
    /// Compiled code kept loaded, in bytes; what is in use is kept beyond it.
    pub code_bytes_max: u64,
    /// How many calls may wait for a slot.
    pub queued_max: usize,
    /// How long a call may wait for a slot, in milliseconds.
    pub queue_wait_ms: u64,
    /// The folder of the compiled artefacts.
    pub artefacts: PathBuf,
    /// The key of their MACs; it never leaves the node.
    pub key: [u8; 32],
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("slots", &self.slots)
            .field("threads", &self.threads)
            .field("memory_bytes_max", &self.memory_bytes_max)
            .field("code_bytes_max", &self.code_bytes_max)
            .field("queued_max", &self.queued_max)
            .field("queue_wait_ms", &self.queue_wait_ms)
            .field("artefacts", &self.artefacts)
            .finish_non_exhaustive()
    }
}

/// What can go wrong outside of a call.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The artefact's MAC is not the one of its bytes; it was removed.
    #[error("the compiled artefact of {0} was altered and is removed")]
    Altered(Digest),
    /// The component does not compile, or asks for what no function may have.
    #[error("it does not compile: {0}")]
    Compile(String),
    /// The engine cannot be made.
    #[error("the engine: {0}")]
    Engine(String),
    /// A file could not be read or written.
    #[error("{path}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No artefact of this digest is here.
    #[error("no compiled artefact of {0}")]
    Missing(Digest),
    /// It could not be instantiated within its budget.
    #[error("it could not be started: {0}")]
    Probe(Fault),
    /// The artefact has more bytes than any may have; it was removed.
    #[error("the compiled artefact of {0} has {1} bytes and is removed")]
    TooLarge(Digest, u64),
}

impl Error {
    /// For `map_err` on file operations.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
