//! One connection of a client.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::Request;
use quinn::{ConnectionError, RecvStream, SendStream, TransportErrorCode};

use super::Responder;
use super::drain::Drain;
use super::early;
use super::opening::Opening;
use crate::core::code::Code;
use crate::core::peer::Role;
use crate::driver::shared::{Shared, lock};
use crate::driver::{streams, varint};
use crate::{Error, Limits, RecvBody};

/// QUIC's own NO_ERROR (RFC 9000, section 20.1).
const NO_ERROR: TransportErrorCode = TransportErrorCode::NO_ERROR;

/// One connection of a client. It gives requests as long as [`Connection::accept`] is called, which also drives the
/// drain. Dropping it closes the connection with H3_NO_ERROR, whatever is in flight.
pub struct Connection {
    shared: Arc<Shared>,
    /// Streams whose head has not come; the transport bounds their number.
    opening: FuturesUnordered<Opening>,
    /// The last request stream that was taken.
    last: Option<u64>,
    drain: Drain,
}

impl Connection {
    /// Takes over a QUIC connection whose handshake is over and chose [`crate::ALPN`]. Our settings are sent in the
    /// background.
    pub async fn new(quinn: quinn::Connection, limits: Limits) -> Result<Self, Error> {
        Self::begin(quinn, limits)
    }

    /// The same as soon as the client's first words are here, by [`quinn::Connecting::into_0rtt`]. A request that comes
    /// before the handshake is over has [`Early`] among its extensions. A handshake that takes longer than the head of a
    /// request may ends the connection.
    pub async fn early(
        quinn: quinn::Connection,
        proven: quinn::ZeroRttAccepted,
        limits: Limits,
    ) -> Result<Self, Error> {
        let connection = Self::begin(quinn, limits)?;
        connection.shared.proven.send_replace(None);
        tokio::spawn(early::prove(Arc::clone(&connection.shared), proven));
        Ok(connection)
    }

    fn begin(quinn: quinn::Connection, limits: Limits) -> Result<Self, Error> {
        if let Some(error) = quinn.close_reason() {
            return Err(error.into());
        }
        let shared = Shared::new(quinn, Role::Server, limits);
        tokio::spawn(streams::run(Arc::clone(&shared)));
        Ok(Self { shared, opening: FuturesUnordered::new(), last: None, drain: Drain::No })
    }

    /// The next request whose head is complete. None: the connection ended well, by the client or by a drain. An error
    /// ends the connection; what is wrong with a single request is answered here and not told. Cancel-safe.
    pub async fn accept(&mut self) -> Result<Option<(Request<RecvBody>, Responder)>, Error> {
        loop {
            tokio::select! {
                biased;
                Some(request) = self.opening.next(), if !self.opening.is_empty() => {
                    if request.is_some() {
                        return Ok(request);
                    }
                }
                stream = self.shared.quinn.accept_bi() => match stream {
                    Ok((send, recv)) => {
                        if let Some(request) = self.open(send, recv).await {
                            return Ok(Some(request));
                        }
                    }
                    Err(error) => return self.over(error),
                },
                drained = self.drain.step(&self.shared, self.last) => {
                    if drained {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Begins to end the connection: the client is told at once, and after a moment which request was the last.
    /// [`Connection::accept`] goes on until all are answered and what was sent has arrived; then it gives None.
    pub fn drain(&mut self) {
        self.drain.begin(&self.shared);
    }

    /// Whether no request is in flight.
    pub fn is_idle(&self) -> bool {
        self.shared.is_idle()
    }

    /// A stream was opened. Most heads are there at once.
    async fn open(&mut self, mut send: SendStream, mut recv: RecvStream) -> Option<(Request<RecvBody>, Responder)> {
        let id = u64::from(send.id());
        if self.drain.refused_from().is_some_and(|refused| id >= refused) {
            lock(&self.shared.schedule).passed(id);
            let _ = recv.stop(varint(Code::REQUEST_REJECTED));
            let _ = send.reset(varint(Code::REQUEST_REJECTED));
            return None;
        }
        self.last = self.last.max(Some(id));
        let mut opening = Opening::new(send, recv, &self.shared);
        match poll_fn(|cx| Poll::Ready(Pin::new(&mut opening).poll(cx))).await {
            Poll::Ready(request) => request,
            Poll::Pending => {
                self.opening.push(opening);
                None
            }
        }
    }

    /// The QUIC connection is over: well, or not?
    fn over(&self, error: ConnectionError) -> Result<Option<(Request<RecvBody>, Responder)>, Error> {
        match self.shared.error(error) {
            // Many clients close with code 0 when they are done.
            Error::Closed(Code::NO_ERROR | Code(0)) => Ok(None),
            Error::Connection(ConnectionError::LocallyClosed) => Ok(None),
            // Others (curl) close the QUIC connection without an error of the application.
            Error::Connection(ConnectionError::ConnectionClosed(close)) if close.error_code == NO_ERROR => Ok(None),
            Error::Connection(ConnectionError::TimedOut) if self.is_idle() => Ok(None),
            error => Err(error),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.quinn.close(varint(Code::NO_ERROR), b"");
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("peer", &self.shared.quinn.remote_address()).finish_non_exhaustive()
    }
}

/// The request that follows `last`: client-initiated bidirectional streams are 0, 4, 8 and so on (RFC 9000, section
/// 2.1). It is what a GOAWAY names when `last` was the last one answered.
pub(super) fn request_id_after(last: Option<u64>) -> u64 {
    last.map_or(0, |last| last + 4)
}
