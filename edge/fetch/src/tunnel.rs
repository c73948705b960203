//! A tunnel through an upstream (RFC 6455, RFC 8441): opened on a connection of its own over HTTP/1.1, or on a stream of
//! HTTP/2 where the upstream takes extended CONNECT; then bytes both ways until one side ends it or both are silent.
//!
//! What is in the tunnel is none of its business.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aws_lc_rs::{digest, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use eyot_plan::arrival::{Connect, Interim};
use eyot_plan::body::Body;
use eyot_plan::fault::{Code, Fault};
use eyot_plan::forward;
use eyot_plan::way::Way;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, TE, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt as _;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWriteExt as _, ReadBuf, ReadHalf, WriteHalf, split};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use crate::Fetch;
use crate::connection::{H1, Lease, Unsent};
use crate::exchange::{Exchange, fault_of, late, millis};
use crate::gate::{Gate, Gated};
use crate::head;
use crate::incoming::Incoming;
use crate::key::Key;
use crate::pool::{KeptForTunnel, Pool};
use crate::tls::Offer;
use crate::upload::{CutOnDrop, Upload, UploadBody};

/// What is read of an upstream's side of an HTTP/1.1 connection at once, in bytes.
const READ_BYTES: usize = 16 << 10;
/// What a server appends to the key before it hashes it (RFC 6455, section 1.3).
const ACCEPT_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Opens a tunnel: see [`Fetch::tunnel`].
pub(crate) async fn open(
    fetch: &Fetch,
    way: &Way,
    request: Request<Body>,
    connect: Connect,
    interim: &Interim,
) -> Result<Response<Body>, Fault> {
    let Connect::WebSocket = connect;
    let (mut parts, body, _) = head::outgoing(request)?;
    for name in [CONTENT_LENGTH, TE, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_ACCEPT] {
        parts.headers.remove(name);
    }
    parts.headers.entry(SEC_WEBSOCKET_VERSION).or_insert(HeaderValue::from_static("13"));
    let (gated, gate) = Gated::new(body);
    let (body, upload) = UploadBody::new(gated.boxed_unsync(), None);
    let exchange = Exchange::new(fetch, way, &parts.uri, Arc::clone(&upload), interim)?;
    let opening = Opening { exchange, gate, cut: CutOnDrop(upload) };
    match opening.lease().await? {
        Lease::H1(h1) => opening.over_h1(h1, parts, body).await,
        lease @ Lease::Many(..) => opening.over_h2(lease, parts, body).await,
    }
}

/// A tunnel that is being opened.
struct Opening<'a> {
    exchange: Exchange<'a>,
    gate: Arc<Gate>,
    cut: CutOnDrop,
}

