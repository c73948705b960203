//! `node.toml`: what a node is told (`docs/formats.md`, section 2), read once and whole.
//!
//! Parsing touches no file but names them; [`secret`] reads those it points at. Nothing past here checks a value again.

mod acme;
pub mod cache;
mod read;
pub mod secret;
mod stores;
mod tls;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use eyot_bundle::grant::PrivateNet;
use eyot_bundle::name::Name;
use eyot_bundle::text::Problems;
use ipnet::IpNet;

use crate::access::Destination;
pub use acme::{Acme, ChallengeKind};
use secret::Secret;
pub use stores::{Nats, Redis, Stores};
pub use tls::{Certificate, ClientAuth, Tls};

/// All that a node is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who it is, and where its state lies.
    pub node: Identity,
    /// Where it listens.
    pub listen: Listen,
    /// Its certificates.
    pub tls: Tls,
    /// Whom it asks for releases.
    pub origin: Origin,
    /// Ceilings over what apps ask, and what the node takes at once.
    pub limits: Limits,
    /// How functions run and are compiled.
    pub functions: Functions,
    /// The way out.
    pub egress: Egress,
    /// Where clients are.
    pub geo: Geo,
    /// The engines that keep the stores of apps.
    pub stores: Stores,
    /// What is kept of answers.
    pub cache: cache::Cache,
    /// How other nodes are asked for what is kept.
    pub shielding: Shielding,
    /// What is logged.
    pub log: Log,
    /// What helps people who develop.
    pub debug: Debug,
}

/// Who the node is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its id, unique in the fleet.
    pub id: Name,
    /// The fleet's name, in `CDN-Loop`.
    pub fleet: String,
    /// Its region.
    pub region: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The folder of its state.
    pub state: PathBuf,
    /// The folder of its sockets.
    pub run: PathBuf,
    /// Its age identity, which secrets are sealed to; absent: one that it makes in its state.
    pub identity: Option<Secret>,
}

/// Where the node listens. An inherited socket of the same kind and port wins over binding.
#[derive(Clone, Debug)]
pub struct Listen {
    /// HTTP/3, HTTP/2 and HTTP/1.1 with TLS.
    pub https: Vec<SocketAddr>,
    /// HTTP/1.1 without.
    pub http: Vec<SocketAddr>,
    /// UDP sockets for each address of `https` and each of the two processes of an upgrade.
    pub udp_sockets: usize,
    /// What the plain listeners do.
    pub plain: Plain,
    /// Balancers that name their clients by the PROXY protocol.
    pub proxy_peers: Vec<IpNet>,
    /// HTTP/3, HTTP/2 and HTTP/1.1 for hosts that ask for a certificate.
    pub guarded: Vec<SocketAddr>,
    /// Health and metrics: loopback only.
    pub admin_tcp: Vec<SocketAddr>,
    /// The whole admin: sockets of mode 0660.
    pub admin_unix: Vec<PathBuf>,
}

/// What plain listeners do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plain {
    /// Redirect to https.
    Redirect,
    /// Serve, behind a front that speaks TLS.
    Serve,
}

/// Whom the node asks for releases.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Origins and relays, asked in turn.
    pub urls: Vec<String>,
    /// PEM of the authority that signed their certificates.
    pub ca: PathBuf,
    /// The first trusted root.
    pub root: PathBuf,
    /// How often to ask when nothing was told, in milliseconds; jittered.
    pub poll_ms: u64,
    /// The token the node joins with.
    pub token: Secret,
}

/// Ceilings and counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// CPU time of one call, in microseconds.
    pub cpu_us: u64,
    /// Wall time of one call to its head, in milliseconds.
    pub wall_ms: u64,
    /// Memory of one call, in bytes.
    pub memory_bytes: u64,
    /// Connections.
    pub connections_max: usize,
    /// Connections of one address.
    pub connections_per_address_max: usize,
    /// Calls that may wait for a slot.
    pub requests_queued_max: usize,
    /// How long a call may wait for its slot and its share, in milliseconds.
    pub queue_wait_ms: u64,
    /// How long requests in flight have at the end, in milliseconds.
    pub drain_ms: u64,
    /// How long clients are waited for.
    pub clients: Clients,
}

/// How long clients are waited for. Times are in milliseconds, rates in bytes a second: what comes or goes at a rate pays
/// the waiting back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clients {
    /// For a TLS handshake, and for the head of a request.
    pub header_timeout_ms: u64,
    /// Inside a request's body.
    pub body_idle_ms: u64,
    /// The lowest rate of a request's body.
    pub body_rate_bytes: u32,
    /// To take something of a response.
    pub send_idle_ms: u64,
    /// The lowest rate of a response.
    pub send_rate_bytes: u32,
    /// For the next request of a connection.
    pub connection_idle_ms: u64,
    /// For anything in a tunnel, either way.
    pub tunnel_idle_ms: u64,
}

