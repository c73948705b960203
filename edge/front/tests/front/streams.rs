//! Bodies that flow, break off, or are left.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use eyot_plan::arrival::{Arrival, Protocol};
use eyot_plan::body;
use eyot_plan::fault::{Code, Fault};
use futures_util::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::sync::mpsc;

use crate::harness::{ALL, AnyBody, Front, text};

const MIB: u64 = 1 << 20;

/// Sends one message when it is dropped.
struct Dropped(mpsc::UnboundedSender<&'static str>, &'static str);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send(self.1);
    }
}

/// A body of 16 KiB pieces that counts what was asked of it, in bytes.
fn counted(bytes: u64, asked: Arc<AtomicU64>) -> AnyBody {
    const PIECE: usize = 16 << 10;
    let pieces = stream::unfold(0, move |sent| {
        let asked = Arc::clone(&asked);
        async move {
            (sent < bytes).then(|| {
                asked.store(sent + PIECE as u64, Ordering::Relaxed);
                (Ok::<_, Infallible>(Frame::data(Bytes::from(vec![7; PIECE]))), sent + PIECE as u64)
            })
        }
    });
    StreamBody::new(pieces).map_err(|never| match never {}).boxed_unsync()
}

#[tokio::test]
async fn a_body_of_64_mib_passes_both_ways_and_little_of_it_is_ever_held() {
    let front = Front::answering(|arrival: Arrival| async move { Response::new(arrival.request.into_body()) });
    for protocol in ALL {
        let mut client = front.client(protocol).await;
        let asked = Arc::new(AtomicU64::new(0));
        let request = Request::post("https://a.net/").body(counted(64 * MIB, Arc::clone(&asked))).expect("a request");
        let mut body = client.send(request).await.expect("a response").into_body();
        let (mut received, mut held_max) = (0, 0);
        while let Some(frame) = body.frame().await {
            received += frame.expect("no fault").into_data().map_or(0, |data| data.len() as u64);
            held_max = held_max.max(asked.load(Ordering::Relaxed).saturating_sub(received));
        }
        assert_eq!(received, 64 * MIB, "{protocol:?}");
        assert!(held_max < 24 * MIB, "{protocol:?} held {held_max} bytes"); // loopback's own buffers are most of it
    }
    front.ended().await;
}

#[tokio::test]
async fn a_client_that_leaves_drops_the_answer() {
    let (sender, mut events) = mpsc::unbounded_channel();
    let front = Front::answering(move |arrival: Arrival| {
        let sender = sender.clone();
        async move {
            let _ = sender.send("asked");
            let _dropped = Dropped(sender, "dropped");
            let _body = arrival.request.into_body();
            std::future::pending().await
        }
    });
    for protocol in ALL {
        for connection_too in [false, true] {
            let mut client = front.client(protocol).await;
            let cut = client.cutter();
            let asking = tokio::spawn(async move { client.get("https://a.net/").await.is_ok() });
            assert_eq!(events.recv().await, Some("asked"), "{protocol:?}");
            if connection_too {
                cut();
            } else {
                asking.abort();
            }
            assert_eq!(events.recv().await, Some("dropped"), "{protocol:?}");
        }
    }
    front.ended().await;
}

#[tokio::test]
async fn a_client_that_leaves_inside_a_response_drops_its_body() {
    let (sender, mut events) = mpsc::unbounded_channel();
    let front = Front::answering(move |_| {
        let guard = Dropped(sender.clone(), "dropped");
        async move {
            let endless = stream::unfold(guard, |guard| async {
                tokio::task::yield_now().await;
                Some((Ok(Frame::data(Bytes::from(vec![7; 16 << 10]))), guard))
            });
            Response::new(StreamBody::new(endless).boxed_unsync())
        }
    });
    for protocol in ALL {
        let mut client = front.client(protocol).await;
        let response = client.get("https://a.net/").await.expect("a response");
        let mut body = response.into_body();
        assert!(body.frame().await.is_some_and(|frame| frame.is_ok()));
        client.leave();
        drop(body);
        assert_eq!(events.recv().await, Some("dropped"), "{protocol:?}");
    }
    front.ended().await;
}

