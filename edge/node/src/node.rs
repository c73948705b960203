//! What one node is made of: the parts that the request line, the pull and the admin share. It holds them and does
//! nothing itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use eyot_bundle::grant::Grant;
use eyot_bundle::refusal::Refusal;
use eyot_bundle::release::{Limits, Release};
use eyot_cache::rooms::Rooms;
use eyot_fetch::Fetch;
use eyot_guest::Runtime;
use tokio::sync::Semaphore;

use crate::access;
use crate::blobs::Blobs;
use crate::cached::disk::Tier;
use crate::config::Config;
use crate::edge::Here;
use crate::entry::{Entry, Ground};
use crate::purge::Purger;
use crate::secrets::Vault;
use crate::shares::Shares;
use crate::shield::Shields;
use crate::snapshot::Snapshots;
use crate::telemetry::Telemetry;
use crate::upstreams::Upstreams;

/// A node.
pub struct Node {
    /// What it was told.
    pub config: Config,
    /// Its metrics.
    pub telemetry: Arc<Telemetry>,
    /// Its access log.
    pub access: Arc<access::Log>,
    /// What answers.
    pub snapshots: Arc<Snapshots>,
    /// What each app may use.
    pub shares: Shares,
    /// What runs functions.
    pub runtime: Runtime,
    /// The way out.
    pub fetch: Fetch,
    /// What is known of upstreams.
    pub upstreams: Upstreams,
    /// The nodes that it asks, and that ask it.
    pub shields: Arc<Shields>,
    /// What opens secrets.
    pub vault: Vault,
    /// The blobs on its disk.
    pub blobs: Blobs,
    /// The engines that keep the stores of apps.
    pub stores: eyot_state::Stores,
    /// What functions are told of it.
    pub here: Arc<Here>,
    /// What is kept of answers.
    pub rooms: Rooms,
    /// What is kept of them on disk.
    pub tier: Tier,
    /// Permits of those who ask anew for what answers meanwhile.
    pub(crate) later: Arc<Semaphore>,
    /// Itself, for what goes on when a request has its answer; set once it runs.
    pub(crate) me: OnceLock<Weak<Node>>,
    /// What purges.
    pub purger: Arc<Purger>,
    /// Whether it takes requests.
    pub ready: Ready,
}

impl Node {
    /// The entry of `release` under `grant`, with this node's ceilings, ready to be put into the snapshot.
    ///
    /// # Errors
    /// A refusal, if the release was not verified.
    pub fn entry(&self, release: &Release, grant: &Grant) -> Result<Arc<Entry>, Refusal> {
        let limits = &self.config.limits;
        // What the node's config does not name has the widest value.
        let ceilings = Limits {
            cpu_us: limits.cpu_us,
            wall_ms: limits.wall_ms,
            memory_bytes: limits.memory_bytes,
            idle_ms: u64::MAX,
            subrequests: u32::MAX,
            body_bytes: u64::MAX,
            header_bytes: u64::MAX,
        };
        let share = self.shares.of(&release.app, &grant.share);
        let ground = Ground {
            ceilings,
            vault: &self.vault,
            blobs: &self.blobs,
            stores: &self.stores,
            upstreams: &self.upstreams,
            rooms: &self.rooms,
            telemetry: &self.telemetry,
            allow_private: &self.config.egress.allow_private,
        };
        Entry::build(&ground, release, grant, share).map(Arc::new)
    }
}

/// Whether a node takes requests: `/readyz`.
#[derive(Debug, Default)]
pub struct Ready {
    loaded: AtomicBool,
    draining: AtomicBool,
}

impl Ready {
    /// The apps of the ledger are loaded, or the first sync is done.
    pub fn loaded(&self) {
        self.loaded.store(true, Ordering::Release);
    }

    /// Sends traffic elsewhere, or lets it come back.
    pub fn drain(&self, draining: bool) {
        self.draining.store(draining, Ordering::Release);
    }

    /// Whether it drains.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Whether requests should be sent here.
    pub fn is_ready(&self) -> bool {
        self.loaded.load(Ordering::Acquire) && !self.is_draining()
    }
}
