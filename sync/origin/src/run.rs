//! Running an origin: bind, open, announce, serve, and at the end drain.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use eyot_front::{Addresses, Certificates, Files, Settings, Sockets};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::acme::Acme;
use crate::admin::{self, Listener, Status};
use crate::audit::Audit;
use crate::blobs::files::FileBlobs;
use crate::catalog::Catalog;
use crate::config::Config;
use crate::denied::Denied;
use crate::fleet::Fleet;
use crate::heads::redb::RedbHeads;
use crate::heads::{Heads as _, HeadsError};
use crate::job::Job;
use crate::metrics::Metrics;
use crate::purges::Purges;
use crate::signer::{Signer, SignerError, secret_path};
use crate::wire::{Limits, Wire};

/// A root file larger than this is none, in bytes.
const ROOT_BYTES_MAX: u64 = 4 << 20;
/// How often what is due is looked for, in milliseconds.
const KEEP_MS: u64 = 1_000;
/// The lease of the one origin that keeps things, in milliseconds.
const LEASE_MS: u64 = 30_000;
/// After a failure it is tried again after this, in milliseconds.
const AGAIN_MS: u64 = 10_000;
/// An hour, in rounds of [`KEEP_MS`].
const HOUR_ROUNDS: u64 = 3600;

/// Where a running origin listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The wire: HTTP/3 and HTTP/2 on the same ports.
    pub wire: Vec<SocketAddr>,
    /// Health and metrics.
    pub admin: Vec<SocketAddr>,
}

