//! A connected stream, plain or over TLS, and the count of bytes that may come before a response's head is complete.

use core::net::IpAddr;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// A connected stream.
#[derive(Debug)]
pub enum Stream {
    /// Without TLS.
    Plain(TcpStream),
    /// Over TLS, verified.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// The address it goes to.
    pub(crate) fn peer(&self) -> Option<IpAddr> {
        let tcp = match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
        };
        tcp.peer_addr().ok().map(|peer| peer.ip())
    }

    /// Whether the other side chose HTTP/2 (ALPN).
    pub fn is_h2(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bytes),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_write_vectored(cx, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(tcp) => tcp.is_write_vectored(),
            Self::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_shutdown(cx),
        }
    }
}

/// What an HTTP/1.1 connection has read since its last request, and how much of it may come before the head is
/// complete. Without it a server could send interim responses for ever.
#[derive(Debug, Default)]
pub(crate) struct HeadCount {
    read_bytes: AtomicU64,
    /// 0: no bound, the head is there.
    bytes_max: AtomicU64,
}

impl HeadCount {
    /// A request begins: at most `bytes_max` until [`Self::complete`].
    pub(crate) fn begin(&self, bytes_max: u64) {
        self.read_bytes.store(0, Ordering::Relaxed);
        self.bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    /// The head is there.
    pub(crate) fn complete(&self) {
        self.bytes_max.store(0, Ordering::Relaxed);
    }

    /// Whether nothing was read since the request began.
    pub(crate) fn is_untouched(&self) -> bool {
        self.read_bytes.load(Ordering::Relaxed) == 0
    }

    /// So many more were read.
    pub(crate) fn count(&self, read: usize) -> io::Result<()> {
        let read = u64::try_from(read).unwrap_or(u64::MAX);
        let sum = self.read_bytes.fetch_add(read, Ordering::Relaxed).saturating_add(read);
        let max = self.bytes_max.load(Ordering::Relaxed);
        if max != 0 && sum > max {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no head within its bytes"));
        }
        Ok(())
    }
}

/// What an HTTP/2 connection has read: how much, and whether the first frame, the settings (RFC 9113, section 3.4), is
/// whole.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    bytes: AtomicU64,
    /// 0: its length is not known yet.
    first_bytes: AtomicU64,
}

impl Heard {
    /// Bytes read so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether the first frame is whole.
    pub(crate) fn has_first_frame(&self) -> bool {
        let first = self.first_bytes.load(Ordering::Relaxed);
        first != 0 && self.bytes() >= first
    }
}

/// The length in a frame's header, and the header (RFC 9113, section 4.1), in bytes.
const LENGTH_BYTES: usize = 3;
const HEADER_BYTES: u64 = 9;

/// A look at all that is read on a connection of HTTP/2.
pub(crate) fn listen(heard: Arc<Heard>) -> impl FnMut(&[u8]) -> io::Result<()> + Send {
    let mut length = Vec::with_capacity(LENGTH_BYTES);
    move |read: &[u8]| {
        if length.len() < LENGTH_BYTES {
            length.extend_from_slice(&read[..read.len().min(LENGTH_BYTES - length.len())]);
            if let [high, middle, low] = length[..] {
                let payload = u64::from(u32::from_be_bytes([0, high, middle, low]));
                heard.first_bytes.store(HEADER_BYTES + payload, Ordering::Relaxed);
            }
        }
        heard.bytes.fetch_add(u64::try_from(read.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
        Ok(())
    }
}

/// A stream whose reads are looked at; what the look refuses ends it.
pub(crate) struct Looked<F> {
    pub(crate) inner: Stream,
    pub(crate) look: F,
}

impl<F: FnMut(&[u8]) -> io::Result<()> + Unpin> AsyncRead for Looked<F> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        std::task::ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        Poll::Ready((self.look)(&buf.filled()[before..]))
    }
}

impl<F: Unpin> AsyncWrite for Looked<F> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
