//! The stream of changes: a line as soon as the state changes, with the metadata that is new in it, and a beat when
//! nothing does. It ends when the node is put out of the fleet or the origin ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use eyot_bundle::digest::Digest;
use eyot_bundle::name::Name;
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
use crate::blobs::Blobs;
use crate::denied::Denied;
use crate::fleet::Stream;
use crate::heads::Heads;
use crate::view::View;

/// Metadata of more bytes than this in all is not put into a line; nodes fetch it.
const INLINE_BYTES_MAX: usize = 512 << 10;
/// Streams at once.
const STREAMS_MAX: usize = 20_000;

impl<H: Heads, B: Blobs> Wire<H, B> {
    pub(super) fn watch(&self, asked: &Asked) -> Result<Response<Body>, Denied> {
        let Caller::Node(node) = &asked.caller else {
            return Err(auth::not_yours("only nodes watch".to_owned()));
        };
        let query = asked.parts.uri.query().unwrap_or_default();
        let seq = query.strip_prefix("seq=").unwrap_or("0").parse();
        let seq: u64 = seq.map_err(|_| Denied::malformed("`seq` is the number of the last state that is known"))?;
        if asked.parts.method == Method::HEAD {
            return Ok(Response::new(eyot_plan::body::empty()));
        }
        if self.fleet.streams() >= STREAMS_MAX {
            return Err(Denied::request(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "too many streams"));
        }
        let stream = self.fleet.stream(node)?;
        let mut beat =
            tokio::time::interval_at(Instant::now() + Duration::from_millis(BEAT_MS), Duration::from_millis(BEAT_MS));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut views = self.catalog.views();
        views.mark_changed();
        let watching = Watching {
            node: node.clone(),
            views,
            ending: self.ending.clone(),
            beat,
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

/// One stream.
struct Watching {
    node: Name,
    views: watch::Receiver<Arc<View>>,
    ending: watch::Receiver<bool>,
    beat: Interval,
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
            let beat = tokio::select! {
                _ = self.ending.wait_for(|ending| *ending) => return None,
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
        let inline = if bytes <= INLINE_BYTES_MAX {
            view.since(since).map(|(name, bytes)| (name, Base64(bytes.to_vec()))).collect()
        } else {
            BTreeMap::new()
        };
        Some(Change { seq: view.seq(), inline })
    }
}
