//! Building and publishing, one after the other: what changes meanwhile is built next.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eyot_bundle::name::Name;

use crate::local::Local;
use crate::out::Out;
use crate::project::Project;

/// What runs, and what is to be done next.
pub(super) struct Work {
    running: Option<Running>,
    /// The functions that the last build was of; they are built again when it failed.
    building: BTreeSet<Name>,
    /// The functions to build next.
    waiting: BTreeSet<Name>,
    /// Whether to publish next, whatever is built.
    is_wanted: bool,
    /// Whether the app's hosts have changed since they were last granted.
    hosts: bool,
    out: Out,
}

type Running = Pin<Box<dyn Future<Output = Done> + Send>>;

/// How it ended.
pub(super) struct Done {
    /// The build, if it was a good one.
    pub(super) built: Option<Built>,
    /// The release's number; or what failed, and why.
    pub(super) published: Result<u64, (&'static str, anyhow::Error)>,
    hosts: bool,
}

/// A build.
pub(super) struct Built {
    /// What was built.
    pub(super) functions: BTreeSet<Name>,
    /// How long it took.
    pub(super) took: Duration,
    /// When it had ended.
    pub(super) at: Instant,
}

impl Work {
    pub(super) fn new(out: Out) -> Self {
        let (building, waiting) = (BTreeSet::new(), BTreeSet::new());
        Self { running: None, building, waiting, is_wanted: false, hosts: false, out }
    }

    /// These functions are to be built, and then the app published; where `hosts` have changed, granted before.
    pub(super) fn wanted(
        &mut self,
        functions: BTreeSet<Name>,
        project: &Arc<Project>,
        local: &Arc<Local>,
        hosts: bool,
    ) {
        self.waiting.extend(functions);
        self.is_wanted = true;
        self.hosts |= hosts;
        self.next(project, local);
    }

    /// Begins what waits, unless something runs.
    pub(super) fn next(&mut self, project: &Arc<Project>, local: &Arc<Local>) {
        if self.running.is_some() || !std::mem::take(&mut self.is_wanted) {
            return;
        }
        self.building = std::mem::take(&mut self.waiting);
        let hosts = std::mem::take(&mut self.hosts);
        let (project, local) = (Arc::clone(project), Arc::clone(local));
        self.running = Some(Box::pin(work(project, local, self.building.clone(), hosts, self.out)));
    }

    /// Waits until what runs has ended; for ever where nothing does. Safe to drop and call again.
    pub(super) async fn done(&mut self) -> Done {
        let Some(running) = &mut self.running else { return std::future::pending().await };
        let done = running.await;
        self.running = None;
        if done.published.is_err() {
            // They are built again with what changes next.
            self.waiting.append(&mut self.building);
            self.hosts |= done.hosts;
        }
        done
    }
}

async fn work(project: Arc<Project>, local: Arc<Local>, functions: BTreeSet<Name>, hosts: bool, out: Out) -> Done {
    let began = Instant::now();
    let components = match project.build_only(&functions, out).await {
        Ok(components) => components,
        Err(error) => return Done { built: None, published: Err(("build", error)), hosts },
    };
    let built = Built { functions, took: began.elapsed(), at: Instant::now() };
    let published = async {
        if hosts {
            local.regrant(&project, out).await?;
        }
        Ok(local.publish(&project, components, out).await?.published.number)
    };
    let published = published.await.map_err(|error: anyhow::Error| ("publish", error));
    Done { built: Some(built), published, hosts }
}
