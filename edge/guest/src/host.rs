//! What a guest is given beside WASI's own interfaces: stores, configuration, a log with levels, and `eyot:edge`. A file
//! each; this one holds what they share.
//!
//! It knows nothing of how a guest is run: whatever store it lives in gives a [`View`].

mod config;
mod edge;
mod keyvalue;
mod logging;
mod objects;

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
    hands: objects::Hands,
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
    logging::add_to_linker(linker)?;
    objects::add_to_linker(linker)
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
            hands: objects::Hands::new(&doors.objects),
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
    async fn purge(&mut self, purge: Purge) -> Result<(), PurgeError> {
        let purging = self.io.spawn(self.edge.purge(purge));
        let _cancel = AbortOnDrop::new(purging.abort_handle());
        purging.await.unwrap_or(Err(PurgeError::Unavailable))
    }

    /// Keeps as many bytes for the guest until what it gives is dropped; counted for the app's memory too.
    fn keep(&self, bytes: usize) -> Result<Kept, StoreError> {
        if self.kept.load(Ordering::Relaxed) + bytes as u64 > KEPT_BYTES_MAX {
            return Err(StoreError::Other(format!("values of over {KEPT_BYTES_MAX} bytes are held by one call")));
        }
        let mut memory = self.memory();
        if !memory.grow(bytes) {
            return Err(StoreError::Other("the app's memory on this node is used up".to_owned()));
        }
        self.kept.fetch_add(memory.bytes, Ordering::Relaxed);
        Ok(Kept { memory, all: Arc::clone(&self.kept) })
    }

    /// None of the app's memory yet; what it grows by is given back when it is dropped.
    fn memory(&self) -> Memory {
        Memory { bytes: 0, account: Arc::clone(&self.account) }
    }
}

/// Bytes that the host keeps for a guest.
struct Kept {
    memory: Memory,
    all: Arc<AtomicU64>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.all.fetch_sub(self.memory.bytes, Ordering::Relaxed);
    }
}

/// Memory that counts as the app's.
struct Memory {
    bytes: u64,
    account: Arc<Account>,
}

impl Memory {
    /// More of it. `false`: it is used up.
    fn grow(&mut self, bytes: usize) -> bool {
        let grown = self.account.share.memory(bytes as u64);
        if grown {
            self.bytes += bytes as u64;
        }
        grown
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.account.share.memory_back(self.bytes);
    }
}
