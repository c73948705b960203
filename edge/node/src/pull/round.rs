//! One round of asking: metadata until nothing is wanted, each file verified and committed before the next; then the
//! apps that it changed are prepared.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use eyot_bundle::digest::Digest;
use eyot_bundle::fleet::{Denied, Nodes};
use eyot_bundle::trust::{TargetFile, Want};
use eyot_link::error::Error;
use futures_util::StreamExt as _;

use super::Pull;
use super::parent::Parent;
use crate::activate::Apps;
use crate::ledger::{Change, Files, Floors};

/// Files of one round; a parent that has ever more is left until the next.
const FILES_MAX: usize = 50_000;
/// Files that are asked for at once.
const ASKED_MAX: usize = 8;
/// How long one round may take.
const ROUND: Duration = Duration::from_secs(120);
/// The document of denied digests.
const DENIED: &str = "fleet/denied.json";
/// The document of the fleet's nodes.
const NODES: &str = "fleet/nodes.json";

impl<P: Parent, A: Apps> Pull<P, A> {
    /// Asks what is new. `inline` holds files that came with the news of it; what is missing there is fetched.
    pub(super) async fn round(&mut self, inline: BTreeMap<String, Vec<u8>>) {
        if self.ledger.is_none() {
            return;
        }
        let ended = tokio::time::timeout(ROUND, self.ask(inline)).await;
        let failure = match ended {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error),
            Err(_) => Some(format!("a round took longer than {} s", ROUND.as_secs())),
        };
        match failure {
            None => {
                self.asked = true;
                let mut facts = self.setup.status.facts();
                (facts.asked, facts.unreachable) = (Some(jiff::Timestamp::now()), None);
            }
            Some(error) => {
                tracing::debug!(error, "a round ended early");
                self.setup.status.facts().unreachable = Some(error);
            }
        }
        self.settle();
        let artefacts = self.setup.stage.runtime.artefacts();
        for app in self.active.without_code(|code| artefacts.has(code)) {
            self.jobs.again(&app);
        }
        self.schedule();
    }

    async fn ask(&mut self, mut inline: BTreeMap<String, Vec<u8>>) -> Result<(), String> {
        self.trust.begin();
        let mut files = 0;
        loop {
            let wants = self.trust.wants();
            if wants.is_empty() || files >= FILES_MAX || self.ledger.is_none() {
                break;
            }
            files += wants.len();
            let parent = self.setup.stage.parent.clone();
            let fetches = wants.into_iter().map(|want| {
                let (parent, told) = (parent.clone(), inline.remove(&want.file));
                async move {
                    let bytes = match told {
                        Some(bytes) => Ok(Some(Bytes::from(bytes))),
                        None => parent.metadata(&want.file).await,
                    };
                    (want, bytes)
                }
            });
            let mut fetched = futures_util::stream::iter(fetches).buffered(ASKED_MAX);
            while let Some((want, bytes)) = fetched.next().await {
                self.take(&want, bytes.map_err(|error| error.to_string())?)?;
            }
        }
        self.fleet().await.map_err(|error| error.to_string())
    }

    /// Feeds one file, and commits it if it is news. An error ends the round: the ledger took nothing.
    fn take(&mut self, want: &Want, bytes: Option<Bytes>) -> Result<(), String> {
        let Some(bytes) = bytes else {
            self.trust.absent(&want.file);
            return Ok(());
        };
        match self.trust.feed(&want.file, &bytes, jiff::Timestamp::now()) {
            Ok(fed) if fed.persist => {
                let put = Files::from([(fed.name.clone(), bytes.to_vec())]);
                let floors = Floors {
                    versions: self.trust.floors().clone(),
                    time: self.trust.time_floor(),
                    seq: self.trust.seq(),
                };
                if fed.name == "timestamp.json" {
                    let off = jiff::Timestamp::now().duration_since(floors.time).as_millis();
                    self.setup.status.facts().clock_ms_off = i64::try_from(off).unwrap_or(i64::MAX);
                }
                // On failure trust was read anew from the ledger.
                let change = Change { put, floors: Some(floors), ..Change::default() };
                self.commit(change).map_err(|refusal| refusal.to_string())
            }
            Ok(_) => Ok(()),
            Err(refusal) => {
                let reason = refusal.reason.code();
                tracing::warn!(file = want.file, reason, detail = refusal.detail, "metadata is not believed");
                Ok(())
            }
        }
    }

    /// Fetches the fleet documents that nodes act on.
    async fn fleet(&mut self) -> Result<(), Error> {
        let fleet = self.trust.fleet();
        self.document(DENIED, fleet.denied, |bytes| serde_json::from_slice::<Denied>(bytes).is_ok()).await?;
        self.document(NODES, fleet.nodes, |bytes| serde_json::from_slice::<Nodes>(bytes).is_ok()).await
    }

    async fn document(
        &mut self,
        path: &str,
        file: Option<TargetFile>,
        parses: impl FnOnce(&[u8]) -> bool,
    ) -> Result<(), Error> {
        let Some(file) = file else { return Ok(()) };
        if self.files.get(path).is_some_and(|bytes| file.check(bytes).is_ok()) {
            return Ok(());
        }
        let length = usize::try_from(file.length).unwrap_or(usize::MAX);
        let bytes = self.setup.stage.parent.target(path, file.sha256, length).await?;
        if file.check(&bytes).is_ok() && parses(&bytes) {
            let put = Files::from([(path.to_owned(), bytes.to_vec())]);
            let _ = self.commit(Change { put, ..Change::default() });
        }
        Ok(())
    }

    /// The denied digests and the other nodes, as the documents that are here have them.
    pub(super) fn take_fleet(&mut self) {
        let digests = denied_of(&self.files);
        if digests != *self.denied {
            self.denied = Arc::new(digests);
        }
        let nodes = self.files.get(NODES).map(|bytes| Digest::of(bytes));
        if nodes != self.nodes {
            self.nodes = nodes;
            self.setup.shields.set(&nodes_of(&self.files));
        }
    }
}

/// The nodes that the document among `files` names.
pub(super) fn nodes_of(files: &Files) -> Nodes {
    let nodes = files.get(NODES).and_then(|bytes| serde_json::from_slice::<Nodes>(bytes).ok());
    nodes.unwrap_or_default()
}

/// The digests that the document among `files` denies.
pub(super) fn denied_of(files: &Files) -> BTreeSet<Digest> {
    let denied = files.get(DENIED).and_then(|bytes| serde_json::from_slice::<Denied>(bytes).ok());
    denied.unwrap_or_default().digests.into_iter().collect()
}
