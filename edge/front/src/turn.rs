//! Whose turn it is. Of two processes that have the same sockets one accepts connections over TCP; it may pass its turn,
//! and take it back when the other one fails. Over UDP the kernel decides (`steer`).

use core::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// The turn of one process, shared by whoever hands it on and by those who listen.
#[derive(Debug)]
pub struct Turn {
    is_ours: watch::Sender<bool>,
    /// Whether no other process has connections at these sockets.
    is_alone: AtomicBool,
}

impl Turn {
    /// That of a process which another one handed its sockets, so that it waits; or of one that is alone.
    pub fn new(is_handed_over: bool) -> Arc<Self> {
        Arc::new(Self { is_ours: watch::Sender::new(!is_handed_over), is_alone: AtomicBool::new(!is_handed_over) })
    }

    /// New connections come here; the process before this one still has some.
    pub fn take(&self) {
        self.is_ours.send_replace(true);
    }

    /// New connections go to another process; this one keeps those it has.
    pub fn pass(&self) {
        self.is_alone.store(false, Ordering::Relaxed);
        self.is_ours.send_replace(false);
    }

    /// New connections come here, and there is no other process.
    pub fn alone(&self) {
        self.is_alone.store(true, Ordering::Relaxed);
        self.is_ours.send_replace(true);
    }

    /// Whether a QUIC connection that nobody here knows is nobody's, so that its client may be told.
    pub(crate) fn is_alone(&self) -> bool {
        self.is_alone.load(Ordering::Relaxed)
    }

    /// What `accept` gives while it is our turn.
    pub(crate) async fn while_ours<T, F: Future<Output = T>>(&self, accept: impl Fn() -> F) -> T {
        let mut is_ours = self.is_ours.subscribe();
        loop {
            // The sender is ours, so it is there.
            let _ = is_ours.wait_for(|is_ours| *is_ours).await;
            tokio::select! {
                biased;
                _ = is_ours.wait_for(|is_ours| !*is_ours) => {}
                accepted = accept() => return accepted,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use core::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn who_passed_the_turn_accepts_nothing_until_it_is_back() {
        let turn = Turn::new(true);
        let waiting = tokio::spawn({
            let turn = Arc::clone(&turn);
            async move { turn.while_ours(|| ready(1)).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished() && !turn.is_alone());
        turn.take();
        assert_eq!(waiting.await.expect("no panic"), 1);
        assert!(!turn.is_alone(), "the one before has connections");
        turn.alone();
        assert!(turn.is_alone());
        // Also one that is accepting leaves it.
        let accepting = tokio::spawn({
            let turn = Arc::clone(&turn);
            async move { turn.while_ours(pending::<()>).await }
        });
        tokio::task::yield_now().await;
        turn.pass();
        tokio::task::yield_now().await;
        assert!(!accepting.is_finished() && !turn.is_alone());
        accepting.abort();
        turn.alone();
        assert!(turn.is_alone());
        assert_eq!(turn.while_ours(|| ready(2)).await, 2);
    }
}
