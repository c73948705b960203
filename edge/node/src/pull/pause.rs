//! Letting go of the ledger for a while: another process of this node may take over.

use tokio::sync::oneshot;

use super::parent::Parent;
use super::{Order, Pull};
use crate::activate::Apps;

impl<P: Parent, A: Apps> Pull<P, A> {
    /// Another process has the ledger until the order to take it up again. What answers goes on as it was.
    pub(super) async fn paused(&mut self, done: oneshot::Sender<()>) {
        self.jobs.stop();
        self.tidy();
        self.ledger = None;
        self.setup.purger.purges.let_go();
        let _ = done.send(());
        while let Some(order) = self.orders.recv().await {
            if matches!(order, Order::Resume) {
                if let Err(error) = self.open() {
                    self.lost(error.to_string());
                }
                self.schedule();
                return;
            }
        }
    }
}