/// How functions run.
#[derive(Clone, Debug)]
pub struct Functions {
    /// Calls at once; no more than the host of functions can hold.
    pub slots: u32,
    /// Guest threads; 0: one a core.
    pub threads: usize,
    /// Memory of all calls together, in bytes (`guest_memory_max`); none: half of the machine's.
    pub memory_bytes_max: Option<u64>,
    /// Compiled code kept in memory, in bytes.
    pub code_bytes_max: u64,
    /// How they are compiled.
    pub compile: Compile,
}

/// How components are compiled.
#[derive(Clone, Debug)]
pub struct Compile {
    /// Compilers at once.
    pub processes: usize,
    /// Memory of one compiler, in bytes.
    pub memory_bytes: u64,
    /// CPU time of one compiler, in milliseconds.
    pub cpu_ms: u64,
    /// Threads of one compiler.
    pub threads: usize,
    /// Where functions are kept that were compiled before; none, whatever is written in `node.toml`: there it would be code
    /// that no MAC protects. For a developer's own machine.
    pub known: Option<PathBuf>,
    /// The folder of compiled artefacts.
    pub cache: PathBuf,
    /// The key that seals artefacts; none: one made by the node, in its state.
    pub key: Option<Secret>,
}

/// The way out.
#[derive(Clone, Debug, Default)]
pub struct Egress {
    /// Private networks the operator of this node opens, per app, beside those of the grant.
    pub allow_private: Vec<(Name, PrivateNet)>,
    /// The servers asked for names; none: the system's.
    pub resolvers: Vec<SocketAddr>,
}

/// Databases (MMDB) that say where clients are.
#[derive(Clone, Debug, Default)]
pub struct Geo {
    /// Of countries and cities.
    pub places: Option<PathBuf>,
    /// Of networks.
    pub networks: Option<PathBuf>,
}

/// How other nodes of the fleet are asked for what is kept.
#[derive(Clone, Debug, Default)]
pub struct Shielding {
    /// PEM of the authorities that they are trusted by; absent: the public ones.
    pub ca: Option<PathBuf>,
}

/// What is logged.
#[derive(Clone, Copy, Debug)]
pub struct Log {
    /// Where access lines go.
    pub access: Destination,
    /// What else is logged: this level and above.
    pub level: Level,
}

/// A level of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// All that helps to find a mistake in eyot.
    Debug,
    /// What cannot go on.
    Error,
    /// What an operator may want to know.
    Info,
    /// All.
    Trace,
    /// What an operator should look at.
    Warn,
}

impl Level {
    /// The level's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Error => "error",
            Self::Info => "info",
            Self::Trace => "trace",
            Self::Warn => "warn",
        }
    }
}

/// What helps people who develop.
#[derive(Clone, Copy, Debug, Default)]
pub struct Debug {
    /// Answer with `Eyot-Release` and `Server-Timing`.
    pub headers: bool,
}

/// What the service manager tells by environment variables.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `$STATE_DIRECTORY`.
    pub state: Option<PathBuf>,
    /// `$RUNTIME_DIRECTORY`.
    pub run: Option<PathBuf>,
    /// `$CACHE_DIRECTORY`.
    pub cache: Option<PathBuf>,
    /// `$CREDENTIALS_DIRECTORY`.
    pub credentials: Option<PathBuf>,
}

impl Environment {
    /// The environment of this process. Of a list of folders the first counts.
    pub fn of_process() -> Self {
        let folder = |name| {
            let value = std::env::var(name).ok()?;
            value.split(':').next().filter(|first| !first.is_empty()).map(PathBuf::from)
        };
        Self {
            state: folder("STATE_DIRECTORY"),
            run: folder("RUNTIME_DIRECTORY"),
            cache: folder("CACHE_DIRECTORY"),
            credentials: folder("CREDENTIALS_DIRECTORY"),
        }
    }
}

impl Config {
    /// Reads the document `source`, which stands in `file`: relative paths begin at its folder. Folders that are not
    /// named come from the environment of this process.
    ///
    /// # Errors
    /// All mistakes at once, each with its line.
    pub fn parse(file: &str, source: &str) -> Result<Self, Problems> {
        Self::parse_in(&Environment::of_process(), file, source)
    }

    /// Reads the document `source` under `environment`.
    ///
    /// # Errors
    /// All mistakes at once, each with its line.
    pub fn parse_in(environment: &Environment, file: &str, source: &str) -> Result<Self, Problems> {
        let base = Path::new(file).parent().unwrap_or(Path::new("")).to_owned();
        read::config(environment, &base, file, source)
    }
}

#[cfg(test)]
mod tests;
