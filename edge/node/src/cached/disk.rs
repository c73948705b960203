//! What a node keeps on disk of answers: taken up when no other process has it, with what was purged of it, and let go of
//! when another one takes over.

use std::sync::Arc;
use std::time::Duration;

use eyot_cache::disk::{Disk, Options};
use tokio::sync::Mutex;

use crate::config::cache;
use crate::node::Node;

/// How often it is tried to open what another process may still have.
const TRIES: u32 = 60;
/// How long after each.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// The tier on disk of a node.
#[derive(Debug, Default)]
pub struct Tier {
    /// Whether this process is to have it: it is opened behind the start, and may be let go of before it is open.
    wanted: Mutex<bool>,
}

/// Takes up what was purged, and behind that what is kept on disk, which answers from then on. What cannot be had only costs
/// hits: the node keeps answers in memory.
pub(crate) async fn take_up(node: &Arc<Node>) {
    // Known before anything that is kept on disk answers.
    let lost = match node.purger.take_up() {
        Ok(lost) => lost,
        Err(error) => {
            tracing::error!(%error, "purges are not noted on the disk, so nothing is kept there");
            return;
        }
    };
    let Some(disk) = node.config.cache.disk.clone() else { return };
    *node.tier.wanted.lock().await = true;
    let node = Arc::clone(node);
    tokio::spawn(async move { open(&node, &disk, lost).await });
}

async fn open(node: &Node, cache::Disk { path, bytes_max }: &cache::Disk, lost: Option<String>) {
    for left in (0..TRIES).rev() {
        let wanted = node.tier.wanted.lock().await;
        if !*wanted {
            return;
        }
        match Disk::open(path.join("objects"), Options::new(*bytes_max)).await {
            Ok(disk) => {
                if let Some(why) = &lost {
                    tracing::warn!(why, "what is kept on disk is dropped: what was purged of it is not known");
                    let _ = disk.clear().await;
                }
                node.rooms.common().set_disk(disk);
                return;
            }
            Err(error) if left == 0 => {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                tracing::error!(%error, cause, "answers are kept in memory alone");
            }
            Err(_) => {
                drop(wanted);
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        }
    }
}

/// Lets go of what is kept on disk: what this process still answers is kept in memory alone.
pub(crate) async fn let_go(node: &Node) {
    *node.tier.wanted.lock().await = false;
    if let Some(disk) = node.rooms.common().take_disk() {
        disk.close().await;
    }
}
