//! What the front takes of a machine, beside Caddy from Debian in the same run: small answers and bodies of 100 MB over
//! HTTP/3, HTTP/2 and HTTP/1.1, of real processes with TLS, limits, metrics and the access log on.
//! `cargo bench --bench front [-- quick] [<words of the rows to measure>]`; the figures stand in `docs/benchmarks.md`, and how to make the h2load that
//! `H2LOAD` names.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

#[path = "common/client.rs"]
mod client;
#[path = "common/cpu.rs"]
mod cpu;
#[path = "common/fleet.rs"]
#[allow(dead_code, reason = "shared with the benchmark of functions")]
mod fleet;
#[path = "front/floor.rs"]
mod floor;
#[path = "front/load.rs"]
mod load;
#[path = "../tests/harness/process.rs"]
#[allow(dead_code, clippy::panic, reason = "the tests' own; this takes processes, free ports and the waiting")]
mod process;
#[path = "front/servers.rs"]
mod servers;
#[path = "front/table.rs"]
mod table;
#[path = "../tests/harness/tools.rs"]
#[allow(dead_code, clippy::panic, reason = "the tests' own; this takes packages of Debian's")]
mod tools;
#[path = "front/upstream.rs"]
mod upstream;

use bytes::Bytes;
use eyot_link::line::Protocol;

use load::{Job, Load};
use servers::{Part, Server};
use upstream::Upstream;

/// The size of a large body.
const BULK_BYTES: usize = 100_000_000;

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    /// The large body, of a file; ours serves none.
    File,
    /// The large body, from the upstream.
    Proxied,
    /// A fixed answer of six bytes.
    Small,
}

impl What {
    fn path(self) -> &'static str {
        match self {
            Self::File => "/file",
            Self::Proxied => "/proxied",
            Self::Small => "/respond",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::File => "100 MB, a file",
            Self::Proxied => "100 MB, proxied",
            Self::Small => "small",
        }
    }
}

/// How much is measured.
struct Size {
    rounds: usize,
    small_requests: usize,
    bulk_requests: usize,
}

const FULL: Size = Size { rounds: 3, small_requests: 40_000, bulk_requests: 10 };
const QUICK: Size = Size { rounds: 2, small_requests: 10_000, bulk_requests: 4 };

/// What is measured at once.
#[derive(Clone, Copy)]
struct Row {
    what: What,
    protocol: Protocol,
    connections: usize,
    /// Requests at once on each connection.
    streams: usize,
}

const fn row(what: What, protocol: Protocol, connections: usize, streams: usize) -> Row {
    Row { what, protocol, connections, streams }
}

const ROWS: [Row; 12] = [
    row(What::Small, Protocol::H3, 1, 64),
    row(What::Small, Protocol::H3, 8, 32),
    row(What::Small, Protocol::H2, 1, 64),
    row(What::Small, Protocol::H2, 8, 32),
    row(What::Small, Protocol::H1, 8, 1),
    row(What::Small, Protocol::H1, 32, 1),
    row(What::Proxied, Protocol::H3, 2, 1),
    row(What::Proxied, Protocol::H2, 2, 1),
    row(What::Proxied, Protocol::H1, 2, 1),
    row(What::File, Protocol::H3, 2, 1),
    row(What::File, Protocol::H2, 2, 1),
    row(What::File, Protocol::H1, 2, 1),
];

impl Row {
    /// Its first columns.
    fn words(self) -> String {
        let Self { what, protocol, connections, streams } = self;
        format!("{} | {} | {connections} x {streams}", protocol.alpn(), what.words())
    }
}

/// What one server took in one round of a row.
#[derive(Clone, Copy)]
struct Figures {
    /// CPU time of its process: microseconds a request, or seconds a gigabyte.
    cpu: f64,
    /// Requests a second, or gigabytes.
    rate: f64,
}

/// A row with its figures: by server, by round.
type Measured = (Row, Vec<Vec<Figures>>);

fn measure(load: &Load, part: &Part, row: Row, size: &Size, bodies: [&Bytes; 2]) -> Figures {
    let Row { what, protocol, connections, streams } = row;
    let [small, bulk] = bodies;
    let (body, requests) = match what {
        What::Small => (small, size.small_requests),
        What::File | What::Proxied => (bulk, size.bulk_requests),
    };
    // Of CPU time, and of work.
    let (cpu_units, units) = match what {
        What::Small => (requests as f64, requests as f64),
        What::File | What::Proxied => ((requests * body.len()) as f64 / 1e3, (requests * body.len()) as f64 / 1e9),
    };
    let before_us = part.clock.us();
    let job = Job { protocol, port: part.port, path: what.path(), body, requests, connections, streams };
    let took = load.run(&job);
    let cpu_us = part.clock.us() - before_us;
    Figures { cpu: cpu_us / cpu_units, rate: units / took.as_secs_f64() }
}

/// Every server does a row, one after the other, then the next row comes; so whatever disturbs, disturbs all.
fn rounds(load: &Load, servers: &[Server], rows: &[Row], size: &Size, bodies: [&Bytes; 2]) -> Vec<Measured> {
    let mut measured: Vec<Measured> = rows.iter().map(|row| (*row, vec![Vec::new(); servers.len()])).collect();
    for _ in 0..size.rounds {
        for (row, measured) in &mut measured {
            for (server, measured) in servers.iter().zip(measured) {
                if let Some(part) = server.part(*row) {
                    server.empty_log();
                    measured.push(measure(load, part, *row, size, bodies));
                }
            }
        }
    }
    measured
}

fn main() {
    floor::become_it();
    // cargo adds `--bench`.
    let mut words: Vec<_> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let whole = words.len();
    words.retain(|word| word != "quick");
    let size = if words.len() < whole { QUICK } else { FULL };
    let rows = ROWS.into_iter().filter(|row| words.iter().all(|word| row.words().contains(word.as_str())));
    let rows: Vec<_> = rows.collect();
    let (small, bulk) = (Bytes::from_static(fleet::BODY), Bytes::from(vec![b'e'; BULK_BYTES]));
    let upstream = Upstream::start(bulk.clone());
    let fleet = servers::fleet(upstream.address);
    let load = Load::new(fleet.ca());
    let servers = servers::all(&fleet, upstream.address, &bulk);
    // The node has to pull its app.
    for port in servers.iter().filter_map(Server::port) {
        load.wait(port, What::Small.path(), &small);
    }
    let measured = rounds(&load, &servers, &rows, &size, [&small, &bulk]);
    println!(
        "{} requests of a small answer (CPU in microseconds a request, rate in requests a second), {} of 100 MB (CPU in \
         seconds a gigabyte, rate in gigabytes a second); the least of {} rounds, ratios of each round in parentheses.\n\
         Load from {}.\n",
        size.small_requests,
        size.bulk_requests,
        size.rounds,
        load.name()
    );
    table::print(&servers, &measured);
    println!("\naccess lines that eyot dropped: {}", fleet.lines_dropped());
}
