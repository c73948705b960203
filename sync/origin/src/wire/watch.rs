//! The stream of changes: a line as soon as the state changes, with the metadata that is new in it, and a beat when
//! nothing does. It ends when the node is put out of the fleet or the origin ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use eyot_bundle::digest::Digest;
use eyot_bundle::name::Name;
use eyot_link::acme::Sealed;
use eyot_link::purge::{Since, Told};
use eyot_link::tail::Tail;
use eyot_link::wire::{BEAT_MS, Base64, Change, WatchLine};
use eyot_plan::body::Body;
use eyot_plan::fault::Fault;
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::auth::{self, Caller};
use super::{Asked, Wire};
use crate::acme::{Told as Challenge, is_fresh};
use crate::blobs::Blobs;
use crate::denied::Denied;
use crate::fleet::Stream;
use crate::heads::Heads;
use crate::purges::Purges;
use crate::view::View;

impl<H: Heads, B: Blobs> Wire<H, B> {
    pub(super) fn watch(&self, asked: &Asked) -> Result<Response<Body>, Denied> {
        let Caller::Node(node) = &asked.caller else {
            return Err(auth::not_yours("only nodes watch".to_owned()));
        };
        let (seq, purged) = since(asked.parts.uri.query().unwrap_or_default())?;
        if asked.parts.method == Method::HEAD {
            return Ok(Response::new(eyot_plan::body::empty()));
        }
        if self.fleet.streams() >= self.limits.streams_max {
            return Err(Denied::request(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "too many streams"));
        }
        let stream = self.fleet.stream(node)?;
        let mut views = self.catalog.views();
        views.mark_changed();
        let watching = Watching {
            node: node.clone(),
            views,
            challenges: self.acme.challenges(),
            told: 0,
            purges: self.purges.clone(),
            purging: self.purges.changes(),
            purged,
            located: false,
            tails: self.tails.orders(),
            tails_told: BTreeSet::new(),
            ending: self.ending.clone(),
            beat: beat(),
            inline_bytes_max: self.limits.inline_bytes_max,
            seq,
            timestamp: None,
            first: true,
            _stream: stream,
        };
        let lines = stream::unfold(watching, |mut watching| async move {
            let line = watching.next().await?;
            Some((Ok::<_, Fault>(Frame::data(Bytes::from(line.encode()))), watching))
        });
        let mut response = Response::new(StreamBody::new(lines).boxed_unsync());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }
}

/// What a node knows: the state, and how far it is with purges.
fn since(query: &str) -> Result<(u64, Option<Since>), Denied> {
    let number = |what: &str, text: &str| {
        text.parse::<u64>().map_err(|_| Denied::malformed(format!("`{what}` is the number of the last that is known")))
    };
    let (mut seq, mut n, mut log) = (0, None, None);
    for (name, value) in query.split('&').filter_map(|part| part.split_once('=')) {
        match name {
            "seq" => seq = number("seq", value)?,
            "purge" => n = Some(number("purge", value)?),
            "log" => log = Some(value.to_owned()),
            _ => {}
        }
    }
    Ok((seq, log.zip(n).map(|(log, n)| Since { log, n })))
}

/// The times at which a quiet stream says that it is there.
pub(super) fn beat() -> Interval {
    let period = Duration::from_millis(BEAT_MS);
    let mut beat = tokio::time::interval_at(Instant::now() + period, period);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat
}

/// One stream.
struct Watching {
    node: Name,
    views: watch::Receiver<Arc<View>>,
    challenges: watch::Receiver<(u64, Arc<Vec<Challenge>>)>,
    /// The last challenge that the node was told.
    told: u64,
    purges: Purges,
    purging: watch::Receiver<u64>,
    /// How far the node was told of purges.
    purged: Option<Since>,
    /// Whether the stream said how far the log of purges is.
    located: bool,
    tails: watch::Receiver<Arc<Vec<Tail>>>,
    /// The orders that the node was told, of those that there are.
    tails_told: BTreeSet<String>,
    ending: watch::Receiver<bool>,
    beat: Interval,
    inline_bytes_max: usize,
    /// The state that the node was told.
    seq: u64,
    /// The timestamp that it was told.
    timestamp: Option<Digest>,
    /// Whether no line was sent yet: the first comes at once, so that the node knows it is heard.
    first: bool,
    _stream: Stream,
}

impl Watching {
    /// The next line; `None`: the end.
    async fn next(&mut self) -> Option<WatchLine> {
        loop {
            // Before all else: who begins to answer again must not answer what was purged meanwhile.
            if let Some(told) = self.purge() {
                return Some(WatchLine::Purges(told));
            }
            if let Some(challenge) = self.challenge() {
                return Some(WatchLine::Challenge(challenge));
            }
            if let Some(tail) = self.tail() {
                return Some(WatchLine::Tail(tail));
            }
            let beat = tokio::select! {
                _ = self.ending.wait_for(|ending| *ending) => return None,
                changed = self.purging.changed() => changed.map(|()| false).ok()?,
                changed = self.challenges.changed() => changed.map(|()| false).ok()?,
                changed = self.tails.changed() => changed.map(|()| false).ok()?,
                changed = self.views.changed() => changed.map(|()| false).ok()?,
                _ = self.beat.tick() => true,
            };
            if beat {
                return Some(WatchLine::Beat(Timestamp::now()));
            }
            let view = Arc::clone(&self.views.borrow_and_update());
            if view.nodes.get(&self.node).is_none_or(|node| node.revoked) {
                return None;
            }
            let change = self.change(&view);
            let first = std::mem::take(&mut self.first);
            match change {
                Some(change) => return Some(WatchLine::Change(change)),
                None if first => return Some(WatchLine::Beat(Timestamp::now())),
                None => {}
            }
        }
    }

