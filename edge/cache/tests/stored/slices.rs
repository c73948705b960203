//! What is larger than what is kept in one piece: it is asked for in slices, once each, and what is read is always of one
//! version.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use eyot_cache::answer::{Answered, Behind, Cache, Site};
use eyot_cache::purges::How;
use eyot_cache::room::Breaks;
use eyot_plan::body::{self, Body};
use eyot_plan::cache::Rules;
use eyot_plan::cache::key::Class;
use eyot_plan::fault::{Code, Fault};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};

use crate::tool::{Got, NOW_MS, Node, bytes, node, read, request, url};

/// More than a room of 4 MiB keeps in one piece, and no multiple of a slice.
const LENGTH: usize = 3_000_001;
/// A slice there: a sixteenth of the memory.
const SLICE: usize = 256 << 10;

/// What the upstream has, and what it was asked.
#[derive(Debug, Default)]
struct State {
    body: Bytes,
    tag: String,
    /// The ranges that were asked for; of the whole nothing.
    asked: Vec<String>,
    /// It answers a range so, in the place of what is right.
    wrong: Option<Wrong>,
    asking: usize,
    at_once: usize,
}

#[derive(Clone, Copy, Debug)]
enum Wrong {
    Dies,
    Fails,
    Short,
    Whole,
    Other,
    NoStore,
}

#[derive(Clone, Debug)]
struct Up(Arc<Mutex<State>>);

impl Up {
    fn new() -> Self {
        let up = Self(Arc::default());
        up.now_has(1);
        up
    }

    /// Another version of the whole.
    fn now_has(&self, version: u64) {
        let mut state = self.0.lock().expect("whole");
        (state.body, state.tag) = (bytes(version, LENGTH), format!("\"{version}\""));
    }

    fn is_wrong(&self, wrong: impl Into<Option<Wrong>>) {
        self.0.lock().expect("whole").wrong = wrong.into();
    }

    /// What it was asked since this was last asked.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("whole").asked)
    }
}

impl Behind for Up {
    type Later = Self;

    async fn ask(&mut self, request: Request<Body>) -> Result<Response<Body>, Fault> {
        let request = request.into_parts().0;
        let field = |name: &str| request.headers.get(name).map(|value| value.to_str().expect("text").to_owned());
        let range = field("range").unwrap_or_default();
        {
            let mut state = self.0.lock().expect("whole");
            state.asked.push(range.clone());
            state.asking += 1;
            state.at_once = state.at_once.max(state.asking);
        }
        tokio::task::yield_now().await;
        let mut state = self.0.lock().expect("whole");
        state.asking -= 1;
        let mut response = Response::new(body::empty());
        let headers = response.headers_mut();
        let tag = state.tag.clone();
        for (name, value) in
            [("cache-control", "max-age=60"), ("etag", &tag), ("accept-ranges", "bytes"), ("surrogate-key", "k")]
        {
            headers.insert(name, value.parse().expect("a value"));
        }
        if field("if-none-match").as_deref() == Some(&tag) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return Ok(response);
        }
        let is_same = field("if-range").is_none_or(|one| one == tag);
        let wrong = state.wrong.filter(|_| !range.is_empty());
        let asked = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')).filter(|_| is_same);
        let mut body = state.body.clone();
        match (asked, wrong) {
            (_, Some(Wrong::Fails)) => return Err(Fault::new(Code::UpstreamUnreachable)),
            (None, _) | (_, Some(Wrong::Whole)) => {}
            (Some((from, to)), _) => {
                let from: usize = from.parse().expect("a number");
                let to = to.parse().map_or(LENGTH, |to: usize| LENGTH.min(to + 1));
                body = body.slice(from..to);
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                let range = format!("bytes {from}-{}/{LENGTH}", to - 1);
                response.headers_mut().insert("content-range", range.parse().expect("a value"));
            }
        }
        response.headers_mut().insert("content-length", body.len().to_string().parse().expect("a value"));
        let mut end = None;
        match wrong {
            Some(Wrong::Dies) => {
                body.truncate(body.len() / 2);
                end = Some(Err(Fault::new(Code::UpstreamTimeout)));
            }
            Some(Wrong::Short) => body.truncate(body.len() - 1),
            Some(Wrong::Other) => drop(response.headers_mut().insert("etag", "\"other\"".parse().expect("a value"))),
            Some(Wrong::NoStore) => {
                response.headers_mut().insert("cache-control", "no-store".parse().expect("a value"));
            }
            Some(Wrong::Fails | Wrong::Whole) | None => {}
        }
        let pieces: Vec<_> =
            body.chunks(50_000).map(|piece| Ok(http_body::Frame::data(body.slice_ref(piece)))).collect();
        let frames: Vec<Result<_, Fault>> = pieces.into_iter().chain(end).collect();
        Ok(response.map(|_| StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync()))
    }

    fn now_ms(&self) -> u64 {
        NOW_MS
    }

    fn later(&self) -> Option<Self> {
        Some(self.clone())
    }

    fn reader(&self) -> Option<Self> {
        Some(self.clone())
    }
}

