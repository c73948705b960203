//! Tests of compression as it streams: what comes out is what went in, as soon as it can be, in bounded memory.

use std::io::Read as _;

use eyot_bundle::files::Encoding::{Br, Gzip, Zstd};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use http_body_util::StreamBody;
use tokio::sync::mpsc;

use super::*;
use crate::telemetry::Telemetry;

fn counted() -> Compressed {
    Telemetry::new().compressed(&"shop".into(), &"/".into())
}

/// What a reader of the encoding makes of these bytes, as far as they go.
fn read(encoding: Encoding, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    // A stream that is not at its end yet ends in an error, after all that is in it.
    let _ = match encoding {
        Br => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut out),
        Zstd => zstd::stream::read::Decoder::new(bytes).and_then(|mut reader| reader.read_to_end(&mut out)),
        Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut out),
        Encoding::Identity => (&mut &*bytes).read_to_end(&mut out),
    };
    out
}

fn wants(compress: &Compress, encoding: Encoding) -> Wants {
    let mut headers = HeaderMap::new();
    headers.insert("accept-encoding", HeaderValue::from_static(encoding.label()));
    Wants::of(compress, &Method::GET, &headers)
}

/// An answer of text, whose frames come from `frames`, compressed.
fn compressed(encoding: Encoding, permits: &Arc<Semaphore>, frames: mpsc::Receiver<Frame<Bytes>>) -> Response<Body> {
    let stream = futures_util::stream::unfold(frames, |mut frames| async move {
        let frame = frames.recv().await?;
        Some((Ok::<_, Fault>(frame), frames))
    });
    let mut response = Response::new(StreamBody::new(stream).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    let of = Compress::default();
    compress(response, &wants(&of, encoding), &of, permits, counted)
}

fn permits(count: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(count))
}

/// Text of so many bytes that is no repetition.
fn words(bytes: usize) -> Vec<u8> {
    let mut state = 7_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b"etaoinshrdlu <>/=\""[(state >> 24) as usize % 18]
    };
    (0..bytes).map(|_| next()).collect()
}

#[tokio::test]
async fn what_comes_out_is_what_went_in_with_its_trailers_in_pieces_of_any_size() {
    for encoding in [Br, Zstd, Gzip] {
        for piece in [1, 100, 20_000, 300_000] {
            let text = words(300_000.min(piece * 3_000));
            let (sender, frames) = mpsc::channel(4);
            let response = compressed(encoding, &permits(1), frames);
            assert_eq!(response.headers()[CONTENT_ENCODING], encoding.label());
            let sent = text.clone();
            tokio::spawn(async move {
                for piece in sent.chunks(piece) {
                    let _ = sender.send(Frame::data(Bytes::copy_from_slice(piece))).await;
                }
                let mut trailers = HeaderMap::new();
                trailers.insert("x-sum", HeaderValue::from_static("42"));
                let _ = sender.send(Frame::trailers(trailers)).await;
            });
            let body = response.into_body().collect().await.expect("a whole body");
            assert_eq!(body.trailers().map(|trailers| trailers["x-sum"].clone()), Some(HeaderValue::from_static("42")));
            let bytes = body.to_bytes();
            assert_eq!(read(encoding, &bytes), text, "{encoding:?} {piece}");
            assert!(piece < 1_000 || bytes.len() < text.len() * 3 / 4, "{encoding:?} {piece}: {} bytes", bytes.len());
        }
    }
}

#[tokio::test]
async fn each_event_of_a_stream_goes_out_before_the_next_one_comes() {
    for encoding in [Br, Zstd, Gzip] {
        let (sender, frames) = mpsc::channel(1);
        let mut body = compressed(encoding, &permits(1), frames).into_body();
        let mut seen = Vec::new();
        let mut expect = Vec::new();
        for number in 0..20 {
            let event = format!("data: {number}\n\n");
            expect.extend_from_slice(event.as_bytes());
            sender.send(Frame::data(event.into())).await.expect("taken");
            // Nothing more is sent until this has come: a compressor that holds it back never ends this loop.
            while read(encoding, &seen) != expect {
                let frame = body.frame().await.expect("not the end").expect("no fault");
                seen.extend_from_slice(frame.data_ref().expect("data"));
            }
        }
        drop(sender);
        while let Some(frame) = body.frame().await {
            seen.extend_from_slice(frame.expect("no fault").data_ref().expect("data"));
        }
        assert!(body.is_end_stream());
        assert_eq!(read(encoding, &seen), expect);
    }
}

#[tokio::test]
async fn no_more_are_compressed_at_once_than_may_be_and_the_others_are_sent_as_they_are() {
    let permits = permits(1);
    let open = || mpsc::channel::<Frame<Bytes>>(1);
    let ((first_sender, first_frames), (_second_sender, second_frames)) = (open(), open());
    let first = compressed(Br, &permits, first_frames);
    let second = compressed(Br, &permits, second_frames);
    assert_eq!((first.headers().get(CONTENT_ENCODING).is_some(), second.headers().get(CONTENT_ENCODING)), (true, None));
    assert_eq!(second.headers()["vary"], "accept-encoding", "others get another one");
    drop((first, first_sender));
    assert!(compressed(Br, &permits, open().1).headers().get(CONTENT_ENCODING).is_some(), "its place is free again");
}

#[tokio::test]
async fn a_large_piece_is_compressed_in_turns_and_a_fault_passes_through() {
    let (sender, frames) = mpsc::channel(2);
    let mut body = compressed(Gzip, &permits(1), frames).into_body();
    sender.send(Frame::data(vec![0; 1 << 20].into())).await.expect("taken");
    drop(sender);
    let waker = std::task::Waker::noop();
    let mut turns = 0;
    // A MiB of zeros comes out as nearly nothing: without turns nobody else would have any until its end.
    loop {
        match Pin::new(&mut body).poll_frame(&mut Context::from_waker(waker)) {
            Poll::Pending => turns += 1,
            Poll::Ready(Some(frame)) => drop(frame.expect("no fault")),
            Poll::Ready(None) => break,
        }
    }
    assert_eq!(turns, (1 << 20) / TURN_BYTES - 1);

    let broken =
        futures_util::stream::iter([Ok(Frame::data(Bytes::from_static(b"a"))), Err(Fault::new(Code::FunctionTrapped))]);
    let mut response = Response::new(StreamBody::new(broken).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    let of = Compress::default();
    let response = compress(response, &wants(&of, Br), &of, &permits(1), counted);
    let fault = response.into_body().collect().await.expect_err("it broke off");
    assert_eq!(fault.code, Code::FunctionTrapped);
}
