//! What one request takes of a node, end to end: real processes, TLS, limits, metrics and access log on. It asks a fixed
//! answer, which is the floor, and the function `hello`, over each protocol with our own client.
//! `cargo bench --bench request [-- <requests> <streams>]`; the figures stand in `docs/benchmarks.md`.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

#[path = "common/client.rs"]
mod client;
#[path = "common/cpu.rs"]
mod cpu;
#[path = "common/fleet.rs"]
#[allow(dead_code, reason = "shared with the benchmark of the front")]
mod fleet;
#[path = "../tests/guests/make.rs"]
mod guests;
#[path = "../tests/harness/process.rs"]
#[allow(dead_code, clippy::panic, reason = "the tests' own; this takes the free port and the waiting of it")]
mod process;

use std::time::{Duration, Instant};

use bytes::Bytes;
use eyot_link::line::Protocol;
use tokio::runtime::Runtime;

use client::Target;
use fleet::{BODY, Fleet, More};

/// Requests of one measurement.
const REQUESTS: usize = 20_000;
/// Requests at once.
const STREAMS: usize = 16;
/// Connections that the streams of HTTP/3 and HTTP/2 share; HTTP/1.1 has one for each.
const LINES: usize = 4;
/// Requests before each measurement.
const WARM: usize = 500;
/// Measurements of one row; that of the least CPU is given, since what disturbs only ever adds.
const ROUNDS: usize = 3;
/// A measurement that takes longer has failed.
const MEASURE_WAIT: Duration = Duration::from_secs(300);
/// The rows: the floor of a protocol stands before what is measured against it.
const ROWS: [(Protocol, &str); 6] = [
    (Protocol::H3, "/respond"),
    (Protocol::H3, "/hello"),
    (Protocol::H2, "/respond"),
    (Protocol::H2, "/hello"),
    (Protocol::H1, "/respond"),
    (Protocol::H1, "/hello"),
];

/// What a row shows.
#[derive(Clone, Copy)]
struct Figures {
    /// Requests a second.
    rate: f64,
    /// CPU of the node's process a request, in microseconds.
    node_us: f64,
    /// CPU charged to a call of the function, in microseconds; none: there was no call.
    charged_us: Option<f64>,
}

/// The app with the guest `hello`, which answers what `/respond` does.
fn app() -> More {
    let tables = "[functions.hello]\npath = \".\"\nwasm = \"hello.wasm\"\n\
                  [[routes]]\nhost = \"localhost\"\npath = \"/hello\"\nfunction = \"hello\"\n";
    More { tables: tables.to_owned(), files: vec![("hello.wasm", guests::path("hello"))], port: None }
}

/// One measurement.
async fn measure(fleet: &Fleet, protocol: Protocol, path: &str, requests: usize, streams: usize) -> Figures {
    let target = Target::of(fleet.port, fleet.ca());
    let (uri, body, clock) = (target.uri(path), Bytes::from_static(BODY), fleet.clock());
    let lines = target.streams(protocol, LINES, streams).await;
    let (lines, _) = client::drive(lines, &uri, &body, WARM).await;
    fleet.log().set_len(0).expect("a file of ours");
    let (charged, cpu_us) = (fleet.charged(), clock.us());
    let began = Instant::now();
    let (lines, _) = client::drive(lines, &uri, &body, requests).await;
    let wall = began.elapsed();
    let node_us = clock.us() - cpu_us;
    let after = fleet.charged();
    drop(lines);
    let calls = after.calls - charged.calls;
    Figures {
        rate: requests as f64 / wall.as_secs_f64(),
        node_us: node_us / requests as f64,
        charged_us: (calls > 0.0).then(|| (after.cpu_us - charged.cpu_us) / calls),
    }
}

/// Waits until the node has the app: it pulls it and compiles the function.
fn wait(runtime: &Runtime, fleet: &Fleet) {
    let target = Target::of(fleet.port, fleet.ca());
    process::until("the node answers", || {
        let answered = runtime.block_on(async {
            let mut line = target.connect(Protocol::H2).await?;
            client::ask(&mut line, &target.uri("/hello"), &Bytes::from_static(BODY)).await
        });
        answered.ok().filter(|&good| good)
    });
}

fn main() {
    // cargo adds `--bench`.
    let numbers = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    let mut numbers = numbers.map(|number| number.parse::<usize>().expect("the arguments are two numbers").max(1));
    let (requests, streams) = (numbers.next().unwrap_or(REQUESTS), numbers.next().unwrap_or(STREAMS));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let fleet = Fleet::start(&app());
    wait(&runtime, &fleet);
    let mut best: [Option<Figures>; ROWS.len()] = [None; ROWS.len()];
    for _ in 0..ROUNDS {
        for (best, (protocol, path)) in best.iter_mut().zip(ROWS) {
            let measuring = measure(&fleet, protocol, path, requests, streams);
            let measured = runtime.block_on(async { tokio::time::timeout(MEASURE_WAIT, measuring).await });
            let figures = measured.expect("a measurement in time");
            if best.is_none_or(|best| figures.node_us < best.node_us) {
                *best = Some(figures);
            }
        }
    }
    println!("{requests} requests on {streams} streams, the best of {ROUNDS} rounds; CPU in microseconds a request");
    println!("protocol   answered by   requests/s   CPU of the node   charged   over the floor");
    let mut floor_us = f64::NAN;
    for (figures, (protocol, path)) in best.into_iter().flatten().zip(ROWS) {
        let Figures { rate, node_us, charged_us } = figures;
        let (mut charged, mut ratio) = ("-".to_owned(), "-".to_owned());
        match charged_us {
            None => floor_us = node_us,
            Some(charged_us) => (charged, ratio) = (format!("{charged_us:.1}"), format!("{:.2}", node_us / floor_us)),
        }
        println!("{:<11}{path:<14}{rate:>10.0}   {node_us:>15.1}   {charged:>7}   {ratio:>14}", protocol.alpn());
    }
    println!("access lines dropped: {}", fleet.lines_dropped());
}
