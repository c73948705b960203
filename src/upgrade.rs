//! `eyot upgrade`: asks the node of this machine to hand over to a new process, shows how far it is, and waits.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::admin::Admin;
use crate::out::Out;

/// How often the node is asked how far it is.
const EVERY: Duration = Duration::from_millis(100);

/// Put a new process in the place of a running node's, without losing a request.
///
/// The node starts the program that its own path names now, hands it sockets and keys, and drains when the new process is
/// ready. If that does not become ready, the old one serves on, and this ends with 1.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  eyot upgrade                                        the node of this machine; its unit's `systemctl reload` does the same
  eyot upgrade --admin /run/eyot/admin.sock --wait 5m")]
pub(crate) struct Args {
    #[command(flatten)]
    admin: Admin,
    /// How long to wait in all, in seconds: for an earlier upgrade to drain, and for this one.
    #[arg(long, default_value_t = 900, value_name = "SECONDS")]
    wait: u64,
}

pub(crate) async fn run(args: Args, out: &Out) -> anyhow::Result<()> {
    let until = Instant::now() + Duration::from_secs(args.wait);
    let progress = out.progress("asking for an upgrade");
    let before = loop {
        match args.admin.ask("POST", "/upgrade")? {
            (200, text) => break state(&text)?.pid,
            (409, why) if why.contains("drains") && Instant::now() < until => progress.now(why.trim()),
            (_, why) => bail!("{}", why.trim()),
        }
        tokio::time::sleep(EVERY).await;
    };
    while Instant::now() < until {
        let now = state(&args.admin.ask("GET", "/status/upgrade")?.1)?;
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
