//! Following an app: its publishers and the operator ask, and nodes bring what they tell of it.

use std::time::Duration;

use bytes::Bytes;
use eyot_bundle::name::Name;
use eyot_link::tail::BATCH_BYTES_MAX;
use eyot_link::wire::WatchLine;
use eyot_plan::body::Body;
use eyot_plan::fault::Fault;
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, Interval};

use super::auth::{self, Caller};
use super::watch::beat;
use super::{Asked, Wire, body, json};
use crate::blobs::Blobs;
use crate::denied::Denied;
use crate::heads::Heads;
use crate::tails::Follower;

impl<H: Heads, B: Blobs> Wire<H, B> {
    /// A stream of what is told of `app`. Who follows is audited: a log may hold what people wrote.
    pub(super) async fn follow(&self, asked: &Asked, app: Name) -> Result<Response<Body>, Denied> {
        let who = auth::publisher_or_operator(&asked.caller, &app)?;
        if !asked.view.apps.contains_key(&app) {
            return Err(Denied::not_found(format!("no app `{app}` was granted")));
        }
        if asked.parts.method == Method::HEAD {
            return Ok(Response::new(eyot_plan::body::empty()));
        }
        let follower = self.tails.follow(app.clone(), asked.now)?;
        self.note(who, "tail".to_owned(), Some(app), "done", String::new()).await;
        let left = follower.until().duration_since(asked.now).unsigned_abs();
        let following = Following {
            follower,
            ending: self.ending.clone(),
            beat: beat(),
            until: Instant::now() + left.min(Duration::from_secs(86_400)),
            is_first: true,
        };
        let lines = stream::unfold(following, |mut following| async move {
            let line = following.next().await?;
            Some((Ok::<_, Fault>(Frame::data(line)), following))
        });
        let mut response = Response::new(StreamBody::new(lines).boxed_unsync());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }

    /// Takes what a node tells.
    pub(super) async fn tail(&self, asked: &Asked, bytes: Body, id: &str) -> Result<Response<Body>, Denied> {
        let Caller::Node(node) = &asked.caller else {
            return Err(auth::not_yours("only nodes tell".to_owned()));
        };
        let bytes = body::read(bytes, &asked.caller, BATCH_BYTES_MAX, self.limits.body_time_max).await?;
        self.tails.tell(id, node, &bytes)?;
        json(StatusCode::OK, &serde_json::json!({}))
    }
}

/// One stream.
struct Following {
    follower: Follower,
    ending: watch::Receiver<bool>,
    beat: Interval,
    until: Instant,
    /// The first line comes at once, so that whoever asked knows that it is heard.
    is_first: bool,
}

impl Following {
    /// The next line; `None`: the end.
    async fn next(&mut self) -> Option<Bytes> {
        if std::mem::take(&mut self.is_first) {
            return Some(WatchLine::Beat(Timestamp::now()).encode().into());
        }
        tokio::select! {
            _ = self.ending.wait_for(|ending| *ending) => None,
            () = tokio::time::sleep_until(self.until) => None,
            line = self.follower.next() => Some(line),
            _ = self.beat.tick() => Some(WatchLine::Beat(Timestamp::now()).encode().into()),
        }
    }
}
