//! What functions keep by names, with a clock under control.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use eyot_plan::body;
use eyot_plan::fault::{Code, Fault};
use futures_util::{StreamExt as _, stream};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};

use super::*;
use crate::purges::{How, Purge, Purges, What};
use crate::room::Common;

struct House {
    room: Arc<Room>,
    purges: Arc<Purges>,
    now: AtomicU64,
}

impl House {
    fn new() -> Self {
        let purges = Arc::new(Purges::in_memory(None, 1_000));
        let room = Arc::new(Room::new("shop", 4 << 20, Arc::new(Common::new(Arc::clone(&purges)))));
        Self { room, purges, now: AtomicU64::new(1_000) }
    }

    fn objects(&self) -> Objects {
        Objects::new(Arc::clone(&self.room), "shop", "production")
    }

    fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    async fn lookup(&self, name: &str) -> Looked {
        self.objects().lookup(name, || self.now()).await
    }

    async fn find(&self, name: &str) -> Looked {
        self.objects().find(name, || self.now()).await
    }

    /// Makes what is looked up by this name, which is there then.
    async fn make(&self, name: &str, making: &Making, text: &'static str) {
        let slot = self.lookup(name).await.slot.expect("a turn");
        slot.make(making, body::full(text), self.now()).expect("it is kept").await.expect("it is there");
    }
}

fn for_ms(fresh_ms: u64, stale_ms: u64) -> Making {
    Making { times: Times { fresh_ms, stale_ms }, ..Making::default() }
}

async fn text(object: Opened) -> Result<String, Fault> {
    Ok(String::from_utf8(object.body.collect().await?.to_bytes().into()).expect("text"))
}

/// A body that is written by whoever has the other end.
fn piped() -> (tokio::sync::mpsc::Sender<Result<Bytes, Fault>>, Body) {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let frames = stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
    (sender, StreamBody::new(frames.map(|piece| piece.map(Frame::data))).boxed_unsync())
}

#[tokio::test]
async fn what_is_made_is_found_by_its_name_alone_as_long_as_it_is_good() {
    let house = House::new();
    let making = Making { metadata: b"said\0".to_vec(), ..for_ms(1_000, 500) };
    house.make("price", &making, "seven").await;
    let found = house.lookup("price").await;
    assert_eq!((found.result, found.slot.is_some()), ("hit", false));
    let object = found.object.expect("an object");
    assert_eq!(named::metadata(&object.object.kept), b"said\0");
    assert_eq!(text(object).await.expect("whole"), "seven");
    for (app, environment, name) in
        [("shop", "production", "other"), ("shop", "preview", "price"), ("sho", "production", "price")]
    {
        let objects = Objects::new(Arc::clone(&house.room), app, environment);
        assert!(objects.find(name, || house.now()).await.object.is_none(), "{app} {environment} {name}");
    }
    // Stale: all have it, and one has the turn.
    house.now.store(2_200, Ordering::Relaxed);
    let (one, two, three) = (house.lookup("price").await, house.lookup("price").await, house.find("price").await);
    assert_eq!((one.result, two.result, three.result), ("stale", "stale", "stale"));
    assert!(one.object.is_some() && two.object.is_some() && three.object.is_some());
    assert_eq!((one.slot.is_some(), two.slot.is_some()), (true, false));
    drop(one);
    house.now.store(2_500, Ordering::Relaxed);
    let over = house.lookup("price").await;
    assert_eq!((over.result, over.object.is_none(), over.slot.is_some()), ("miss", true, true));
}

#[tokio::test]
async fn one_makes_what_many_want_and_they_read_while_it_comes() {
    let house = House::new();
    let slot = house.lookup("list").await.slot.expect("a turn");
    let waiting = house.lookup("list");
    let making = async {
        let (writer, body) = piped();
        let made = slot.make(&for_ms(0, 0), body, house.now()).expect("it is kept");
        (writer, made)
    };
    let (waited, (writer, made)) = tokio::join!(waiting, making);
    assert_eq!((waited.result, waited.slot.is_some()), ("collapsed", false));
    let mut reader = waited.object.expect("what is being made").body;
    writer.send(Ok("one ".into())).await.expect("it is taken");
    let first = reader.frame().await.expect("a piece").expect("good").into_data().expect("data");
    assert_eq!(first, "one ");
    writer.send(Ok("two".into())).await.expect("it is taken");
    drop(writer);
    assert_eq!(reader.collect().await.expect("whole").to_bytes(), "two");
    made.await.expect("it is there");
    assert!(house.lookup("list").await.slot.is_some(), "its time was over as it was made");
}

#[tokio::test]
async fn a_turn_that_is_given_up_passes_on_and_what_breaks_off_is_not_kept() {
    let house = House::new();
    let slot = house.lookup("a").await.slot.expect("a turn");
    let (next, ()) = tokio::join!(house.lookup("a"), async { drop(slot) });
    let slot = next.slot.expect("the turn");
    let (writer, body) = piped();
    let made = slot.make(&for_ms(60_000, 0), body, house.now()).expect("it is kept");
    let waited = house.lookup("a").await.object.expect("what is being made");
    writer.send(Ok("half".into())).await.expect("it is taken");
    writer.send(Err(Fault::new(Code::InternalError))).await.expect("it is taken");
    assert!(made.await.is_err(), "it is not kept");
    assert!(text(waited).await.is_err(), "who reads it can tell");
    let after = house.lookup("a").await;
    assert!(after.object.is_none() && after.slot.is_some());
}

#[tokio::test]
async fn what_is_longer_than_what_is_kept_or_said_wrongly_of_is_refused_and_the_turn_passes_on() {
    let house = House::new();
    let most = house.room.object_bytes_max();
    for (making, why) in [
        (Making { length: Some(most + 1), ..for_ms(1, 0) }, Unmade::TooLarge),
        (for_ms(u64::MAX, 0), Unmade::Invalid),
        (Making { metadata: vec![0; 5_000], ..for_ms(1, 0) }, Unmade::Invalid),
    ] {
        let slot = house.lookup("a").await.slot.expect("a turn");
        assert_eq!(slot.make(&making, body::empty(), house.now()).err(), Some(why));
    }
    // What says nothing of its length and comes to be too long ends when nobody reads it on.
    let slot = house.lookup("a").await.slot.expect("a turn");
    let (writer, body) = piped();
    let made = slot.make(&for_ms(60_000, 0), body, house.now()).expect("it may be kept");
    let piece = Bytes::from(vec![7; 64 << 10]);
    let mut written = 0;
    while writer.send(Ok(piece.clone())).await.is_ok() {
        written += piece.len() as u64;
        assert!(written < 4 * most, "it goes on for ever");
    }
    assert!(written >= most && made.await.is_err());
    assert!(house.lookup("a").await.object.is_none());
}

#[tokio::test]
async fn a_purge_takes_objects_by_their_keys_and_by_their_names() {
    let house = House::new();
    let making = Making { keys: vec!["all".into()], ..for_ms(60_000, 60_000) };
    for name in ["a", "b", "c"] {
        house.make(name, &making, "x").await;
    }
    let purge = |key: &str, how| {
        let what = What::Named(Hash::key("shop", key));
        house.purges.apply(&[("shop", Purge { what, how })], None).expect("it is in memory");
    };
    purge("object:a", How::Hard);
    assert!(house.find("a").await.object.is_none());
    assert!(house.find("b").await.object.is_some());
    purge("object:b", How::Soft);
    assert_eq!(house.find("b").await.result, "stale");
    purge("all", How::Hard);
    assert!(house.find("b").await.object.is_none() && house.find("c").await.object.is_none());
}