impl Opening<'_> {
    /// A stream of a kept connection of HTTP/2 that takes tunnels, or a new connection: no tunnel goes over one of
    /// HTTP/1.1 that was used before, and where HTTP/2 has no tunnels HTTP/1.1 is all that is offered.
    async fn lease(&self) -> Result<Lease, Fault> {
        match self.exchange.fetch.pool.take_for_tunnel(&self.exchange.key) {
            KeptForTunnel::Lease(lease) => return Ok(lease),
            KeptForTunnel::Refused => return Ok(self.exchange.connect(Offer::Http1).await?),
            KeptForTunnel::Nothing => {}
        }
        self.new_lease().await
    }

    async fn new_lease(&self) -> Result<Lease, Fault> {
        let lease = self.exchange.connect(Offer::All).await?;
        let Lease::Many(many, _) = &lease else { return Ok(lease) };
        let told = timeout_at(self.exchange.connect_until(), many.told_tunnels()).await;
        match told.map_err(|_| late("to say its settings"))? {
            true => Ok(lease),
            false => Ok(self.exchange.connect(Offer::Http1).await?),
        }
    }

    /// The head of the answer, in time.
    async fn head(
        &self,
        lease: &mut Lease,
        request: Request<UploadBody>,
    ) -> Result<Result<Response<Incoming>, Unsent>, Fault> {
        let until = Instant::now() + millis(self.exchange.way.timeouts.first_byte_ms);
        let sent = timeout_at(until.min(self.exchange.total_at), lease.send(request, self.exchange.interim)).await;
        sent.map_err(|_| late("for the response's head"))
    }

    /// The opening handshake of RFC 6455, section 4.
    async fn over_h1(self, h1: H1, parts: Parts, body: UploadBody) -> Result<Response<Body>, Fault> {
        let key = key()?;
        let mut parts = head::for_h1(parts, &self.exchange.to)?;
        parts.headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        parts.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        parts.headers.insert(SEC_WEBSOCKET_KEY, field(&key)?);
        let (none, upload) = UploadBody::new(eyot_plan::body::empty(), None);
        let mut lease = Lease::H1(h1);
        let answered = self.head(&mut lease, Request::from_parts(parts, none)).await?;
        let mut response = answered.map_err(|unsent| fault_of(&unsent.error, &upload))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return self.refused(lease, response);
        }
        accepted(response.headers(), &key)?;
        let upgraded = timeout_at(self.exchange.total_at, hyper::upgrade::on(&mut response)).await;
        let upgraded = upgraded.map_err(|_| late("to switch"))?.map_err(|error| bad(&error.to_string()))?;
        let (read, write) = split(TokioIo::new(upgraded));
        let mut lifting = JoinSet::new();
        lifting.spawn(lift(body, write));
        let down = Down::H1 { read, buffer: vec![0; READ_BYTES].into(), lifting };
        self.opened(lease, response, down)
    }

    /// Extended CONNECT (RFC 8441, section 5).
    async fn over_h2(self, mut lease: Lease, parts: Parts, body: UploadBody) -> Result<Response<Body>, Fault> {
        let answered = self.head(&mut lease, self.extended(&parts, body)?).await?;
        let response = match answered {
            Ok(response) => response,
            Err(Unsent { body: Some(body), .. }) => {
                // The kept connection was ending, and nothing has left.
                lease = self.new_lease().await?;
                if let Lease::H1(h1) = lease {
                    return self.over_h1(h1, parts, body).await;
                }
                let again = self.head(&mut lease, self.extended(&parts, body)?).await?;
                again.map_err(|unsent| fault_of(&unsent.error, &self.exchange.upload))?
            }
            Err(unsent) => return Err(fault_of(&unsent.error, &self.exchange.upload)),
        };
        if !response.status().is_success() {
            return self.refused(lease, response);
        }
        let (response, incoming) = response.into_parts();
        self.opened(lease, Response::from_parts(response, ()), Down::H2(incoming))
    }

    fn extended(&self, parts: &Parts, body: UploadBody) -> Result<Request<UploadBody>, Fault> {
        let mut parts = head::for_many(parts.clone(), &self.exchange.to)?;
        parts.method = Method::CONNECT;
        parts.extensions.insert(h2::ext::Protocol::from_static("websocket"));
        Ok(Request::from_parts(parts, body))
    }

    /// What the upstream says instead of opening a tunnel.
    fn refused(self, lease: Lease, response: Response<Incoming>) -> Result<Response<Body>, Fault> {
        if response.status().is_success() {
            return Err(bad("it answers a WebSocket's opening as if it were none"));
        }
        self.gate.end();
        self.exchange.answered(lease, response, self.cut, &Method::GET)
    }

    /// The answer that says that the tunnel is open.
    fn opened<B>(self, lease: Lease, response: Response<B>, down: Down) -> Result<Response<Body>, Fault> {
        let (mut parts, _) = response.into_parts();
        head::within_bounds(&parts.headers)?;
        forward::strip_hop_by_hop(&mut parts.headers);
        for name in [CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT] {
            parts.headers.remove(name);
        }
        let mut answer = Response::new(());
        *answer.headers_mut() = parts.headers;
        self.gate.open();
        let idle = millis(self.exchange.way.timeouts.tunnel_idle_ms);
        let timer = Box::pin(sleep_until(Instant::now() + idle));
        let held = Held { pool: Arc::clone(&self.exchange.fetch.pool), lease: Some((self.exchange.key, lease)) };
        let open = Open { down, _held: held, cut: self.cut, gate: self.gate, idle, timer };
        Ok(answer.map(|()| Tunnel(Some(open)).boxed_unsync()))
    }
}

/// A fresh key: 16 bytes that nobody could foresee, in base64.
fn key() -> Result<String, Fault> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| Fault::new(Code::InternalError).because("no random bytes"))?;
    Ok(STANDARD.encode(bytes))
}

