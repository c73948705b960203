//! Compression of an answer as it streams by: a piece at a time, so that no thread is held for long, in memory that does
//! not grow with the answer. When more is waited for, what there is goes out: a stream of events is not held back.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use eyot_bundle::files::Encoding;
use eyot_bundle::release::policy::Compress;
use eyot_plan::body::Body;
use eyot_plan::fault::{Code, Fault};
use eyot_plan::policy::compress::{Verdict, Wants};
use flate2::write::GzEncoder;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Response};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zstd::stream::raw::CParameter;

use crate::telemetry::Compressed;

/// What is compressed in one go, in bytes: well under a millisecond.
const PIECE_BYTES: usize = 16 << 10;
/// What is compressed before others have their turn, in bytes.
const TURN_BYTES: usize = 64 << 10;
/// The window of what is compressed, as a power of two: what a compressor holds is a small multiple of it.
const WINDOW_LOG: u32 = 18;
/// Levels at which an answer is compressed faster than most networks take it.
const BROTLI_QUALITY: i32 = 4;
const GZIP_LEVEL: u32 = 5;
const ZSTD_LEVEL: i32 = 3;

/// Gives `response` the encoding that the request `wants` and the route offers, if it gains by it and one of `permits` is
/// free; its fields say so. What it counts comes from `counted`.
pub(super) fn compress(
    mut response: Response<Body>,
    wants: &Wants,
    compress: &Compress,
    permits: &Arc<Semaphore>,
    counted: impl FnOnce() -> Compressed,
) -> Response<Body> {
    let said = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let bytes = if wants.head { said } else { response.body().size_hint().exact().or(said) };
    let verdict = wants.verdict(compress, response.status(), response.headers(), bytes);
    let Verdict::Encoded(encoding) = verdict else {
        verdict.say(response.headers_mut());
        return response;
    };
    if wants.head {
        verdict.say(response.headers_mut());
        return response;
    }
    let permit = Arc::clone(permits).try_acquire_owned().ok();
    let Some((permit, encoder)) = permit.zip(Encoder::new(encoding).ok()) else {
        Verdict::Varies.say(response.headers_mut());
        return response;
    };
    verdict.say(response.headers_mut());
    response.map(|body| Compressing::new(body, encoder, permit, counted()).boxed_unsync())
}

/// What a body gives when it is polled.
type Polled = Poll<Option<Result<Frame<Bytes>, Fault>>>;

/// A compressor of any kind; what comes out is gathered in its writer.
enum Encoder {
    Br(Box<brotli::CompressorWriter<Vec<u8>>>),
    Gzip(Box<GzEncoder<Vec<u8>>>),
    Zstd(Box<zstd::stream::write::Encoder<'static, Vec<u8>>>),
}

impl Encoder {
    fn new(encoding: Encoding) -> io::Result<Self> {
        Ok(match encoding {
            Encoding::Br => {
                let window = i32::try_from(WINDOW_LOG).unwrap_or(i32::MAX);
                let params = brotli::enc::BrotliEncoderParams {
                    quality: BROTLI_QUALITY,
                    lgwin: window,
                    ..brotli::enc::BrotliEncoderParams::default()
                };
                Self::Br(Box::new(brotli::CompressorWriter::with_params(Vec::new(), 4 << 10, &params)))
            }
            Encoding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
                encoder.set_parameter(CParameter::WindowLog(WINDOW_LOG))?;
                Self::Zstd(Box::new(encoder))
            }
            Encoding::Gzip => Self::Gzip(Box::new(GzEncoder::new(Vec::new(), flate2::Compression::new(GZIP_LEVEL)))),
            Encoding::Identity => return Err(io::Error::other("nothing to compress")),
        })
    }

    fn writer(&mut self) -> &mut dyn io::Write {
        match self {
            Self::Br(encoder) => encoder,
            Self::Gzip(encoder) => encoder,
            Self::Zstd(encoder) => encoder,
        }
    }

