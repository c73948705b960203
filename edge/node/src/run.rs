//! A running node: from its config and its sockets to the last request. It builds the parts, wires them and takes them
//! down; it decides nothing itself.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use eyot_cache::room::Common;
use eyot_cache::rooms::Rooms;
use eyot_fetch::{Fetch, Options, Resolver};
use eyot_front::{Certificates, ClientAuth, Counts, Ending, Files, Guards, Resumption, Tickets, TlsSettings};
use eyot_guest::Runtime;
use tokio::sync::{Notify, Semaphore, oneshot, watch};
use tokio::time::Instant;

use crate::access;
use crate::acme;
use crate::activate::aborts;
use crate::admin::{Admin, AdminError, Shown};
use crate::blobs::Blobs;
use crate::cached::{LATER_MAX, disk};
use crate::config::secret::{self, SecretError};
use crate::config::{self, Certificate, Config, Plain};
use crate::edge::Here;
use crate::events::Events;
use crate::geo::{Databases, GeoError};
use crate::node::{Node, Ready};
use crate::own::{self, Own};
use crate::pull::Handle;
use crate::pull::service::{self, Service, ServiceError};
use crate::purge::Purger;
use crate::secrets::{self, Vault};
use crate::shares::{Capacity, Shares};
use crate::shield::Shields;
use crate::snapshot::Snapshots;
use crate::sockets::{Sockets, SocketsError};
use crate::stores::{self, StoresError};
use crate::telemetry::{self, Telemetry};
use crate::upgrade::Upgrades;
use crate::upgrade::give::{Giver, Line};
use crate::upgrade::successor::Successor;
use crate::upgrade::take::{Heir, Place};
use crate::upstreams::Upstreams;

