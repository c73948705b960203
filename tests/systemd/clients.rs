//! Who asks a node in the network of its machine.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::runtime::Runtime;

use super::house::House;
use crate::harness::client::{Answer, Ask, PROTOCOLS, Protocol, ask_on};
use crate::harness::nspawn::Network;
use crate::harness::process::until;

/// Who asks, in the machine's network.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) network: Network,
    pub(super) ca: Vec<u8>,
}

impl Client {
    /// Runs `work` in a thread of the machine's network.
    fn start<T: Send + 'static>(&self, work: impl FnOnce(&Runtime, &[u8]) -> T + Send + 'static) -> JoinHandle<T> {
        let Self { network, ca } = self.clone();
        std::thread::spawn(move || {
            network.enter();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            work(&runtime, &ca)
        })
    }

    pub(super) fn asks(&self, protocol: Protocol, path: &'static str) -> Result<Answer, String> {
        let asking = self.start(move |runtime, ca| ask_on(runtime, to(ca, protocol, path)));
        asking.join().expect("no panic")
    }
}

fn to(ca: &[u8], protocol: Protocol, path: &str) -> Ask {
    Ask::trusting(ca, 443, protocol, "shop.test", path)
}

/// Clients that ask all the time, over all protocols, each time anew.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    failed: Arc<Mutex<Vec<String>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    pub(super) fn of(client: &Client) -> Self {
        let mut load =
            Self { stop: Arc::default(), asked: Arc::default(), failed: Arc::default(), threads: Vec::new() };
        for (protocol, path) in PROTOCOLS.into_iter().flat_map(|protocol| [(protocol, "/env"), (protocol, "/fixed")]) {
            let (stop, asked, failed) = (Arc::clone(&load.stop), Arc::clone(&load.asked), Arc::clone(&load.failed));
            load.threads.push(client.start(move |runtime, ca| {
                while !stop.load(Ordering::Relaxed) {
                    let answer = ask_on(runtime, to(ca, protocol, path));
                    if !answer.as_ref().is_ok_and(|answer| answer.status == 200) {
                        failed.lock().expect("no panic").push(format!("{protocol:?} {path}: {answer:?}"));
                    }
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        load
    }

    /// Waits until so many more requests were answered.
    pub(super) fn more(&self, count: usize) {
        let to = self.asked.load(Ordering::Relaxed) + count;
        until("the clients are answered", || (self.asked.load(Ordering::Relaxed) >= to).then_some(()));
    }

    /// Ends it; how many requests there were, and those that failed.
    pub(super) fn end(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("no panic");
        }
        let failed = std::mem::take(&mut *self.failed.lock().expect("no panic"));
        (self.asked.load(Ordering::Relaxed), failed)
    }
}

/// An exchange that is open both ways: what is sent comes back.
pub(super) struct Open {
    more: tokio::sync::mpsc::UnboundedSender<Bytes>,
    answer: JoinHandle<Result<Answer, String>>,
}

impl Open {
    fn new(client: &Client, protocol: Protocol) -> Self {
        let (more, mut pieces) = tokio::sync::mpsc::unbounded_channel::<Bytes>();
        let pieces = futures_util::stream::poll_fn(move |cx| {
            pieces.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
        });
        let answer = client.start(move |runtime, ca| {
            let request = to(ca, protocol, "/up/echo").method("POST");
            ask_on(runtime, request.stream(StreamBody::new(pieces).boxed_unsync()))
        });
        let open = Self { more, answer };
        open.send();
        open
    }

    fn send(&self) {
        self.more.send(Bytes::from_static(&[b'x'; 32 << 10])).expect("it is open");
    }

    /// Ends it well.
    pub(super) fn end(self) {
        self.send();
        drop(self.more);
        let answer = self.answer.join().expect("no panic").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((answer.status, answer.body.len()), (200, 64 << 10));
    }
}

/// One exchange over each protocol, which the upstream has begun to answer.
pub(super) fn open(house: &House) -> Vec<Open> {
    let all = house.upstream.asked() + PROTOCOLS.len() as u64;
    let client = house.client();
    let open = PROTOCOLS.into_iter().map(|protocol| Open::new(&client, protocol)).collect();
    until("the exchanges are under way", || (house.upstream.asked() >= all).then_some(()));
    open
}
