//! Where requests come from: h2load over HTTP/2 and HTTP/1.1, Debian's or the one that `H2LOAD` names; over HTTP/3 that one if
//! it speaks it, else our own client.

use std::fmt::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use eyot_link::line::Protocol;
use tokio::runtime::Runtime;

use super::client::{self, Target};
use super::process::until;
use super::tools::Tree;

/// A measurement that takes longer has failed.
const WAIT: Duration = Duration::from_secs(600);

/// What to ask of one server.
pub(crate) struct Job<'a> {
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
    /// The path, which begins with `/`.
    pub(crate) path: &'a str,
    /// Whether each request is for a URL of its own below the path.
    pub(crate) unique: bool,
    /// The length of every answer.
    pub(crate) bytes: usize,
    pub(crate) requests: usize,
    pub(crate) connections: usize,
    /// Requests at once on each connection.
    pub(crate) streams: usize,
}

/// How it went.
#[derive(Clone, Copy)]
pub(crate) struct Came {
    pub(crate) took: Duration,
    /// From a request to its answer's end, in microseconds; none where it does not say.
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
}

impl Came {
    fn of(took: Duration, mut times_us: Vec<f64>) -> Self {
        times_us.sort_by(f64::total_cmp);
        let last = times_us.len().saturating_sub(1);
        let at = |part: usize| times_us.get((times_us.len() * part / 100).min(last)).copied();
        Self { took, p50_us: at(50), p99_us: at(99) }
    }
}

/// A source of requests.
pub(crate) struct Load {
    /// The CA of all servers, in PEM.
    ca: Vec<u8>,
    given: Option<String>,
    runtime: Runtime,
    folder: tempfile::TempDir,
}

impl Load {
    pub(crate) fn new(ca: Vec<u8>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let given = std::env::var("H2LOAD").ok().filter(|path| !path.is_empty());
        Self { ca, given, runtime: runtime.expect("a runtime"), folder: tempfile::tempdir().expect("a folder") }
    }

    /// What it is.
    pub(crate) fn name(&self) -> &str {
        self.given.as_deref().unwrap_or("Debian's h2load, over HTTP/3 our own client")
    }

    /// Waits until a server answers as it should.
    pub(crate) fn wait(&self, port: u16, path: &str, bytes: usize) {
        let (target, body) = (Target::of(port, self.ca.clone()), Bytes::from(vec![b'e'; bytes]));
        until("a server answers", || {
            let answered = self.runtime.block_on(async {
                let mut line = target.connect(Protocol::H2).await?;
                client::ask(&mut line, &target.uri(path), &body).await
            });
            answered.ok().filter(|&good| good)
        });
    }

    /// Does the job. Every answer must be good.
    pub(crate) fn run(&self, job: &Job<'_>) -> Came {
        match (&self.given, job.protocol) {
            (Some(given), _) => self.h2load(Command::new(given), job),
            (None, Protocol::H3) => self.own(job),
            (None, _) => self.h2load(Tree::of("nghttp2-client").command("usr/bin/h2load"), job),
        }
    }

    fn own(&self, job: &Job<'_>) -> Came {
        let (target, body) = (Target::of(job.port, self.ca.clone()), Bytes::from(vec![b'e'; job.bytes]));
        let uri = target.uri(job.path);
        self.runtime.block_on(async {
            let began = Instant::now();
            let lines = target.streams(job.protocol, job.connections, job.connections * job.streams).await;
            let driving = client::drive(lines, &uri, &body, job.requests);
            let (_, times_us) = tokio::time::timeout(WAIT, driving).await.expect("a measurement in time");
            Came::of(began.elapsed(), times_us)
        })
    }

    fn h2load(&self, mut command: Command, job: &Job<'_>) -> Came {
        let Job { protocol, port, path, bytes, requests, connections, streams, unique } = job;
        let forced: &[&str] = match protocol {
            Protocol::H1 => &["--h1"],
            Protocol::H2 => &[],
            Protocol::H3 => &["--h3"],
        };
        let log = self.folder.path().join("times");
        let _ = std::fs::remove_file(&log);
        command.args(forced).arg(format!("--connect-to=127.0.0.1:{port}")).arg(format!("--log-file={}", log.display()));
        command.args([format!("-n{requests}"), format!("-c{connections}"), format!("-m{streams}")]);
        let url = format!("https://localhost:{port}{path}");
        if *unique {
            let list = self.folder.path().join("urls");
            let mut urls = String::new();
            for n in 0..*requests {
                let _ = writeln!(urls, "{url}/{n}");
            }
            std::fs::write(&list, urls).expect("a file of ours");
            command.arg("--input-file").arg(&list);
        } else {
            command.arg(&url);
        }
        let began = Instant::now();
        let output = command.output().expect("h2load");
        let took = began.elapsed();
        let told = String::from_utf8_lossy(&output.stdout);
        for good in [
            format!("Application protocol: {}\n", protocol.alpn()),
            format!(" {requests} succeeded, 0 failed"),
            format!(" {requests} 2xx"),
            format!(" ({}) data", requests * bytes),
        ] {
            assert!(
                told.contains(&good),
                "h2load does not say `{good}`: {told}{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        let times = std::fs::read_to_string(&log).expect("h2load's log");
        // Begin, status, duration in microseconds.
        Came::of(took, times.lines().filter_map(|line| line.split('\t').nth(2)?.parse().ok()).collect())
    }
}
