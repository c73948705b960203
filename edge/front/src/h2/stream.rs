//! One exchange of HTTP/2: it ends when the client leaves it, takes nothing, or with everything.

use core::future::poll_fn;
use core::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use eyot_plan::arrival::Answer;
use eyot_plan::fault::Fault;
use h2::ext::Protocol;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response, header};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt as _;

use super::body::Incoming;
use super::watch::Heard;
use crate::connection::{Connection, InFlight};
use crate::drain::Drain;
use crate::exchange::Exchanges;
use crate::interim::{Heads, Reach};
use crate::response_body::ResponseBody;
use crate::stall;
use crate::tunnel::Accepted;

/// One exchange.
pub(super) struct Stream<A> {
    exchanges: Arc<Exchanges<A>>,
    connection: Arc<Connection>,
    heard: Heard,
    respond: SendResponse<Bytes>,
}

/// Why nothing more is sent.
enum Over {
    /// The client has left, or made an error for which the stream is reset.
    Left,
    /// The answer broke off.
    Ours,
}

impl<A: Answer> Stream<A> {
    pub(super) fn new(
        exchanges: Arc<Exchanges<A>>,
        connection: Arc<Connection>,
        heard: Heard,
        respond: SendResponse<Bytes>,
    ) -> Self {
        Self { exchanges, connection, heard, respond }
    }

    /// Answers the request.
    pub(super) async fn run(mut self, request: Request<RecvStream>, mut drain: Drain) {
        let in_flight = self.connection.activity.begin();
        let send_idle = self.exchanges.settings.send_idle;
        let ended = {
            // Pinned here: it is large, and each hand that it went through would copy it.
            let exchange = pin!(async {
                let response = self.answer(request, in_flight).await?;
                self.send(response).await
            });
            // In this order: most are over before anyone has to be asked to wake them.
            tokio::select! {
                biased;
                ended = stall::watched(send_idle, exchange) => ended,
                () = drain.cut() => return,
            }
        };
        match ended {
            Some(Ok(())) => self.heard.ended_well(),
            Some(Err(Over::Ours)) => {}
            // None: it takes nothing.
            Some(Err(Over::Left)) | None => self.heard.broken_off(),
        }
    }

    async fn answer(
        &mut self,
        request: Request<RecvStream>,
        in_flight: InFlight,
    ) -> Result<Response<ResponseBody>, Over> {
        let heads = Heads::default();
        let extended = request.extensions().get::<Protocol>().map(|protocol| protocol.as_str().to_owned());
        let reach = Reach { interim: heads.interim(), go_on: Some(heads.go_on()), extended, tunnel: None };
        let length = length(request.headers());
        let request = request.map(|stream| Incoming::new(stream, length));
        let (exchanges, connection) = (self.exchanges.clone(), self.connection.clone());
        let mut answering = pin!(exchanges.exchange(&connection, request, reach, in_flight));
        let response = loop {
            tokio::select! {
                biased;
                head = heads.next() => self.inform(head)?,
                response = &mut answering => break response,
                _ = poll_fn(|cx| self.respond.poll_reset(cx)) => return Err(Over::Left),
            }
        };
        heads.end();
        while let Some(head) = heads.take() {
            self.inform(head)?;
        }
        Ok(response)
    }

    fn inform(&mut self, head: Response<()>) -> Result<(), Over> {
        self.respond.send_informational(head).map_err(|error| broken(&error))
    }

    async fn send(&mut self, response: Response<ResponseBody>) -> Result<(), Over> {
        let (mut head, mut body) = response.into_parts();
        // RFC 9220, section 3, and RFC 8441, section 5: what is a reset of TCP elsewhere.
        let is_tunnel = head.extensions.remove::<Accepted>().is_some();
        let break_off = if is_tunnel { Reason::CANCEL } else { Reason::INTERNAL_ERROR };
        let is_whole = body.is_end_stream() && !is_tunnel;
        let mut out = match self.respond.send_response(Response::from_parts(head, ()), is_whole) {
            Ok(out) => out,
            Err(error) => {
                self.respond.send_reset(Reason::INTERNAL_ERROR);
                return Err(broken(&error));
            }
        };
        if is_whole {
            return Ok(());
        }
        let rate_bytes = self.exchanges.settings.send_rate_bytes_min;
        loop {
            let frame = tokio::select! {
                biased;
                _ = poll_fn(|cx| out.poll_reset(cx)) => return Err(Over::Left),
                frame = body.frame() => frame,
            };
            match frame.map(|frame| frame.map(Frame::into_data)) {
                None => return put(&mut out, Bytes::new(), true),
                Some(Ok(Ok(data))) => {
                    let is_last = body.is_end_stream();
                    take(&mut out, data, is_last, rate_bytes).await?;
                    if is_last {
                        return Ok(());
                    }
                }
                Some(Ok(Err(frame))) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        return out.send_trailers(trailers).map_err(|error| broken(&error));
                    }
                }
                Some(Err(fault)) => return Err(reset(&mut out, break_off, &fault)),
            }
        }
    }
}

/// Sends a piece as the client has room for it: nothing lies in wait for a client that gives none.
async fn take(out: &mut SendStream<Bytes>, mut data: Bytes, is_last: bool, rate_bytes: u32) -> Result<(), Over> {
    while !data.is_empty() {
        out.reserve_capacity(data.len());
        let room = match out.capacity() {
            0 => poll_fn(|cx| out.poll_capacity(cx)).await.and_then(Result::ok).ok_or(Over::Left)?,
            room => room,
        };
        let piece = data.split_to(room.min(data.len()));
        stall::taken(piece.len(), rate_bytes);
        let is_last = is_last && data.is_empty();
        if !piece.is_empty() {
            put(out, piece, is_last)?;
        }
        if is_last {
            return Ok(());
        }
    }
    if is_last { put(out, Bytes::new(), true) } else { Ok(()) }
}

fn put(out: &mut SendStream<Bytes>, data: Bytes, is_last: bool) -> Result<(), Over> {
    out.send_data(data, is_last).map_err(|error| broken(&error))
}

fn reset(out: &mut SendStream<Bytes>, reason: Reason, fault: &Fault) -> Over {
    tracing::debug!(%fault, "an HTTP/2 response broke off");
    out.send_reset(reason);
    Over::Ours
}

fn broken(error: &h2::Error) -> Over {
    tracing::debug!(%error, "an HTTP/2 stream broke off");
    Over::Left
}

/// What the head says of the body's length. Whether it is true is the library's to check, whether it is one number is
/// looked at before anyone reads the body.
fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
