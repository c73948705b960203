//! `[cache]`: how much of what was answered is kept, and where.

use std::path::PathBuf;

use eyot_bundle::text::Table;

use super::read::Place;

/// What is kept at least and at most in memory, in bytes.
const MEMORY_BYTES: (u64, u64) = (1 << 20, 1 << 42);
/// What is kept at least and at most on disk, in bytes.
const DISK_BYTES: (u64, u64) = (64 << 20, 1 << 48);

/// What is kept of answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// In memory, of all apps together, in bytes; each has the part of it that it has of the memory of functions.
    pub memory_bytes: u64,
    /// On disk; absent: nothing.
    pub disk: Option<Disk>,
    /// How long the parents may be silent before what is kept is asked for anew first, in milliseconds.
    pub purge_lag_max_ms: u64,
}

/// What is kept on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The folder, this node's alone.
    pub path: PathBuf,
    /// How much of it, in bytes.
    pub bytes_max: u64,
}

pub(super) fn read(place: &Place<'_>, table: &mut Table<'_>) -> Cache {
    let memory_bytes = table.size_bytes("memory").within(MEMORY_BYTES.0, MEMORY_BYTES.1).or(512 << 20);
    let disk = table.has("disk").then(|| {
        let mut table = table.table("disk");
        let path = place.path(&mut table, "path").or(place.cache_folder().join("http"));
        Disk { path, bytes_max: table.size_bytes("size").within(DISK_BYTES.0, DISK_BYTES.1).or(10 << 30) }
    });
    let purge_lag_max_ms = table.duration_ms("purge_lag_max").within(1_000, 7 * 86_400_000).or(600_000);
    Cache { memory_bytes, disk, purge_lag_max_ms }
}
