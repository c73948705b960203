//! What a stream of changes says, and what is done about it.

use std::sync::Arc;

use eyot_link::acme::Sealed;
use eyot_link::wire::Base64;
use tokio::sync::mpsc;

use super::parent::Parent;
use super::{Pull, listen};
use crate::activate::Apps;

impl<P: Parent, A: Apps> Pull<P, A> {
    /// Holds a stream open.
    pub(super) fn listen(&self) -> mpsc::Receiver<listen::Heard> {
        listen::start(self.setup.stage.parent.clone(), Arc::clone(&self.seq), Arc::clone(&self.setup.purger))
    }

    /// Takes what a stream says.
    pub(super) async fn hear(&mut self, heard: listen::Heard) {
        match heard {
            listen::Heard::Change(change, url) => {
                self.setup.telemetry.parent_seq(&url, change.seq);
                if change.seq > self.trust.seq() || !change.inline.is_empty() {
                    let inline = change.inline.into_iter().map(|(file, Base64(bytes))| (file, bytes)).collect();
                    self.round(inline).await;
                }
            }
            listen::Heard::Challenge(Sealed { sealed: Base64(sealed) }) => self.setup.answers.hear(&sealed),
            listen::Heard::Tail(tail) => {
                let (apps, app) = (Arc::clone(&self.setup.apps), tail.app.clone());
                self.tails.begin(tail, || apps.follow(&app), &self.setup.stage.parent);
            }
            // It was done by who listens.
            listen::Heard::Purged => self.news = true,
            listen::Heard::Open(url) => self.setup.status.facts().parent = Some(url),
            listen::Heard::Lost(why) => {
                let mut facts = self.setup.status.facts();
                (facts.parent, facts.unreachable) = (None, Some(why));
            }
        }
    }
}
