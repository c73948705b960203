//! `eyot dev`: an app on one node of this machine, under the limits of production, built and published anew whenever its
//! sources change. What fails leaves the last good release answering.

mod trust;
mod watch;
mod work;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use eyot_bundle::text::Problems;
use eyot_link::tail::{Line, Told};
use eyot_node::tap::Following;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::lines;
use crate::local::ca::Ca;
use crate::local::home::Home;
use crate::local::secrets::Values;
use crate::local::{Engines, Local, Port, Settings, Up};
use crate::out::Out;
use crate::project::{Place, Project};
use watch::Watch;
use work::{Done, Work};

/// Run an app on this machine, and publish it anew whenever its sources change.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  eyot dev                      the app of this folder, at https://localhost:8443 or the next port that is free
  eyot dev --app shop/ --port 9443
  eyot dev --trust              lets this system and its browsers trust the certificates of `eyot dev`
  eyot dev --json               one JSON object a line: ready, built, activated, request, log, fault, refused, error

Ctrl-C ends it. Stores are kept in .eyot/dev of the app's folder.")]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    /// The port; default: 8443, or the next one that is free.
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Install the local authority where this system and its browsers look for those they trust, and end.
    #[arg(long)]
    trust: bool,
    #[command(flatten)]
    engines: Engines,
    #[command(flatten)]
    values: Values,
}

pub(crate) async fn run(args: Args, out: &Out) -> anyhow::Result<ExitCode> {
    if args.trust {
        return trust::run(&Ca::of_user()?, *out).map(|()| ExitCode::SUCCESS);
    }
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let ended = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    let project = args.place.open()?;
    let home = Home::open(&project.folder)?;
    let secrets = args.values.file(&project.folder)?;
    let port = args.port.map_or(Port::Usual, Port::This);
    let settings = Settings {
        folder: home.folder(),
        node: home.node(),
        cache: home.cache(),
        compile_key: home.folder().join("compile.key"),
        port,
        names: Vec::new(),
        engines: args.engines.clone(),
        secrets: secrets.clone(),
    };
    let Up { local, mut tasks, lines } = Local::start(settings, &project, out.silent()).await?;
    let dev = Dev::new(args.place.clone(), project, Arc::new(local), secrets, *out)?;
    let result = tokio::select! {
        result = dev.run(lines) => result,
        broken = tasks.broken() => Err(broken),
        () = ended => Ok(()),
    };
    tasks.close().await;
    result.map(|()| ExitCode::SUCCESS)
}

/// Files of an app's folder that no function is made of.
const APPS_OWN: [&str; 4] = ["Cargo.lock", "eyot.toml", "package-lock.json", "tests.toml"];

/// An app that is being developed.
struct Dev {
    place: Place,
    project: Arc<Project>,
    local: Arc<Local>,
    /// The file of its secrets.
    secrets: PathBuf,
    watch: Watch,
    work: Work,
    /// What was published and does not answer yet: its number, and when its build had ended.
    awaited: Option<(u64, Instant)>,
    is_ready: bool,
    out: Out,
}

impl Dev {
    fn new(place: Place, mut project: Project, local: Arc<Local>, secrets: PathBuf, out: Out) -> anyhow::Result<Self> {
        let mut watch = Watch::new(&project.folder, outputs(&project))?;
        watch.also(&secrets)?;
        project.keeps_names = true;
        let work = Work::new(out.silent());
        let project = Arc::new(project);
        Ok(Self { place, project, local, secrets, watch, work, awaited: None, is_ready: false, out })
    }

    /// Goes on until it is dropped.
    async fn run(mut self, mut lines: Following) -> anyhow::Result<()> {
        let all: BTreeSet<_> = self.project.manifest.functions.keys().cloned().collect();
        self.out.note(format!("building {}", self.project.manifest.app));
        self.work.wanted(all, &self.project, &self.local, false);
        loop {
            tokio::select! {
                line = lines.next() => self.tell(line),
                done = self.work.done() => self.finish(done),
                changed = self.watch.changed() => self.changed(&changed?),
            }
        }
    }

