//! Answering one request.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::Body;
use http_body_util::Empty;

use crate::Error;
use crate::core::code::Code;
use crate::core::encode::{self, Unsendable};
use crate::driver::send::{Outgoing, promise};
use crate::driver::shared::{Ticket, lock};

/// Answers one request. Dropped without an answer, it resets the stream: with H3_INTERNAL_ERROR, or with the code of
/// what was wrong with the request's body.
pub struct Responder {
    outgoing: Outgoing,
    ticket: Arc<Ticket>,
    /// Whether the request's method is HEAD.
    head: bool,
}

impl Responder {
    pub(super) fn new(outgoing: Outgoing, ticket: Arc<Ticket>, head: bool) -> Self {
        Self { outgoing, ticket, head }
    }

    /// Sends an interim response: its status is 1xx, and not 101, which HTTP/3 does not have.
    pub async fn inform(&mut self, response: Response<()>) -> Result<(), Error> {
        let (head, ()) = response.into_parts();
        if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Error::Unsendable(Unsendable::Status));
        }
        let head = encode::response(&head).map_err(Error::Unsendable)?;
        self.outgoing.write(&mut [head.frame.freeze()]).await
    }

    /// Sends the response: the head and what is there of the body in one write, the rest as it comes and as the client
    /// takes it. A content-length is added if the body knows its length. The body is not read where the response has
    /// none: for HEAD, 204 and 304.
    ///
    /// An error of the body, or one that is not as long as its content-length, resets the stream with
    /// H3_INTERNAL_ERROR. So does dropping the future.
    pub async fn send<B>(self, response: Response<B>) -> Result<(), Error>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (mut head, body) = response.into_parts();
        if head.status.is_informational() {
            return Err(Error::Unsendable(Unsendable::Status));
        }
        let bodiless = self.head || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let length = if bodiless { None } else { promise(&mut head.headers, &body, true) };
        let head = encode::response(&head).map_err(Error::Unsendable)?;
        if !self.outgoing.takes(&head) {
            return Err(Error::PeerLimit);
        }
        let Self { outgoing, ticket, .. } = self;
        let result = if bodiless {
            drop(body);
            outgoing.send(head, Empty::new(), None).await
        } else {
            outgoing.send(head, body, length).await
        };
        drop(ticket);
        result
    }

    /// Resolves when nobody waits for the response any more: the client reset or stopped the stream, or the connection
    /// is lost. Cancel-safe.
    pub async fn gone(&mut self) {
        let mut stopped = self.outgoing.stopped();
        let incoming = self.outgoing.incoming();
        poll_fn(|cx| {
            if stopped.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            incoming.map_or(Poll::Pending, |incoming| lock(incoming).poll_reset(cx))
        })
        .await;
        self.outgoing.on_drop(Code::REQUEST_CANCELLED);
        self.outgoing.broken_off();
    }
}

impl std::fmt::Debug for Responder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Responder").field("head", &self.head).finish_non_exhaustive()
    }
}
