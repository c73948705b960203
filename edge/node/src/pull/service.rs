//! The pull of a whole node, on a thread and a runtime of its own, so that neither waits for the other.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use eyot_bundle::release::Release;
use eyot_link::client::{Client, Parents, Token};
use tokio::sync::oneshot;

use super::{Handle, Pull, PullError, Setup};
use crate::acme::Answers;
use crate::blobs::Blobs;
use crate::compile::{Compilers, Options};
use crate::config::Config;
use crate::config::secret::SecretError;
use crate::ledger::serving;
use crate::node::Node;
use crate::stage::Stage;
use crate::status::Status;

/// Why a node cannot begin to pull.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// A file it was told of, or its state.
    #[error("{}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its parents.
    #[error("the origin")]
    Parents(#[from] eyot_link::error::Error),
    /// What it kept.
    #[error(transparent)]
    Pull(#[from] PullError),
    /// Its token.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// A pull that runs. Dropped, it ends: what it was preparing is left, what is committed stays.
pub struct Service {
    handle: Handle,
    status: Arc<Status>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// A pull that could begin: nothing that was kept is opened yet.
pub struct Prepared {
    setup: Setup<Client, Node>,
}

impl Prepared {
    /// Compiles what is active and has no code of this build, so that it answers at once when the ledger is taken up.
    ///
    /// # Errors
    /// A refusal, and which release it is about.
    pub async fn warm(&self) -> Result<(), String> {
        let Some(serving) = serving::read(&self.setup.state) else { return Ok(()) };
        for (app, number) in &serving.apps {
            let document = serving.files.get(&format!("releases/{app}/{number}.json"));
            let release = document.and_then(|bytes| serde_json::from_slice::<Release>(bytes).ok());
            let Some(release) = release else { continue };
            for (function, parts) in release.functions {
                let warmed = self.setup.stage.warm(parts.bundle).await;
                warmed.map_err(|refusal| format!("{app}/{number}, function `{function}`: {refusal}"))?;
            }
        }
        Ok(())
    }

    /// Brings back what the node's ledger holds, then follows its origin. When this returns, what was active answers.
    ///
    /// # Errors
    /// What is wrong with what was kept; no parent is asked yet.
    pub fn start(self) -> Result<Service, ServiceError> {
        let (state, status) = (self.setup.state.clone(), Arc::clone(&self.setup.status));
        let (pull, handle) = Pull::start(self.setup)?;
        let (stop, stopped) = oneshot::channel();
        let thread = spawn(pull, stopped).map_err(|source| file(state, source))?;
        Ok(Service { handle, status, stop: Some(stop), thread: Some(thread) })
    }
}

impl Service {
    /// Makes ready what follows the node's origin. `program` is the one whose hidden verb `compile` is the compiler: this
    /// one.
    ///
    /// # Errors
    /// What is wrong with what the node was told.
    pub fn prepare(node: &Arc<Node>, answers: Answers, program: PathBuf) -> Result<Prepared, ServiceError> {
        let config = &node.config;
        let compile = &config.functions.compile;
        let options = Options {
            program,
            processes: compile.processes,
            memory_bytes: compile.memory_bytes,
            cpu_ms: compile.cpu_ms,
            threads: compile.threads,
            known: compile.known.clone(),
        };
        let state = &config.node.state;
        let blobs = Blobs::open(state).map_err(|source| file(state.join("blobs"), source))?;
        let (runtime, telemetry) = (node.runtime.clone(), Arc::clone(&node.telemetry));
        let compilers = Compilers::new(options);
        let stage = Stage::new(client(config)?, blobs, compilers, runtime, node.vault.clone(), Arc::clone(&telemetry));
        let status = Arc::<Status>::default();
        status.facts().identity = Some(node.vault.recipient());
        let setup = Setup {
            stage: Arc::new(stage),
            apps: Arc::clone(node),
            status,
            telemetry,
            node: config.node.id.clone(),
            region: config.node.region.clone(),
            state: state.clone(),
            root: read(&config.origin.root)?,
            answers,
            purger: Arc::clone(&node.purger),
            shields: Arc::clone(&node.shields),
            poll_ms: config.origin.poll_ms,
        };
        Ok(Prepared { setup })
    }

    /// What an operator may ask of it.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// What it says of itself.
    pub fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status)
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

/// The way to the node's parents, as this node. Its connections live on the runtime that asks.
///
/// # Errors
/// What is wrong with what the node was told; no parent is asked yet.
pub fn client(config: &Config) -> Result<Client, ServiceError> {
    let token = Token::new(&config.origin.token.text()?)?;
    let ca_pem = read(&config.origin.ca)?;
    let urls = config.origin.urls.clone();
    Ok(Client::new(Parents { urls, ca_pem, token: Some(token), signer: None })?)
}

fn read(path: &Path) -> Result<Vec<u8>, ServiceError> {
    std::fs::read(path).map_err(|source| file(path.to_owned(), source))
}

fn spawn(pull: Pull<Client, Node>, stopped: oneshot::Receiver<()>) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stopped = async move {
        let _ = stopped.await;
    };
    std::thread::Builder::new().name("eyot-pull".to_owned()).spawn(move || runtime.block_on(pull.run(stopped)))
}

fn file(path: PathBuf, source: io::Error) -> ServiceError {
    ServiceError::File { path, source }
}
