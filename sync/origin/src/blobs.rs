//! Blobs: bytes named by their digest, put once and never changed: bundles, release documents, metadata.

pub mod files;

use std::collections::BTreeSet;
use std::future::Future;
use std::ops::Range;
use std::time::SystemTime;

use bytes::Bytes;
use eyot_bundle::digest::Digest;

/// Why a blob could not be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum BlobsError {
    /// The bytes have another digest than the one they were put under.
    #[error("the bytes do not have the digest {0}")]
    Digest(Digest),
    /// The store failed.
    #[error("the store of blobs failed: {0}")]
    Failed(String),
}

/// A store of blobs.
pub trait Blobs: Send + Sync + 'static {
    /// A blob that is being put, piece by piece. Dropped before its end, it leaves nothing.
    type Writing: Writing;

    /// The size of a blob in bytes, if it is there.
    fn size(&self, digest: Digest) -> impl Future<Output = Result<Option<u64>, BlobsError>> + Send;

    /// The bytes of `range`, which must lie inside the blob; `None` if it is not there.
    fn get(&self, digest: Digest, range: Range<u64>) -> impl Future<Output = Result<Option<Bytes>, BlobsError>> + Send;

    /// Puts `bytes`, durably; nothing happens if they are there.
    fn put(&self, bytes: Bytes) -> impl Future<Output = Result<Digest, BlobsError>> + Send;

    /// Removes what is not in `keep` and was put before `before`, and gives how many that were.
    fn sweep(
        &self,
        keep: BTreeSet<Digest>,
        before: SystemTime,
    ) -> impl Future<Output = Result<usize, BlobsError>> + Send;

    /// Begins to put bytes that come in pieces.
    fn begin(&self) -> impl Future<Output = Result<Self::Writing, BlobsError>> + Send;
}

/// A blob that is being put.
pub trait Writing: Send + 'static {
    /// Takes the next piece.
    fn write(&mut self, piece: Bytes) -> impl Future<Output = Result<(), BlobsError>> + Send;

    /// Makes it a blob, durably, if the pieces have this digest.
    ///
    /// # Errors
    /// [`BlobsError::Digest`] if they have not; nothing is kept.
    fn finish(self, digest: Digest) -> impl Future<Output = Result<(), BlobsError>> + Send;
}
