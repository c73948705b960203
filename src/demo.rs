//! `eyot demo`: an origin and three nodes in three regions on this machine, with an example app built, signed, published
//! and served. All of it lies in one folder that is gone at the end.

mod ask;
mod example;
mod house;
mod ports;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use eyot_bundle::grant::{Ceilings, Grant, GrantState, Share};
use eyot_bundle::sign::{Delegation, Holders};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::app;
use crate::out::Out;
use crate::project::{Place, Project};
use crate::publish::{self, Outcome, Parts};
use house::House;
use ports::Ports;

/// Start an origin and three nodes on this machine, with an example app.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  eyot demo                     runs until Ctrl-C, and says what to try
  eyot demo --app shop/         with an app of your own, for the host `localhost`
  eyot demo --once              asks each node over each protocol, and ends: the smoke test")]
pub(crate) struct Args {
    /// Ask each node once over HTTP/3, HTTP/2 and HTTP/1.1, and end; 0 only if all nine answers are good.
    #[arg(long)]
    once: bool,
    /// The app to publish; default: the examples.
    #[arg(long, value_name = "PATH")]
    app: Option<PathBuf>,
    /// The first node's port; the others have the next ones, the origin one 1000 below. Default: 8443; with --once,
    /// any that are free.
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// What to ask of the app.
    #[arg(long, default_value = "/", value_name = "PATH")]
    path: String,
}

pub(crate) async fn run(args: Args, out: &Out) -> anyhow::Result<ExitCode> {
    let mut end = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let ended = async {
        tokio::select! {
            _ = end.0.recv() => {}
            _ = end.1.recv() => {}
        }
    };
    tokio::pin!(ended);
    let mut house = House::new(choose_ports(&args)?)?;
    let result = tokio::select! {
        result = open(&mut house, &args, *out) => result,
        () = &mut ended => Ok(None),
    };
    let code = match result {
        Ok(Some(good)) if args.once => {
            if good {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Ok(Some(_)) => {
            tokio::select! {
                () = &mut ended => {}
                broken = house.broken() => return house.close().await.and(Err(broken)),
            }
            ExitCode::SUCCESS
        }
        Ok(None) => ExitCode::FAILURE,
        Err(error) => {
            let _ = house.close().await;
            return Err(error);
        }
    };
    out.note("ending the origin and the nodes");
    house.close().await?;
    Ok(code)
}

fn choose_ports(args: &Args) -> anyhow::Result<Ports> {
    match args.port {
        None if args.once => Ports::any(),
        port => Ports::from(port.unwrap_or(8443)),
    }
}

/// Brings all of it up. With `--once`: whether all nine answers were good.
async fn open(house: &mut House, args: &Args, out: Out) -> anyhow::Result<Option<bool>> {
    let project = open_app(house, args)?;
    let parts = Parts::of(&project, false, out).await?;
    let publisher = {
        let progress = out.progress("making keys and certificates");
        house.make_keys(out)?;
        progress.now("starting the origin");
        house.start_origin().await?;
        house.ring().key("publisher")?
    };
    let delegation = Delegation::app(&project.manifest.app, Holders::one(publisher.public()), grant(&project));
    app::sign(house.ring(), delegation, &house.reach(), out).await?;
    {
        let _progress = out.progress("starting three nodes");
        house.start_nodes().await?;
    }
    let client = house.reach().client_as(house.ring().key("publisher")?)?;
    let root = house.ring().path("root.json");
    let outcome = publish::publish(&project, &parts, &client, &publisher, Some(&root), out).await?;
    let Outcome { app, published, .. } = &outcome;
    let release = format!("{app}/{}", published.number);
    {
        let _progress = out.progress(format!("waiting until three nodes answer with {release}"));
        house.wait_for(&args.path, &release).await?;
    }
    if args.once {
        return Ok(Some(ask::nine(house, &args.path, &release, out).await?));
    }
    tell(house, &project, &release, args, out);
    Ok(Some(true))
}

fn open_app(house: &House, args: &Args) -> anyhow::Result<Project> {
    let folder = match &args.app {
        Some(folder) => folder.clone(),
        None => example::find(&house.folder().join("app"))?,
    };
    Place { app: folder }.open().context("the demo's app")
}

/// All the hosts that the app asks for: on this machine nobody else wants them.
fn grant(project: &Project) -> Grant {
    Grant {
        state: GrantState::Active,
        hosts: project.manifest.hosts.clone(),
        limits: Ceilings::default(),
        share: Share::default(),
        egress_private: Vec::new(),
        stores: eyot_bundle::grant::own_engine(),
        placement: "*".to_owned(),
        keys: Default::default(),
    }
}

fn tell(house: &House, project: &Project, release: &str, args: &Args, out: Out) {
    let ca = house.ring().path("fleet-ca.pem");
    let (ca, keys) = (ca.display(), house.ring().folder().display());
    out.say(format!("{release} answers in three regions:"));
    for node in house.nodes() {
        out.say(format!("  {:<8} https://localhost:{}{}", node.region, node.port, args.path));
    }
    let Some(first) = house.nodes().first() else { return };
    let url = format!("https://localhost:{}{}", first.port, args.path);
    let origin = house.reach().origin.unwrap_or_default();
    out.say("\ntry:");
    out.say(format!("  eyot get --http3 --cacert {ca} {url}"));
    out.say(format!("  curl --http2 -i --cacert {ca} {url}"));
    out.say(format!("  curl -s http://127.0.0.1:{}/metrics", first.admin));
    out.say("\nchange a function, then publish it again; no request fails meanwhile:");
    out.say(format!("  the functions are in {}", project.folder.display()));
    out.say(format!(
        "  eyot publish --app {} --origin {origin} --ca {ca} --key {keys}/publisher.key --root {keys}/root.json",
        project.folder.display()
    ));
    out.say(format!(
        "  eyot rollback --name {} --origin {origin} --ca {ca} --key {keys}/publisher.key",
        project.manifest.app
    ));
    out.say(format!(
        "\nlogs: {}   Ctrl-C ends it all and removes {}",
        house.logs().display(),
        house.folder().display()
    ));
    let row = |node: &house::NodeAt| {
        let url = format!("https://localhost:{}{}", node.port, args.path);
        json!({"id": node.id, "region": node.region, "url": url, "admin": format!("http://127.0.0.1:{}", node.admin)})
    };
    let nodes: Vec<_> = house.nodes().iter().map(row).collect();
    let ca = house.ring().path("fleet-ca.pem");
    out.result(&json!({"release": release, "nodes": nodes, "origin": origin, "ca": ca, "keys": house.ring().folder()}));
}
