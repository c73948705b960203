//! Where the body of a kept answer comes from: memory, or the disk tier.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use eyot_plan::body::Body;
use eyot_plan::cache::slices::Slices;
use eyot_plan::fault::{Code, Fault};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;

use crate::disk::{Damaged, Reader};
use crate::fill::Fill;

/// Where a body comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// An open file of the disk tier: it can be read as it is, whatever becomes of it.
    Disk(Arc<OnDisk>),
    /// Memory, or still coming.
    Fill(Arc<Fill>),
    /// Objects of its own, which who reads looks for.
    Slices(Arc<Slices>),
}

/// A body on disk.
#[derive(Debug)]
pub struct OnDisk {
    /// Its file.
    pub reader: Reader,
    /// What follows it.
    pub trailers: Option<HeaderMap>,
}

impl Source {
    /// Its length, once it is known for sure.
    pub fn length(&self) -> Option<u64> {
        match self {
            Self::Disk(disk) => Some(disk.reader.body_bytes()),
            Self::Fill(fill) => fill.length(),
            Self::Slices(slices) => Some(slices.length),
        }
    }

    /// The bytes it takes in memory.
    pub fn weight(&self) -> u64 {
        match self {
            Self::Disk(_) | Self::Slices(_) => 0,
            Self::Fill(fill) => fill.weight(),
        }
    }

    /// The bytes from `from` to before `to`, or to the end. None: they were let go of already, or are not here at all.
    pub fn read(&self, from: u64, to: Option<u64>) -> Option<Body> {
        match self {
            Self::Disk(disk) => Some(Stream::new(Arc::clone(disk), from, to).boxed_unsync()),
            Self::Fill(fill) => Some(fill.read(from, to)?.body()),
            Self::Slices(_) => None,
        }
    }
}

type Chunk = Pin<Box<dyn Future<Output = Result<Bytes, Damaged>> + Send>>;

/// A body that is read from the disk, chunk by chunk, as it is asked for.
struct Stream {
    disk: Arc<OnDisk>,
    at: u64,
    to: u64,
    /// What follows at the end.
    trailers: Option<HeaderMap>,
    chunk: Option<Chunk>,
    failed: bool,
}

impl Stream {
    fn new(disk: Arc<OnDisk>, from: u64, to: Option<u64>) -> Self {
        let bytes = disk.reader.body_bytes();
        let trailers = disk.trailers.clone().filter(|_| to.is_none());
        Self { at: from.min(bytes), to: to.unwrap_or(bytes).min(bytes), disk, trailers, chunk: None, failed: false }
    }
}

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = &mut *self;
        if this.failed {
            return Poll::Ready(None);
        }
        if this.at >= this.to {
            return Poll::Ready(this.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let (disk, at) = (&this.disk, this.at);
        let chunk = this.chunk.get_or_insert_with(|| {
            let disk = Arc::clone(disk);
            Box::pin(async move { disk.reader.at(at).await })
        });
        let read = ready!(chunk.as_mut().poll(cx));
        this.chunk = None;
        let Some(mut bytes) = read.ok().filter(|bytes| !bytes.is_empty()) else {
            this.failed = true;
            return Poll::Ready(Some(Err(Fault::new(Code::InternalError).because(Damaged))));
        };
        bytes.truncate(usize::try_from(this.to - this.at).unwrap_or(usize::MAX));
        this.at += bytes.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.failed || (self.at >= self.to && self.trailers.is_none())
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.to.saturating_sub(self.at))
    }
}