#[tokio::test]
async fn a_fault_inside_a_response_is_seen_as_a_broken_response() {
    let front = Front::answering(|_| async {
        let pieces = [Ok(Frame::data(Bytes::from_static(b"half"))), Err(Fault::new(Code::FunctionTrapped))];
        let pieces = stream::iter(pieces).then_yielding();
        Response::new(StreamBody::new(pieces).boxed_unsync())
    });
    for protocol in ALL {
        let mut client = front.client(protocol).await;
        let broken = match client.get("https://a.net/").await {
            Ok(response) => response.into_body().collect().await.is_err(),
            Err(_) => true,
        };
        assert!(broken, "{protocol:?}");
        if protocol != Protocol::H1 {
            assert!(client.get("https://a.net/").await.is_ok() || protocol == Protocol::H3, "the connection lives");
        }
    }
    front.ended().await;
}

/// Lets the runtime write what was said before the next piece.
trait ThenYielding: stream::Stream + Sized {
    fn then_yielding(self) -> impl stream::Stream<Item = Self::Item> + Send
    where
        Self: Send,
        Self::Item: Send,
    {
        futures_util::StreamExt::then(self, |item| async {
            tokio::task::yield_now().await;
            item
        })
    }
}

impl<S: stream::Stream> ThenYielding for S {}

#[tokio::test(start_paused = true)]
async fn a_client_that_pauses_inside_its_body_is_told_so() {
    let front = Front::answering(|arrival: Arrival| async move {
        match arrival.request.into_body().collect().await {
            Ok(_) => text("whole"),
            Err(fault) => fault.response("id").map(body::full),
        }
    });
    for protocol in ALL {
        let mut client = front.client(protocol).await;
        let pieces = stream::unfold(true, |first| async move {
            if first { Some((Ok(Frame::data(Bytes::from_static(b"x"))), false)) } else { std::future::pending().await }
        });
        let request = Request::post("https://a.net/").body(StreamBody::new(pieces).boxed_unsync()).expect("a request");
        let response = client.send(request).await.expect("a response");
        assert_eq!(response.status(), 408, "{protocol:?}");
    }
    front.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_loses_its_response_and_so_does_one_that_takes_a_trickle() {
    let (sender, mut events) = mpsc::unbounded_channel();
    let front = Front::answering(move |arrival: Arrival| {
        let guard = Dropped(sender.clone(), "dropped");
        // Small pieces are written while the body is waited for, large ones while it is not.
        let bytes = if arrival.request.uri().path() == "/small" { 1 << 10 } else { 64 << 10 };
        async move {
            let endless = stream::unfold(guard, move |guard| async move {
                tokio::task::yield_now().await;
                Some((Ok(Frame::data(Bytes::from(vec![7; bytes]))), guard))
            });
            Response::new(StreamBody::new(endless).boxed_unsync())
        }
    });
    for protocol in ALL {
        for path in ["/large", "/small"] {
            let mut client = front.client(protocol).await;
            let response = client.get(&format!("https://a.net{path}")).await.expect("a response");
            assert_eq!(events.recv().await, Some("dropped"), "{protocol:?} {path}");
            drop(response);
            if protocol != Protocol::H1 {
                let mut client = front.client(protocol).await;
                let mut response = client.get(&format!("https://a.net{path}")).await.expect("a response").into_body();
                // Some KiB every ten minutes.
                let trickle = async {
                    while let Some(Ok(_)) = response.frame().await {
                        tokio::time::sleep(Duration::from_secs(600)).await;
                    }
                    events.recv().await
                };
                assert_eq!(trickle.await, Some("dropped"), "{protocol:?} {path}");
            }
        }
    }
    front.ended().await;
}
