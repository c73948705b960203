//! Asking servers how they are: `GET` of a path, again and again, by the way that requests take. It ends with the upstream.

use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use eyot_bundle::release::upstream::{Health, Timeouts};
use eyot_fetch::Fetch;
use eyot_plan::body;
use eyot_plan::fault::Fault;
use eyot_plan::forward;
use eyot_plan::way::Way;
use http::Request;
use http_body_util::{BodyExt as _, Limited};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use super::Upstream;
use crate::proxy;

/// The body of an answer that is read so that its connection can be used again, in bytes.
const BODY_BYTES_MAX: usize = 64 << 10;

/// Begins to ask the servers, if the release says so.
pub(super) fn begin(upstream: &Arc<Upstream>, fetch: &Fetch, fleet: &str) {
    let (Some(health), Ok(runtime)) = (&upstream.released.health, Handle::try_current()) else { return };
    let mut probes = upstream.probes.lock().unwrap_or_else(PoisonError::into_inner);
    for server in 0..upstream.origins.len() {
        let asking =
            Asking { upstream: Arc::downgrade(upstream), fetch: fetch.clone(), fleet: fleet.to_owned(), server };
        probes.spawn_on(asking.run(health.clone()), &runtime);
    }
}

/// Asks one server.
struct Asking {
    upstream: Weak<Upstream>,
    fetch: Fetch,
    fleet: String,
    server: usize,
}

impl Asking {
    async fn run(self, health: Health) {
        let mut is_well = true;
        loop {
            let Some(upstream) = self.upstream.upgrade() else { return };
            let answered = timeout(Duration::from_millis(health.timeout_ms), self.once(&upstream, &health)).await;
            let found = answered.unwrap_or_else(|_| Err("no answer in time".to_owned()));
            if let (Err(reason), true) = (&found, is_well) {
                let (app, name, server) = (&*upstream.app, &*upstream.label, &*upstream.released.servers[self.server]);
                tracing::info!(app, upstream = name, server, reason, "a server does not answer its probe");
            }
            is_well = found.is_ok();
            upstream.probed(self.server, is_well);
            drop(upstream);
            sleep(Duration::from_millis(health.interval_ms)).await;
        }
    }

    /// Asks once: what is wrong with the answer.
    async fn once(&self, upstream: &Upstream, health: &Health) -> Result<(), String> {
        let said = |fault: Fault| fault.to_string();
        let origin = upstream.origins.get(self.server).ok_or("there is no such server")?;
        let path = health.path.parse().map_err(|_| "the path is none")?;
        let mut request = Request::get(proxy::at(origin, &path).map_err(said)?);
        if let Some(headers) = request.headers_mut() {
            forward::probe_out(headers, &self.fleet);
        }
        let request = request.body(body::empty()).map_err(|error| error.to_string())?;
        let ms = health.timeout_ms;
        let timeouts = Timeouts { connect_ms: ms, first_byte_ms: ms, total_ms: ms, ..upstream.way.timeouts };
        // A server that is busy is not one that is down: a probe does not stand in line.
        let way = Way { timeouts, bound: None, ..upstream.way.clone() };
        let response = self.fetch.send(&way, request).await.map_err(said)?;
        let status = response.status().as_u16();
        // What is longer than this is not read: its connection ends.
        let _ = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
        if health.expect.holds(status) { Ok(()) } else { Err(format!("status {status}")) }
    }
}
