//! What answering from the cache takes of a machine, and asking an upstream where nothing is kept, beside Varnish (with hitch for
//! TLS), nginx and Caddy from Debian in the same run: real processes with TLS, limits, metrics and access logs on.
//! `cargo bench --bench cache [-- quick] [<words of the rows to measure>]`; the figures stand in `docs/benchmarks.md`.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

#[path = "common/client.rs"]
mod client;
#[path = "common/cpu.rs"]
mod cpu;
#[path = "common/fleet.rs"]
#[allow(dead_code, reason = "shared with the benchmark of functions")]
mod fleet;
#[path = "cache/load.rs"]
mod load;
#[path = "../tests/harness/process.rs"]
#[allow(dead_code, clippy::panic, reason = "the tests' own; this takes processes, free ports and the waiting")]
mod process;
#[path = "cache/servers.rs"]
mod servers;
#[path = "../tests/harness/tools.rs"]
#[allow(dead_code, clippy::panic, reason = "the tests' own; this takes packages of Debian's")]
mod tools;
#[path = "cache/upstream.rs"]
mod upstream;

use eyot_link::line::Protocol;

use load::{Came, Job, Load};
use servers::{Name, Server};
use upstream::Upstream;

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// A kept answer of so many bytes.
    Hit(usize),
    /// A URL that was never asked for, of 1,024 bytes.
    Miss,
}

impl What {
    fn bytes(self) -> usize {
        match self {
            Self::Hit(bytes) => bytes,
            Self::Miss => 1024,
        }
    }

    fn words(self) -> String {
        match self {
            Self::Hit(bytes) => format!("hit, {} KiB", bytes / 1024),
            Self::Miss => "miss, 1 KiB".to_owned(),
        }
    }
}

/// What is measured at once.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    what: What,
    protocol: Protocol,
    requests: usize,
}

const fn row(what: What, protocol: Protocol, requests: usize) -> Row {
    Row { what, protocol, requests }
}

const ROWS: [Row; 10] = [
    row(What::Hit(1 << 10), Protocol::H2, 40_000),
    row(What::Hit(1 << 10), Protocol::H3, 20_000),
    row(What::Hit(1 << 10), Protocol::H1, 40_000),
    row(What::Hit(64 << 10), Protocol::H2, 10_000),
    row(What::Hit(64 << 10), Protocol::H3, 4_000),
    row(What::Hit(64 << 10), Protocol::H1, 10_000),
    row(What::Hit(1 << 20), Protocol::H2, 1_000),
    row(What::Hit(1 << 20), Protocol::H3, 400),
    row(What::Hit(1 << 20), Protocol::H1, 1_000),
    row(What::Miss, Protocol::H2, 10_000),
];

/// Connections, and requests at once on each.
const CONNECTIONS: usize = 8;
const STREAMS: usize = 16;
/// Rounds of which the least counts.
const ROUNDS: usize = 3;

impl Row {
    fn words(self) -> String {
        format!("{} | {}", self.protocol.alpn(), self.what.words())
    }
}

/// What one server took in one round of a row.
#[derive(Clone, Copy)]
struct Figures {
    /// Microseconds of CPU a request.
    cpu_us: f64,
    came: Came,
}

fn measure(load: &Load, server: &Server, row: Row, round: usize) -> Figures {
    let before_us = server.cpu_us();
    let path = match row.what {
        What::Hit(bytes) => format!("/kept/{bytes}"),
        What::Miss => format!("/kept/{}/{}/{round}", row.what.bytes(), server.name.word()),
    };
    let unique = row.what == What::Miss;
    let (connections, streams) = match (unique, row.protocol) {
        // h2load begins its list anew on each connection.
        (true, _) => (1, CONNECTIONS * STREAMS),
        (false, Protocol::H1) => (CONNECTIONS, 1),
        (false, _) => (CONNECTIONS, STREAMS),
    };
    let (protocol, port, bytes) = (row.protocol, server.port, row.what.bytes());
    let job = Job { protocol, port, path: &path, unique, bytes, requests: row.requests, connections, streams };
    let came = load.run(&job);
    Figures { cpu_us: (server.cpu_us() - before_us) / row.requests as f64, came }
}

fn least(rounds: &[Figures]) -> Option<Figures> {
    rounds.iter().copied().min_by(|one, other| one.cpu_us.total_cmp(&other.cpu_us))
}

fn print(servers: &[Server], measured: &[(Row, Vec<Vec<Figures>>)]) {
    println!(
        "| protocol | answer | server | CPU us a request | CPU s a GB | eyot/it | requests a second | p50 ms | p99 ms |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (row, rounds) in measured {
        let ours = least(&rounds[0]);
        for (server, rounds) in servers.iter().zip(rounds) {
            let Some(Figures { cpu_us, came }) = least(rounds) else { continue };
            let gigabyte = cpu_us / 1e6 / (row.what.bytes() as f64 / 1e9);
            let ratio = ours
                .filter(|_| server.name != Name::Eyot)
                .map_or("-".to_owned(), |ours| format!("**{:.2}**", ours.cpu_us / cpu_us));
            let ms = |us: Option<f64>| us.map_or("-".to_owned(), |us| format!("{:.1}", us / 1e3));
            let rate = row.requests as f64 / came.took.as_secs_f64();
            println!(
                "| {} | {} | {cpu_us:.1} | {gigabyte:.2} | {ratio} | {rate:.0} | {} | {} |",
                row.words(),
                server.name.word(),
                ms(came.p50_us),
                ms(came.p99_us)
            );
        }
    }
}

fn main() {
    // cargo adds `--bench`.
    let mut words: Vec<_> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let whole = words.len();
    words.retain(|word| word != "quick");
    let quick = words.len() < whole;
    let rows = ROWS.into_iter().filter(|row| words.iter().all(|word| row.words().contains(word.as_str())));
    let rows: Vec<_> =
        rows.map(|row| Row { requests: if quick { row.requests / 4 } else { row.requests }, ..row }).collect();
    let upstream = Upstream::start();
    let fleet = servers::fleet(upstream.address);
    let load = Load::new(fleet.ca());
    let servers = servers::all(&fleet, upstream.address);
    for server in &servers {
        // The node has to pull its app; and what is to be a hit is asked for once.
        for bytes in [1 << 10, 64 << 10, 1 << 20] {
            load.wait(server.port, &format!("/kept/{bytes}"), bytes);
        }
    }
    let mut measured: Vec<_> = rows.iter().map(|row| (*row, vec![Vec::new(); servers.len()])).collect();
    for round in 0..if quick { 1 } else { ROUNDS } {
        for (row, measured) in &mut measured {
            for (server, measured) in servers.iter().zip(measured) {
                if server.speaks(row.protocol) {
                    server.empty_log();
                    let before = upstream.asked();
                    measured.push(measure(&load, server, *row, round));
                    let asked = upstream.asked() - before;
                    let right = match row.what {
                        What::Hit(_) => asked == 0,
                        What::Miss => asked >= row.requests as u64,
                    };
                    assert!(right, "{}, {}: the upstream was asked {asked} times", server.name.word(), row.words());
                }
            }
        }
    }
    let average = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!(
        "{CONNECTIONS} connections, {STREAMS} requests at once on each (HTTP/1.1: one; misses: all on one connection); of {} rounds the one of least CPU. Load from {}; load \
         average at the end {}\n",
        if quick { 1 } else { ROUNDS },
        load.name(),
        average.trim()
    );
    print(&servers, &measured);
    println!("\naccess lines that eyot dropped: {}", fleet.lines_dropped());
}
