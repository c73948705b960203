//! Downloading a blob into a file: what is there already is kept and the rest asked for with a range, the digest is
//! computed as the bytes pass, and nothing over the size that was named is written.

use std::path::Path;

use bytes::Bytes;
use eyot_bundle::digest::{Digest, Hasher};
use http::StatusCode;
use http::header::{CONTENT_RANGE, HeaderValue, RANGE};
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};

use crate::body;
use crate::client::{Answer, Ask, Client};
use crate::error::Error;
use crate::path;

/// A download goes on after a broken connection this often before it fails.
const RESUMES_MAX: u32 = 4;
/// How much of an existing file is read at once, in bytes.
const READ_BYTES: usize = 64 << 10;

impl Client {
    /// Brings the blob `digest` of exactly `size` bytes into the file `into`, which may hold its beginning from an
    /// earlier try. When it returns, the file is whole, checked and synced. A file whose bytes turn out wrong is
    /// emptied; one that is only unfinished is kept for the next try.
    pub async fn blob(&self, digest: Digest, size: u64, into: &Path) -> Result<(), Error> {
        let mut partial = Partial::open(into, size).await?;
        let mut resumes = 0;
        while partial.length < size {
            match self.blob_part(digest, size, &mut partial).await {
                Ok(()) => {}
                Err(error) if error.is_passing() && resumes < RESUMES_MAX => {
                    resumes += 1;
                    tracing::debug!(%digest, at = partial.length, cause = %error, "a download is resumed");
                }
                Err(error) => return Err(error),
            }
        }
        partial.finish(digest).await
    }

    async fn blob_part(&self, digest: Digest, size: u64, partial: &mut Partial<'_>) -> Result<(), Error> {
        let mut ask = Ask::get(path::blob(digest));
        if partial.length > 0 {
            let range = HeaderValue::try_from(format!("bytes={}-", partial.length));
            ask.headers.push((RANGE, range.map_err(|error| Error::Settings(error.to_string()))?));
        }
        let answer = self.ask(&ask).await?.good().await?;
        if !goes_on_at(&answer, partial.length) {
            partial.restart().await?;
        }
        let url = answer.url;
        let mut bytes = answer.response.into_body();
        while let Some(piece) = body::next(&mut bytes, &url, body::IDLE_S).await? {
            if partial.length + piece.len() as u64 > size {
                partial.restart().await?;
                return Err(Error::TooLarge { url, limit_bytes: size });
            }
            partial.append(&piece).await?;
        }
        if partial.length < size {
            return Err(Error::Broken { url, cause: format!("{} of {size} bytes came", partial.length) });
        }
        Ok(())
    }
}

/// Whether the response begins at byte `at` of the blob: a 206 with that range, or a whole 200 when `at` is 0.
fn goes_on_at(answer: &Answer, at: u64) -> bool {
    let range = answer.response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    match answer.response.status() {
        StatusCode::PARTIAL_CONTENT => range.is_some_and(|range| range.starts_with(&format!("bytes {at}-"))),
        _ => at == 0,
    }
}

/// A file that grows into the blob, with the digest of what it holds.
struct Partial<'a> {
    path: &'a Path,
    file: File,
    length: u64,
    hasher: Hasher,
}

impl<'a> Partial<'a> {
    async fn open(path: &'a Path, size: u64) -> Result<Self, Error> {
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path).await;
        let file = file.map_err(|cause| Error::Disk { path: path.to_owned(), cause })?;
        let mut partial = Self { path, file, length: 0, hasher: Hasher::default() };
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let read = partial.file.read(&mut buffer).await.map_err(|cause| partial.disk(cause))?;
            if read == 0 {
                return Ok(partial);
            }
            partial.length += read as u64;
            partial.hasher.update(buffer.get(..read).unwrap_or_default());
            if partial.length > size {
                partial.restart().await?;
                return Ok(partial);
            }
        }
    }

    async fn append(&mut self, piece: &Bytes) -> Result<(), Error> {
        self.file.write_all(piece).await.map_err(|cause| self.disk(cause))?;
        self.length += piece.len() as u64;
        self.hasher.update(piece);
        Ok(())
    }

    async fn restart(&mut self) -> Result<(), Error> {
        self.file.set_len(0).await.map_err(|cause| self.disk(cause))?;
        self.file.rewind().await.map_err(|cause| self.disk(cause))?;
        self.length = 0;
        self.hasher = Hasher::default();
        Ok(())
    }

    async fn finish(mut self, digest: Digest) -> Result<(), Error> {
        let found = std::mem::take(&mut self.hasher).finish();
        if found != digest {
            self.restart().await?;
            return Err(Error::Digest { digest });
        }
        self.file.flush().await.map_err(|cause| self.disk(cause))?;
        self.file.sync_all().await.map_err(|cause| self.disk(cause))
    }

    fn disk(&self, cause: std::io::Error) -> Error {
        Error::Disk { path: self.path.to_owned(), cause }
    }
}
