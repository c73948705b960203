//! What a guest is given beside WASI's own interfaces: stores, configuration, a log with levels, and `eyot:edge`. A file
//! each; this one holds what they share.
//!
//! It knows nothing of how a guest is run: whatever store it lives in gives a [`View`].

mod config;
mod edge;
mod keyvalue;
mod logging;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::runtime::Handle;
use wasmtime::component::{HasData, Linker, ResourceTable};

use crate::account::Account;
use crate::answer::AbortOnDrop;
use crate::call::Function;
use crate::doors::{Doors, Edge, Purge, PurgeError, StoreError, Stores, Storing};
use crate::stdio::Said;

/// What one call may ask of stores: round trips.
const STORINGS_MAX: u32 = 1_000;
/// Values that one call has the host keep for it, in bytes.
const KEPT_BYTES_MAX: u64 = 4 << 20;

/// What the interfaces of one call stand on.
pub(crate) struct Host {
    account: Arc<Account>,
    /// What is called; none: it is only instantiated.
    function: Option<Arc<Function>>,
    request_id: String,
    stores: Arc<dyn Stores>,
    edge: Arc<dyn Edge>,
    said: Arc<Said>,
    /// Where what is asked of stores is done.
    io: Handle,
    /// Round trips to stores so far.
    storings: u32,
    kept: Arc<AtomicU64>,
}

/// What a guest's store lends to the interfaces.
pub(crate) struct View<'a> {
    pub(crate) host: &'a mut Host,
    pub(crate) table: &'a mut ResourceTable,
    /// How much more memory the guest may have, in bytes.
    pub(crate) memory_bytes_left: u64,
}

/// A guest's store that the interfaces can stand on.
pub(crate) trait Hosts: Send + 'static {
    /// What it lends.
    fn view(&mut self) -> View<'_>;
}

/// Gives a guest all of these interfaces.
pub(crate) fn add_to_linker<T: Hosts>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    config::add_to_linker(linker)?;
    edge::add_to_linker(linker)?;
    keyvalue::add_to_linker(linker)?;
    logging::add_to_linker(linker)
}

/// What the bindings are implemented for.
struct Lent;

impl HasData for Lent {
    type Data<'a> = View<'a>;
}

impl Host {
    pub(crate) fn new(
        account: &Arc<Account>,
        function: Option<Arc<Function>>,
        request_id: String,
        doors: &Doors,
        said: Arc<Said>,
        io: Handle,
    ) -> Self {
        Self {
            account: Arc::clone(account),
            function,
            request_id,
            stores: Arc::clone(&doors.stores),
            edge: Arc::clone(&doors.edge),
            said,
            io,
            storings: 0,
            kept: Arc::default(),
        }
    }

    /// Asks a store, on the runtime of the I/O. What the call gives up is given up there too.
    async fn ask<T: Send + 'static>(&mut self, storing: Storing<T>) -> Result<T, StoreError> {
        if self.storings >= STORINGS_MAX {
            return Err(StoreError::Other(format!("one call asks its stores at most {STORINGS_MAX} times")));
        }
        self.storings += 1;
        let storing = self.io.spawn(storing);
        let _cancel = AbortOnDrop::new(storing.abort_handle());
        storing.await.unwrap_or_else(|_| Err(StoreError::Other("the store failed".to_owned())))
    }

    /// Purges, on the runtime of the I/O.
    async fn purge(&self, purge: Purge) -> Result<(), PurgeError> {
        let purging = self.io.spawn(self.edge.purge(purge));
        let _cancel = AbortOnDrop::new(purging.abort_handle());
        purging.await.unwrap_or(Err(PurgeError::Unavailable))
    }

    /// Keeps as many bytes for the guest until what it gives is dropped; counted for the app's memory too.
    fn keep(&self, bytes: usize) -> Result<Kept, StoreError> {
        let bytes = bytes as u64;
        if self.kept.load(Ordering::Relaxed) + bytes > KEPT_BYTES_MAX {
            return Err(StoreError::Other(format!("values of over {KEPT_BYTES_MAX} bytes are held by one call")));
        }
        if !self.account.share.memory(bytes) {
            return Err(StoreError::Other("the app's memory on this node is used up".to_owned()));
        }
        self.kept.fetch_add(bytes, Ordering::Relaxed);
        Ok(Kept { bytes, all: Arc::clone(&self.kept), account: Arc::clone(&self.account) })
    }
}

/// Bytes that the host keeps for a guest.
struct Kept {
    bytes: u64,
    all: Arc<AtomicU64>,
    account: Arc<Account>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
        self.account.share.memory_back(self.bytes);
    }
}
