//! What an earlier life left: looked at from the newest file on while the tier already serves. What is whole by its heads
//! and its length is taken in as far as there is room; the rest goes. Metas and bodies are looked at when they are read.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use super::folder::{Access, EPOCH_SHIFT, Epoch, Lock};
use super::format::{HEADS, Head, Source};
use super::index::{Record, cost};
use super::read::Waits;
use super::shared::Shared;

/// Works until all is known or the tier closes.
pub(crate) fn run(shared: &Shared, epoch: Epoch, lock: Arc<Lock>) {
    let go_on = || !shared.is_closed();
    let mut serials = shared.folder.list(go_on);
    serials.retain(|serial| serial >> EPOCH_SHIFT < epoch.now);
    serials.sort_unstable_by(|one, other| other.cmp(one));
    for serial in serials {
        if !go_on() {
            return;
        }
        let is_alive = serial >> EPOCH_SHIFT >= epoch.floor;
        let taken = is_alive && record(shared, serial).is_some_and(|record| shared.index().put_old(record));
        if !taken {
            let _ = shared.folder.unlink(serial);
        }
    }
    shared.folder.sweep(go_on);
    if go_on() {
        shared.index().recovered();
    }
    drop(lock);
}

/// The object in a file, if it is one.
fn record(shared: &Shared, serial: u64) -> Option<Record> {
    let file = shared.folder.open_file(serial, Access::Read).ok()?;
    let (head, bytes) = look(&file, serial)?;
    Some(Record { primary: shared.hash(&head.primary), id: shared.hash(&head.id), serial, bytes })
}

fn look(file: &File, serial: u64) -> Option<(Head, u64)> {
    let facts = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    let heads = Waits(file).read(0, HEADS).ok()?;
    let head = Head::read(&heads, serial).find(|head| head.end() <= facts.len())?;
    Some((head, cost(facts.len()).max(facts.blocks().saturating_mul(512))))
}
