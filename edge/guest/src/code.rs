//! Code in memory: a node-wide cache of compiled artefacts by digest, loaded when first called, once at a time, evicted by
//! bytes, and kept while in use.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eyot_bundle::digest::Digest;
use tokio::sync::OnceCell;
use wasmtime::Engine;
use wasmtime::component::Linker;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use crate::artefacts::Artefacts;
use crate::guest::State;
use crate::host;
use crate::load;
use crate::settings::Error;

/// A function's code, ready to be instantiated.
pub(crate) struct Code {
    pub(crate) pre: ProxyPre<State>,
    /// Its size on disk.
    bytes: u64,
}

/// The cache.
pub(crate) struct Codes {
    shelf: Arc<Shelf>,
    places: Mutex<HashMap<Digest, Arc<Place>>>,
    bytes_max: u64,
    clock: AtomicU64,
}

/// What loading needs.
struct Shelf {
    engine: Engine,
    linker: Linker<State>,
    artefacts: Artefacts,
}

/// One code, loaded or being loaded.
#[derive(Default)]
struct Place {
    code: OnceCell<Arc<Code>>,
    /// When it was last asked for, by the cache's own count.
    used: AtomicU64,
}

impl Codes {
    pub(crate) fn new(engine: Engine, artefacts: Artefacts, bytes_max: u64) -> Result<Self, Error> {
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)
            .and_then(|()| wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker))
            .and_then(|()| host::add_to_linker(&mut linker))
            .map_err(|error| Error::Engine(format!("{error:#}")))?;
        let shelf = Arc::new(Shelf { engine, linker, artefacts });
        Ok(Self { shelf, places: Mutex::default(), bytes_max, clock: AtomicU64::new(0) })
    }

    pub(crate) fn artefacts(&self) -> &Artefacts {
        &self.shelf.artefacts
    }

    /// The code of a digest, loaded if it is not.
    pub(crate) async fn get(&self, wasm: Digest) -> Result<Arc<Code>, Error> {
        let place = Arc::clone(self.places().entry(wasm).or_default());
        place.used.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        if let Some(code) = place.code.get() {
            return Ok(Arc::clone(code));
        }
        let loaded = place.code.get_or_try_init(|| Shelf::load(Arc::clone(&self.shelf), wasm)).await;
        let loaded = loaded.cloned();
        drop(place);
        self.evict(wasm);
        loaded
    }

    /// The code of an artefact that is not kept: no call finds it.
    pub(crate) async fn try_out(&self, artefact: PathBuf) -> Result<Arc<Code>, Error> {
        let shelf = Arc::clone(&self.shelf);
        blocking(move || {
            let bytes = std::fs::metadata(&artefact).map_err(Error::file(&artefact))?.len();
            shelf.link(&artefact, bytes)
        })
        .await
    }

    /// Lets go of what was used longest ago until the rest fits; what is in use stays, `fresh` too, and a failed load goes.
    fn evict(&self, fresh: Digest) {
        let mut places = self.places();
        places.retain(|_, place| place.code.initialized() || Arc::strong_count(place) > 1);
        let mut all: Vec<_> = places
            .iter()
            .filter_map(|(wasm, place)| Some((place.used.load(Ordering::Relaxed), *wasm, place.code.get()?)))
            .map(|(used, wasm, code)| (used, wasm, code.bytes, Arc::strong_count(code) > 1))
            .collect();
        all.sort_unstable();
        let mut bytes: u64 = all.iter().map(|(_, _, bytes, _)| bytes).sum();
        for (_, wasm, size, in_use) in all {
            if bytes <= self.bytes_max {
                break;
            }
            if !in_use && wasm != fresh {
                places.remove(&wasm);
                bytes -= size;
            }
        }
    }

    /// What is loaded, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.places().values().filter_map(|place| Some(place.code.get()?.bytes)).sum()
    }

    fn places(&self) -> MutexGuard<'_, HashMap<Digest, Arc<Place>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    async fn load(self: Arc<Self>, wasm: Digest) -> Result<Arc<Code>, Error> {
        blocking(move || {
            let (path, bytes) = self.artefacts.open(wasm)?;
            self.link(&path, bytes)
        })
        .await
    }

    fn link(&self, artefact: &Path, bytes: u64) -> Result<Arc<Code>, Error> {
        let refuse = |error: wasmtime::Error| Error::Compile(format!("{error:#}"));
        let component = load::component(&self.engine, artefact).map_err(refuse)?;
        let pre = self.linker.instantiate_pre(&component).and_then(ProxyPre::new).map_err(refuse)?;
        Ok(Arc::new(Code { pre, bytes }))
    }
}

async fn blocking<T: Send + 'static>(load: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    match tokio::task::spawn_blocking(load).await {
        Ok(loaded) => loaded,
        Err(error) => Err(Error::Engine(error.to_string())),
    }
}