/// Whether the server has understood what it switches to (RFC 6455, section 4.1).
fn accepted(headers: &HeaderMap, key: &str) -> Result<(), Fault> {
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{ACCEPT_SUFFIX}").as_bytes());
    let accept = STANDARD.encode(hash);
    let mut accepts = headers.get_all(SEC_WEBSOCKET_ACCEPT).iter();
    if accepts.next().map(HeaderValue::as_bytes) != Some(accept.as_bytes()) || accepts.next().is_some() {
        return Err(bad("its `Sec-WebSocket-Accept` is not for our key"));
    }
    let says = |name: HeaderName, token: &str| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
    };
    match says(UPGRADE, "websocket") && says(CONNECTION, "upgrade") {
        true => Ok(()),
        false => Err(bad("it switches to something else")),
    }
}

fn bad(why: &str) -> Fault {
    Fault::new(Code::UpstreamBadResponse).because(why)
}

fn field(text: &str) -> Result<HeaderValue, Fault> {
    HeaderValue::from_str(text).map_err(|error| Fault::new(Code::InternalError).because(error))
}

/// Sends what the client sends on to an upstream over HTTP/1.1; at the client's end our side of the connection ends. An
/// upstream that takes no more may still have something to say.
async fn lift(mut body: UploadBody, mut to: WriteHalf<TokioIo<Upgraded>>) {
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        if to.write_all(&data).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
    if body.upload().fault().is_none() {
        let _ = to.shutdown().await;
    }
}

/// Where what the upstream sends comes from.
enum Down {
    /// A connection of HTTP/1.1 that has switched.
    H1 {
        read: ReadHalf<TokioIo<Upgraded>>,
        buffer: Box<[u8]>,
        /// The task that carries the client's bytes; it ends with this.
        lifting: JoinSet<()>,
    },
    /// A stream of HTTP/2.
    H2(Incoming),
}

impl Down {
    /// The next bytes; none at the end.
    fn poll(&mut self, cx: &mut Context<'_>, upload: &Upload) -> Poll<Result<Option<Bytes>, Fault>> {
        match self {
            Self::H1 { read, buffer, lifting } => {
                // Polled to be woken: a client that broke off ends both ways.
                if lifting.poll_join_next(cx).is_ready()
                    && let Some(fault) = upload.fault()
                {
                    return Poll::Ready(Err(fault));
                }
                let mut buffer = ReadBuf::new(buffer);
                ready!(Pin::new(read).poll_read(cx, &mut buffer)).map_err(|error| bad(&error.to_string()))?;
                let read = buffer.filled();
                Poll::Ready(Ok((!read.is_empty()).then(|| Bytes::copy_from_slice(read))))
            }
            Self::H2(incoming) => match ready!(Pin::new(incoming).poll_frame(cx)) {
                // Trailers are none of a tunnel's (RFC 9113, section 8.5): it has ended.
                Some(Ok(frame)) => Poll::Ready(Ok(frame.into_data().ok())),
                Some(Err(error)) => Poll::Ready(Err(fault_of(&error, upload))),
                None => Poll::Ready(Ok(None)),
            },
        }
    }
}

/// The place of a tunnel's connection, or its stream. A stream is given back, a connection never.
struct Held {
    pool: Arc<Pool>,
    /// Gone only while this is dropped.
    lease: Option<(Key, Lease)>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some((key, lease @ Lease::Many(..))) = self.lease.take() {
            self.pool.give(key, lease);
        }
    }
}

/// An open tunnel.
struct Open {
    down: Down,
    _held: Held,
    cut: CutOnDrop,
    gate: Arc<Gate>,
    /// How long both sides may be silent.
    idle: Duration,
    timer: Pin<Box<Sleep>>,
}

impl Open {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Fault>> {
        if let Poll::Ready(next) = self.down.poll(cx, &self.cut.0) {
            self.gate.moved();
            return Poll::Ready(next);
        }
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let due = self.gate.moved_at() + self.idle;
            if due <= Instant::now() {
                return Poll::Ready(
                    Err(Fault::new(Code::UpstreamTimeout).because("nothing passed through the tunnel")),
                );
            }
            self.timer.as_mut().reset(due);
        }
    }
}

/// What the upstream sends into a tunnel, as a response's body: the tunnel ends with it, and when it is dropped.
struct Tunnel(Option<Open>);

impl http_body::Body for Tunnel {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let Some(open) = &mut self.0 else { return Poll::Ready(None) };
        match ready!(open.poll(cx)) {
            Ok(Some(bytes)) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            ended => {
                self.0 = None;
                Poll::Ready(ended.err().map(Err))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}
