//! The memory of one call: all linear memories and tables together, asked of the app's share, given back at the end.

use std::sync::Arc;

use eyot_plan::fault::{Code, Fault};
use wasmtime::{Error, ResourceLimiter};

use crate::account::Account;
use crate::engine::TABLE_ELEMENTS_MAX;

/// What an element of a table takes, in bytes.
const ELEMENT_BYTES: u64 = size_of::<usize>() as u64;

/// The memory of one call.
pub(crate) struct Room {
    account: Arc<Account>,
    /// What it has, in bytes.
    bytes: u64,
    /// What was granted last: it comes back if the growth itself fails.
    granted: u64,
}

impl Room {
    pub(crate) fn new(account: Arc<Account>) -> Self {
        Self { account, bytes: 0, granted: 0 }
    }

    /// How much more it may have, in bytes.
    pub(crate) fn left_bytes(&self) -> u64 {
        self.account.limits.memory_bytes.saturating_sub(self.bytes)
    }

    /// Is the memory of another call from now on: its app's share has it, and the last one's no longer. Refused if that share
    /// has no room; then it is nobody's, and the instance has to go.
    pub(crate) fn turn_to(&mut self, account: &Arc<Account>) -> bool {
        self.account.share.memory_back(self.bytes);
        let fits = account.share.memory(self.bytes);
        if !fits {
            self.bytes = 0;
        }
        self.granted = 0;
        self.account = Arc::clone(account);
        self.account.meter.saw_memory_bytes(self.bytes);
        fits
    }

    /// Grants more memory, or blames the guest's next failure on its lack.
    fn grant(&mut self, more: u64) -> bool {
        let allowed = self.account.limits.memory_bytes;
        let used = self.bytes.saturating_add(more);
        if used > allowed {
            self.account.blame(Fault::new(Code::MemoryExceeded).over("memory_bytes", allowed, used));
            return false;
        }
        if !self.account.share.memory(more) {
            self.account.blame(Fault::new(Code::AllowanceSpent).because("the app's memory on this node"));
            return false;
        }
        (self.bytes, self.granted) = (used, more);
        self.account.meter.saw_memory_bytes(used);
        true
    }

    fn take_back(&mut self) {
        self.bytes -= self.granted;
        self.account.share.memory_back(std::mem::take(&mut self.granted));
    }
}

impl ResourceLimiter for Room {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool, Error> {
        Ok(self.grant(desired.saturating_sub(current) as u64))
    }

    fn memory_grow_failed(&mut self, _error: Error) -> Result<(), Error> {
        self.take_back();
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool, Error> {
        if desired > TABLE_ELEMENTS_MAX {
            let (allowed, used) = (TABLE_ELEMENTS_MAX as u64, desired as u64);
            self.account.blame(Fault::new(Code::MemoryExceeded).over("table_elements", allowed, used));
            return Ok(false);
        }
        Ok(self.grant(desired.saturating_sub(current) as u64 * ELEMENT_BYTES))
    }

    fn table_grow_failed(&mut self, _error: Error) -> Result<(), Error> {
        self.take_back();
        Ok(())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.account.share.memory_back(self.bytes);
    }
}