    /// What has come out.
    fn out(&mut self) -> Bytes {
        let out = match self {
            Self::Br(encoder) => encoder.get_mut(),
            Self::Gzip(encoder) => encoder.get_mut(),
            Self::Zstd(encoder) => encoder.get_mut(),
        };
        std::mem::take(out).into()
    }

    /// All that is still in it.
    fn finish(self) -> io::Result<Bytes> {
        Ok(match self {
            Self::Br(encoder) => encoder.into_inner(),
            Self::Gzip(encoder) => encoder.finish()?,
            Self::Zstd(encoder) => encoder.finish()?,
        }
        .into())
    }
}

/// A body on its way through a compressor.
struct Compressing {
    body: Body,
    /// Gone when all has been said.
    encoder: Option<Encoder>,
    /// What has come and was not compressed yet.
    left: Bytes,
    /// Whether the compressor holds something back.
    is_held: bool,
    /// Bytes since others had their turn.
    turn_bytes: usize,
    /// What comes after the last byte.
    trailers: Option<HeaderMap>,
    counted: Compressed,
    _permit: OwnedSemaphorePermit,
}

impl Compressing {
    fn new(body: Body, encoder: Encoder, permit: OwnedSemaphorePermit, counted: Compressed) -> Self {
        let encoder = Some(encoder);
        let (left, trailers) = (Bytes::new(), None);
        Self { body, encoder, left, is_held: false, turn_bytes: 0, trailers, counted, _permit: permit }
    }

    /// Compresses the next piece of what is left.
    fn piece(&mut self) -> io::Result<Bytes> {
        let Some(encoder) = &mut self.encoder else { return Ok(Bytes::new()) };
        let bytes = self.left.len().min(PIECE_BYTES);
        encoder.writer().write_all(&self.left[..bytes])?;
        self.left.advance(bytes);
        self.turn_bytes += bytes;
        self.is_held = true;
        self.counted.before(bytes);
        Ok(encoder.out())
    }

    /// What the compressor holds back.
    fn flush(&mut self) -> io::Result<Bytes> {
        let Some(encoder) = &mut self.encoder else { return Ok(Bytes::new()) };
        self.is_held = false;
        encoder.writer().flush()?;
        Ok(encoder.out())
    }

    /// The next piece that goes out, if it has any bytes.
    fn sent(&self, out: io::Result<Bytes>) -> Option<Polled> {
        match out {
            Ok(out) if out.is_empty() => None,
            Ok(out) => {
                self.counted.after(out.len());
                Some(Poll::Ready(Some(Ok(Frame::data(out)))))
            }
            Err(error) => Some(Poll::Ready(Some(Err(Fault::new(Code::InternalError).because(error))))),
        }
    }

    /// Whether it is others' turn; if so, this is woken again.
    fn is_over(&mut self, cx: &Context<'_>) -> bool {
        let is_over = self.turn_bytes >= TURN_BYTES;
        if is_over {
            self.turn_bytes = 0;
            cx.waker().wake_by_ref();
        }
        is_over
    }
}

impl http_body::Body for Compressing {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = &mut *self;
        loop {
            if this.encoder.is_none() {
                return Poll::Ready(this.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
            }
            if !this.left.is_empty() {
                if this.is_over(cx) {
                    return Poll::Pending;
                }
                let out = this.piece();
                if let Some(sent) = this.sent(out) {
                    return sent;
                }
                continue;
            }
            match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => this.left = data,
                    Err(other) => this.trailers = other.into_trailers().ok(),
                },
                Poll::Ready(Some(Err(fault))) => return Poll::Ready(Some(Err(fault))),
                Poll::Ready(None) => {
                    let out = this.encoder.take().map_or_else(|| Ok(Bytes::new()), Encoder::finish);
                    if let Some(sent) = this.sent(out) {
                        return sent;
                    }
                }
                Poll::Pending if this.is_held => {
                    this.turn_bytes = 0;
                    let out = this.flush();
                    return this.sent(out).unwrap_or(Poll::Pending);
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.encoder.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests;
