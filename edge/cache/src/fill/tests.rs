//! Tests of bodies that are read while they come.

use super::*;
use tokio::sync::mpsc;

/// A body whose frames a test sends.
struct Sent(mpsc::UnboundedReceiver<Result<Frame<Bytes>, Fault>>);

impl http_body::Body for Sent {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        self.0.poll_recv(cx)
    }
}

type Sender = mpsc::UnboundedSender<Result<Frame<Bytes>, Fault>>;

fn sent() -> (Sender, Body) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (sender, Sent(receiver).boxed_unsync())
}

fn data(bytes: &'static str) -> Result<Frame<Bytes>, Fault> {
    Ok(Frame::data(Bytes::from_static(bytes.as_bytes())))
}

/// Whether it is here then.
async fn pump(writer: Writer, body: Body) -> bool {
    matches!(writer.pump(body, &mut Tee::default()).await, Pumped::Whole)
}

async fn all(fill: &Arc<Fill>, from: u64, to: Option<u64>) -> Result<String, Code> {
    read(fill.read(from, to).expect("it is all there")).await
}

async fn read(reader: Reader) -> Result<String, Code> {
    let body = reader.body();
    let bytes = body.collect().await.map_err(|fault| fault.code)?.to_bytes();
    Ok(String::from_utf8(bytes.to_vec()).expect("text"))
}

#[tokio::test]
async fn readers_have_what_has_come_and_then_what_comes() {
    let (sender, body) = sent();
    let (fill, writer) = Fill::begin(None, 1000);
    let pumping = tokio::spawn(pump(writer, body));
    let mut early = fill.read(0, None).expect("from the start").body();
    sender.send(data("hello ")).expect("read");
    let first = early.frame().await.expect("a frame").expect("good").into_data().expect("data");
    assert_eq!(first, "hello ");
    let part = tokio::spawn({
        let fill = Arc::clone(&fill);
        async move { all(&fill, 4, Some(8)).await }
    });
    sender.send(data("world")).expect("read");
    assert_eq!(part.await.expect("no panic"), Ok("o wo".to_owned()), "a part is read before the end has come");
    let mut trailers = HeaderMap::new();
    trailers.insert("x", http::HeaderValue::from_static("y"));
    sender.send(Ok(Frame::trailers(trailers.clone()))).expect("read");
    drop(sender);
    assert!(pumping.await.expect("no panic"));
    let rest = early.collect().await.expect("good");
    assert_eq!((rest.trailers().cloned(), rest.to_bytes()), (Some(trailers), Bytes::from_static(b"world")));
    assert_eq!(fill.length(), Some(11));
    assert_eq!(all(&fill, 0, None).await, Ok("hello world".to_owned()));
    assert_eq!(all(&fill, 6, Some(9)).await, Ok("wor".to_owned()));
    assert_eq!(all(&fill, 11, None).await, Ok(String::new()));
}

#[tokio::test]
async fn a_body_that_died_is_never_taken_for_one_that_ended() {
    for (declared, frames, dies) in [
        (None, vec![data("abc"), Err(Fault::new(Code::UpstreamTimeout))], Some(Code::UpstreamTimeout)),
        (Some(4), vec![data("abc")], Some(Code::UpstreamBadResponse)),
        (Some(2), vec![data("abc")], Some(Code::UpstreamBadResponse)),
        (Some(3), vec![data("abc")], None),
        (None, vec![], None),
    ] {
        let (sender, body) = sent();
        let (fill, writer) = Fill::begin(declared, 1000);
        frames.into_iter().for_each(|frame| sender.send(frame).expect("open"));
        drop(sender);
        let early = fill.read(0, None).expect("from the start");
        assert_eq!(pump(writer, body).await, dies.is_none());
        assert_eq!(read(early).await.err(), dies, "{declared:?}");
        assert_eq!(fill.read(0, None).is_none(), dies.is_some(), "who comes late asks anew");
        assert_eq!(fill.length().is_some(), dies.is_none());
    }
    let (fill, writer) = Fill::begin(None, 1000);
    let early = fill.read(0, None).expect("from the start");
    drop(writer);
    assert_eq!(read(early).await, Err(Code::InternalError));
}

#[tokio::test]
async fn what_is_too_large_is_passed_on_at_its_readers_pace_and_not_kept() {
    let (fill, writer) = Fill::begin(None, 100_000);
    let mut reader = fill.read(0, None).expect("from the start").body();
    let piece = Bytes::from(vec![7; 50_000]);
    let frames = futures_util::stream::iter((0..100).map({
        let piece = piece.clone();
        move |_| Ok(Frame::data(piece.clone()))
    }));
    let mut pumping = Box::pin(pump(writer, http_body_util::StreamBody::new(frames).boxed_unsync()));
    assert!(futures_util::poll!(&mut pumping).is_pending(), "it waits for its reader");
    assert!(fill.state().bytes <= 100_000 + WINDOW_BYTES + 50_000);
    let (kept, read) = tokio::join!(pumping, async {
        let mut read = 0;
        while let Some(frame) = reader.frame().await {
            read += frame.expect("good").into_data().expect("data").len();
            assert!(fill.state().pieces.len() < 30);
        }
        read
    });
    assert_eq!((kept, read, fill.length()), (false, 5_000_000, None));
    assert!(fill.read(0, None).is_none(), "its beginning is gone");
}

#[tokio::test]
async fn what_is_too_large_ends_when_nobody_reads_it() {
    let (sender, body) = sent();
    let (fill, writer) = Fill::begin(None, 4);
    let reader = fill.read(0, None).expect("from the start");
    sender.send(data("abc")).expect("open");
    sender.send(data("def")).expect("open");
    drop(reader);
    assert!(!pump(writer, body).await);
    assert!(sender.is_closed(), "the upstream is let go of");
}

#[test]
fn a_body_holds_no_more_memory_than_it_weighs() {
    let large = Bytes::from(vec![1; 1 << 20]);
    let pieces = [large.slice(0..10), large.slice(10..70_000), large.slice(70_000..70_001)];
    let cut = cut(pieces.iter());
    assert_eq!(cut.iter().map(Bytes::len).collect::<Vec<_>>(), [PIECE_BYTES, 70_001 - PIECE_BYTES]);
    assert!(cut.iter().all(Bytes::is_unique));
}
