//! `eyot test`: asks an app what its `tests.toml` says, on a node of this machine, and looks whether that comes back.

mod ask;
mod table;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use eyot_bundle::name::Name;
use serde_json::{Value, json};

use crate::lines;
use crate::local::home;
use crate::local::secrets::Values;
use crate::local::{Engines, Local, Port, Settings, Up};
use crate::out::{Out, Progress};
use crate::project::{Component, Place, Project};
use crate::serve::configuration;
use ask::{Asker, Passage};
use table::Case;

/// Ask an app what its tests.toml says, and see whether that comes back.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  eyot test
  eyot test --app shop/ --filter cart
  eyot test --json                      one JSON object a test, and one at the end

Exit codes: 0 all passed, 1 some failed, 64 the table or the manifest is bad.")]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    /// The table; default: tests.toml in the app's folder.
    #[arg(long, value_name = "FILE")]
    tests: Option<PathBuf>,
    /// Only the tests whose name contains this.
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
    /// Do not run the build steps; test what is there.
    #[arg(long)]
    no_build: bool,
    #[command(flatten)]
    engines: Engines,
    #[command(flatten)]
    values: Values,
}

pub(crate) async fn run(args: Args, out: &Out) -> anyhow::Result<ExitCode> {
    let project = Project { keeps_names: true, ..args.place.open()? };
    let cases = cases(&args, &project)?;
    let components = project.build(args.no_build, *out).await?;
    let folder = tempfile::Builder::new().prefix("eyot-test-").tempdir().context("a folder for the test")?;
    let shared = home::shared(&project.folder)?;
    let settings = Settings {
        folder: folder.path(),
        node: folder.path().join("node"),
        cache: shared.join("cache"),
        compile_key: shared.join("compile.key"),
        port: Port::Any,
        names: cases.iter().map(|case| case.request.host.trim_matches(['[', ']']).to_owned()).collect(),
        engines: args.engines,
        secrets: args.values.file(&project.folder)?,
    };
    let progress = out.progress("starting a node");
    let Up { local, mut tasks, lines } = Local::start(settings, &project, *out).await?;
    let mut asker = Asker::new(&local, lines);
    let tested = tokio::select! {
        tested = test(&local, (&project, components), &cases, (&mut asker, &progress, *out)) => tested,
        broken = tasks.broken() => Err(broken),
    };
    tasks.close().await;
    let failed = tested?;
    let passed = cases.len() - failed;
    out.say(format!("{passed} passed, {failed} failed"));
    out.result(&json!({"event": "done", "passed": passed, "failed": failed}));
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The tests of the table that are wanted.
fn cases(args: &Args, project: &Project) -> anyhow::Result<Vec<Case>> {
    let file = args.tests.clone().unwrap_or_else(|| project.folder.join("tests.toml"));
    let (name, source) = configuration(&file)?;
    let mut cases = table::parse(&name, &source)?;
    cases.retain(|case| case.name.contains(&args.filter));
    if cases.is_empty() {
        bail!("no test of {name} has `{}` in its name", args.filter);
    }
    Ok(cases)
}

/// Publishes, and asks one after the other. How many failed.
async fn test(
    local: &Local,
    (project, components): (&Project, BTreeMap<Name, Component>),
    cases: &[Case],
    (asker, progress, out): (&mut Asker, &Progress, Out),
) -> anyhow::Result<usize> {
    progress.now("publishing to it");
    let published = local.publish(project, components, out).await?.published;
    progress.now("waiting until it answers");
    asker.until_active(published.number).await?;
    let mut failed = 0;
    for case in cases {
        progress.now(case.name.clone());
        let passage = masked(asker.ask(case).await, local);
        failed += usize::from(!passage.problems.is_empty());
        progress.aside(|| say(case, &passage, out));
    }
    Ok(failed)
}

/// Without the secrets of the app: who sees the test fail may see what it says, and not with what it was made.
fn masked(passage: Passage, local: &Local) -> Passage {
    let secrets = local.secrets();
    Passage {
        problems: passage.problems.iter().map(|problem| secrets.masked(problem)).collect(),
        told: passage.told.into_iter().map(|line| secrets.masked_line(line)).collect(),
        ..passage
    }
}

fn say(case: &Case, passage: &Passage, out: Out) {
    let name = lines::safe(&case.name);
    let cost = passage.request.as_ref().map(|request| {
        let cpu = request.cpu_us_max.map(|_| format!(", cpu {}", lines::time(request.cpu_us)));
        format!("  ({}{})", lines::time(request.wall_us), cpu.unwrap_or_default())
    });
    let word = if passage.problems.is_empty() { "ok    " } else { "FAILED" };
    out.say(format!("{word} {name}{}", cost.unwrap_or_default()));
    if !passage.problems.is_empty() {
        for problem in &passage.problems {
            out.say(format!("    {}", lines::safe(problem)));
        }
        for line in
            passage.told.iter().flat_map(|line| lines::text(line).lines().map(str::to_owned).collect::<Vec<_>>())
        {
            out.say(format!("  {line}"));
        }
    }
    let of = |value: fn(&eyot_link::tail::Request) -> Value| passage.request.as_ref().map_or(Value::Null, value);
    out.result(&json!({
        "event": "test", "name": case.name, "passed": passage.problems.is_empty(), "problems": passage.problems,
        "status": of(|request| request.status.into()), "fault": of(|request| json!(request.fault)),
        "wall_us": of(|request| request.wall_us.into()), "cpu_us": of(|request| request.cpu_us.into()),
        "memory_bytes": of(|request| request.memory_bytes.into()),
        "subrequests": of(|request| request.subrequests.into()), "told": passage.told,
    }));
}
