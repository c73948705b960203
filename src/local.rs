//! An origin and one node in this process, for `eyot dev` and `eyot test`: what a release goes through on its way to
//! production it goes through here, signed, verified, compiled, probed and activated by the same code.

pub(crate) mod ca;
pub(crate) mod home;
mod hosts;
mod port;
pub(crate) mod secrets;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, anyhow};
use eyot_bundle::grant::{Ceilings, Grant, GrantState, PrivateNet, Share};
use eyot_bundle::name::Name;
use eyot_bundle::release::Engine;
use eyot_bundle::secret::Recipient;
use eyot_bundle::sign::{Delegation, Holders, Key};
use eyot_link::client::Client;
use eyot_node::run::Running;
use eyot_node::tap::Following;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::app;
use crate::keyfile::{self, Lock};
use crate::keyring::Keyring;
use crate::keys::init::{self, NewFleet};
use crate::out::Out;
use crate::project::{Component, Project};
use crate::publish::{self, Outcome, Parts};
use crate::reach::Reach;
use ca::Ca;
pub(crate) use port::Port;
use secrets::Secrets;

/// The node's name.
pub(crate) const NODE: &str = "dev";
/// This machine's own addresses, which an app may reach here if it names them in `egress`.
const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];

/// What is to be brought up.
pub(crate) struct Settings<'a> {
    /// Where keys and the origin's state go; gone at the end.
    pub(crate) folder: &'a Path,
    /// The node's state.
    pub(crate) node: PathBuf,
    /// Compiled code.
    pub(crate) cache: PathBuf,
    /// The key that seals it.
    pub(crate) compile_key: PathBuf,
    /// Where the node listens.
    pub(crate) port: Port,
    /// Names its certificate holds beside the app's hosts.
    pub(crate) names: Vec<String>,
    /// The servers of stores that are not the node's own.
    pub(crate) engines: Engines,
    /// The file of the app's secrets.
    pub(crate) secrets: PathBuf,
}

/// The servers of stores that are not the node's own.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Engines {
    /// The NATS server behind stores and queues of the engine `nats`.
    #[arg(long, value_name = "URL")]
    pub(crate) nats: Option<String>,
    /// The Redis or Valkey server behind stores of the engine `redis`.
    #[arg(long, value_name = "URL")]
    pub(crate) redis: Option<String>,
}

/// An origin and a node that run.
pub(crate) struct Local {
    ring: Keyring,
    ca: Ca,
    names: Vec<String>,
    engines: Engines,
    origin: String,
    client: Client,
    publisher: Key,
    running: Running,
    secrets: Mutex<Secrets>,
    /// Where the node answers.
    pub(crate) port: u16,
}

/// What they run in. Dropped, they end at once.
#[derive(Default)]
pub(crate) struct Tasks {
    /// Dropped, origin and node end.
    stop: Vec<oneshot::Sender<()>>,
    running: JoinSet<anyhow::Result<()>>,
}

/// All that is brought up.
pub(crate) struct Up {
    /// The origin and the node.
    pub(crate) local: Local,
    /// What they run in.
    pub(crate) tasks: Tasks,
    /// What the node tells.
    pub(crate) lines: Following,
}

impl Local {
    /// Brings up an origin and a node that answers nothing yet.
    pub(crate) async fn start(settings: Settings<'_>, project: &Project, out: Out) -> anyhow::Result<Up> {
        let ring = Keyring::new(settings.folder.join("keys"));
        let ca = Ca::of_user()?;
        let node: Name = NODE.parse()?;
        let origin_names = ["localhost", "127.0.0.1"].map(str::to_owned).to_vec();
        let fleet = NewFleet { fleet: NODE.parse()?, origin_names, nodes: vec![(node, "local".to_owned())] };
        init::make(&ring, &fleet, &Lock::Plain, out)?;
        if !settings.compile_key.exists() {
            let key = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
            keyfile::write_new(&settings.compile_key, &key, &Lock::Plain)?;
        }
        let mut tasks = Tasks::default();
        let origin = start_origin(&settings, &ring, &mut tasks).await?;
        certify(&ring, &ca, project, &settings.names)?;
        let (running, port, recipient) = start_node(&settings, &ring, &origin, &mut tasks).await?;
        let lines = running.node.access.tap().follow(None).context("nobody else follows")?;
        let publisher = ring.key("publisher")?;
        let secrets = Mutex::new(Secrets::new(settings.secrets, recipient));
        let (names, engines) = (settings.names, settings.engines);
        let client = reach(&ring, &origin).client_as(ring.key("publisher")?)?;
        let local = Self { ring, ca, names, engines, origin, client, publisher, running, secrets, port };
        local.grant(project, out).await?;
        Ok(Up { local, tasks, lines })
    }

