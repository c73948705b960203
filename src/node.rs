//! `eyot node`: runs a node until it is told to end, checks its configuration, or asks one that runs.

mod certs;

use std::path::PathBuf;

use clap::Subcommand;
use eyot_node::config::Config;
use serde_json::json;

use crate::out::Out;
use crate::serve::configuration;

/// Run a node, check its configuration, or ask one that runs.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = false,
    after_help = "Examples:
  eyot node --config /etc/eyot/node.toml
  eyot node check --config node.toml        names everything that is wrong, and ends with 64
  eyot node identity                        what secrets are sealed to; as the user that owns its state
  eyot node certs                           what the node of this machine serves, and until when

SIGTERM and SIGINT let requests in flight end; SIGHUP reads certificates, keys of tickets and authorities again."
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
    /// Show the certificates that a running node of this machine serves.
    Certs {
        /// The socket of its admin.
        #[arg(long, default_value = "/run/eyot/admin.sock", value_name = "FILE")]
        admin: PathBuf,
    },
    /// Read the configuration and end.
    Check,
    /// Show the public half of this node's identity, which secrets are sealed to; it is made if there is none yet.
    Identity,
}

pub(crate) fn run(args: &Args, out: Out) -> anyhow::Result<()> {
    if let Some(Verb::Certs { admin }) = &args.verb {
        return certs::run(admin, out);
    }
    let (name, source) = configuration(&args.config)?;
    let config = Config::parse(&name, &source)?;
    match &args.verb {
        None => Ok(eyot_node::service::serve(config)?),
        Some(Verb::Identity) => {
            let recipient = eyot_node::secrets::recipient(&config)?;
            out.say(recipient.to_string());
            out.note(format!("for the operator: eyot fleet set-identity {} {recipient}", config.node.id));
            out.result(&json!({"node": config.node.id, "identity": recipient}));
            Ok(())
        }
        Some(Verb::Check | Verb::Certs { .. }) => {
            out.say(format!("{name} is good: node {} in {}", config.node.id, config.node.region));
            out.result(&json!({"config": name, "node": config.node.id, "region": config.node.region}));
            Ok(())
        }
    }
}
