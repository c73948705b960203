//! Holding a stream of changes open, with a bounded and jittered back-off.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use eyot_link::acme::Sealed;
use eyot_link::error::Error;
use eyot_link::tail::Tail;
use eyot_link::wire::{Change, WatchLine};
use tokio::sync::mpsc;

use super::jittered;
use super::parent::{Parent, Watch as _};
use super::purge::Purging;
use crate::purge::Purger;

/// Changes that may wait to be taken; more are left to the transport.
const CHANGES_MAX: usize = 4;
/// The first pause after a failure, in milliseconds; doubled with each.
const PAUSE_MS: u64 = 500;
/// The longest pause, in milliseconds.
const PAUSE_MS_MAX: u64 = 30_000;

/// What the stream says.
pub(super) enum Heard {
    /// A challenge of ACME that another node wants answered.
    Challenge(Sealed),
    /// The state changed; who said so.
    Change(Change, String),
    /// A stream is open; who gives it.
    Open(String),
    /// Something was purged here.
    Purged,
    /// The stream ended, or none could be had.
    Lost(String),
    /// Somebody follows an app.
    Tail(Tail),
}

/// Listens until the receiver is dropped.
pub(super) fn start<P: Parent>(parent: P, seq: Arc<AtomicU64>, purger: Arc<Purger>) -> mpsc::Receiver<Heard> {
    let (sender, receiver) = mpsc::channel(CHANGES_MAX);
    tokio::spawn(async move {
        let mut pause_ms = PAUSE_MS;
        loop {
            let listening = listen(&parent, (&seq, &purger), &sender, &mut pause_ms);
            let ended = tokio::select! {
                ended = listening => ended,
                () = sender.closed() => return,
            };
            let Err(error) = ended else { return };
            tracing::debug!(%error, "the stream of changes ended");
            if sender.send(Heard::Lost(error.to_string())).await.is_err() {
                return;
            }
            tokio::time::sleep(jittered(pause_ms)).await;
            pause_ms = (pause_ms * 2).min(PAUSE_MS_MAX);
        }
    });
    receiver
}

async fn listen<P: Parent>(
    parent: &P,
    (seq, purger): (&AtomicU64, &Arc<Purger>),
    sender: &mpsc::Sender<Heard>,
    pause_ms: &mut u64,
) -> Result<(), Error> {
    let mut watch = parent.watch(seq.load(Ordering::Relaxed), purger.since().as_ref()).await?;
    if sender.send(Heard::Open(watch.url().to_owned())).await.is_err() {
        return Ok(());
    }
    let mut purging = Purging::new(purger);
    loop {
        let heard = match watch.next().await? {
            WatchLine::Beat(_) => {
                // A stream that lived for a beat was a good one; one that only ever gives changes and ends is not.
                *pause_ms = PAUSE_MS;
                None
            }
            WatchLine::Challenge(challenge) => Some(Heard::Challenge(challenge)),
            WatchLine::Change(change) => Some(Heard::Change(change, watch.url().to_owned())),
            WatchLine::Purges(told) => {
                purging.told(told);
                // A report comes in any case; it need not be the next.
                let _ = sender.try_send(Heard::Purged);
                None
            }
            WatchLine::Tail(tail) => Some(Heard::Tail(tail)),
        };
        purging.heard();
        if let Some(heard) = heard
            && sender.send(heard).await.is_err()
        {
            return Ok(());
        }
    }
}
