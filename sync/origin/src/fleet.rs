//! What nodes report, and which of them hold a stream. It is status, in memory; only the highest sequence of each node
//! is kept as a head, since a node that falls below it runs on an old copy of its disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eyot_bundle::name::Name;
use eyot_link::purge::NodeProgress;
use eyot_link::status::FleetNode;
use eyot_link::wire::{Report, ReportAnswer};
use http::StatusCode;
use jiff::Timestamp;

use crate::denied::Denied;
use crate::heads::Heads;
use crate::view::View;

/// Streams that one node may hold: one, and those whose end was not noticed yet.
const STREAMS_PER_NODE_MAX: usize = 8;
/// Windows of one app that are kept of a report.
const WINDOWS_MAX: usize = 16;
/// A text of a report is cut to this, in characters.
const TEXT_CHARS_MAX: usize = 64;
/// The words of a refusal are cut to this, in characters.
const DETAIL_CHARS_MAX: usize = 500;
/// How often the head of a node is read again after another writer was first.
const TRIES_MAX: usize = 16;

/// What is known of the nodes. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fleet(Arc<Mutex<BTreeMap<Name, Known>>>);

#[derive(Debug, Default)]
struct Known {
    streams: usize,
    reported: Option<(Timestamp, Report)>,
    seq: Option<u64>,
    /// The last purge that it said it has done, and when it said so first.
    purge: Option<(u64, Timestamp)>,
}

/// A stream that a node holds; counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Stream {
    fleet: Fleet,
    node: Name,
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(known) = self.fleet.lock().get_mut(&self.node) {
            known.streams = known.streams.saturating_sub(1);
        }
    }
}

impl Fleet {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Name, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a stream of `node`.
    pub(crate) fn stream(&self, node: &Name) -> Result<Stream, Denied> {
        let mut nodes = self.lock();
        let known = nodes.entry(node.clone()).or_default();
        if known.streams >= STREAMS_PER_NODE_MAX {
            let detail = format!("`{node}` holds {STREAMS_PER_NODE_MAX} streams already");
            return Err(Denied::request(StatusCode::TOO_MANY_REQUESTS, "streams", detail));
        }
        known.streams += 1;
        Ok(Stream { fleet: self.clone(), node: node.clone() })
    }

    /// The streams that are held.
    pub(crate) fn streams(&self) -> usize {
        self.lock().values().map(|known| known.streams).sum()
    }

    /// Takes a report of `node`, and tells the highest sequence it ever reported.
    pub(crate) async fn report(
        &self,
        heads: &impl Heads,
        view: &View,
        node: &Name,
        report: Report,
        now: Timestamp,
    ) -> Result<ReportAnswer, Denied> {
        if report.node != *node {
            let detail = format!("the token is of `{node}`, the report of `{}`", report.node);
            return Err(Denied::request(StatusCode::FORBIDDEN, "not_yours", detail));
        }
        let reported_seq = report.seq;
        let report = bounded(report, view);
        let known_seq = {
            let mut nodes = self.lock();
            let known = nodes.entry(node.clone()).or_default();
            if known.purge.is_none_or(|(purge, _)| purge != report.purge) {
                known.purge = Some((report.purge, now));
            }
            known.reported = Some((now, report));
            known.seq
        };
        let seq = match known_seq {
            Some(seq) if seq >= reported_seq => seq,
            _ => raise(heads, node, reported_seq).await?,
        };
        self.lock().entry(node.clone()).or_default().seq = Some(seq);
        if reported_seq < seq {
            tracing::warn!(%node, reported_seq, seq, "a node reports an older state than before");
        }
        Ok(ReportAnswer { seq })
    }

    /// The nodes of the fleet document with what they report; of apps, those of `apps` (`None`: all).
    pub(crate) fn nodes(&self, view: &View, apps: Option<&BTreeSet<Name>>) -> BTreeMap<Name, FleetNode> {
        let known = self.lock();
        let node = |(name, node): (&Name, &eyot_bundle::fleet::Node)| {
            let status = known.get(name);
            let reported = status.and_then(|status| status.reported.as_ref());
            let report = reported.map(|(_, report)| {
                let mut report = report.clone();
                report.apps.retain(|app, _| apps.is_none_or(|apps| apps.contains(app)));
                report
            });
            let row = FleetNode {
                region: node.region.clone(),
                revoked: node.revoked,
                watching: status.is_some_and(|status| status.streams > 0),
                reported: reported.map(|(at, _)| *at),
                report,
            };
            (name.clone(), row)
        };
        view.nodes.iter().map(node).collect()
    }

    /// How far the nodes of the fleet document are with purges.
    pub(crate) fn purges(&self, view: &View) -> BTreeMap<Name, NodeProgress> {
        let known = self.lock();
        let living = view.nodes.iter().filter(|(_, node)| !node.revoked);
        let row = |(name, node): (&Name, &eyot_bundle::fleet::Node)| {
            let status = known.get(name);
            let purge = status.and_then(|status| status.purge);
            let row = NodeProgress {
                region: node.region.clone(),
                watching: status.is_some_and(|status| status.streams > 0),
                purge: purge.map_or(0, |(purge, _)| purge),
                since: purge.map(|(_, at)| at),
            };
            (name.clone(), row)
        };
        living.map(row).collect()
    }

    /// Forgets nodes that left the fleet document.
    pub(crate) fn keep_only(&self, view: &View) {
        self.lock().retain(|name, known| known.streams > 0 || view.nodes.contains_key(name));
    }
}

/// What is kept of a report: apps that were granted, and of texts and lists no more than a node has reason to send.
fn bounded(mut report: Report, view: &View) -> Report {
    report.apps.retain(|app, _| view.apps.contains_key(app));
    for app in report.apps.values_mut() {
        app.windows.truncate(WINDOWS_MAX);
        app.windows.iter_mut().for_each(|window| window.faults.retain(|code, _| code.len() <= TEXT_CHARS_MAX));
        app.refused.iter_mut().for_each(|refused| cut(&mut refused.detail, DETAIL_CHARS_MAX));
    }
    for text in [&mut report.region, &mut report.version, &mut report.boot, &mut report.ledger] {
        cut(text, TEXT_CHARS_MAX);
    }
    report
}

fn cut(text: &mut String, chars_max: usize) {
    if let Some((end, _)) = text.char_indices().nth(chars_max) {
        text.truncate(end);
    }
}

/// Raises the head of a node to `seq`, and gives what it is then.
async fn raise(heads: &impl Heads, node: &Name, seq: u64) -> Result<u64, Denied> {
    let key = format!("node/{node}");
    for _ in 0..TRIES_MAX {
        let entry = heads.get(&key).await?;
        let was = entry.as_ref().and_then(|entry| std::str::from_utf8(&entry.value).ok()?.parse::<u64>().ok());
        if was.is_some_and(|was| was >= seq) {
            return Ok(was.unwrap_or(seq));
        }
        let version = entry.map(|entry| entry.version);
        match heads.swap(&key, version, seq.to_string().into()).await.map_err(Denied::from) {
            Ok(_) => return Ok(seq),
            Err(Denied::Moved) => {}
            Err(denied) => return Err(denied),
        }
    }
    Err(Denied::Moved)
}
