//! `eyot node`: runs a node until it is told to end, or checks its configuration.

use std::path::PathBuf;

use clap::Subcommand;
use eyot_node::config::Config;
use serde_json::json;

use crate::out::Out;
use crate::serve::configuration;

/// Run a node, or check its configuration.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = false,
    after_help = "Examples:
  eyot node --config /etc/eyot/node.toml
  eyot node check --config node.toml        names everything that is wrong, and ends with 64

SIGTERM and SIGINT let requests in flight end; SIGHUP reads the certificates again."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Its configuration.
    #[arg(long, global = true, default_value = "/etc/eyot/node.toml", value_name = "FILE")]
    config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Read the configuration and end.
    Check,
}

pub(crate) fn run(args: &Args, out: Out) -> anyhow::Result<()> {
    let (name, source) = configuration(&args.config)?;
    let config = Config::parse(&name, &source)?;
    match args.verb {
        None => Ok(eyot_node::service::serve(config)?),
        Some(Verb::Check) => {
            out.say(format!("{name} is good: node {} in {}", config.node.id, config.node.region));
            out.result(&json!({"config": name, "node": config.node.id, "region": config.node.region}));
            Ok(())
        }
    }
}