/// Why an origin does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or socket of the configuration is not usable.
    #[error("{what} {}: {cause}", path.display())]
    File {
        /// What it is.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// The listeners failed.
    #[error("the listeners of the wire cannot be used")]
    Front(#[from] eyot_front::Error),
    /// The store of heads is not usable.
    #[error("the state cannot be opened")]
    Heads(#[from] HeadsError),
    /// An online key is not usable.
    #[error("an online key cannot be used")]
    Signer(#[from] SignerError),
    /// What is kept does not verify from the root of the configuration on.
    #[error("the state does not hold: {0}")]
    State(Denied),
}

/// The one kind of catalog that this build runs.
type Kept = Catalog<RedbHeads, FileBlobs>;

/// Runs an origin until `shutdown`: then streams end, requests in flight finish, and it returns. `ready` is told where
/// it listens as soon as it does.
///
/// # Errors
/// What is not usable, at the start. Nothing that a client does.
pub async fn run(config: Config, ready: impl FnOnce(Bound), shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    run_within(Bounds::default(), config, ready, shutdown).await
}

/// What a running origin keeps within.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bounds {
    /// The listeners'.
    pub(crate) front: Settings,
    /// The wire's.
    pub(crate) wire: Limits,
}

/// Runs an origin as [`run`] does, within `bounds`.
pub(crate) async fn run_within(
    bounds: Bounds,
    config: Config,
    ready: impl FnOnce(Bound),
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    // Sockets first: a bad address fails before anything is opened.
    let sockets =
        Sockets::bind(&Addresses { https: config.listen.clone(), http: Vec::new(), udp_sockets: 1, generations: 1 })?;
    let listeners = config.admin.iter().map(|address| {
        let path = PathBuf::from(format!("{address:?}"));
        Listener::bind(address).map_err(|error| Error::File {
            what: "the admin address",
            path,
            cause: error.to_string(),
        })
    });
    let listeners = listeners.collect::<Result<Vec<_>, _>>()?;
    let (chain, key) = (secret_path(&config.tls_chain), secret_path(&config.tls_key));
    let certificates = Certificates::load(&[Files { chain, key, ocsp: None }])?;
    let catalog = Arc::new(open(&config).await?);
    let audit_path = config.state.join("audit.jsonl");
    let audit = Audit::open(&audit_path).map_err(|error| file("the audit", audit_path, &error.to_string()))?;
    let (fleet, metrics) = (Fleet::default(), Arc::new(Metrics::new()));
    let (end, ending) = watch::channel(false);
    let acme = Acme::default();
    acme.reload(&catalog.heads).await.map_err(Error::State)?;
    let purges = Purges::open(&catalog.heads, catalog.view().apps.keys()).await.map_err(Error::State)?;
    let told = (acme.clone(), purges);
    let wire = Wire::new(Arc::clone(&catalog), audit, fleet.clone(), told, Arc::clone(&metrics), ending, bounds.wire);
    let health = Arc::new(Health { catalog: Arc::clone(&catalog), fleet: fleet.clone(), metrics, certificates });
    let bound =
        Bound { wire: sockets.tls_addresses(), admin: listeners.iter().filter_map(Listener::address).collect() };
    let mut tasks = tokio::task::JoinSet::new();
    for listener in listeners {
        let health = Arc::clone(&health);
        tasks.spawn(async move { match admin::serve(listener, health).await {} });
    }
    tasks.spawn(follow(Arc::clone(&catalog), acme));
    tasks.spawn(keep(Arc::clone(&catalog), fleet, Arc::clone(&health)));
    tracing::info!(wire = ?bound.wire, admin = ?bound.admin, seq = catalog.view().seq(), "the origin listens");
    ready(bound);
    let stop = async {
        shutdown.await;
        end.send_replace(true);
    };
    let certificates = Arc::clone(&health.certificates);
    eyot_front::run(sockets, certificates, bounds.front, Arc::new(wire), stop).await?;
    tasks.shutdown().await;
    Ok(())
}

fn file(what: &'static str, path: PathBuf, cause: &str) -> Error {
    Error::File { what, path, cause: cause.to_owned() }
}

/// Opens the state, and checks all of it.
async fn open(config: &Config) -> Result<Kept, Error> {
    let root = root(&config.root)?;
    let signer = Signer::load(&config.keys, config.expiry)?;
    std::fs::create_dir_all(&config.state)
        .map_err(|error| file("the state folder", config.state.clone(), &error.to_string()))?;
    let heads = RedbHeads::open(&config.state.join("heads.redb"))?;
    let blobs = FileBlobs::open(&config.state.join("blobs")).map_err(|error| Error::State(error.into()))?;
    Catalog::open(heads, blobs, signer, root, config.quotas).await.map_err(Error::State)
}

fn root(path: &std::path::Path) -> Result<Bytes, Error> {
    let failed = |cause: String| file("the root", path.to_owned(), &cause);
    let size = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if size > ROOT_BYTES_MAX {
        return Err(failed(format!("more than {ROOT_BYTES_MAX} bytes")));
    }
    std::fs::read(path).map(Bytes::from).map_err(|error| failed(error.to_string()))
}

/// Takes in what other origins committed.
async fn follow(catalog: Arc<Kept>, acme: Acme) {
    let mut swaps = catalog.heads.watch();
    while swaps.changed().await.is_ok() {
        if let Err(denied) = acme.reload(&catalog.heads).await {
            tracing::warn!(cause = %denied, "challenges that other origins took are not told");
        }
        if let Err(denied) = catalog.reload().await {
            tracing::error!(cause = %denied, "the newest state is not taken in; the last one is served");
            tokio::time::sleep(Duration::from_millis(AGAIN_MS)).await;
        }
    }
}

/// Signs anew what is due, takes the steps whose bakes have passed, and reads the certificate again every hour.
async fn keep(catalog: Arc<Kept>, fleet: Fleet, health: Arc<Health>) {
    let holder = format!("{}-{}", std::process::id(), Timestamp::now().as_nanosecond());
    let mut rounds = 0_u64;
    loop {
        tokio::time::sleep(Duration::from_millis(KEEP_MS)).await;
        rounds += 1;
        if rounds.is_multiple_of(HOUR_ROUNDS) {
            hourly(&catalog, &fleet, &health, &holder).await;
        }
        let now = Timestamp::now();
        if !catalog.is_due(&catalog.view(), now) {
            continue;
        }
        let done = match catalog.heads.lease("keep", &holder, LEASE_MS).await {
            Ok(true) => catalog.run(&Job::Keep, now).await.map(drop),
            Ok(false) => Ok(()),
            Err(error) => Err(error.into()),
        };
        if let Err(denied) = done {
            tracing::error!(cause = %denied, "what is due was not signed");
            tokio::time::sleep(Duration::from_millis(AGAIN_MS)).await;
        }
    }
}

/// Reads the certificate anew, and removes what nothing names any more.
async fn hourly(catalog: &Kept, fleet: &Fleet, health: &Health, holder: &str) {
    fleet.keep_only(&catalog.view());
    if let Err(error) = health.certificates.reload() {
        tracing::error!(%error, "the certificate is not read anew; the last one is used");
    }
    let swept = match catalog.heads.lease("keep", holder, LEASE_MS).await {
        Ok(true) => catalog.sweep(Timestamp::now()).await,
        Ok(false) => Ok(0),
        Err(error) => Err(error.into()),
    };
    match swept {
        Ok(0) => {}
        Ok(blobs) => tracing::info!(blobs, "blobs that nothing names any more were removed"),
        Err(denied) => tracing::warn!(cause = %denied, "nothing was swept"),
    }
}

/// What health and metrics are made of.
struct Health {
    catalog: Arc<Kept>,
    fleet: Fleet,
    metrics: Arc<Metrics>,
    certificates: Arc<Certificates>,
}

impl Status for Health {
    fn unready(&self) -> Option<String> {
        let view = self.catalog.view();
        if view.seq() == 0 {
            return Some("no targets were uploaded yet: the operator uploads them".to_owned());
        }
        let online = ["root", "snapshot", "targets", "timestamp"];
        let expired = view.trust.expired(Timestamp::now());
        let (role, at) = expired.into_iter().find(|(role, _)| online.contains(&role.as_str()))?;
        Some(format!("`{role}` expired at {at}"))
    }

    fn metrics(&self) -> String {
        let seconds =
            |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        let certificates: Vec<_> =
            self.certificates.expiries().into_iter().map(|(name, at)| (name, seconds(at))).collect();
        self.metrics.render(&self.catalog.view(), &self.fleet, &certificates, Timestamp::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::house::{House, certificate};

    #[tokio::test(start_paused = true)]
    async fn the_certificate_is_read_anew_every_hour_and_one_of_no_use_leaves_the_old() {
        let house = House::new();
        let config = house.config();
        let catalog = Arc::new(open(&config).await.unwrap_or_else(|error| panic!("{error}")));
        let (chain, key) = (secret_path(&config.tls_chain), secret_path(&config.tls_key));
        let certificates = Certificates::load(&[Files { chain, key, ocsp: None }]).expect("a certificate");
        let (fleet, metrics) = (Fleet::default(), Arc::new(Metrics::new()));
        let health =
            Health { catalog: Arc::clone(&catalog), fleet: fleet.clone(), metrics, certificates: certificates.clone() };
        let keeping = tokio::spawn(keep(catalog, fleet, Arc::new(health)));
        let names = || certificates.expiries().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        let first = names();
        certificate(house.folder.path(), "second.example.com");
        tokio::time::sleep(Duration::from_millis(3_599_500)).await;
        assert_eq!(names(), first, "the hour is not over");
        tokio::time::sleep(Duration::from_secs(1)).await;
        let second = names();
        assert_ne!(second, first);
        std::fs::write(house.folder.path().join("tls.key"), "no key").expect("a file");
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(names(), second, "the old one stays");
        certificate(house.folder.path(), "third.example.com");
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_ne!(names(), second, "and the next that is good is taken");
        keeping.abort();
    }
}
