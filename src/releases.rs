//! `eyot releases`: the releases of an app, and where its rollout stands.

use eyot_bundle::name::Name;

use crate::out::Out;
use crate::project::Place;
use crate::reach::Reach;

/// List the releases of an app.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  eyot releases --key alice.key
  eyot releases --name shop --origin https://origin.example.net:7443 --ca fleet-ca.pem --key alice.key")]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) which: Which,
}

/// Which app, and how to reach its origin.
#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    /// The app's name; default: that of eyot.toml.
    #[arg(long)]
    pub(crate) name: Option<Name>,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    reach: Reach,
}

impl Which {
    /// The app, and how to reach its origin. The manifest is read only for what was not typed.
    pub(crate) fn find(&self) -> anyhow::Result<(Name, Reach)> {
        match (&self.name, &self.reach) {
            (Some(name), reach) if reach.origin.is_some() && reach.ca.is_some() => Ok((name.clone(), reach.clone())),
            (name, reach) => {
                let project = self.place.open()?;
                let reach = project.reach(reach);
                Ok((name.clone().unwrap_or(project.manifest.app), reach))
            }
        }
    }
}

pub(crate) async fn run(args: Args, out: &Out) -> anyhow::Result<()> {
    let (app, reach) = args.which.find()?;
    let releases = reach.client()?.releases(&app).await?;
    if releases.releases.is_empty() {
        out.say(format!("{app} has no release; make one with `eyot publish`"));
    }
    for row in &releases.releases {
        out.say(format!("{:<6} {} node(s)  {}", row.number, row.nodes, row.sha256));
    }
    if let Some(rollout) = &releases.rollout {
        let state = serde_json::to_value(rollout.state)?;
        let reason = rollout.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let word = state.as_str().unwrap_or_default();
        out.say(format!("release {} over {}: step {}, {word}{reason}", rollout.release, rollout.base, rollout.step));
    }
    out.result(&serde_json::to_value(&releases)?);
    Ok(())
}
