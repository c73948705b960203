#![allow(clippy::all, missing_docs)]
use eyot_state::*;
use futures_util::StreamExt as _;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

#[derive(Default)]
struct Work {
    done: Mutex<BTreeMap<String, u32>>,
    ended: Mutex<HashMap<String, u32>>,
    at_once: Mutex<(u32, u32)>,
    connected: Mutex<Vec<Result<(), String>>>,
}
impl Worker for Work {
    async fn work(&self, message: Message) -> Result<(), String> {
        {
            let mut n = self.at_once.lock().unwrap();
            n.0 += 1;
            n.1 = n.1.max(n.0);
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
        self.at_once.lock().unwrap().0 -= 1;
        let text = String::from_utf8(message.body.to_vec()).unwrap();
        assert!(message.subject.starts_with("orders."), "{}", message.subject);
        if RandomState::new().hash_one(1) % 10 < 4 {
            return Err("bad\nluck".into());
        }
        *self.done.lock().unwrap().entry(text).or_default() += 1;
        Ok(())
    }
    fn ended(&self, how: Ended) {
        *self.ended.lock().unwrap().entry(format!("{how:?}")).or_default() += 1;
    }
    fn connected(&self, state: Result<(), String>) {
        println!("{state:?}");
        self.connected.lock().unwrap().push(state);
    }
}
fn server(dir: &std::path::Path) -> std::process::Child {
    std::process::Command::new("/tmp/evapt/root/usr/sbin/nats-server")
        .args(["--addr", "127.0.0.1", "--port", "14555", "--jetstream", "--store_dir"])
        .arg(dir)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap()
}
fn queues(dir: &std::path::Path) -> Queues {
    Stores::new(Options {
        file: dir.join("x.redb"),
        nats: Some(Nats { url: "nats://127.0.0.1:14555".into(), credentials: None, replicas: 1 }),
        redis: None,
        clock: Clock::system(),
    })
    .unwrap()
    .queues()
    .unwrap()
}
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn adhoc() {
    let dir = tempfile::tempdir().unwrap();
    let mut nats = server(dir.path());
    let spec = eyot_bundle::release::Queue {
        engine: eyot_bundle::release::Engine::Nats,
        subject: "orders.>".into(),
        function: "order".parse().unwrap(),
        concurrency: 8,
        attempts: 3,
        backoff_ms: vec![10, 100],
        dead_letter: Some("orders-dead".into()),
    };
    let queue = Queue { app: "shop".parse().unwrap(), release: 7, spec: spec.clone() };
    let mut workers = vec![];
    let mut tasks = vec![];
    let mut stops = vec![];
    for _ in 0..3 {
        let (q, w) = (queues(dir.path()), Arc::new(Work::default()));
        let (s, r) = watch::channel(false);
        let (w2, queue) = (w.clone(), queue.clone());
        tasks.push(tokio::spawn(async move { q.run(queue, w2, r).await }));
        workers.push(w);
        stops.push(s);
    }
    while workers.iter().any(|w| !w.connected.lock().unwrap().iter().any(Result::is_ok)) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let client = async_nats::connect("nats://127.0.0.1:14555").await.unwrap();
    let js = async_nats::jetstream::new(client);
    let count = 10_000;
    let mut acks = vec![];
    for n in 0..count {
        acks.push(js.publish(format!("shop.orders.{}", n % 7), format!("m-{n}").into()).await.unwrap());
        if acks.len() == 100 {
            for a in acks.drain(..) {
                a.await.unwrap();
            }
        }
    }
    println!("sent");
    tasks[2].abort();
    nats.kill().unwrap();
    nats.wait().unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    nats = server(dir.path());
    let began = std::time::Instant::now();
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let Ok(mut stream) = js.get_stream("eyot-shop").await else { continue };
        let Ok(info) = stream.info_with_subjects("shop.>").await else { continue };
        let mut subjects = vec![];
        let mut info = info;
        while let Some(Ok(s)) = info.next().await {
            subjects.push(s);
        }
        let left: usize = subjects.iter().filter(|(s, _)| s != "shop.orders-dead").map(|(_, n)| n).sum();
        if left == 0 {
            println!("after {:?}: {subjects:?}", began.elapsed());
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(240), "{subjects:?}");
        let _ = stream.info().await;
    }
    let stream = js.get_stream("eyot-shop").await.unwrap();
    let consumer = stream
        .create_consumer(async_nats::jetstream::consumer::pull::Config {
            durable_name: Some("t".into()),
            filter_subject: "shop.orders-dead".into(),
            ..Default::default()
        })
        .await
        .unwrap();
    let mut letters = BTreeMap::new();
    let mut batch = consumer.batch().max_messages(20_000).expires(Duration::from_secs(3)).messages().await.unwrap();
    while let Some(m) = batch.next().await {
        let m = m.unwrap();
        if letters.is_empty() {
            println!("{:?}", m.headers);
        }
        let old = letters.insert(String::from_utf8(m.payload.to_vec()).unwrap(), m.headers.clone());
        assert!(old.is_none());
    }
    let done: BTreeSet<String> =
        workers.iter().flat_map(|w| w.done.lock().unwrap().keys().cloned().collect::<Vec<_>>()).collect();
    let lost: Vec<_> =
        (0..count).map(|n| format!("m-{n}")).filter(|m| !done.contains(m) && !letters.contains_key(m)).collect();
    let twice = workers.iter().flat_map(|w| w.done.lock().unwrap().values().cloned().collect::<Vec<_>>()).sum::<u32>()
        as usize
        - done.len();
    println!(
        "{count}: {} done ({twice} again), {} dead, both {}; lost {lost:?}; {:?}; at once {:?}",
        done.len(),
        letters.len(),
        done.iter().filter(|d| letters.contains_key(*d)).count(),
        workers.iter().map(|w| w.ended.lock().unwrap().clone()).collect::<Vec<_>>(),
        workers.iter().map(|w| w.at_once.lock().unwrap().1).collect::<Vec<_>>()
    );
    assert!(lost.is_empty());
    for s in &stops {
        s.send_replace(true);
    }
    for t in tasks {
        let _ = tokio::time::timeout(Duration::from_secs(10), t).await.expect("stops");
    }
    nats.kill().unwrap();
}
