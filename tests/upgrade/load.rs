//! Clients that ask all the time, over all protocols, each time anew.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use super::house::House;
use crate::harness::client::{Ask, PROTOCOLS, ask};
use crate::harness::process::until;

/// The time for each step of connecting, in milliseconds: who waits for a process that fell is not waited for long.
const CONNECT_MS: u64 = 10_000;

/// A request that got no answer.
#[derive(Debug)]
struct Lost {
    #[expect(dead_code, reason = "it is shown when a test fails")]
    what: String,
    began: Instant,
    ended: Instant,
    /// Nobody answered its first packets, and the client gave up by itself, after [`CONNECT_MS`].
    is_given_up: bool,
}

impl Lost {
    /// Whether this is the reason: what the process had begun is lost with it, and who comes then waits for the next, as
    /// long as the client has patience.
    fn is_due_to(&self, fall: &Fall) -> bool {
        let latest = if self.is_given_up { fall.replaced } else { fall.struck };
        self.began <= latest && self.ended >= fall.aimed
    }
}

/// The fall of a process that served: just before it was struck, just after, and when another one had its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fall {
    pub(super) aimed: Instant,
    pub(super) struck: Instant,
    pub(super) replaced: Instant,
}

/// The clients.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    lost: Arc<Mutex<Vec<Lost>>>,
    /// Requests that were lost, and lost once more when they were asked again.
    failed: Arc<Mutex<Vec<Lost>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    pub(super) fn on(house: &House) -> Self {
        let mut load = Self {
            stop: Arc::default(),
            asked: Arc::default(),
            lost: Arc::default(),
            failed: Arc::default(),
            threads: Vec::new(),
        };
        for (protocol, path) in PROTOCOLS.into_iter().flat_map(|protocol| [(protocol, "/env"), (protocol, "/fixed")]) {
            let (stop, asked) = (Arc::clone(&load.stop), Arc::clone(&load.asked));
            let (lost, failed) = (Arc::clone(&load.lost), Arc::clone(&load.failed));
            let (ca, port) = (fs::read(house.world.ca()).expect("the CA"), house.node.port);
            load.threads.push(std::thread::spawn(move || {
                let once = || {
                    let began = Instant::now();
                    let answer = ask(Ask::trusting(&ca, port, protocol, "shop.test", path).connecting(CONNECT_MS));
                    asked.fetch_add(1, Ordering::Relaxed);
                    let what = format!("{protocol:?} {path}: {answer:?}");
                    let is_good = answer.is_ok_and(|answer| answer.status == 200);
                    let is_given_up = ["no answer within", "did not stand within"].iter().any(|why| what.contains(why));
                    (!is_good).then(|| Lost { what, began, ended: Instant::now(), is_given_up })
                };
                while !stop.load(Ordering::Relaxed) {
                    let Some(first) = once() else { continue };
                    lost.lock().expect("no panic").push(first);
                    if let Some(second) = once() {
                        let list = if second.is_given_up { &lost } else { &failed };
                        list.lock().expect("no panic").push(second);
                    }
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

    /// Every request was answered.
    pub(super) fn end(self, house: &House) {
        self.end_but_for(house, &[]);
    }

    /// Every request was answered but for those that a process took with it that fell so; and each of
    /// those when it was asked once more.
    pub(super) fn end_but_for(self, house: &House, falls: &[Fall]) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("no panic");
        }
        let (lost, failed) = (self.lost.lock().expect("no panic"), self.failed.lock().expect("no panic"));
        let asked = self.asked.load(Ordering::Relaxed);
        println!("{asked} requests, {} lost with their process, {} failed", lost.len(), failed.len());
        let guilty: Vec<_> =
            lost.iter().filter(|lost| !falls.iter().any(|fall| lost.is_due_to(fall))).take(5).collect();
        assert!(
            guilty.is_empty() && failed.is_empty(),
            "of {asked}: {guilty:#?}\nand again: {failed:#?}\nbecause of {falls:?}\n{}",
            house.node.process.log()
        );
    }
}