    /// The authority of the node's certificate.
    pub(crate) fn ca(&self) -> &Ca {
        &self.ca
    }

    /// Grants the app of `project` all that it asks for: on this machine nobody else wants it.
    async fn grant(&self, project: &Project, out: Out) -> anyhow::Result<()> {
        let manifest = hosts::with_localhost(&project.manifest);
        let private = |net: &str| Ok(PrivateNet { net: net.parse()?, ports: Vec::new() });
        let mut stores = vec![Engine::Node];
        stores.extend(self.engines.nats.as_ref().map(|_| Engine::Nats));
        stores.extend(self.engines.redis.as_ref().map(|_| Engine::Redis));
        let grant = Grant {
            state: GrantState::Active,
            hosts: manifest.hosts,
            limits: Ceilings::default(),
            share: Share::default(),
            egress_private: LOOPBACK.into_iter().map(private).collect::<anyhow::Result<_>>()?,
            stores,
            placement: "*".to_owned(),
            keys: Default::default(),
        };
        let delegation = Delegation::app(&manifest.app, Holders::one(self.publisher.public()), grant);
        app::sign(&self.ring, delegation, &reach(&self.ring, &self.origin), out).await.map(drop)
    }

    /// The hosts or engines of the manifest have changed: certificate and grant follow.
    pub(crate) async fn regrant(&self, project: &Project, out: Out) -> anyhow::Result<()> {
        certify(&self.ring, &self.ca, project, &self.names)?;
        self.running.reload();
        self.grant(project, out).await
    }

    /// Publishes what is built, with the secrets of this machine.
    pub(crate) async fn publish(
        &self,
        project: &Project,
        components: BTreeMap<Name, Component>,
        out: Out,
    ) -> anyhow::Result<Outcome> {
        let manifest = hosts::with_localhost(&project.manifest);
        let parts = Parts { components, secrets: self.secrets().sealed(&manifest)? };
        let local = Project { folder: project.folder.clone(), manifest, keeps_names: true };
        let root = self.ring.path("root.json");
        publish::publish(&local, &parts, &self.client, &self.publisher, Some(&root), out).await
    }

    /// The secrets of this machine.
    pub(crate) fn secrets(&self) -> MutexGuard<'_, Secrets> {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tasks {
    /// Runs `task` until it ends by itself or this is closed.
    fn start<F: Future<Output = anyhow::Result<()>> + Send + 'static>(
        &mut self,
        task: impl FnOnce(oneshot::Receiver<()>) -> F,
    ) {
        let (end, ended) = oneshot::channel();
        self.running.spawn(task(ended));
        self.stop.push(end);
    }

    /// Waits until origin or node ends that should not; why.
    pub(crate) async fn broken(&mut self) -> anyhow::Error {
        match self.running.join_next().await {
            Some(Ok(Err(error))) => error,
            Some(Err(error)) => error.into(),
            Some(Ok(Ok(()))) | None => anyhow!("the node has ended by itself"),
        }
    }

    /// Ends the node, then the origin, when the requests in flight have ended.
    pub(crate) async fn close(mut self) {
        // The node was started last.
        while let Some(stop) = self.stop.pop() {
            drop(stop);
            let _ = self.running.join_next().await;
        }
    }
}

fn reach(ring: &Keyring, origin: &str) -> Reach {
    Reach { origin: Some(origin.to_owned()), ca: Some(ring.path("fleet-ca.pem")), key: None }
}

/// Writes the node's certificate: of the app's hosts, this machine's names, and `names`.
fn certify(ring: &Keyring, ca: &Ca, project: &Project, names: &[String]) -> anyhow::Result<()> {
    let pair = ca.server(&project.manifest.hosts, names)?;
    ring.put("nodes/tls.pem", pair.pem.as_bytes())?;
    let key = ring.path("nodes/tls.key");
    if key.exists() {
        std::fs::remove_file(&key)?;
    }
    keyfile::write_new(&key, &pair.key, &Lock::Plain)
}

