//! Where requests come from: h2load over all three protocols when `H2LOAD` names one that speaks HTTP/3; else Debian's
//! over HTTP/2 and HTTP/1.1, and our own client over HTTP/3.

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
    /// The body that every answer must have.
    pub(crate) body: &'a Bytes,
    pub(crate) requests: usize,
    pub(crate) connections: usize,
    /// Requests at once on each connection.
    pub(crate) streams: usize,
}

/// A source of requests.
pub(crate) struct Load {
    /// The CA of all servers, in PEM.
    ca: Vec<u8>,
    /// The program that `H2LOAD` names.
    given: Option<String>,
    runtime: Runtime,
}

impl Load {
    /// As the environment says. `ca` is the CA of all servers, in PEM.
    pub(crate) fn new(ca: Vec<u8>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let given = std::env::var("H2LOAD").ok().filter(|path| !path.is_empty());
        Self { ca, given, runtime: runtime.expect("a runtime") }
    }

    /// What it is, for the table's head.
    pub(crate) fn name(&self) -> String {
        let Some(given) = &self.given else {
            return "Debian's h2load over HTTP/2 and HTTP/1.1; over HTTP/3 our own client, which is what limits the rate \
                    there (H2LOAD names no h2load with HTTP/3)"
                .to_owned();
        };
        let version = Command::new(given).arg("--version").output().expect("the program of H2LOAD");
        String::from_utf8_lossy(&version.stdout).trim().to_owned()
    }

    /// Waits until a server answers as it should.
    pub(crate) fn wait(&self, port: u16, path: &str, body: &Bytes) {
        let target = Target::of(port, self.ca.clone());
        until("a server answers", || {
            let answered = self.runtime.block_on(async {
                let mut line = target.connect(Protocol::H2).await?;
                client::ask(&mut line, &target.uri(path), body).await
            });
            answered.ok().filter(|&good| good)
        });
    }

    /// Does the job; how long it took. Every answer must be good.
    pub(crate) fn run(&self, job: &Job) -> Duration {
        let command = match (&self.given, job.protocol) {
            (Some(given), _) => Command::new(given),
            (None, Protocol::H3) => return self.own(job),
            (None, _) => Tree::of("nghttp2-client").command("usr/bin/h2load"),
        };
        h2load(command, job)
    }

    fn own(&self, job: &Job) -> Duration {
        let target = Target::of(job.port, self.ca.clone());
        let uri = target.uri(job.path);
        self.runtime.block_on(async {
            let began = Instant::now();
            let lines = target.streams(job.protocol, job.connections, job.connections * job.streams).await;
            let driving = client::drive(lines, &uri, job.body, job.requests);
            tokio::time::timeout(WAIT, driving).await.expect("a measurement in time");
            began.elapsed()
        })
    }
}

fn h2load(mut command: Command, job: &Job) -> Duration {
    let Job { protocol, port, path, body, requests, connections, streams } = job;
    // HTTP/2 is what it begins with; Debian's knows no longer words for the others.
    let forced: &[&str] = match protocol {
        Protocol::H1 => &["--h1"],
        Protocol::H2 => &[],
        Protocol::H3 => &["--h3"],
    };
    command.args(forced).arg(format!("--connect-to=127.0.0.1:{port}"));
    command.args([format!("-n{requests}"), format!("-c{connections}"), format!("-m{streams}")]);
    let began = Instant::now();
    let output = command.arg(format!("https://localhost:{port}{path}")).output().expect("h2load");
    let took = began.elapsed();
    let told = String::from_utf8_lossy(&output.stdout);
    let bytes = requests * body.len();
    let good = [
        format!("Application protocol: {}\n", protocol.alpn()),
        format!(" {requests} succeeded, 0 failed"),
        format!(" {requests} 2xx"),
        format!(" ({bytes}) data"),
    ];
    for good in good {
        assert!(
            told.contains(&good),
            "h2load does not say `{good}`: {told}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    took
}
