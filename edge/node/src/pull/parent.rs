//! What the pull asks of a parent: origin or relay. Everything that comes from it is checked elsewhere.

use std::path::Path;

use bytes::Bytes;
use eyot_bundle::digest::Digest;
use eyot_link::client::Client;
use eyot_link::error::Error;
use eyot_link::purge::Since;
use eyot_link::watch::WatchStream;
use eyot_link::wire::{Report, ReportAnswer, WatchLine};

/// A parent, or several behind one face.
pub trait Parent: Clone + Send + Sync + 'static {
    /// Its stream of changes.
    type Watch: Watch;

    /// A metadata file, if the parent has it.
    fn metadata(&self, file: &str) -> impl Future<Output = Result<Option<Bytes>, Error>> + Send;

    /// A target of this digest, at most `length_max` bytes.
    fn target(
        &self,
        path: &str,
        sha256: Digest,
        length_max: usize,
    ) -> impl Future<Output = Result<Bytes, Error>> + Send;

    /// Brings a blob into the file `into`, going on with what is there.
    fn blob(&self, digest: Digest, size: u64, into: &Path) -> impl Future<Output = Result<(), Error>> + Send;

    /// The changes after `seq`, and the purges after those that were done.
    fn watch(&self, seq: u64, purged: Option<&Since>) -> impl Future<Output = Result<Self::Watch, Error>> + Send;

    /// Tells how this node is.
    fn report(&self, report: &Report) -> impl Future<Output = Result<ReportAnswer, Error>> + Send;

    /// Brings lines to the follower `id`. False: nobody follows any more.
    fn tail(&self, id: &str, lines: Bytes) -> impl Future<Output = Result<bool, Error>> + Send;
}

/// A stream of changes. It ends with an error.
pub trait Watch: Send + 'static {
    /// Who gives it.
    fn url(&self) -> &str;

    /// The next line.
    fn next(&mut self) -> impl Future<Output = Result<WatchLine, Error>> + Send;
}

impl Parent for Client {
    type Watch = WatchStream;

    async fn metadata(&self, file: &str) -> Result<Option<Bytes>, Error> {
        self.metadata(file).await
    }

    async fn target(&self, path: &str, sha256: Digest, length_max: usize) -> Result<Bytes, Error> {
        self.target(path, sha256, length_max).await
    }

    async fn blob(&self, digest: Digest, size: u64, into: &Path) -> Result<(), Error> {
        self.blob(digest, size, into).await
    }

    async fn watch(&self, seq: u64, purged: Option<&Since>) -> Result<WatchStream, Error> {
        self.watch(seq, purged).await
    }

    async fn report(&self, report: &Report) -> Result<ReportAnswer, Error> {
        self.report(report).await
    }

    async fn tail(&self, id: &str, lines: Bytes) -> Result<bool, Error> {
        self.tail(id, lines).await
    }
}

impl Watch for WatchStream {
    fn url(&self) -> &str {
        self.url()
    }

    async fn next(&mut self) -> Result<WatchLine, Error> {
        self.next().await
    }
}
