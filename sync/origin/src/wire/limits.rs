//! What the wire takes of one request, and of all at once.

use std::time::Duration;

use eyot_link::wire::BLOB_BYTES_MAX;

/// What the wire takes. Fixed; a part of it may run under smaller ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The largest blob, in bytes.
    pub(crate) blob_bytes_max: u64,
    /// A body must be there within this.
    pub(crate) body_time_max: Duration,
    /// Uploads at once: of blobs, and of bodies that are held in memory.
    pub(crate) uploads_max: usize,
    /// Streams at once.
    pub(crate) streams_max: usize,
    /// Metadata of more bytes than this in all is not put into a line of a stream; nodes fetch it.
    pub(crate) inline_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            blob_bytes_max: BLOB_BYTES_MAX,
            body_time_max: Duration::from_secs(600),
            uploads_max: 8,
            streams_max: 20_000,
            inline_bytes_max: 512 << 10,
        }
    }
}
