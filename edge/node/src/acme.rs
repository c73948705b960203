//! Certificates from an authority that speaks ACME (RFC 8555), for the names that the operator's config has and no others.
//! One node of the fleet orders at a time, whoever has the lease of the origin; where nodes share a seal, all answer
//! its challenges and take what it gets.
//!
//! It runs beside the request line on a thread of its own, and is never waited for. An authority, an origin or a disk
//! that fails takes nothing away from what serves.

mod answers;
mod facts;
mod held;
mod http;
mod keep;
mod order;
mod seal;
mod store;
mod when;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use eyot_front::Certificates;
use eyot_link::client::Client;
use eyot_link::tls::Authorities;
use tokio::sync::oneshot;

pub use answers::Answers;
pub use facts::Facts;

use crate::config::secret::SecretError;
use crate::config::{Acme, Config};
use http::Http;
use keep::Keeper;
use seal::Seal;
use store::Store;

/// Why certificates cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file it was told of, its state, or its thread.
    #[error("ACME: {what}")]
    Io {
        /// Which one.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The key that nodes share.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// What is ready to keep certificates: those that were kept are in use, and challenges of other nodes can be answered.
pub struct Ready {
    keeper: Option<Keeper>,
    answers: Answers,
    facts: Facts,
}

/// Certificates that are kept. Dropped, it ends: an order on its way is left, what is kept stays.
pub struct Service {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ready {
    /// Takes up what the node's state has. `origin` makes the client by which nodes hear of each other.
    ///
    /// # Errors
    /// What is wrong with what the node was told; nobody is asked yet.
    pub fn new(
        config: &Config,
        certificates: &Arc<Certificates>,
        origin: impl FnOnce() -> Result<Client, crate::pull::service::ServiceError>,
    ) -> Result<Self, crate::run::Error> {
        let facts = Facts::default();
        let Some(acme) = &config.tls.acme else {
            return Ok(Self { keeper: None, answers: Answers::default(), facts });
        };
        let origin = origin()?;
        let seal = acme.share.as_ref().map(|share| share.key().map(Seal::new)).transpose()?;
        let state = &config.node.state;
        let store = Store::open(state).map_err(failed(format!("the state in {}", state.display())))?;
        let names = acme.names.iter().cloned().collect();
        let answers = Answers::new(certificates.challenges(), names, seal.clone(), Some(origin.clone()));
        let mut keeper = Keeper {
            http: Http::new(authorities(acme)?),
            config: acme.clone(),
            node: config.node.id.clone(),
            store,
            certificates: Arc::clone(certificates),
            answers: answers.clone(),
            facts: facts.clone(),
            seal,
            origin,
            account: None,
            names: BTreeMap::new(),
        };
        keeper.load();
        Ok(Self { keeper: Some(keeper), answers, facts })
    }

    /// The challenges that this node answers.
    pub fn answers(&self) -> Answers {
        self.answers.clone()
    }

    /// How each name's certificate is.
    pub fn facts(&self) -> Facts {
        self.facts.clone()
    }

    /// Begins to keep them.
    ///
    /// # Errors
    /// When the thread does not start.
    pub fn start(self) -> Result<Service, Error> {
        let Some(mut keeper) = self.keeper else { return Ok(Service { stop: None, thread: None }) };
        // What another process of this node has kept meanwhile.
        keeper.load();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(failed("its runtime".to_owned()))?;
        let (stop, stopped) = oneshot::channel::<()>();
        let work = async move {
            tokio::select! {
                _ = stopped => {}
                () = keeper.run() => {}
            }
        };
        let thread = std::thread::Builder::new().name("eyot-acme".to_owned()).spawn(move || runtime.block_on(work));
        Ok(Service { stop: Some(stop), thread: Some(thread.map_err(failed("its thread".to_owned()))?) })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Its panic was counted by the hook.
            let _ = thread.join();
        }
    }
}

/// Who may sign for the directory: the authorities that browsers trust, or those of the config.
fn authorities(acme: &Acme) -> Result<Authorities, Error> {
    let Some(ca) = &acme.ca else { return Ok(Authorities::Public) };
    let pem = std::fs::read(ca).map_err(failed(format!("`tls.acme.ca` in {}", ca.display())))?;
    Ok(Authorities::Pem(pem))
}

fn failed(what: String) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { what, source }
}