/// The commit this was built from, when the build says so.
const COMMIT: &str = match option_env!("EYOT_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};
/// The program that compiles: this one, also when its file was replaced meanwhile, since artefacts are bound to a build.
const PROGRAM: &str = "/proc/self/exe";
/// The version line of the engine that runs functions.
const WASMTIME: &str = "48";

/// Why a node does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its admin.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The process that took over.
    #[error("the process that took over has failed while this one drained, which ends so that both are replaced")]
    Fell,
    /// The way out.
    #[error("the way out cannot be opened")]
    Fetch(#[from] eyot_fetch::Error),
    /// Certificates that it gets by itself.
    #[error(transparent)]
    Acme(#[from] acme::Error),
    /// Its listeners or certificates.
    #[error(transparent)]
    Front(#[from] eyot_front::Error),
    /// Where clients are.
    #[error(transparent)]
    Geo(#[from] GeoError),
    /// The runtime of functions.
    #[error("functions cannot be run")]
    Guest(#[from] eyot_guest::Error),
    /// The system refused something.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// Its pull.
    #[error(transparent)]
    Pull(#[from] ServiceError),
    /// A secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Its sockets.
    #[error(transparent)]
    Sockets(#[from] SocketsError),
    /// The engines of stores.
    #[error(transparent)]
    Stores(#[from] StoresError),
    /// What is active cannot be taken over.
    #[error("what is active cannot be taken over: {0}")]
    TakeOver(String),
}

impl Error {
    /// For `map_err`: the system refused `what`.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// A node that runs: what whoever started it may know and do.
pub struct Running {
    /// Where it listens for TLS and HTTP/3.
    pub https: Vec<SocketAddr>,
    /// Where it listens in the clear.
    pub http: Vec<SocketAddr>,
    /// Where its admin listens on loopback.
    pub admin: Vec<SocketAddr>,
    /// Its parts.
    pub node: Arc<Node>,
    certificates: Arc<Certificates>,
    tls: TlsSettings,
    /// Upgrades to a next process.
    pub upgrades: Arc<Upgrades>,
}

impl Running {
    /// Reads the certificates again, the keys of tickets, and the authorities of clients; of those that are bad, what was
    /// in use stays in use.
    pub fn reload(&self) {
        let read = [
            ("certificates", self.certificates.reload()),
            ("ticket_keys", self.tls.tickets.reload()),
            ("client_auth", self.tls.guards.reload()),
        ];
        for (what, read) in read {
            match read {
                Ok(()) => tracing::info!(what, "files of TLS were read again"),
                Err(error) => tracing::error!(what, %error, "files of TLS are bad; what was in use stays"),
            }
        }
    }
}

/// Runs a node on `sockets` until `shutdown` resolves; then lets what is in flight end, within the config's `drain`.
/// `ready` is called when it listens. A process that was handed its sockets first takes over from the one that had them;
/// one that hands its own over drains as if it was shut down.
///
/// # Errors
/// What keeps it from starting. Once it runs, it runs.
pub async fn run(
    config: Config,
    sockets: Sockets,
    ready: impl FnOnce(Running),
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let explain = sockets.heir.as_ref().and_then(Heir::explain);
    let lived = live(config, sockets, ready, shutdown).await;
    if let (Err(error), Some(explain)) = (&lived, explain) {
        explain.say(error);
    }
    lived
}

async fn live(
    config: Config,
    mut sockets: Sockets,
    ready: impl FnOnce(Running),
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    telemetry::count_panics();
    let state = &config.node.state;
    std::fs::create_dir_all(state).map_err(Error::io(format!("the state in {}", state.display())))?;
    // Before any engine of functions is made.
    aborts::watch(state).map_err(Error::io("the notes of aborts"))?;
    let certificates = certificates(&config)?;
    let counts = Arc::<Counts>::default();
    let mut settings = settings(&config, &counts)?;
    if let (Some(handed), None) = (sockets.tickets.take(), &config.tls.ticket_keys) {
        settings.tls.tickets = handed;
    }
    let own = kept_from_apps(&config, &sockets);
    let heir = sockets.heir.take();
    let upgrades = Arc::new(Upgrades::new(heir.is_some()));
    let running = Running {
        https: sockets.front.tls_addresses(),
        http: sockets.front.plain_addresses(),
        admin: sockets.admin.tcp_addresses(),
        node: Arc::new(build(config, &sockets)?),
        certificates: Arc::clone(&certificates),
        tls: settings.tls.clone(),
        upgrades: Arc::clone(&upgrades),
    };
    let node = Arc::clone(&running.node);
    let _ = node.me.set(Arc::downgrade(&node));
    let acme = acme::Ready::new(&node.config, &certificates, || service::client(&node.config))?;
    let issued = acme.facts();
    let pull = Service::prepare(&node, acme.answers(), PathBuf::from(PROGRAM))?;
    let taker = match heir {
        None => {
            open(&node.stores).await;
            None
        }
        Some(heir) => {
            pull.warm().await.map_err(Error::TakeOver)?;
            let (taker, asks) = heir.prepared().await.map_err(Error::io("the line to the process that serves"))?;
            open(&node.stores).await;
            if let Some(asks) = asks {
                let stores = node.stores.clone();
                tokio::spawn(async move { stores.answer(asks).await });
            }
            Some(taker)
        }
    };
    disk::take_up(&node).await;
    node.purger.send_to(service::client(&node.config)?);
    let pull = pull.start()?;
    let status = pull.status();
    let purger = Arc::clone(&node.purger);
    let admin = Shown {
        node: Arc::clone(&node),
        certificates: Arc::clone(&certificates),
        counts,
        status: Arc::new(move || purger.shown(status.view())),
        acme: Arc::new(move || issued.view()),
        pull: pull.handle(),
        upgrades: Arc::clone(&upgrades),
        boot: uuid::Uuid::new_v4(),
    };
    let giver = giver(&node, &sockets, &upgrades, &settings.tls.tickets, pull.handle())
        .map_err(Error::io("the sockets, once more"))?;
    let _admin = Admin::start(sockets.admin, admin)?;
    let _own = tokio::task::JoinSet::from_iter([own::watch(own, node.fetch.clone()).await]);
    let (drains, drain) = (Arc::clone(&node), settings.drain);
    let (ends, runtime) = (Arc::<OnceLock<Instant>>::default(), node.runtime.clone());
    let stores = node.stores.clone();
    let until = Arc::clone(&ends);
    let (leave, left) = oneshot::channel();
    let fell = Arc::<Notify>::default();
    let (begun, mut events) = oneshot::channel();
    let stops = watch::Sender::new(false);
    let (runs, turns, queues) = (Arc::clone(&node), service::client(&node.config)?, node.stores.queues());
    let hears = Arc::clone(&fell);
    // Polled when the listeners are there.
    let ending = async move {
        let serving = async {
            if let Some(taker) = taker {
                taker.ready(Place::of(&giver)).await;
            }
            upgrades.open_doors();
            ready(running);
            // One process at a time orders certificates, and keeps them.
            let orders = acme.start().inspect_err(|error| tracing::error!(%error, "no certificate will be ordered"));
            // So with schedules and queues.
            let _ = begun.send(Events::start(&runs, turns, queues, stops.subscribe()));
            let (successor, line) = giver.handed_over().await;
            drop(orders);
            stops.send_replace(true);
            giver.leave(successor, line, hears).await
        };
        let (ending, leaves) = tokio::select! {
            () = shutdown => (Ending::Stop, (None, giver.stop())),
            line = serving => (Ending::HandedOver, (Some(line), None)),
        };
        stops.send_replace(true);
        // It is heard of when all has ended.
        let _ = leave.send(leaves);
        let _ = until.set(Instant::now() + drain);
        drains.ready.drain(true);
        ending
    };
    let serving = async {
        let served = eyot_front::run(sockets.front, certificates, settings, node, ending).await;
        // What functions still do after their answers they may do, too; what is left of that then ends with the runtime.
        if let Some(ends) = ends.get() {
            if let Ok(events) = events.try_recv() {
                let _ = tokio::time::timeout_at(*ends, events.ended()).await;
            }
            let _ = tokio::time::timeout_at(*ends, runtime.idle()).await;
        }
        served
    };
    let served = tokio::select! {
        served = serving => served,
        // As long as this process is there, the service manager does not see that nobody serves.
        () = fell.notified() => return Err(Error::Fell),
    };
    // Activations go on to the last request; only then may the ledger be left.
    drop(pull);
    stores.close_here().await;
    let (_line, successor): Left = left.await.unwrap_or_default();
    if let (Some(ends), Some(mut successor)) = (ends.get(), successor) {
        let _ = tokio::time::timeout_at(*ends, successor.ended()).await;
    }
    Ok(served?)
}

/// What is left of an upgrade when this process ends: the line, by whose end its successor sees it; and one that was not
/// yet left to itself, which drains beside this process.
type Left = (Option<Line>, Option<Successor>);

/// Opens the stores that are this node's alone. One that cannot has none, and serves.
async fn open(stores: &eyot_state::Stores) {
    if let Err(error) = stores.open_here().await {
        tracing::error!(%error, "functions find their stores of this node shut");
    }
}

/// What this process can hand over to the next.
fn giver(
    node: &Arc<Node>,
    sockets: &Sockets,
    upgrades: &Arc<Upgrades>,
    tickets: &Arc<Tickets>,
    pull: Handle,
) -> io::Result<Giver> {
    let lineage = sockets.front.lineage.clone().ok_or_else(|| io::Error::other("the sockets have no keys"))?;
    Ok(Giver {
        node: Arc::clone(node),
        upgrades: Arc::clone(upgrades),
        steering: Arc::new(sockets.front.steering()?),
        lineage,
        sockets: sockets.try_clone()?,
        tickets: Arc::clone(tickets),
        pull,
        stores: node.stores.clone(),
        successor: Mutex::default(),
    })
}

fn certificates(config: &Config) -> Result<Arc<Certificates>, Error> {
    let files =
        |it: &Certificate| Files { chain: it.chain.clone(), key: it.key.path().to_owned(), ocsp: it.ocsp.clone() };
    let files: Vec<_> = config.tls.certificates.iter().map(files).collect();
    if files.is_empty() { Ok(Certificates::none()) } else { Ok(Certificates::load(&files)?) }
}

fn tls(config: &config::Tls) -> Result<TlsSettings, Error> {
    let guarded =
        |it: &config::ClientAuth| ClientAuth { host: it.host.clone(), ca: it.ca.clone(), port: it.listen.port() };
    let guarded: Vec<_> = config.client_auth.iter().map(guarded).collect();
    Ok(TlsSettings {
        tls_1_2: config.tls_1_2,
        resumption: if config.early_data { Resumption::EarlyData } else { Resumption::Tickets },
        tickets: match &config.ticket_keys {
            Some(keys) => Tickets::load(keys.path())?,
            None => Tickets::of_process(),
        },
        guards: Guards::load(&guarded)?,
    })
}

fn settings(config: &Config, counts: &Arc<Counts>) -> Result<eyot_front::Settings, Error> {
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let clients = &config.limits.clients;
    Ok(eyot_front::Settings {
        header_timeout: Duration::from_millis(clients.header_timeout_ms),
        body_idle: Duration::from_millis(clients.body_idle_ms),
        body_rate_bytes_min: clients.body_rate_bytes,
        send_idle: Duration::from_millis(clients.send_idle_ms),
        send_rate_bytes_min: clients.send_rate_bytes,
        connection_idle: Duration::from_millis(clients.connection_idle_ms),
        tunnel_idle: Duration::from_millis(clients.tunnel_idle_ms),
        connections_max: count(config.limits.connections_max),
        connections_per_address_max: count(config.limits.connections_per_address_max),
        drain: Duration::from_millis(config.limits.drain_ms),
        plain: match config.listen.plain {
            Plain::Redirect => eyot_front::Plain::Redirect,
            Plain::Serve => eyot_front::Plain::Serve,
        },
        proxy_peers: config.listen.proxy_peers.clone(),
        tls: tls(&config.tls)?,
        counts: Arc::clone(counts),
        ..eyot_front::Settings::default()
    })
}

/// The parts of a node.
pub(crate) fn build(config: Config, sockets: &Sockets) -> Result<Node, Error> {
    let state = &config.node.state;
    std::fs::create_dir_all(state).map_err(Error::io(format!("the state in {}", state.display())))?;
    let telemetry = Arc::new(Telemetry::new());
    telemetry.build(env!("CARGO_PKG_VERSION"), COMMIT, WASMTIME);
    let access = access::Log::start(config.log.access, Arc::clone(&telemetry)).map_err(Error::io("the access log"))?;
    let fetch = fetch(&config, sockets)?;
    let snapshots = Arc::<Snapshots>::default();
    let purger = Arc::new(purger(&config, &telemetry, &snapshots));
    let common = Common::new(Arc::clone(&purger.purges));
    Ok(Node {
        upstreams: Upstreams::new(fetch.clone(), config.node.fleet.clone()),
        access: Arc::new(access),
        snapshots,
        shares: Shares::new(capacity(&config), Arc::clone(&telemetry)),
        runtime: runtime(&config)?,
        fetch,
        shields: Arc::new(shields(&config)?),
        vault: vault(&config)?,
        blobs: blobs(&config)?,
        stores: stores::stores(&config)?,
        here: Arc::new(here(&config)?),
        rooms: Rooms::new(config.cache.memory_bytes, common),
        tier: disk::Tier::default(),
        later: Arc::new(Semaphore::new(LATER_MAX)),
        me: OnceLock::new(),
        purger,
        ready: Ready::default(),
        telemetry,
        config,
    })
}

/// What purges; its journal is beside what is kept on disk.
fn purger(config: &Config, telemetry: &Arc<Telemetry>, snapshots: &Arc<Snapshots>) -> Purger {
    let lag_max_ms = (!config.origin.urls.is_empty()).then_some(config.cache.purge_lag_max_ms);
    let folder = config.cache.disk.as_ref().map(|disk| disk.path.join("purged"));
    Purger::new(lag_max_ms, folder, Arc::clone(telemetry), Arc::clone(snapshots))
}

fn shields(config: &Config) -> Result<Shields, Error> {
    let (ca, identity) = (config.shielding.ca.as_deref(), secrets::identity(config)?);
    let read = |path: &Path| {
        std::fs::read_to_string(path).map_err(Error::io(format!("the authorities in {}", path.display())))
    };
    let ca = ca.map(read).transpose()?;
    Ok(Shields::new(config.node.id.clone(), config.node.region.clone(), Arc::new(identity), ca))
}

fn vault(config: &Config) -> Result<Vault, Error> {
    Ok(Vault::new(secrets::identity(config)?, blobs(config)?))
}

fn blobs(config: &Config) -> Result<Blobs, Error> {
    let state = &config.node.state;
    Blobs::open(state).map_err(Error::io(format!("the blobs in {}", state.display())))
}

fn here(config: &Config) -> Result<Here, GeoError> {
    let config::Geo { places, networks } = &config.geo;
    let geo = Databases::open(places.as_deref(), networks.as_deref())?;
    Ok(Here { node: config.node.id.to_string(), region: config.node.region.clone(), geo })
}

fn threads(config: &Config) -> usize {
    match config.functions.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    }
}

fn capacity(config: &Config) -> Capacity {
    Capacity {
        slots: config.functions.slots,
        threads: threads(config),
        memory_bytes: config.functions.memory_bytes_max.unwrap_or_else(half_of_memory),
        wait: Duration::from_millis(config.limits.queue_wait_ms),
        waiting_max: config.limits.requests_queued_max,
    }
}

/// Half of the machine's memory, in bytes.
fn half_of_memory() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram.saturating_mul(info.mem_unit.into()) / 2
}

fn runtime(config: &Config) -> Result<Runtime, Error> {
    let compile = &config.functions.compile;
    let key = match &compile.key {
        Some(secret) => secret.key()?,
        None => secret::own_key(&config.node.state.join("compile.key"))?,
    };
    let settings = eyot_guest::Settings {
        slots: config.functions.slots,
        threads: threads(config),
        memory_bytes_max: config.limits.memory_bytes,
        code_bytes_max: config.functions.code_bytes_max,
        queued_max: config.limits.requests_queued_max,
        queue_wait_ms: config.limits.queue_wait_ms,
        artefacts: compile.cache.join("compiled"),
        key,
    };
    Ok(Runtime::new(settings)?)
}

/// What no app may reach.
fn kept_from_apps(config: &Config, sockets: &Sockets) -> Own {
    let (front, admin) = (&sockets.front, &sockets.admin);
    let own = [front.tls_addresses(), front.udp_addresses(), front.plain_addresses(), admin.tcp_addresses()].concat();
    Own::new(own, &config.origin.urls)
}

/// The way out: never to the node's own sockets, nor to its parents.
fn fetch(config: &Config, sockets: &Sockets) -> Result<Fetch, Error> {
    let resolver = match &config.egress.resolvers[..] {
        [] => Resolver::System,
        servers => Resolver::Servers(servers.to_vec()),
    };
    let own = kept_from_apps(config, sockets).addresses();
    Ok(Fetch::new(Options { resolver, own, ..Options::default() })?)
}

#[cfg(test)]
mod tests;