/// Starts the origin; its URL.
async fn start_origin(settings: &Settings<'_>, ring: &Keyring, tasks: &mut Tasks) -> anyhow::Result<String> {
    let keys = ring.folder().display();
    let text = format!(
        "[origin]\nlisten = [\"127.0.0.1:0\"]\nstate = \"{state}\"\nfleet = \"{NODE}\"\nroot = \"{keys}/root.json\"\n\
         [tls]\nchain = \"{keys}/origin/origin.pem\"\nkey = \"{keys}/origin/origin.key\"\n\
         [keys]\ntimestamp = \"{keys}/origin/timestamp.key\"\nsnapshot = \"{keys}/origin/snapshot.key\"\n\
         director = \"{keys}/origin/director.key\"\n[quotas]\npublishes_per_hour = 1000000\n",
        state = settings.folder.join("origin").display(),
    );
    let config = eyot_origin::config::Config::parse("origin.toml of eyot dev", &text)?;
    let (told, ready) = oneshot::channel();
    tasks.start(|ended| async move {
        let ready = |bound: eyot_origin::Bound| drop(told.send(bound));
        let ended = async { drop(ended.await) };
        eyot_origin::run(config, ready, ended).await.context("the origin")
    });
    let bound = until_ready(ready, tasks).await?;
    let address = bound.wire.first().context("the origin listens nowhere")?;
    Ok(format!("https://{address}"))
}

/// Starts the node; where it answers, and whom its secrets are sealed to.
async fn start_node(
    settings: &Settings<'_>,
    ring: &Keyring,
    origin: &str,
    tasks: &mut Tasks,
) -> anyhow::Result<(Running, u16, Recipient)> {
    let port = settings.port.choose()?;
    let text = node_toml(settings, ring, origin, port);
    let mut config = eyot_node::config::Config::parse("node.toml of eyot dev", &text)?;
    config.functions.compile.known = Some(settings.cache.join("functions"));
    let recipient = eyot_node::secrets::recipient(&config)?;
    let sockets = eyot_node::sockets::Sockets::bind(&config.listen)?;
    let (told, ready) = oneshot::channel();
    tasks.start(|ended| async move {
        let ready = |running: Running| drop(told.send(running));
        let ended = async { drop(ended.await) };
        eyot_node::run::run(config, sockets, ready, ended).await.context("the node")
    });
    Ok((until_ready(ready, tasks).await?, port, recipient))
}

fn node_toml(settings: &Settings<'_>, ring: &Keyring, origin: &str, port: u16) -> String {
    let (keys, folder) = (ring.folder().display(), settings.folder.display());
    let (node, cache, key) = (settings.node.display(), settings.cache.display(), settings.compile_key.display());
    // Whoever saves a file waits for it, and nobody else is here.
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(64));
    let six = if port::has_six() { format!(", \"[::1]:{port}\"") } else { String::new() };
    let server = |name: &str, url: &Option<String>| {
        let url = url.as_ref().map(|url| format!("{name} = {{ url = {url:?} }}\n"));
        url.unwrap_or_default()
    };
    let stores = server("nats", &settings.engines.nats) + &server("redis", &settings.engines.redis);
    let stores = if stores.is_empty() { stores } else { format!("[stores]\n{stores}") };
    format!(
        "[node]\nid = \"{NODE}\"\nregion = \"local\"\nfleet = \"{NODE}\"\nstate = \"{node}\"\nrun = \"{folder}\"\n\
         [listen]\nhttps = [\"127.0.0.1:{port}\"{six}]\nadmin = []\n\
         [tls]\ncertificates = [{{ chain = \"{keys}/nodes/tls.pem\", key = \"{keys}/nodes/tls.key\" }}]\n\
         [origin]\nurls = [\"{origin}\"]\nca = \"{keys}/fleet-ca.pem\"\nroot = \"{keys}/root.json\"\n\
         token = \"{keys}/nodes/{NODE}.token\"\n\
         [limits]\ndrain = \"1s\"\n\
         [functions]\nslots = 256\ncompile = {{ threads = {threads}, memory = \"4GiB\", cache = \"{cache}\", key = \"{key}\" }}\n\
         [log]\naccess = \"off\"\n[debug]\nheaders = true\n{stores}",
    )
}

/// What is told when a task is ready, or why it ended before.
async fn until_ready<T>(ready: oneshot::Receiver<T>, tasks: &mut Tasks) -> anyhow::Result<T> {
    if let Ok(told) = ready.await {
        return Ok(told);
    }
    // It dropped the word that it would have told: it has ended, and is the only one that has.
    Err(tasks.broken().await)
}