    /// Files have changed: the functions that are made of them are built, and what there is then is published.
    fn changed(&mut self, changed: &BTreeSet<PathBuf>) {
        let is_all = changed.contains(&self.project.folder);
        let mut functions = BTreeSet::new();
        let mut is_news = is_all || changed.contains(&self.secrets);
        let mut hosts = false;
        if is_all || changed.contains(&manifest(&self.place, &self.project)) {
            match self.place.open() {
                Ok(project) if project.manifest.app != self.project.manifest.app => {
                    return self
                        .error("manifest", &anyhow::anyhow!("the app has another name: start `eyot dev` again"));
                }
                Ok(project) => {
                    hosts = project.manifest.hosts != self.project.manifest.hosts;
                    functions = rebuilt(&self.project, &project);
                    is_news |= project.manifest != self.project.manifest;
                    self.watch.outputs(outputs(&project));
                    self.project = Arc::new(Project { keeps_names: true, ..project });
                }
                Err(error) => return self.error("manifest", &error),
            }
        }
        for (name, source) in &self.project.manifest.functions {
            let folder = join(&self.project.folder, &source.path);
            if is_all || changed.iter().any(|path| path.starts_with(&folder) && !is_apps_own(path, &self.project)) {
                functions.insert(name.clone());
            }
        }
        let packed = |path: &PathBuf| packed(&self.project).any(|packed| path.starts_with(packed));
        is_news |= !functions.is_empty() || changed.iter().any(packed);
        if is_news {
            self.work.wanted(functions, &self.project, &self.local, hosts);
        }
    }

    /// A build and what followed it has ended.
    fn finish(&mut self, done: Done) {
        if let Some(built) = &done.built {
            let names: Vec<_> = built.functions.iter().map(ToString::to_string).collect();
            let ms = u64::try_from(built.took.as_millis()).unwrap_or(u64::MAX);
            if !names.is_empty() {
                self.out.note(format!("built {} in {}", names.join(", "), lines::time(ms * 1000)));
            }
            self.out.result(&json!({"event": "built", "functions": names, "ms": ms}));
        }
        match done.published {
            Ok(number) => {
                let at = done.built.map_or_else(Instant::now, |built| built.at);
                self.awaited = Some((number, at));
            }
            Err((what, error)) => self.error(what, &error),
        }
        self.work.next(&self.project, &self.local);
    }

    /// Shows what the node tells.
    fn tell(&mut self, line: Line) {
        let line = self.local.secrets().masked_line(line);
        match &line {
            Line::Activated(activated) => {
                let after = self.awaited.take_if(|(number, _)| *number <= activated.release);
                let after_ms = after.map(|(_, at)| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX));
                let after = after_ms.map(|ms| format!(", {} after its build", lines::time(ms * 1000)));
                self.out.note(format!("{}{}", lines::text(&line), after.unwrap_or_default()));
                let mut value = serde_json::to_value(&line).unwrap_or_default();
                value["after_ms"] = after_ms.into();
                self.out.result(&value);
                if !std::mem::replace(&mut self.is_ready, true) {
                    self.ready();
                }
            }
            Line::Refused(_) => {
                self.out.note(format!("error: {}; what answered goes on", lines::text(&line)));
                self.out.result(&serde_json::to_value(&line).unwrap_or_default());
            }
            _ => lines::show(&Told { node: String::new(), line }, self.out),
        }
    }

    fn ready(&self) {
        let (manifest, ca) = (&self.project.manifest, &self.local.ca().file);
        let url = format!("https://localhost:{}", self.local.port);
        let hosts: Vec<_> = manifest.hosts.iter().map(ToString::to_string).collect();
        let ca = ca.display();
        self.out.note(format!("\n{} is at {url} (and answers for {})", manifest.app, hosts.join(", ")));
        self.out.note(format!("  curl --cacert {ca} {url}/        or once: eyot dev --trust"));
        self.out.note(format!("  eyot get --http3 --cacert {ca} {url}/"));
        self.out.note(format!("  HTTP/3 in Chrome: SPKI {} (flags: eyot dev --trust)\n", self.local.ca().spki()));
        self.out.result(&json!({
            "event": "ready", "app": manifest.app, "url": url, "port": self.local.port, "hosts": hosts,
            "ca": self.local.ca().file, "spki": self.local.ca().spki(),
        }));
    }

    /// What did not work; what answered goes on.
    fn error(&self, what: &str, error: &anyhow::Error) {
        let problems = error.chain().find_map(|cause| cause.downcast_ref::<Problems>());
        let text = problems.map_or_else(|| format!("{error:#}"), ToString::to_string);
        let text = self.local.secrets().masked(&text);
        let rows: Vec<_> = problems.map_or_else(Vec::new, |problems| {
            let row = |problem: &eyot_bundle::text::Problem| json!({"file": problem.file, "line": problem.line, "text": problem.text});
            problems.0.iter().map(row).collect()
        });
        let rest = if self.is_ready { "\nwhat answered goes on" } else { "\nit waits for a change" };
        self.out.note(format!("error: {text}{rest}"));
        self.out.result(&json!({"event": "error", "what": what, "text": text, "problems": rows}));
    }
}

