//! `eyot build`: builds an app's functions and says what a release would hold. Nothing is signed or sent.

use serde_json::{Map, json};

use crate::out::Out;
use crate::project::Place;

/// Build the functions of an app and look at what came out.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  eyot build --app shop/")]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    /// Do not run the build steps; look at what is there.
    #[arg(long)]
    no_build: bool,
}

pub(crate) async fn run(args: &Args, out: &Out) -> anyhow::Result<()> {
    let project = args.place.open()?;
    let components = project.build(args.no_build, *out).await?;
    project.pems()?;
    let mut rows = Map::new();
    for (name, component) in &components {
        let built = &component.built;
        out.say(format!("{name}  {} bytes  {}", built.size, built.sha256));
        let row = json!({
            "sha256": built.sha256, "size": built.size, "world": built.facts.world, "imports": built.facts.imports,
        });
        rows.insert(name.to_string(), row);
    }
    out.result(&json!({"app": project.manifest.app, "functions": rows}));
    Ok(())
}
