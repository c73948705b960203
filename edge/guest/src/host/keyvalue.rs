//! `wasi:keyvalue` 0.2.0-draft2: store, atomics and batch, over the doors to stores.
//!
//! A bucket is a door that is open; a handle of compare-and-swap is a key with the value and the revision it had. What the
//! store does takes place on the runtime of the I/O; the guest waits for free.

use std::sync::Arc;

use bytes::Bytes;
use wasmtime::component::{Linker, Resource};

use super::{Hosts, Kept, Lent, View};
use crate::doors::{Store, StoreError};
use bindings::wasi::keyvalue::atomics::{self, CasError};
use bindings::wasi::keyvalue::batch;
use bindings::wasi::keyvalue::store::{self, Error, KeyResponse};

mod bindings {
    wasmtime::component::bindgen!({
        path: "../../functions/wit",
        inline: "
            package eyot:stores;
            world stores { include wasi:keyvalue/imports@0.2.0-draft2; }
        ",
        world: "eyot:stores/stores",
        imports: { default: async | trappable },
        with: {
            "wasi:keyvalue/store.bucket": super::Bucket,
            "wasi:keyvalue/atomics.cas": super::Cas,
        },
        require_store_data_send: true,
    });
}

/// Keys of a batch that are asked for at once.
const AT_ONCE: usize = 64;

/// A store that the guest has opened.
#[expect(unreachable_pub, reason = "the bindings export it again, within this file")]
pub struct Bucket(Arc<dyn Store>);

/// A key as it was.
#[expect(unreachable_pub, reason = "the bindings export it again, within this file")]
pub struct Cas {
    store: Arc<dyn Store>,
    key: String,
    revision: u64,
    value: Option<Bytes>,
    /// The value's place in what the host keeps.
    _kept: Kept,
}

type Answer<T> = wasmtime::Result<Result<T, Error>>;

pub(super) fn add_to_linker<T: Hosts>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    store::add_to_linker::<T, Lent>(linker, T::view)?;
    atomics::add_to_linker::<T, Lent>(linker, T::view)?;
    batch::add_to_linker::<T, Lent>(linker, T::view)
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::AccessDenied => Self::AccessDenied,
            StoreError::NoSuchStore => Self::NoSuchStore,
            StoreError::Other(text) => Self::Other(text),
        }
    }
}

impl View<'_> {
    fn bucket(&self, bucket: &Resource<Bucket>) -> wasmtime::Result<Arc<dyn Store>> {
        Ok(Arc::clone(&self.table.get(bucket)?.0))
    }

    /// A handle of `key` as it is now.
    async fn compare(&mut self, store: Arc<dyn Store>, key: String) -> Answer<Resource<Cas>> {
        let now = match self.host.ask(store.current(key.clone())).await {
            Ok(now) => now,
            Err(error) => return Ok(Err(error.into())),
        };
        let kept = match self.host.keep(now.value.as_ref().map_or(0, Bytes::len)) {
            Ok(kept) => kept,
            Err(error) => return Ok(Err(error.into())),
        };
        let cas = Cas { store, key, revision: now.revision, value: now.value, _kept: kept };
        Ok(Ok(self.table.push(cas)?))
    }
}

impl store::Host for View<'_> {
    async fn open(&mut self, name: String) -> Answer<Resource<Bucket>> {
        match self.host.stores.open(&name) {
            Some(store) => Ok(Ok(self.table.push(Bucket(store))?)),
            None => Ok(Err(Error::NoSuchStore)),
        }
    }
}

impl store::HostBucket for View<'_> {
    async fn get(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<Option<Vec<u8>>> {
        let storing = self.bucket(&bucket)?.get(key);
        Ok(self.host.ask(storing).await.map(|value| value.map(Vec::from)).map_err(Error::from))
    }

    async fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Vec<u8>) -> Answer<()> {
        let storing = self.bucket(&bucket)?.set(key, value.into());
        Ok(self.host.ask(storing).await.map_err(Error::from))
    }

    async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<()> {
        let storing = self.bucket(&bucket)?.delete(key);
        Ok(self.host.ask(storing).await.map_err(Error::from))
    }

    async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<bool> {
        let storing = self.bucket(&bucket)?.exists(key);
        Ok(self.host.ask(storing).await.map_err(Error::from))
    }

    async fn list_keys(&mut self, bucket: Resource<Bucket>, cursor: Option<String>) -> Answer<KeyResponse> {
        let storing = self.bucket(&bucket)?.keys(cursor);
        let page = self.host.ask(storing).await;
        Ok(page.map(|page| KeyResponse { keys: page.keys, cursor: page.cursor }).map_err(Error::from))
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl atomics::Host for View<'_> {
    async fn increment(&mut self, bucket: Resource<Bucket>, key: String, delta: i64) -> Answer<i64> {
        let storing = self.bucket(&bucket)?.increment(key, delta);
        Ok(self.host.ask(storing).await.map_err(Error::from))
    }

    async fn swap(&mut self, cas: Resource<Cas>, value: Vec<u8>) -> wasmtime::Result<Result<(), CasError>> {
        let Cas { store, key, revision, .. } = self.table.delete(cas)?;
        match self.host.ask(store.swap(key.clone(), revision, value.into())).await {
            Ok(true) => Ok(Ok(())),
            Ok(false) => Ok(Err(match self.compare(store, key).await? {
                Ok(cas) => CasError::CasFailed(cas),
                Err(error) => CasError::StoreError(error),
            })),
            Err(error) => Ok(Err(CasError::StoreError(error.into()))),
        }
    }
}

impl atomics::HostCas for View<'_> {
    async fn new(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<Resource<Cas>> {
        let store = self.bucket(&bucket)?;
        self.compare(store, key).await
    }

    async fn current(&mut self, cas: Resource<Cas>) -> Answer<Option<Vec<u8>>> {
        Ok(Ok(self.table.get(&cas)?.value.as_ref().map(|value| value.to_vec())))
    }

    async fn drop(&mut self, cas: Resource<Cas>) -> wasmtime::Result<()> {
        self.table.delete(cas)?;
        Ok(())
    }
}

impl batch::Host for View<'_> {
    async fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> Answer<Vec<Option<(String, Vec<u8>)>>> {
        let store = self.bucket(&bucket)?;
        let (mut pairs, mut kept) = (Vec::with_capacity(keys.len()), Vec::new());
        for keys in keys.chunks(AT_ONCE) {
            let values = match self.host.ask(store.get_many(keys.to_vec())).await {
                Ok(values) => values,
                Err(error) => return Ok(Err(error.into())),
            };
            match self.host.keep(values.iter().flatten().map(Bytes::len).sum()) {
                Ok(more) => kept.push(more),
                Err(error) => return Ok(Err(error.into())),
            }
            let found = keys.iter().zip(values);
            pairs.extend(found.map(|(key, value)| value.map(|value| (key.clone(), Vec::from(value)))));
        }
        Ok(Ok(pairs))
    }

    async fn set_many(&mut self, bucket: Resource<Bucket>, pairs: Vec<(String, Vec<u8>)>) -> Answer<()> {
        let pairs = pairs.into_iter().map(|(key, value)| (key, value.into())).collect();
        let storing = self.bucket(&bucket)?.set_many(pairs);
        Ok(self.host.ask(storing).await.map_err(Error::from))
    }

    async fn delete_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> Answer<()> {
        let storing = self.bucket(&bucket)?.delete_many(keys);
        Ok(self.host.ask(storing).await.map_err(Error::from))
    }
}
