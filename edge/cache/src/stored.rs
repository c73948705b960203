//! What the disk tier has of a body, known to all versions of the answer that has it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What the disk tier has of a body.
#[derive(Debug, Default)]
pub struct Stored {
    /// The number of its file, 0: it has none, as far as is known.
    file: AtomicU64,
    /// It is not to be stored any more.
    forgotten: AtomicBool,
}

impl Stored {
    /// With this file.
    pub fn with(file: u64) -> Self {
        Self { file: AtomicU64::new(file), forgotten: AtomicBool::new(false) }
    }

    /// The number of its file, which another one may have replaced.
    pub fn file(&self) -> Option<u64> {
        Some(self.file.load(Ordering::SeqCst)).filter(|file| *file != 0)
    }

    /// It is written to this file.
    pub(crate) fn set(&self, file: u64) {
        self.file.store(file, Ordering::SeqCst);
    }

    /// It is not to be stored any more. Who writes it then removes it.
    pub(crate) fn forget(&self) {
        self.forgotten.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_forgotten(&self) -> bool {
        self.forgotten.load(Ordering::SeqCst)
    }
}
