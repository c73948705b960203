//! What one request takes of a node, end to end: real processes, TLS, limits, metrics and access log on. It asks a fixed
//! answer, which is the floor, and the function `hello`, over each protocol with our own client.
//! `cargo bench --bench request [-- <requests> <streams>]`; the figures stand in `docs/benchmarks.md`.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

#[path = "request/fleet.rs"]
mod fleet;
#[path = "../tests/guests/make.rs"]
mod guests;
#[path = "../tests/harness/process.rs"]
#[allow(dead_code, clippy::panic, reason = "the tests' own; this takes the free port and the waiting of it")]
mod process;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use eyot_link::body;
use eyot_link::line::{Endpoint, Line, Protocol};
use eyot_link::tls::{self, Authorities};
use tokio::runtime::Runtime;

use fleet::Fleet;

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
    (Protocol::H3, "respond"),
    (Protocol::H3, "hello"),
    (Protocol::H2, "respond"),
    (Protocol::H2, "hello"),
    (Protocol::H1, "respond"),
    (Protocol::H1, "hello"),
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

/// Whom to ask.
struct Target {
    endpoint: Endpoint,
    authorities: Authorities,
    address: SocketAddr,
}

impl Target {
    fn of(fleet: &Fleet) -> Self {
        Self {
            endpoint: Endpoint::parse(&format!("https://localhost:{}", fleet.port)).expect("an endpoint"),
            authorities: Authorities::Pem(fleet.ca()),
            address: SocketAddr::from(([127, 0, 0, 1], fleet.port)),
        }
    }

    async fn connect(&self, protocol: Protocol) -> Result<Line, eyot_link::error::Error> {
        let config = tls::config(&self.authorities)?;
        Line::connect(&self.endpoint, protocol, &config, Some(self.address)).await
    }

    /// A handle for each stream.
    async fn streams(&self, protocol: Protocol, count: usize) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        for at in 0..count {
            let shared = if at < LINES { None } else { lines[at % LINES].share() };
            let line = match shared {
                Some(line) => line,
                None => self.connect(protocol).await.expect("a connection"),
            };
            lines.push(line);
        }
        lines
    }

    fn uri(&self, path: &str) -> http::Uri {
        format!("{}/{path}", self.endpoint.url).parse().expect("a URI")
    }
}

/// One request; whether it was answered as it should be.
async fn ask(line: &mut Line, uri: &http::Uri) -> Result<bool, eyot_link::error::Error> {
    let mut request = http::Request::new(body::empty());
    *request.uri_mut() = uri.clone();
    let response = line.send(request).await?;
    let good = response.status() == http::StatusCode::OK;
    let whole = body::read(response.into_body(), "the node", 1 << 16).await?;
    Ok(good && whole == fleet::BODY)
}

/// So many requests over all the lines at once, which come back.
async fn drive(lines: Vec<Line>, uri: &http::Uri, requests: usize) -> Vec<Line> {
    let begun = Arc::new(AtomicUsize::new(0));
    let stream = |mut line: Line| {
        let (begun, uri) = (Arc::clone(&begun), uri.clone());
        tokio::spawn(async move {
            while begun.fetch_add(1, Ordering::Relaxed) < requests {
                assert!(ask(&mut line, &uri).await.expect("an answer"), "{uri}: an answer of another kind");
            }
            line
        })
    };
    let streams: Vec<_> = lines.into_iter().map(stream).collect();
    let mut lines = Vec::new();
    for stream in streams {
        lines.push(stream.await.expect("a stream without a fault"));
    }
    lines
}

/// One measurement.
async fn measure(fleet: &Fleet, protocol: Protocol, path: &str, requests: usize, streams: usize) -> Figures {
    let target = Target::of(fleet);
    let uri = target.uri(path);
    let lines = target.streams(protocol, streams).await;
    let lines = drive(lines, &uri, WARM).await;
    fleet.empty_log();
    let (charged, cpu_us) = (fleet.charged(), fleet.cpu_us());
    let began = Instant::now();
    let lines = drive(lines, &uri, requests).await;
    let wall = began.elapsed();
    let node_us = fleet.cpu_us() - cpu_us;
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
    let target = Target::of(fleet);
    process::until("the node answers", || {
        let answered = runtime.block_on(async {
            let mut line = target.connect(Protocol::H2).await?;
            ask(&mut line, &target.uri("hello")).await
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
    let fleet = Fleet::start();
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
