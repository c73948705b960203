//! Bytes of a file as a body: read piece by piece as they are asked for, on the threads that may wait for a disk.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use eyot_plan::body::{self, Body};
use eyot_plan::fault::{Code, Fault};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::task::JoinHandle;

/// What is read at once, in bytes.
const PIECE_BYTES: u64 = 128 << 10;

/// Some bytes of a file, to be read.
pub(super) struct Reading {
    file: Arc<File>,
    at: u64,
    left: u64,
    piece: Option<JoinHandle<std::io::Result<Bytes>>>,
}

impl Reading {
    /// A body of `size` bytes of `file` from `at` on. What is one piece is read already.
    pub(super) async fn of(file: &Arc<File>, at: u64, size: u64) -> Result<Body, Fault> {
        let mut reading = Self::begin(file, at, size);
        match size {
            0 => Ok(body::empty()),
            1..=PIECE_BYTES => match reading.next().await {
                Some(piece) => Ok(body::full(piece?)),
                None => Ok(body::empty()),
            },
            _ => Ok(reading.boxed_unsync()),
        }
    }

    pub(super) fn begin(file: &Arc<File>, at: u64, size: u64) -> Self {
        Self { file: Arc::clone(file), at, left: size, piece: None }
    }

    /// The next piece.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, Fault>> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let size = self.left.min(PIECE_BYTES);
        let piece = self.piece.get_or_insert_with(|| {
            let (file, at) = (Arc::clone(&self.file), self.at);
            tokio::task::spawn_blocking(move || {
                let mut piece = vec![0; usize::try_from(size).unwrap_or(0)];
                file.read_exact_at(&mut piece, at).map(|()| piece.into())
            })
        });
        let read = ready!(Pin::new(piece).poll(cx));
        self.piece = None;
        let failed =
            |error: &dyn std::fmt::Display| Fault::new(Code::InternalError).because(format_args!("a file: {error}"));
        Poll::Ready(Some(match read {
            Ok(Ok(bytes)) => {
                (self.at, self.left) = (self.at + size, self.left - size);
                Ok(bytes)
            }
            Ok(Err(error)) => {
                self.left = 0;
                Err(failed(&error))
            }
            Err(error) => {
                self.left = 0;
                Err(failed(&error))
            }
        }))
    }
}

impl http_body::Body for Reading {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        self.poll(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
