//! `eyot upgrade`: asks the node of this machine to hand over to a new process, shows how far it is, and waits.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::out::Out;

/// How often the node is asked how far it is.
const EVERY: Duration = Duration::from_millis(100);
/// An answer of more bytes is none.
const BYTES_MAX: u64 = 64 << 10;
/// How long one answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Put a new process in the place of a running node's, without losing a request.
///
/// The node starts the program that its own path names now, hands it sockets and keys, and drains when the new process is
/// ready. If that does not become ready, the old one serves on, and this ends with 1.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  eyot upgrade                                        the node of this machine; its unit's `systemctl reload` does the same
  eyot upgrade --admin /run/eyot/admin.sock --wait 5m")]
pub(crate) struct Args {
    /// The node's admin socket; default: `admin.sock` in $RUNTIME_DIRECTORY, or in /run/eyot.
    #[arg(long, value_name = "SOCKET")]
    admin: Option<PathBuf>,
    /// How long to wait in all, in seconds: for an earlier upgrade to drain, and for this one.
    #[arg(long, default_value_t = 900, value_name = "SECONDS")]
    wait: u64,
}

pub(crate) async fn run(args: Args, out: &Out) -> anyhow::Result<()> {
    let folder = std::env::var("RUNTIME_DIRECTORY").unwrap_or_else(|_| "/run/eyot".to_owned());
    let socket =
        args.admin.unwrap_or_else(|| Path::new(folder.split(':').next().unwrap_or("/run/eyot")).join("admin.sock"));
    let until = Instant::now() + Duration::from_secs(args.wait);
    let progress = out.progress("asking for an upgrade");
    let before = loop {
        match ask(&socket, "POST", "/upgrade")? {
            (200, text) => break state(&text)?.pid,
            (409, why) if why.contains("drains") && Instant::now() < until => progress.now(why.trim()),
            (_, why) => bail!("{}", why.trim()),
        }
        tokio::time::sleep(EVERY).await;
    };
    while Instant::now() < until {
        let now = state(&ask(&socket, "GET", "/status/upgrade")?.1)?;
        if now.pid != before {
            drop(progress);
            out.say(format!("process {} serves, process {before} drains", now.pid));
            out.result(&json!({"process": now.pid, "before": before}));
            return Ok(());
        }
        if let Some(why) = now.why {
            bail!("process {before} serves on: {why}");
        }
        progress.now(match now.step.as_str() {
            "starting" => "the new process starts",
            "preparing" => "the new process compiles what is active",
            "taking" => "the new process takes over",
            _ => "the old process drains",
        });
        tokio::time::sleep(EVERY).await;
    }
    bail!("the upgrade has not ended in {} s; `GET /status/upgrade` of the admin tells how far it is", args.wait)
}

/// How far a process is.
struct State {
    pid: u64,
    step: String,
    why: Option<String>,
}

fn state(text: &str) -> anyhow::Result<State> {
    let value: Value = serde_json::from_str(text).context("the node's answer")?;
    let pid = value["pid"].as_u64().context("the node's answer names no process")?;
    let step = value["state"].as_str().unwrap_or_default().to_owned();
    Ok(State { pid, step, why: value["why"].as_str().map(str::to_owned) })
}

/// Status and body of one request to the admin.
fn ask(socket: &Path, method: &str, path: &str) -> anyhow::Result<(u16, String)> {
    let place = || format!("the node's admin at {}", socket.display());
    let mut stream = UnixStream::connect(socket).with_context(place)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        .with_context(place)?;
    let mut text = String::new();
    stream.take(BYTES_MAX).read_to_string(&mut text).with_context(place)?;
    let (head, body) = text.split_once("\r\n\r\n").with_context(place)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).with_context(place)?;
    Ok((status, body.to_owned()))
}