    /// The next purges that the node was not told yet. The first line of a stream says how far the log is in any case.
    fn purge(&mut self) -> Option<Told> {
        self.purging.borrow_and_update();
        let first = !std::mem::replace(&mut self.located, true);
        let since = self.purged.as_ref();
        let told = self.purges.since(since, first)?;
        self.purged = Some(Since { log: told.log.clone(), n: told.n });
        Some(told)
    }

    /// The next challenge that the node was not told yet.
    fn challenge(&mut self) -> Option<Sealed> {
        let now = Timestamp::now();
        let challenges = Arc::clone(&self.challenges.borrow_and_update().1);
        let next = challenges.iter().find(|told| told.n > self.told && is_fresh(told, now))?;
        self.told = next.n;
        Some(next.line())
    }

    /// The next order to send lines that the node was not told yet.
    fn tail(&mut self) -> Option<Tail> {
        let tails = Arc::clone(&self.tails.borrow_and_update());
        self.tails_told.retain(|told| tails.iter().any(|tail| tail.id == *told));
        let next = tails.iter().find(|tail| !self.tails_told.contains(&tail.id))?;
        self.tails_told.insert(next.id.clone());
        Some(next.clone())
    }

    /// What the node was not told yet.
    fn change(&mut self, view: &View) -> Option<Change> {
        let timestamp = view.state.files.get("timestamp.json").map(|file| file.sha256)?;
        let behind = view.seq() > self.seq;
        if !behind && (self.timestamp == Some(timestamp) || self.first) {
            self.timestamp = Some(timestamp);
            return None;
        }
        let since = self.seq;
        self.seq = self.seq.max(view.seq());
        self.timestamp = Some(timestamp);
        let bytes: usize = view.since(since).map(|(_, bytes)| bytes.len()).sum();
        let inline = if bytes <= self.inline_bytes_max {
            view.since(since).map(|(name, bytes)| (name, Base64(bytes.to_vec()))).collect()
        } else {
            BTreeMap::new()
        };
        Some(Change { seq: view.seq(), inline })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use eyot_bundle::fleet::Node;
    use eyot_bundle::trust::Trust;

    use super::*;
    use crate::blobs::files::FileBlobs;
    use crate::tests::house::{House, name};
    use crate::view::{Files, State};

    #[tokio::test(start_paused = true)]
    async fn a_quiet_stream_beats_at_once_and_then_every_fifteen_seconds() {
        let house = House::new();
        let root = Bytes::from(house.root(1));
        let blobs = FileBlobs::open(&house.folder.path().join("blobs")).expect("the blobs");
        let trust = Trust::new(&root).expect("the root");
        let view = View::of(None, State::default(), Files::new(), trust, &root, &blobs).await;
        let mut view = view.unwrap_or_else(|denied| panic!("{denied}"));
        let node: &Node = &House::nodes().nodes["fra-1"];
        view.nodes.insert(name("fra-1"), node.clone());
        let (views, mut seen) = watch::channel(Arc::new(view));
        let (end, ending) = watch::channel(false);
        seen.mark_changed();
        let (fleet, acme) = (crate::fleet::Fleet::default(), crate::acme::Acme::default());
        let tails = crate::tails::Tails::default();
        let heads = crate::heads::redb::RedbHeads::open(&house.folder.path().join("heads.redb")).expect("the heads");
        let purges = Purges::open(&heads, []).await.unwrap_or_else(|denied| panic!("{denied}"));
        let mut watching = Watching {
            node: name("fra-1"),
            views: seen,
            challenges: acme.challenges(),
            told: 0,
            purging: purges.changes(),
            purges,
            purged: None,
            located: false,
            tails: tails.orders(),
            tails_told: BTreeSet::new(),
            ending,
            beat: beat(),
            inline_bytes_max: 0,
            seq: 0,
            timestamp: None,
            first: true,
            _stream: fleet.stream(&name("fra-1")).unwrap_or_else(|denied| panic!("{denied}")),
        };
        let begun = Instant::now();
        assert!(
            matches!(watching.next().await, Some(WatchLine::Purges(told)) if told.missed),
            "it is told where the log is"
        );
        for beats in 0..4 {
            assert!(matches!(watching.next().await, Some(WatchLine::Beat(_))));
            assert_eq!(begun.elapsed().as_secs(), 15 * beats);
        }
        end.send_replace(true);
        assert!(watching.next().await.is_none(), "it ends with the origin");
        drop(views);
    }
}
