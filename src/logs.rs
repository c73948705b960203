//! `eyot logs`: follows what is told of an app on all nodes, through the origin.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use eyot_bundle::name::Name;
use eyot_link::client::Client;
use eyot_link::error::Error;
use tokio::signal::unix::{SignalKind, signal};

use crate::lines;
use crate::out::Out;
use crate::project::Place;
use crate::reach::Reach;

/// How often a stream that broke is asked for again, and the pause before that.
const TRIES_MAX: u32 = 10;
const PAUSE: Duration = Duration::from_secs(1);

/// Follow an app's requests, faults and what its functions say, on all nodes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  eyot logs -f --key alice.key              the app of this folder; origin and CA from eyot.toml
  eyot logs -f shop --origin https://origin.example.net:7443 --ca fleet-ca.pem --key alice.key
  eyot logs -f --json --key alice.key       one JSON object a line

Nothing is kept of it anywhere: it begins now and ends with Ctrl-C.")]
pub(crate) struct Args {
    /// The app; default: that of eyot.toml.
    name: Option<Name>,
    /// Follow what happens from now on. There is no other way yet: nothing of it is kept.
    #[arg(short, long, required = true)]
    follow: bool,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    reach: Reach,
}

pub(crate) async fn run(args: Args, out: &Out) -> anyhow::Result<ExitCode> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (app, reach) = match &args.name {
        // With all that is needed typed there may be no manifest here.
        Some(app) if args.reach.origin.is_some() && args.reach.ca.is_some() => (app.clone(), args.reach.clone()),
        app => {
            let project = args.place.open()?;
            (app.clone().unwrap_or_else(|| project.manifest.app.clone()), project.reach(&args.reach))
        }
    };
    let client = reach.client()?;
    tokio::select! {
        ended = follow(&client, &app, *out) => match ended? {},
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(ExitCode::SUCCESS)
}

enum Never {}

/// Follows until it fails. A stream that ends or breaks is asked for again.
async fn follow(client: &Client, app: &Name, out: Out) -> anyhow::Result<Never> {
    let mut failures = 0;
    loop {
        let mut stream = match client.follow(app).await {
            Ok(stream) => stream,
            Err(error) if failures == 0 || matches!(error, Error::Refused { .. }) => return Err(error.into()),
            Err(error) if failures > TRIES_MAX => return Err(error.into()),
            Err(_) => {
                failures += 1;
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        out.note(format!("following {app}"));
        out.result(&serde_json::json!({"event": "following", "app": app}));
        loop {
            match stream.next().await {
                Ok(Some(told)) => {
                    failures = 0;
                    lines::show(&told, out);
                }
                // An hour is over: it is asked for again.
                Ok(None) => break,
                Err(error) => {
                    out.note(format!("the stream broke: {error}"));
                    break;
                }
            }
        }
        failures += 1;
        if failures > TRIES_MAX {
            bail!("the stream of {app} ends again and again");
        }
        tokio::time::sleep(PAUSE).await;
    }
}
