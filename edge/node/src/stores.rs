//! The stores of apps as their functions reach them: the door of a guest on one side, the engines of this node on the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use eyot_bundle::grant::Grant;
use eyot_bundle::name::Name;
use eyot_bundle::refusal::{Reason, Refusal};
use eyot_bundle::release::{Function, Release};
use eyot_guest::{Current, Page, Store, StoreError, Storing};
use eyot_state::{Bound, Clock, Error, Nats, OpenError, Options, Redis, Stores};

use crate::config::Config;
use crate::config::secret::SecretError;

/// The file of the stores that are this node's alone.
const FILE: &str = "stores.redb";

/// Why a node has no stores.
#[derive(Debug, thiserror::Error)]
pub enum StoresError {
    /// An engine is not as it should be.
    #[error("stores: {0}")]
    Open(#[from] OpenError),
    /// A secret of an engine.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// The engines of the config. Nothing is opened yet.
///
/// # Errors
/// When an engine is not as it should be.
pub fn stores(config: &Config) -> Result<Stores, StoresError> {
    let nats = |nats: &crate::config::Nats| {
        let credentials = nats.credentials.as_ref().map(|secret| secret.text()).transpose()?;
        Ok::<_, SecretError>(Nats { url: nats.url.0.clone(), credentials, replicas: nats.replicas })
    };
    let redis = |redis: &crate::config::Redis| {
        let password = redis.password.as_ref().map(|secret| secret.text()).transpose()?;
        Ok::<_, SecretError>(Redis { url: redis.url.0.clone(), password })
    };
    Ok(Stores::new(Options {
        file: config.node.state.join(FILE),
        nats: config.stores.nats.as_ref().map(nats).transpose()?,
        redis: config.stores.redis.as_ref().map(redis).transpose()?,
        clock: Clock::system(),
    })?)
}

/// The stores of one release, by its names for them.
#[derive(Debug, Default)]
pub struct Kept(BTreeMap<Name, eyot_state::Store>);

impl Kept {
    /// Those that `release` describes.
    ///
    /// # Errors
    /// A refusal, when this node does not have an engine that it needs.
    pub fn of(stores: &Stores, release: &Release, grant: &Grant) -> Result<Self, Refusal> {
        let open = |(name, spec): (&Name, &eyot_bundle::release::Store)| {
            let bound = Bound {
                app: release.app.clone(),
                store: name.clone(),
                spec: *spec,
                disk_bytes_max: grant.share.disk_bytes,
            };
            let lacking = || {
                let engine = spec.engine.label();
                let detail = format!("the store `{name}` needs the engine `{engine}`, which this node does not have");
                Refusal::new(Reason::Incompatible, detail)
            };
            Ok::<_, Refusal>((name.clone(), stores.store(bound).ok_or_else(lacking)?))
        };
        release.stores.iter().map(open).collect::<Result<_, _>>().map(Self)
    }

    /// Those that a function may open, by its own names for them.
    pub fn opened_by(&self, function: &Function) -> Arc<dyn eyot_guest::Stores> {
        let store = |name: &Name| self.0.get(name).map(|store| Arc::new(Opened(store.clone())));
        let named = function.stores.iter().filter_map(|(own, name)| Some((own.clone(), store(name)?)));
        Arc::new(Doors(named.collect()))
    }
}

/// The stores of a function.
struct Doors(BTreeMap<String, Arc<Opened>>);

impl eyot_guest::Stores for Doors {
    fn open(&self, name: &str) -> Option<Arc<dyn Store>> {
        self.0.get(name).map(|store| Arc::clone(store) as Arc<dyn Store>)
    }
}

/// One store, as a function asks it.
struct Opened(eyot_state::Store);

impl Opened {
    fn asked<T, F>(&self, ask: impl FnOnce(eyot_state::Store) -> F) -> Storing<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let asked = ask(self.0.clone());
        Box::pin(async move { asked.await.map_err(|error| StoreError::Other(error.to_string())) })
    }
}

impl Store for Opened {
    fn get(&self, key: String) -> Storing<Option<Bytes>> {
        self.asked(|store| async move { store.get(key).await })
    }

    fn set(&self, key: String, value: Bytes) -> Storing<()> {
        self.asked(|store| async move { store.set(key, value).await })
    }

    fn delete(&self, key: String) -> Storing<()> {
        self.asked(|store| async move { store.delete(key).await })
    }

    fn exists(&self, key: String) -> Storing<bool> {
        self.asked(|store| async move { store.exists(key).await })
    }

    fn keys(&self, cursor: Option<String>) -> Storing<Page> {
        self.asked(|store| async move {
            let page = store.keys(cursor).await?;
            Ok(Page { keys: page.keys, cursor: page.cursor })
        })
    }

    fn increment(&self, key: String, delta: i64) -> Storing<i64> {
        self.asked(move |store| async move { store.increment(key, delta).await })
    }

    fn current(&self, key: String) -> Storing<Current> {
        self.asked(|store| async move {
            let current = store.current(key).await?;
            Ok(Current { value: current.value, revision: current.revision })
        })
    }

    fn swap(&self, key: String, revision: u64, value: Bytes) -> Storing<bool> {
        self.asked(move |store| async move { store.swap(key, revision, value).await })
    }

    fn get_many(&self, keys: Vec<String>) -> Storing<Vec<Option<Bytes>>> {
        self.asked(|store| async move { store.get_many(keys).await })
    }

    fn set_many(&self, pairs: Vec<(String, Bytes)>) -> Storing<()> {
        self.asked(|store| async move { store.set_many(pairs).await })
    }

    fn delete_many(&self, keys: Vec<String>) -> Storing<()> {
        self.asked(|store| async move { store.delete_many(keys).await })
    }
}
