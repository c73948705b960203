//! A WebSocket over HTTP/1.1 (RFC 6455): the handshake's answer, and what passes once it is accepted.

use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use eyot_plan::fault::{Code, Fault};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use http_body_util::channel::Sender;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};

use super::linger::linger;
use crate::response_body::ResponseBody;
use crate::tunnel::Accepted;

/// What is appended to a key (RFC 6455, section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What is read from the client at once, in bytes.
const READ_BYTES: usize = 16 << 10;

/// Where what a client sends through its tunnel goes.
pub(super) type Up = Sender<Bytes, Fault>;

/// Whether the client may mean to speak something else behind its head. Both who reads bytes and who answers must say
/// the same, so it is no more than this.
pub(super) fn may_follow(name: &[u8], value: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"upgrade") && value.to_ascii_lowercase().windows(9).any(|part| part == b"websocket")
}

/// An accepted tunnel, for when the connection is free.
pub(super) struct Tunnel {
    up: Up,
    down: ResponseBody,
}

/// The tunnel of a connection, once there is one.
#[derive(Default)]
pub(super) struct Slot(Mutex<Option<Tunnel>>);

impl Slot {
    pub(super) fn take(&self) -> Option<Tunnel> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The response to a request behind which something else may follow: 101 if it was accepted. Whatever else it is, no
    /// request comes after it.
    pub(super) fn answer(
        &self,
        response: Response<ResponseBody>,
        key: Option<&HeaderValue>,
        up: Up,
    ) -> Response<ResponseBody> {
        let (mut head, body) = response.into_parts();
        let (true, Some(key)) = (head.extensions.remove::<Accepted>().is_some(), key) else {
            head.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            if head.status == StatusCode::BAD_REQUEST {
                // RFC 6455, section 4.4.
                head.headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            return Response::from_parts(head, body);
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Tunnel { up, down: body });
        head.status = StatusCode::SWITCHING_PROTOCOLS;
        switch(&mut head.headers, key);
        Response::from_parts(head, ResponseBody::none())
    }
}

fn switch(headers: &mut HeaderMap, key: &HeaderValue) {
    let both = [key.as_bytes(), GUID].concat();
    let accept = STANDARD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &both));
    if let Ok(accept) = HeaderValue::try_from(accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

impl Tunnel {
    /// Carries both ways until the answer's side has ended or broken off; `early` is what the client has sent so far.
    pub(super) async fn run<S: AsyncRead + AsyncWrite + Unpin>(self, io: S, early: Bytes) {
        let (mut read, mut write) = tokio::io::split(io);
        let Self { up, down } = self;
        let up = async {
            carry_up(&mut read, up, early).await;
            core::future::pending::<()>().await;
        };
        let is_well = tokio::select! {
            is_well = carry_down(&mut write, down) => is_well,
            () = up => false,
        };
        if is_well {
            linger(tokio::io::join(read, write)).await;
        }
    }
}

async fn carry_up<S: AsyncRead>(read: &mut ReadHalf<S>, mut up: Up, early: Bytes) {
    if !early.is_empty() && up.send_data(early).await.is_err() {
        return;
    }
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ_BYTES);
        match read.read_buf(&mut buffer).await {
            Ok(0) => return,
            Ok(_) if up.send_data(buffer.split().freeze()).await.is_err() => return,
            Ok(_) => {}
            Err(error) => return up.abort(Fault::new(Code::BadRequest).because(error)),
        }
    }
}

/// Whether the answer's side ended well and all of it was written.
async fn carry_down<S: AsyncWrite>(write: &mut WriteHalf<S>, mut down: ResponseBody) -> bool {
    while let Some(frame) = down.frame().await {
        let Ok(frame) = frame else { return false };
        let Ok(data) = frame.into_data() else { continue };
        if write.write_all(&data).await.is_err() || write.flush().await.is_err() {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_accepted_as_the_rfc_says() {
        let mut headers = HeaderMap::new();
        switch(&mut headers, &HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        assert_eq!(headers["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
