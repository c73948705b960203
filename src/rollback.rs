//! `eyot rollback`: all nodes go back to a release that the newest one names in `previous`.

use anyhow::{Context as _, bail};
use eyot_link::wire::{Action, Releases, RolloutRequest};
use serde_json::json;

use crate::out::Out;
use crate::releases::Which;

/// Go back to an earlier release of an app.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  eyot rollback --key alice.key              to the release before the newest
  eyot rollback --to 415 --key alice.key")]
pub(crate) struct Args {
    /// The release to go back to; default: the one before the newest.
    #[arg(long, value_name = "NUMBER")]
    to: Option<u64>,
    #[command(flatten)]
    which: Which,
}

pub(crate) async fn run(args: Args, out: &Out) -> anyhow::Result<()> {
    let (app, reach) = args.which.find()?;
    let client = reach.client()?;
    let releases = client.releases(&app).await?;
    let to = match args.to {
        Some(to) if releases.releases.iter().any(|row| row.number == to) => to,
        Some(to) => bail!("release {to} is not among those to go back to; see `eyot releases`"),
        None => before_newest(&releases).with_context(|| format!("{app} has no release before the newest"))?,
    };
    let request = RolloutRequest { action: Action::Rollback, release: Some(to) };
    let seq = client.rollout(&app, &request).await?.seq;
    out.say(format!("{app} goes back to release {to} (state {seq})"));
    out.result(&json!({"app": app, "release": to, "seq": seq}));
    Ok(())
}

fn before_newest(releases: &Releases) -> Option<u64> {
    let mut numbers: Vec<u64> = releases.releases.iter().map(|row| row.number).collect();
    numbers.sort_unstable();
    numbers.pop();
    numbers.pop()
}
