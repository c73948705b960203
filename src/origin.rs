//! `eyot origin`: runs an origin until it is told to end, or checks its configuration.

use std::path::PathBuf;

use clap::Subcommand;
use eyot_node::config::Level;
use eyot_origin::config::Config;
use sd_notify::NotifyState;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::out::Out;
use crate::serve::configuration;

/// Run an origin, or check its configuration.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  eyot origin --config /etc/eyot/origin.toml
  eyot origin check --config origin.toml    names everything that is wrong, and ends with 64")]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Its configuration.
    #[arg(long, global = true, default_value = "/etc/eyot/origin.toml", value_name = "FILE")]
    config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Read the configuration and end.
    Check,
}

pub(crate) async fn run(args: Args, out: &Out) -> anyhow::Result<()> {
    let (name, source) = configuration(&args.config)?;
    let config = Config::parse(&name, &source)?;
    if let Some(Verb::Check) = args.verb {
        out.say(format!("{name} is good: the origin of {}", config.fleet));
        out.result(&json!({"config": name, "fleet": config.fleet}));
        return Ok(());
    }
    let _log = eyot_node::log::start(Level::Info)?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tell(NotifyState::Stopping);
    };
    tokio::spawn(watchdog());
    Ok(eyot_origin::run(config, |_| tell(NotifyState::Ready), shutdown).await?)
}

/// Tells the service manager, if there is one. What it cannot be told does not stop the origin.
fn tell(state: NotifyState<'_>) {
    let _ = sd_notify::notify(&[state]);
}

/// Says twice in each of the service manager's periods that the origin still turns.
async fn watchdog() {
    let Some(period) = sd_notify::watchdog_enabled() else { return };
    let mut ticks = tokio::time::interval((period / 2).max(std::time::Duration::from_millis(1)));
    loop {
        ticks.tick().await;
        tell(NotifyState::Watchdog);
    }
}
