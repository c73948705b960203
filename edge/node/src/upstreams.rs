//! The upstreams of this node's apps: what is known of their servers, and who asks these how they are. What is known
//! outlives a release; it ends when no entry names the upstream any more.
//!
//! Who is asked, and what a failure means, is decided in `plan::upstream`.

mod permit;
mod probe;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use eyot_bundle::name::Name;
use eyot_bundle::release::upstream as released;
use eyot_bundle::web_origin::{WebOrigin, WebOriginError};
use eyot_fetch::Fetch;
use eyot_plan::upstream::{Ask, Outcome, Servers, Unavailable};
use eyot_plan::way::Way;
use tokio::task::JoinSet;

use crate::telemetry::Text;
pub(crate) use permit::{Permit, Watched};

/// All upstreams.
pub struct Upstreams {
    fetch: Fetch,
    fleet: String,
    known: Mutex<HashMap<(Name, Name), Weak<Upstream>>>,
}

/// An upstream of an app.
pub struct Upstream {
    /// Its app, as a label.
    app: Text,
    /// Its name, as a label.
    pub label: Text,
    /// What its release says of it.
    pub released: released::Upstream,
    /// How requests to it leave.
    pub way: Way,
    /// Its servers: `https://api-1.internal:8443`.
    origins: Vec<WebOrigin>,
    servers: Mutex<Servers>,
    /// What its clock counts from.
    began: Instant,
    /// Those who ask its servers how they are.
    probes: Mutex<JoinSet<()>>,
}

impl Upstreams {
    /// None yet.
    pub fn new(fetch: Fetch, fleet: String) -> Self {
        Self { fetch, fleet, known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<(Name, Name), Weak<Upstream>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The upstream `name` of the app of `way`, as a release says it: the one that is there if it is the same, else a new
    /// one that knows what that knew.
    ///
    /// # Errors
    /// A server that is none: the release was not verified.
    pub fn of(&self, name: &Name, said: &released::Upstream, way: Way) -> Result<Arc<Upstream>, WebOriginError> {
        let mut known = self.known();
        known.retain(|_, upstream| upstream.strong_count() > 0);
        let key = (way.app.clone(), name.clone());
        let before = known.get(&key).and_then(Weak::upgrade);
        let is_like = |before: &&Arc<Upstream>| before.way.identity() == way.identity();
        let before = before.as_ref().filter(is_like);
        if let Some(same) = before.filter(|before| before.released == *said) {
            return Ok(Arc::clone(same));
        }
        let began = before.map_or_else(Instant::now, |before| before.began);
        let mut servers = Servers::new(said, now_ms(began));
        if let Some(before) = before {
            servers.inherit(&before.servers(), now_ms(began));
        }
        let upstream = Arc::new(Upstream {
            app: way.app.as_str().to_owned().into(),
            label: name.as_str().to_owned().into(),
            released: said.clone(),
            way,
            origins: said.servers.iter().map(|text| text.parse()).collect::<Result<_, _>>()?,
            servers: Mutex::new(servers),
            began,
            probes: Mutex::default(),
        });
        probe::begin(&upstream, &self.fetch, &self.fleet);
        known.insert(key, Arc::downgrade(&upstream));
        Ok(upstream)
    }

    /// Which servers are healthy, as Prometheus' text format.
    pub fn render(&self) -> String {
        const NAME: &str = "eyot_upstream_healthy";
        let mut text =
            format!("# HELP {NAME} 1 for a server that is asked, 0 for one that is out.\n# TYPE {NAME} gauge\n");
        let mut all: Vec<_> = self.known().values().filter_map(Weak::upgrade).collect();
        all.sort_by(|one, other| (&one.app, &one.label).cmp(&(&other.app, &other.label)));
        for upstream in all {
            let Upstream { app, label, .. } = &*upstream;
            for (server, is_healthy) in upstream.servers().healthy() {
                let healthy = u8::from(is_healthy);
                // A server past the parser holds nothing that is to be escaped.
                let _ = writeln!(text, "{NAME}{{app=\"{app}\",upstream=\"{label}\",server=\"{server}\"}} {healthy}");
            }
        }
        text
    }
}

impl Upstream {
    fn servers(&self) -> MutexGuard<'_, Servers> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        now_ms(self.began)
    }

    /// A request begins.
    pub(crate) fn begins(&self) {
        self.servers().begins();
    }

    /// Whether one more try is within the budget; it is drawn.
    pub(crate) fn retries(&self) -> bool {
        self.servers().retries(self.now_ms())
    }

    /// Chooses a server for a request that hashes to `key` and was tried at some.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn choose(self: &Arc<Self>, key: u64, tried: &[usize]) -> Result<Permit, Unavailable> {
        let random = RandomState::new().hash_one(key);
        let ask = Ask { now_ms: self.now_ms(), random, key, tried };
        let chosen = self.servers().choose(&ask)?;
        Ok(Permit::new(Arc::clone(self), chosen))
    }

    /// Changes what is known of the servers, and tells the log whom it turned.
    fn change(&self, change: impl FnOnce(&mut Servers, u64)) {
        let mut servers = self.servers();
        let before: Vec<_> = servers.healthy().map(|(_, is_healthy)| is_healthy).collect();
        change(&mut servers, self.now_ms());
        for ((server, is_healthy), before) in servers.healthy().zip(before) {
            if is_healthy != before {
                let (app, upstream) = (&*self.app, &*self.label);
                tracing::info!(app, upstream, server, healthy = is_healthy, "a server of an upstream turned");
            }
        }
    }

    fn ended(&self, chosen: eyot_plan::upstream::Chosen, outcome: Outcome) {
        self.change(|servers, now_ms| servers.ended(chosen, now_ms, outcome));
    }

    fn probed(&self, server: usize, is_good: bool) {
        self.change(|servers, now_ms| servers.probed(server, now_ms, is_good));
    }
}

fn now_ms(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}