/// A path of the manifest; `.` adds nothing.
fn join(folder: &std::path::Path, path: &str) -> PathBuf {
    folder.join(path).components().filter(|part| *part != std::path::Component::CurDir).collect::<PathBuf>()
}

/// The manifest's own file.
fn manifest(place: &Place, project: &Project) -> PathBuf {
    let name = place.app.file_name().filter(|_| !place.app.is_dir());
    project.folder.join(name.unwrap_or(OsStr::new("eyot.toml")))
}

/// Whether a file is the app's and not a function's, wherever functions lie. Locks are written by builds themselves; who
/// changes one by hand changes beside it what it is made of.
fn is_apps_own(path: &std::path::Path, project: &Project) -> bool {
    path.parent() == Some(&project.folder)
        && path.file_name().is_some_and(|name| APPS_OWN.iter().any(|own| name == *own))
}

/// What goes into a release as it is.
fn packed(project: &Project) -> impl Iterator<Item = PathBuf> {
    let manifest = &project.manifest;
    let folders = manifest.files.values().map(|files| files.path.as_str());
    folders.chain(manifest.pem_files()).map(|path| join(&project.folder, path))
}

/// What builds write: the component itself, or the folder it is in, where that is not the function's.
fn outputs(project: &Project) -> BTreeSet<PathBuf> {
    let output = |source: &eyot_bundle::manifest::FunctionSource| {
        let first = std::path::Path::new(&source.wasm).components().find(|part| *part != std::path::Component::CurDir);
        let folder = join(&project.folder, &source.path);
        first.map_or_else(|| folder.clone(), |first| folder.join(first))
    };
    project.manifest.functions.values().filter(|source| source.build.is_some()).map(output).collect()
}

/// The functions that another manifest builds otherwise.
fn rebuilt(old: &Project, new: &Project) -> BTreeSet<eyot_bundle::name::Name> {
    let how = |source: &eyot_bundle::manifest::FunctionSource| {
        (source.path.clone(), source.build.clone(), source.wasm.clone())
    };
    let is_same = |name: &eyot_bundle::name::Name| {
        old.manifest.functions.get(name).map(how) == new.manifest.functions.get(name).map(how)
    };
    new.manifest.functions.keys().filter(|name| !is_same(name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_build_writes_is_found_again_whichever_way_the_app_was_named() {
        for app in ["functions/examples/c", "./functions/examples/c", "./functions/../functions/examples/c/eyot.toml"] {
            let project = Place { app: app.into() }.open().unwrap();
            assert!(project.folder.is_absolute(), "{app}");
            // The paths that the kernel's words are made into begin with the project's folder.
            assert_eq!(outputs(&project), BTreeSet::from([project.folder.join("function.wasm")]), "{app}");
            assert!(is_apps_own(&manifest(&Place { app: app.into() }, &project), &project), "{app}");
        }
        // What a bundler makes lies there with the component, so that one save is one build.
        let project = Place { app: "functions/templates/typescript".into() }.open().unwrap();
        assert_eq!(outputs(&project), BTreeSet::from([project.folder.join("dist")]));
    }
}
