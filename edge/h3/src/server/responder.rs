//! Answering one request.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Method, Response, StatusCode};
use http_body::Body;
use http_body_util::Empty;

use super::Interim;
use super::interim::{self, Line};
use crate::Error;
use crate::core::code::Code;
use crate::core::encode::{self, Encoded, Unsendable};
use crate::core::priority::Priority;
use crate::driver::send::{Outgoing, promise};
use crate::driver::shared::{Ticket, lock};

/// Answers one request. Dropped without an answer, it resets the stream: with H3_INTERNAL_ERROR, or with the code of
/// what was wrong with the request's body.
pub struct Responder {
    outgoing: Outgoing,
    ticket: Arc<Ticket>,
    /// The request's method.
    method: Method,
    /// The interim responses that wait, if any are said so.
    line: Option<Arc<Line>>,
}

/// A response whose head is made.
struct Begun<B> {
    outgoing: Outgoing,
    ticket: Arc<Ticket>,
    head: Encoded,
    /// None: the response has none.
    body: Option<B>,
    /// What content-length promises.
    length: Option<u64>,
}

impl Responder {
    pub(super) fn new(outgoing: Outgoing, ticket: Arc<Ticket>, method: Method) -> Self {
        Self { outgoing, ticket, method, line: None }
    }

    /// What says interim responses from elsewhere, while the answer is being made.
    pub fn interim(&mut self) -> Interim {
        let line = self.line.get_or_insert_default();
        Interim::new(Arc::clone(line), self.outgoing.shared())
    }

    /// Sends an interim response: its status is 1xx, and not 101, which HTTP/3 does not have.
    pub async fn inform(&mut self, response: Response<()>) -> Result<(), Error> {
        let head = interim::encode(response).map_err(Error::Unsendable)?;
        if !self.outgoing.takes(&head) {
            return Err(Error::PeerLimit);
        }
        self.put_waiting_ahead();
        self.outgoing.put_ahead(&head.frame);
        self.outgoing.write_ahead().await
    }

    /// What others said comes first.
    fn put_waiting_ahead(&mut self) {
        while let Some(head) = self.line.as_ref().and_then(|line| line.take()) {
            self.outgoing.put_ahead(&head);
        }
    }

    /// Sends the response: the head and what is there of the body in one write, the rest as it comes and as the client
    /// takes it. A content-length is added if the body knows its length. The body is not read where the response has
    /// none: for HEAD, 204 and 304.
    ///
    /// An error of the body, or one that is not as long as its content-length, resets the stream with
    /// H3_INTERNAL_ERROR. So does dropping the future.
    ///
    /// For an extended CONNECT a status of 2xx accepts the tunnel: this body is what goes to the client, the request's is
    /// what comes from it, and each ends by itself. One that breaks off resets the stream with H3_REQUEST_CANCELLED.
    pub fn send<B>(self, response: Response<B>) -> impl Future<Output = Result<(), Error>> + use<B>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        // Here and not in the future: what it takes apart is large, and no step after it needs it.
        let begun = self.begin(response);
        async move {
            let Begun { mut outgoing, ticket, head, body, length } = begun?;
            let result = match body {
                Some(body) => outgoing.send(head, body, length).await,
                None => outgoing.send(head, Empty::new(), None).await,
            };
            drop((outgoing, ticket));
            result
        }
    }

    /// What is to be sent.
    fn begin<B: Body>(mut self, response: Response<B>) -> Result<Begun<B>, Error> {
        let (mut head, body) = response.into_parts();
        if head.status.is_informational() {
            return Err(Error::Unsendable(Unsendable::Status));
        }
        let tunnel = self.method == Method::CONNECT && head.status.is_success();
        let bodiless = !tunnel
            && (self.method == Method::HEAD
                || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED));
        let length = if tunnel {
            // RFC 9110, section 8.6: a tunnel has no length.
            head.headers.remove(CONTENT_LENGTH);
            None
        } else if bodiless {
            None
        } else {
            promise(&mut head.headers, &body, true)
        };
        self.outgoing.answered(Priority::of(&head.headers));
        let head = encode::response(&head).map_err(Error::Unsendable)?;
        if !self.outgoing.takes(&head) {
            return Err(Error::PeerLimit);
        }
        if let Some(line) = &self.line {
            line.end();
            self.put_waiting_ahead();
        }
        if tunnel {
            // RFC 9220, section 3: what is a reset of TCP elsewhere.
            self.outgoing.on_drop(Code::REQUEST_CANCELLED);
        }
        let Self { outgoing, ticket, .. } = self;
        Ok(Begun { outgoing, ticket, head, body: (!bodiless).then_some(body), length })
    }

    /// Resolves when nobody waits for the response any more: the client reset or stopped the stream, or the connection
    /// is lost. Meanwhile it sends what is said by [`Responder::interim`]. Cancel-safe.
    pub async fn gone(&mut self) {
        let mut stopped = self.outgoing.stopped();
        let incoming = self.outgoing.incoming();
        poll_fn(|cx| {
            while let Some(head) = self.line.as_ref().and_then(|line| line.next(cx)) {
                self.outgoing.put_ahead(&head);
            }
            self.outgoing.poll_ahead(cx);
            if stopped.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            incoming.as_ref().map_or(Poll::Pending, |incoming| lock(incoming).poll_reset(cx))
        })
        .await;
        self.outgoing.on_drop(Code::REQUEST_CANCELLED);
        self.outgoing.broken_off();
    }
}

impl std::fmt::Debug for Responder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Responder").field("method", &self.method).finish_non_exhaustive()
    }
}
