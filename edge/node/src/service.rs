//! A node as a service of its own process: log, runtime, signals, and what the service manager wants to be told.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Config;
use crate::log::{self, LogError};
use crate::run::{Error, Running, run};
use crate::secrets;
use crate::sockets::{Sockets, SocketsError};
use crate::upgrade::{Upgrades, take};

/// Why the service ended badly.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Its log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The node.
    #[error(transparent)]
    Node(#[from] Error),
    /// The threads of its I/O, or its signals.
    #[error("the runtime cannot be set up")]
    Runtime(#[source] std::io::Error),
}

/// Runs a node until SIGTERM or SIGINT. SIGHUP reads the certificates again. Returns when all requests have ended, or the
/// time to drain is over.
///
/// # Errors
/// What keeps it from starting.
pub fn serve(config: Config) -> Result<(), ServiceError> {
    let _log = log::start(config.log.level)?;
    if let Err(error) = secrets::no_core() {
        tracing::warn!(%error, "a core of this process would hold its memory, and so secrets; switch cores off (LimitCORE=0)");
    }
    let sockets = match take::heir().map_err(|error| Error::from(SocketsError::Inherited(error)))? {
        Some((heir, handed)) => Sockets::handed(&config.listen, heir, handed),
        None => Sockets::inherit(&config.listen),
    };
    let sockets = sockets.map_err(Error::from)?;
    // A process that takes over is not the manager's to hear; the one before says its name.
    let is_heir = sockets.heir.is_some();
    let runtime = tokio::runtime::Builder::new_multi_thread().thread_name("eyot-io").enable_all().build();
    let runtime = runtime.map_err(ServiceError::Runtime)?;
    runtime.block_on(async {
        let mut hangup = signal(SignalKind::hangup()).map_err(ServiceError::Runtime)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(ServiceError::Runtime)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(ServiceError::Runtime)?;
        let ready = move |running: Running| {
            tracing::info!(https = ?running.https, http = ?running.http, admin = ?running.admin, "listening");
            let running = Arc::new(running);
            tokio::spawn(watchdog(Arc::clone(&running.upgrades)));
            tokio::spawn(async move {
                while hangup.recv().await.is_some() {
                    running.reload();
                }
            });
            if !is_heir {
                tell(&[NotifyState::Ready]);
            }
        };
        let shutdown = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("draining");
            tell(&[NotifyState::Stopping]);
        };
        Ok(run(config, sockets, ready, shutdown).await?)
    })
}

/// Tells the service manager, if there is one.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager was not told");
    }
}

/// Says twice in each of its periods that the I/O runtime still turns.
async fn watchdog(upgrades: Arc<Upgrades>) {
    let Some(period) = sd_notify::watchdog_enabled().filter(|period| *period > Duration::from_millis(2)) else {
        return;
    };
    let mut ticks = tokio::time::interval(period / 2);
    loop {
        ticks.tick().await;
        if upgrades.is_handed_over() {
            // Now it is for the process that has taken over to say.
            return;
        }
        tell(&[NotifyState::Watchdog]);
    }
}
