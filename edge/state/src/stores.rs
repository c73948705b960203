//! The stores of a node: its engines, and the way to open one.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use eyot_bundle::release::Engine;

use crate::ask::{Ask, Bound, Said};
use crate::error::Error;
use crate::nats::{self, Nats, Queues};
use crate::node::{self, Clock, Line};
use crate::redis::{self, Redis};
use crate::store::Store;

/// What a node has for stores.
#[derive(Debug)]
pub struct Options {
    /// The file of the engine `node`.
    pub file: PathBuf,
    /// The NATS that the operator runs.
    pub nats: Option<Nats>,
    /// The Redis or Valkey that the operator runs.
    pub redis: Option<Redis>,
    /// The time, for values that do not live for ever.
    pub clock: Clock,
}

/// Why there can be no stores as they were configured.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct OpenError(pub(crate) String);

/// The stores of a node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Stores {
    node: Arc<node::Place>,
    nats: Option<Arc<nats::Servers>>,
    redis: Option<Arc<redis::Server>>,
}

/// The engine that keeps a store.
#[derive(Clone)]
pub(crate) enum Kept {
    Nats(Arc<nats::Bucket>),
    Node(Arc<node::Place>),
    Redis(Arc<redis::Server>),
}

/// An answer under way.
pub(crate) type Asking<'a> = Pin<Box<dyn Future<Output = Result<Said, Error>> + Send + 'a>>;

impl Kept {
    pub(crate) fn ask<'a>(&'a self, bound: &'a Arc<Bound>, ask: Ask) -> Asking<'a> {
        match self {
            Self::Nats(bucket) => Box::pin(bucket.ask(bound, ask)),
            Self::Node(place) => Box::pin(place.ask(bound, ask)),
            Self::Redis(server) => Box::pin(server.ask(bound, ask)),
        }
    }
}

impl Stores {
    /// The stores of these engines. Nothing is opened or connected yet: the file with [`Stores::open_here`] or
    /// [`Stores::lend`], servers when they are first asked.
    ///
    /// # Errors
    /// When a URL or credential is none.
    pub fn new(options: Options) -> Result<Self, OpenError> {
        Ok(Self {
            node: Arc::new(node::Place::new(options.file, options.clock)),
            nats: options.nats.map(nats::Servers::new).transpose()?.map(Arc::new),
            redis: options.redis.as_ref().map(redis::Server::new).transpose()?.map(Arc::new),
        })
    }

    /// The queues; none: this node has no NATS.
    pub fn queues(&self) -> Option<Queues> {
        self.nats.clone().map(Queues::new)
    }

    /// Whether this node has an engine.
    pub fn has(&self, engine: Engine) -> bool {
        match engine {
            Engine::Nats => self.nats.is_some(),
            Engine::Node => true,
            Engine::Redis => self.redis.is_some(),
        }
    }

    /// The store `bound`; none: this node does not have its engine. Nobody is asked yet.
    pub fn store(&self, bound: Bound) -> Option<Store> {
        let kept = match bound.spec.engine {
            Engine::Nats => Kept::Nats(self.nats.as_ref()?.bucket(&bound)),
            Engine::Node => Kept::Node(Arc::clone(&self.node)),
            Engine::Redis => Kept::Redis(Arc::clone(self.redis.as_ref()?)),
        };
        Some(Store::new(bound, kept))
    }

    /// Opens the file: this process is the one that has it. What was asked meanwhile is answered then.
    ///
    /// # Errors
    /// Why it cannot be opened. What is asked of the engine `node` is then `Unavailable`, and this may be called again.
    pub async fn open_here(&self) -> Result<(), OpenError> {
        self.node.open().await
    }

    /// Closes the file so that another process may open it: what is under way is finished, what is asked from now on waits
    /// until [`Stores::lend`] or [`Stores::open_here`].
    pub async fn close_here(&self) {
        self.node.close().await;
    }

    /// From now on asks the process at the other end of `line`, which has the file.
    pub fn lend(&self, line: Line) {
        self.node.lend(line);
    }

    /// Answers what is asked at the other end of `line`, until that ends.
    pub async fn answer(&self, line: Line) {
        node::answer(Arc::clone(&self.node), line).await;
    }
}
