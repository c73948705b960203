//! One call of a function: what it is given, and what it spends.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use eyot_bundle::digest::Digest;
use eyot_bundle::name::Name;
use eyot_bundle::release::{Limits, Reuse};
use eyot_plan::body::Body;
use eyot_plan::fault::Fault;
use http::Request;

use crate::doors::Doors;
use crate::tree::Tree;

/// A call.
pub struct Call {
    /// What is called.
    pub function: Arc<Function>,
    /// The request; its URI is absolute.
    pub request: Request<Body>,
    /// What it may use.
    pub doors: Doors,
    /// Where it says what it spends.
    pub meter: Arc<Meter>,
    /// Dropped when the guest is gone and the meter is complete, or when it was not run at all.
    pub witness: Box<dyn Send>,
    /// The request's id, for the log.
    pub request_id: String,
    /// The tree of calls it belongs to. At depth 0 its own begins here, within this one if there is one.
    pub tree: Option<Arc<Tree>>,
    /// How deep in its tree it is: 0 for one that is asked from outside, one more for each that is called by name.
    pub depth: u8,
}

/// A function of a release, as far as running it goes.
#[derive(Clone)]
pub struct Function {
    /// Its app.
    pub app: Name,
    /// Its name.
    pub name: Name,
    /// The release it is of.
    pub release: u64,
    /// The digest of the component's bytes.
    pub code: Digest,
    /// What one call may spend.
    pub limits: Limits,
    /// Its environment.
    pub env: Vec<(String, String)>,
    /// What `wasi:config` tells it.
    pub config: Vec<(String, String)>,
    /// How often one instance of it is used.
    pub reuse: Reuse,
}

impl fmt::Debug for Function {
    /// The environment and the configuration show their names only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |pairs: &[(String, String)]| pairs.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        let (env, config) = (names(&self.env), names(&self.config));
        let Self { app, name, release, code, limits, env: _, config: _, reuse } = self;
        write!(f, "Function({app}/{release} {name}, {code}, {limits:?}, {env:?}, {config:?}, {reuse:?})")
    }
}

/// What is left of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remaining {
    /// CPU, in microseconds.
    pub cpu_us: u64,
    /// Outbound requests.
    pub subrequests: u32,
}

impl Remaining {
    /// The smaller of each.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self { cpu_us: self.cpu_us.min(other.cpu_us), subrequests: self.subrequests.min(other.subrequests) }
    }
}

/// What a call has spent so far, and how it ended. It is complete when the guest is gone, which [`Call::witness`] tells:
/// what a guest spends after its answer still arrives here.
#[derive(Debug, Default)]
pub struct Meter {
    cpu_ns: AtomicU64,
    memory_bytes: AtomicU64,
    subrequests: AtomicU64,
    fault: OnceLock<Fault>,
}

impl Meter {
    /// Thread CPU time, in microseconds: instantiating, the guest, host calls on its behalf, dropping.
    pub fn cpu_us(&self) -> u64 {
        self.cpu_ns.load(Ordering::Relaxed) / 1000
    }

    /// The most memory it had at once, in bytes: all linear memories and tables.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes.load(Ordering::Relaxed)
    }

    /// Outbound requests.
    pub fn subrequests(&self) -> u64 {
        self.subrequests.load(Ordering::Relaxed)
    }

    /// The fault that the guest ended in, whether or not the response told it. None while it runs, when it ended well, and
    /// when it was ended because nobody waited for it any longer.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.get()
    }

    pub(crate) fn ended_in(&self, fault: &Fault) {
        let _ = self.fault.set(fault.clone());
    }

    pub(crate) fn add_cpu_ns(&self, ns: u64) {
        self.cpu_ns.fetch_add(ns, Ordering::Relaxed);
    }

    pub(crate) fn saw_memory_bytes(&self, bytes: u64) {
        self.memory_bytes.fetch_max(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add_subrequest(&self) {
        self.subrequests.fetch_add(1, Ordering::Relaxed);
    }
}
