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
use wasmtime_wasi_http::p3::bindings::ServicePre;

use crate::artefacts::Artefacts;
use crate::engine::Engines;
use crate::host;
use crate::load;
use crate::settings::Error;
use crate::state::State;
use crate::world::World;

/// A function's code, ready to be instantiated.
pub(crate) struct Code {
    pub(crate) pre: Pre,
    /// Its size on disk.
    bytes: u64,
}

/// The same, by its world.
pub(crate) enum Pre {
    V02(ProxyPre<State>),
    V03(ServicePre<State>),
}

impl Code {
    pub(crate) fn engine(&self) -> &Engine {
        match &self.pre {
            Pre::V02(pre) => pre.engine(),
            Pre::V03(pre) => pre.engine(),
        }
    }

    pub(crate) fn world(&self) -> World {
        match &self.pre {
            Pre::V02(_) => World::V02,
            Pre::V03(_) => World::V03,
        }
    }
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
    engines: Engines,
    linkers: [Linker<State>; 2],
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
    pub(crate) fn new(engines: Engines, artefacts: Artefacts, bytes_max: u64) -> Result<Self, Error> {
        let refuse = |error: wasmtime::Error| Error::Engine(format!("{error:#}"));
        let [old, new] = World::ALL.map(|world| linker(&engines, world).map_err(refuse));
        let shelf = Arc::new(Shelf { linkers: [old?, new?], engines, artefacts });
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
        let (world, component) = load::component(&self.engines, artefact).map_err(refuse)?;
        let pre = |linker: &Linker<State>| linker.instantiate_pre(&component);
        let [old, new] = &self.linkers;
        let pre = match world {
            World::V02 => pre(old).and_then(ProxyPre::new).map(Pre::V02),
            World::V03 => pre(new).and_then(ServicePre::new).map(Pre::V03),
        };
        Ok(Arc::new(Code { pre: pre.map_err(refuse)?, bytes }))
    }
}

/// What components of a world are given. Those of 0.3 are given 0.2 too: what their languages bring along imports it.
fn linker(engines: &Engines, world: World) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engines.of(world));
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    host::add_to_linker(&mut linker)?;
    if world == World::V03 {
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    }
    Ok(linker)
}

async fn blocking<T: Send + 'static>(load: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    match tokio::task::spawn_blocking(load).await {
        Ok(loaded) => loaded,
        Err(error) => Err(Error::Engine(error.to_string())),
    }
}