async fn asks(node: &Node, up: &Up, method: Method, fields: &[(&str, &str)]) -> Answered {
    let (environment, maker, rules) = ("production".into(), "".into(), Rules::default());
    let site = Site { app: "shop".into(), environment, class: Class::Route, maker, rules, breaks: Breaks::default() };
    let request = request(method, "/large", fields);
    let public = request.uri().clone();
    let cache =
        Cache { room: node.rooms.of("shop", 1.0), site: Arc::new(site), public, tells: false, not_before_ms: 0 };
    cache.answer(&mut up.clone(), request).await
}

async fn get(node: &Node, up: &Up, fields: &[(&str, &str)]) -> Got {
    let (parts, body) = asks(node, up, Method::GET, fields).await.result.expect("an answer").into_parts();
    let (body, trailers, end) = read(body).await;
    Got { status: parts.status.as_u16(), headers: parts.headers, body, trailers, end }
}

/// A node whose memory takes no more than slices in one piece, and without a disk.
async fn small() -> Node {
    let folder = tempfile::tempdir().expect("a folder");
    let node = node(folder.path(), 4 << 20).await;
    node.rooms.common().take_disk().expect("a disk").close().await;
    node
}

#[tokio::test]
async fn ranges_are_asked_for_in_slices_once_each_and_answer_again() {
    let (node, up) = (small().await, Up::new());
    let whole = bytes(1, LENGTH);
    let got = get(&node, &up, &[("range", "bytes=300000-300009")]).await;
    assert_eq!(
        (got.status, &got.headers["content-range"]),
        (206, &format!("bytes 300000-300009/{LENGTH}").parse().expect("a value"))
    );
    assert!(got.is(&whole[300_000..300_010]));
    let slice = |number: usize| format!("bytes={}-{}", number * SLICE, ((number + 1) * SLICE).min(LENGTH) - 1);
    assert_eq!(up.asked(), [String::new(), slice(1)], "the whole, whose head is kept, and the slice");
    for (range, from, to, asked) in [
        ("bytes=262144-262144", SLICE, SLICE + 1, vec![]),
        ("bytes=524287-524288", 2 * SLICE - 1, 2 * SLICE + 1, vec![slice(2)]),
        ("bytes=-1", LENGTH - 1, LENGTH, vec![slice(11)]),
        ("bytes=2800000-", 2_800_000, LENGTH, vec![slice(10)]),
        ("bytes=0-", 0, LENGTH, vec![slice(0), slice(3), slice(4), slice(5), slice(6), slice(7), slice(8), slice(9)]),
    ] {
        let got = get(&node, &up, &[("range", range)]).await;
        assert!(
            got.status == 206 && got.is(&whole[from..to]),
            "{range}: {} {} bytes {:?}",
            got.status,
            got.body.len(),
            got.end
        );
        assert_eq!(up.asked(), asked, "{range}");
    }
    assert!(get(&node, &up, &[]).await.is(&whole), "the whole too");
    assert_eq!(get(&node, &up, &[("range", "bytes=3000001-")]).await.status, 416);
    assert_eq!(get(&node, &up, &[("if-none-match", "\"1\"")]).await.status, 304);
    assert_eq!(get(&node, &up, &[("range", "bytes=0-9"), ("if-range", "\"0\"")]).await.body.len(), LENGTH);
    let head = asks(&node, &up, Method::HEAD, &[]).await.result.expect("an answer");
    assert_eq!(
        (head.status().as_u16(), &head.headers()["content-length"]),
        (200, &LENGTH.to_string().parse().expect("a value"))
    );
    assert_eq!(up.asked(), [""; 0]);
    assert_eq!(up.0.lock().expect("whole").at_once, 1, "one slice is asked for at a time");
}

#[tokio::test]
async fn who_first_wants_all_of_it_has_it_as_it_comes_and_many_readers_share_each_slice() {
    let (node, up) = (small().await, Up::new());
    let whole = bytes(1, LENGTH);
    assert!(get(&node, &up, &[]).await.is(&whole));
    assert_eq!(up.asked(), [""]);
    let all = futures_util::future::join_all((0..8).map(|_| get(&node, &up, &[]))).await;
    assert!(all.iter().all(|got| got.status == 200 && got.is(&whole)));
    let mut asked = up.asked();
    asked.sort();
    let count = asked.len();
    asked.dedup();
    assert_eq!((count, asked.len()), (12, 12), "each slice once for all: {asked:?}");
}

#[tokio::test]
async fn who_stops_reading_holds_nobody_up() {
    let (node, up) = (small().await, Up::new());
    let whole = bytes(1, LENGTH);
    assert!(get(&node, &up, &[("range", "bytes=0-9")]).await.is(&whole[..10]));
    let answered = asks(&node, &up, Method::GET, &[]).await.result.expect("an answer");
    let mut body = answered.into_body();
    // It has the next slice asked for, and takes no more.
    let first = body.frame().await.expect("a piece").expect("good").into_data().expect("data");
    assert!(whole.starts_with(&first));
    assert!(get(&node, &up, &[]).await.is(&whole), "another one reads it all");
    drop(body);
    assert!(get(&node, &up, &[]).await.is(&whole));
}

