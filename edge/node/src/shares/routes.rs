//! What the routes of an app count, and how much they compress at once.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use eyot_bundle::release::policy::Rate;
use eyot_plan::policy::rate;
use eyot_plan::windows::{Counted, Key, Windows};
use http::HeaderMap;
use tokio::sync::Semaphore;

use super::{Share, lock};

/// Keys that the routes of one app count at once: clients, mostly.
const KEYS_MAX: usize = 100_000;
/// Answers of one app that are compressed at once; the others are sent as they are.
const COMPRESSORS_MAX: usize = 128;

/// What the routes of an app have together.
pub(super) struct Routes {
    windows: Mutex<Windows>,
    compressors: Arc<Semaphore>,
}

impl Default for Routes {
    fn default() -> Self {
        let windows = Mutex::new(Windows::new(KEYS_MAX));
        Self { windows, compressors: Arc::new(Semaphore::new(COMPRESSORS_MAX)) }
    }
}

impl Share {
    /// Counts a request for the route that `id` stands for.
    pub(crate) fn take(&self, rate: &Rate, id: &str, client: IpAddr, headers: &HeaderMap) -> rate::Verdict {
        rate::take(&mut lock(&self.0.routes.windows), rate, id, client, headers, self.0.now_us() / 1000)
    }

    /// How it is with what a route counts.
    pub(crate) fn look(&self, key: &Key) -> Counted {
        lock(&self.0.routes.windows).look(key, self.0.now_us() / 1000)
    }

    /// Counts one more of it.
    pub(crate) fn count(&self, key: &Key) {
        lock(&self.0.routes.windows).take(key, 1, self.0.now_us() / 1000);
    }

    /// A permit for each answer that is compressed.
    pub(crate) fn compressors(&self) -> &Arc<Semaphore> {
        &self.0.routes.compressors
    }
}
