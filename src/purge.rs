//! `eyot purge`: takes something out of the caches of all nodes, and shows each node that has done it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::bail;
use eyot_bundle::name::Name;
use eyot_link::client::Client;
use eyot_link::purge::{Kind, Progress, PurgeRequest};
use serde_json::json;

use crate::out::Out;
use crate::releases::Which;

/// How often the origin is asked how far the nodes are.
const EVERY: Duration = Duration::from_millis(200);

/// Take what was kept of an app out of the caches of all nodes.
///
/// Each node says when it has done it. A node that is away does it before it answers from its cache again; it is shown
/// and not waited for. Publishers' keys may do it, and keys that may do nothing else: `eyot app add --purge-key`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  eyot purge --url https://shop.example.com/product/9 --key alice.key
  eyot purge --tag product-9 --tag category-2 --soft --name shop --key cms.key
  eyot purge --all --key alice.key --json
Exit codes: 0 all nodes that are there have done it, 1 one has not within --wait, or it was refused.")]
pub(crate) struct Args {
    /// A URL, with its query; may stand several times.
    #[arg(long = "url", value_name = "URL")]
    urls: Vec<String>,
    /// A surrogate key, as answers name them in `Surrogate-Key` or `Cache-Tag`; may stand several times.
    #[arg(long = "tag", value_name = "SURROGATE-KEY")]
    tags: Vec<String>,
    /// All that is kept of the app.
    #[arg(long, conflicts_with_all = ["urls", "tags"])]
    all: bool,
    /// What is kept may answer while it is fetched anew, and when that fails.
    #[arg(long)]
    soft: bool,
    /// How long to wait for the nodes, in seconds; 0: not at all.
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    wait: u64,
    #[command(flatten)]
    which: Which,
}

impl Args {
    fn requests(&self) -> anyhow::Result<Vec<PurgeRequest>> {
        let request = |kind, value: &str| PurgeRequest { kind, value: value.to_owned(), soft: self.soft };
        let urls = self.urls.iter().map(|url| request(Kind::Url, url));
        let tags = self.tags.iter().map(|tag| request(Kind::Key, tag));
        let all = self.all.then(|| request(Kind::App, ""));
        let requests: Vec<PurgeRequest> = urls.chain(tags).chain(all).collect();
        if requests.is_empty() {
            bail!("say what to purge: `--url URL`, `--tag KEY`, or `--all`");
        }
        for request in &requests {
            request.check().map_err(anyhow::Error::msg)?;
        }
        Ok(requests)
    }
}

pub(crate) async fn run(args: Args, out: &Out) -> anyhow::Result<()> {
    let requests = args.requests()?;
    let (app, reach) = args.which.find()?;
    let client = reach.client()?;
    let began = Instant::now();
    let progress = out.progress(format!("purging {app}"));
    let (mut purge, mut widened) = (0, false);
    for request in &requests {
        let done = client.purge(&app, request).await?;
        (purge, widened) = (purge.max(done.purge), widened || done.widened);
    }
    drop(progress);
    if widened {
        out.warn(format!("{app} purges too often: all that is kept of it was purged"));
    }
    out.say(format!("{app}: purge {purge} is noted"));
    let waited = wait(&client, &app, purge, Duration::from_secs(args.wait), *out).await?;
    let rows: serde_json::Map<_, _> = waited
        .progress
        .nodes
        .iter()
        .map(|(name, node)| {
            let done = waited.done.iter().find(|(done, _)| done == name);
            let ms = done.map(|(_, at)| at.duration_since(began).as_secs_f64() * 1000.0).map(f64::round);
            let state = waited.state(name, node.watching);
            (name.to_string(), json!({"region": node.region, "state": state, "ms": ms}))
        })
        .collect();
    out.result(&json!({"app": app, "purge": purge, "widened": widened, "nodes": rows}));
    let late: Vec<&str> = waited.late().map(Name::as_str).collect();
    if args.wait > 0 && !late.is_empty() {
        bail!("not done after {} s on {}; the nodes go on with it", args.wait, late.join(", "));
    }
    Ok(())
}

/// What came of waiting.
struct Waited {
    /// Who has done it, and when that was seen.
    done: Vec<(Name, Instant)>,
    progress: Progress,
}

impl Waited {
    fn has(&self, name: &Name) -> bool {
        self.done.iter().any(|(done, _)| done == name)
    }

    fn state(&self, name: &Name, watching: bool) -> &'static str {
        match (self.has(name), watching) {
            (true, _) => "done",
            (false, true) => "waiting",
            (false, false) => "away",
        }
    }

    /// Nodes that are there and have not done it.
    fn late(&self) -> impl Iterator<Item = &Name> {
        let watching = self.progress.nodes.iter().filter(|(_, node)| node.watching);
        watching.map(|(name, _)| name).filter(|name| !self.has(name))
    }
}

/// Waits until all nodes that are there have done `purge`, and says each that has.
async fn wait(client: &Client, app: &Name, purge: u64, most: Duration, out: Out) -> anyhow::Result<Waited> {
    let began = Instant::now();
    let spinner = out.progress("asking how far the nodes are");
    let mut waited = Waited { done: Vec::new(), progress: Progress::default() };
    let mut seen = BTreeSet::new();
    loop {
        waited.progress = client.purge_progress(app).await?;
        for (name, node) in &waited.progress.nodes {
            if node.purge >= purge && seen.insert(name.clone()) {
                waited.done.push((name.clone(), Instant::now()));
                spinner.aside(|| out.say(format!("  {name:<20} {:<12} done", node.region)));
            }
        }
        let late = waited.late().count();
        if late == 0 || began.elapsed() >= most {
            break;
        }
        spinner.now(format!("{} done, {late} to come", waited.done.len()));
        tokio::time::sleep(EVERY).await;
    }
    drop(spinner);
    for (name, node) in waited.progress.nodes.iter().filter(|(name, _)| !waited.has(name)) {
        let why = if node.watching { "not yet" } else { "away: it does it before it answers from its cache again" };
        out.say(format!("  {name:<20} {:<12} {why}", node.region));
    }
    Ok(waited)
}