#[tokio::test]
async fn what_is_read_is_of_one_version_or_ends_as_broken_off() {
    let (node, up) = (small().await, Up::new());
    assert!(get(&node, &up, &[]).await.is(&bytes(1, LENGTH)));
    // It changes while it is read.
    let answered = asks(&node, &up, Method::GET, &[]).await.result.expect("an answer");
    up.now_has(2);
    let (body, _, end) = read(answered.into_body()).await;
    assert_eq!(end, Err(Code::UpstreamBadResponse));
    assert!(body.len() < LENGTH && bytes(1, LENGTH).starts_with(&body), "all of it is of the first version");
    // It changes between: nothing of the old is given, and nothing is broken off.
    assert!(get(&node, &up, &[]).await.is(&bytes(2, LENGTH)));
    up.now_has(3);
    let got = get(&node, &up, &[("range", "bytes=1000000-1000009")]).await;
    assert!(got.status == 206 && got.is(&bytes(3, LENGTH)[1_000_000..1_000_010]), "{} {:?}", got.status, got.end);
    assert!(get(&node, &up, &[]).await.is(&bytes(3, LENGTH)));
}

#[tokio::test]
async fn no_wrong_answer_to_a_slice_is_given_or_kept() {
    for (wrong, code) in [
        (Wrong::Dies, Code::UpstreamTimeout),
        (Wrong::Fails, Code::UpstreamUnreachable),
        (Wrong::Short, Code::UpstreamBadResponse),
        (Wrong::Whole, Code::UpstreamBadResponse),
        (Wrong::Other, Code::UpstreamBadResponse),
    ] {
        let (node, up) = (small().await, Up::new());
        let whole = bytes(1, LENGTH);
        assert!(get(&node, &up, &[("range", "bytes=0-9")]).await.is(&whole[..10]));
        // With the first slice kept, the second one is wrong.
        up.is_wrong(wrong);
        let got = get(&node, &up, &[]).await;
        assert_eq!(got.end, Err(code), "{wrong:?}");
        assert!(got.body.len() < LENGTH && whole.starts_with(&got.body), "{wrong:?}");
        up.is_wrong(None);
        assert!(get(&node, &up, &[("range", "bytes=200000-600000")]).await.is(&whole[200_000..600_001]), "{wrong:?}");
    }
    // Who says that it takes ranges and does not is found out once, and asked for what is wanted from then on.
    let (node, up) = (small().await, Up::new());
    up.is_wrong(Wrong::Whole);
    let whole = bytes(1, LENGTH);
    for asked in [3, 2, 1, 1] {
        let got = get(&node, &up, &[("range", "bytes=0-9")]).await;
        let right = if got.status == 206 { &whole[..10] } else { &whole[..] };
        assert_eq!((got.is(right), up.asked().len()), (true, asked), "{}", got.status);
    }
    // Who says that a part is not to be kept is asked each time.
    let (node, up) = (small().await, Up::new());
    up.is_wrong(Wrong::NoStore);
    for _ in 0..2 {
        up.asked();
        let got = get(&node, &up, &[("range", "bytes=300000-600000")]).await;
        assert!(got.is(&bytes(1, LENGTH)[300_000..600_001]), "{:?}", got.end);
        assert_eq!(up.asked().iter().filter(|range| !range.is_empty()).count(), 2);
    }
}

#[tokio::test]
async fn slices_are_purged_and_ended_with_their_whole_and_come_back_from_disk() {
    let (folder, up) = (tempfile::tempdir().expect("a folder"), Up::new());
    let (whole, range) = (bytes(1, LENGTH), [("range", "bytes=0-2999999")]);
    // A disk whose objects are no larger either: it keeps the slices, and the head is asked for once more.
    let options = || eyot_cache::disk::Options {
        object_bytes_max: SLICE as u64,
        retry: std::time::Duration::ZERO,
        ..eyot_cache::disk::Options::new(1 << 30)
    };
    let node = crate::tool::node_with(folder.path(), 4 << 20, options(), NOW_MS).await;
    assert!(get(&node, &up, &range).await.is(&whole[..3_000_000]));
    node.until(|stats| stats.objects == 12).await;
    node.close().await;
    let node = crate::tool::node_with(folder.path(), 4 << 20, options(), NOW_MS).await;
    up.asked();
    assert!(get(&node, &up, &range).await.is(&whole[..3_000_000]));
    assert_eq!(up.asked(), [""]);
    for how in [How::Hard, How::Soft] {
        node.purge(url("/large"), how);
        assert!(get(&node, &up, &range).await.is(&whole[..3_000_000]));
        let asked = up.asked();
        match how {
            How::Hard => assert_eq!((asked.len(), asked[0].as_str()), (13, "")),
            _ => assert_eq!(asked.iter().filter(|range| !range.is_empty()).count(), 0, "its validator still holds"),
        }
    }
    // An unsafe request that succeeds ends all of it.
    asks(&node, &up, Method::POST, &[]).await.result.expect("an answer");
    up.asked();
    assert!(get(&node, &up, &range).await.is(&whole[..3_000_000]));
    assert_eq!(up.asked().len(), 13);
}
