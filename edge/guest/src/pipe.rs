//! A response's body on its way from a guest's tasks to its caller: a bounded number of pieces under way, and an end that
//! says whether it is one. What goes away without having ended is not whole.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tokio::sync::mpsc;
use wasmtime_wasi_http::{Error as WasiError, WasiBody};

/// Pieces under way, each of at most 64 KiB.
const PIECES_MAX: usize = 4;

/// A frame, an error, or the end.
type Piece = Option<Result<Frame<Bytes>, WasiError>>;

/// The caller's side.
struct Piped(mpsc::Receiver<Piece>);

impl Body for Piped {
    type Data = Bytes;
    type Error = WasiError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, WasiError>>> {
        let piece = ready!(self.0.poll_recv(cx));
        Poll::Ready(piece.unwrap_or(Some(Err(WasiError::InternalError(None)))))
    }
}

/// The guest's side.
pub(crate) struct Pump {
    body: WasiBody,
    sender: mpsc::Sender<Piece>,
}

impl Pump {
    /// A pump for `body`, and what the caller gets.
    pub(crate) fn new(body: WasiBody) -> (Self, WasiBody) {
        let (sender, receiver) = mpsc::channel(PIECES_MAX);
        (Self { body, sender }, Piped(receiver).boxed_unsync())
    }

    /// Moves pieces until the body ends, or nobody reads it. `waits` tells whether it is the guest that it waits for.
    pub(crate) async fn run(mut self, waits: &AtomicBool) {
        loop {
            let next = std::future::poll_fn(|cx| {
                let polled = Pin::new(&mut self.body).poll_frame(cx);
                waits.store(polled.is_pending(), Ordering::Relaxed);
                polled
            });
            let piece = next.await;
            let last = !matches!(piece, Some(Ok(_)));
            if self.sender.send(piece).await.is_err() || last {
                return;
            }
        }
    }
}
