//! HTTP/2 by the byte: a client that keeps to the shape of frames (RFC 9113, section 4.1) and to nothing else.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::harness::Front;

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

/// The flags of HEADERS that are a whole request: END_STREAM and END_HEADERS.
const WHOLE: u8 = 5;

/// Error codes (RFC 9113, section 7).
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;
const CANCEL: u32 = 8;

/// A test that is stuck fails with this, instead of hanging.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a server says that matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// The head of a response, on this stream.
    Head(u32),
    /// This stream is reset, with this code.
    Reset(u32, u32),
    /// The connection ends, with this code.
    Goaway(u32),
}

/// One connection.
pub(crate) struct Raw(TlsStream<TcpStream>);

impl Raw {
    /// Connects, and sends nothing.
    pub(crate) async fn silent(front: &Front) -> Self {
        Self(front.raw("a.net", "h2").await.expect("TLS"))
    }

    /// Connects, and sends the preface and empty settings.
    pub(crate) async fn connect(front: &Front) -> Self {
        let mut raw = Self::silent(front).await;
        raw.send(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(SETTINGS, 0, 0, &[])[..]].concat()).await;
        raw
    }

    /// Sends bytes. That the server has closed is for the test to read.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes).await;
    }

    /// The next that matters; none once the server has closed.
    pub(crate) async fn said(&mut self) -> Option<Said> {
        self.next().await
    }

    /// The next frame: its type, flags, stream and payload; none once the server has closed.
    pub(crate) async fn frame(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let frame = async {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.ok()?;
            let bytes = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let mut payload = vec![0; bytes as usize];
            self.0.read_exact(&mut payload).await.ok()?;
            Some((head[3], head[4], stream, payload))
        };
        tokio::time::timeout(PATIENCE, frame).await.expect("the server says something, or closes")
    }

    async fn next(&mut self) -> Option<Said> {
        loop {
            let (kind, _, stream, payload) = self.frame().await?;
            let code = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().expect("four bytes"));
            match kind {
                HEADERS => return Some(Said::Head(stream)),
                RST_STREAM => return Some(Said::Reset(stream, code(0))),
                GOAWAY => return Some(Said::Goaway(code(4))),
                _ => {}
            }
        }
    }

    /// All that matters until the connection ends, but for heads.
    pub(crate) async fn until_closed(mut self) -> Vec<Said> {
        let mut all = Vec::new();
        while let Some(said) = self.said().await {
            all.extend(Some(said).filter(|said| !matches!(said, Said::Head(_))));
        }
        all
    }
}

/// `GET https://a.net/`, or `/held`, whole, on this stream (RFC 7541, section 6: the static table and a literal).
pub(crate) fn get(stream: u32, is_held: bool) -> Vec<u8> {
    let path: &[u8] = if is_held { b"\x04\x05/held" } else { b"\x84" };
    frame(HEADERS, WHOLE, stream, &[b"\x82\x87\x01\x05a.net", path].concat())
}

/// The client breaks a stream off.
pub(crate) fn cancel(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
}

/// More room on a stream than there can be: an error of that stream, which the server has to reset (RFC 9113, section
/// 6.9.1).
pub(crate) fn overflow(stream: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes())
}

/// The stream of a client's request, by its number from 0 (RFC 9113, section 5.1.1).
pub(crate) fn stream(number: u32) -> u32 {
    2 * number + 1
}

/// A frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}
