//! One bucket: what is asked of a store, as requests to JetStream.
//!
//! A key is the last part of a subject, in base64url, so it may hold anything. A value's revision is the number of its
//! message in the stream. A deletion is a marker, as other clients of such buckets write it, which is then taken out of the
//! stream, so that keys that are gone do not count.

mod way;

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{DirectGetErrorKind, LastRawMessageErrorKind, Stream};
use async_nats::{HeaderMap, Request};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use eyot_bundle::release::{Consistency, Store as Spec};
use futures_util::{StreamExt as _, stream};
use serde::Deserialize;

use super::seen::Seen;
use super::{ANSWER_WITHIN, Servers};
use crate::ask::{Ask, Bound, Current, Given, PAGE_KEYS, Page, Said, Write, sum};
use crate::error::Error;
use crate::store::bad_cursor;
use way::Way;

/// What a message may have beside its value, in bytes: our own headers.
const HEADERS_BYTES_MAX: usize = 256;
/// Tries of an increment, against those of other nodes.
const TRIES_MAX: usize = 64;
/// How long a listing may wait for the next key.
const KEY_WITHIN: Duration = Duration::from_secs(2);
/// How long is waited before keys are listed again, when a server of several did not list them all, in milliseconds.
const LISTED_AGAIN_MS: [u64; 4] = [20, 50, 100, 200];
/// Keys of one ask that are read or written at once.
const AT_ONCE: usize = 16;
const OPERATION: &str = "KV-Operation";
const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";
const ROLLUP: &str = "Nats-Rollup";

pub(crate) struct Bucket {
    servers: Weak<Servers>,
    name: String,
    /// What the last release says of it.
    wanted: Mutex<Spec>,
    /// The stream, when it is known to be as a release wants it.
    stream: tokio::sync::Mutex<Option<(Spec, Stream)>>,
    seen: Seen,
    /// Increments of this process go one after another.
    increments: tokio::sync::Mutex<()>,
}

/// What was said to a write.
enum Written {
    /// With this revision.
    At(u64),
    /// There is no room for another key.
    Full,
    /// The key has another revision than was expected.
    Other,
}

#[derive(Deserialize)]
struct Acknowledged {
    #[serde(default)]
    seq: u64,
    error: Option<Failed>,
}

#[derive(Deserialize)]
struct Failed {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

impl Bucket {
    pub(super) fn new(servers: &Arc<Servers>, name: &str, spec: Spec) -> Self {
        Self {
            servers: Arc::downgrade(servers),
            name: name.to_owned(),
            wanted: Mutex::new(spec),
            stream: tokio::sync::Mutex::default(),
            seen: Seen::default(),
            increments: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn wants(&self, spec: Spec) {
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = spec;
    }

    pub(crate) async fn ask(&self, bound: &Bound, ask: Ask) -> Result<Said, Error> {
        let way = self.way().await?;
        let said = self.answer(&way, bound, ask).await;
        if let Err(Error::Unavailable(_)) = said {
            // It may not be there any more: it is looked for again.
            *self.stream.lock().await = None;
        }
        said
    }

    async fn answer(&self, way: &Way, bound: &Bound, ask: Ask) -> Result<Said, Error> {
        let consistency = bound.spec.consistency;
        Ok(match ask {
            Ask::Current(key) => Said::Current(current(self.read(way, &key, consistency).await?)),
            Ask::Exists(key) => Said::Exists(self.read(way, &key, consistency).await?.is_some()),
            Ask::Get(keys) => {
                let mut given = Given::default();
                let reads: Vec<_> = keys.iter().map(|key| self.read(way, key, consistency)).collect();
                let mut reads = stream::iter(reads).buffered(AT_ONCE);
                while let Some(message) = reads.next().await {
                    given.add(message?.map(|message| message.payload))?;
                }
                given.said()
            }
            Ask::Increment { key, delta } => Said::Sum(self.increment(way, bound, &key, delta).await?),
            Ask::Keys { cursor } => Said::Keys(self.page(way, cursor.as_deref()).await?),
            Ask::Swap { key, revision, value } => Said::Swapped(self.swap(way, bound, &key, revision, value).await?),
            Ask::Write(writes) => {
                let writes: Vec<_> = writes.into_iter().map(|write| self.write(way, bound, write)).collect();
                let mut writes = stream::iter(writes).buffer_unordered(AT_ONCE);
                while let Some(written) = writes.next().await {
                    written?;
                }
                Said::Done
            }
        })
    }

    fn subject(&self, key: &str) -> String {
        format!("$KV.{}.{}", self.name, URL_SAFE_NO_PAD.encode(key))
    }

    /// For whoever asked: that it failed, and for the operator why.
    fn failed(&self, what: &'static str, error: &dyn std::fmt::Display) -> Error {
        tracing::warn!(bucket = self.name, %error, what, "NATS");
        Error::unavailable(what)
    }

    /// The message of a key that has a value.
    async fn read(&self, way: &Way, key: &str, consistency: Consistency) -> Result<Option<StreamMessage>, Error> {
        let is_eventual = consistency == Consistency::Eventual;
        if let Some(seen) = self.seen.at_least(key).or(is_eventual.then_some(0)) {
            match self.read_anywhere(way, key).await? {
                Some(message) if message.sequence >= seen || is_eventual => return Ok(has_value(message)),
                None if is_eventual => return Ok(None),
                // Older than what was seen, or not there yet, or not any more.
                _ => {}
            }
        }
        self.read_leader(way, key).await.map(|message| message.and_then(has_value))
    }

    async fn read_anywhere(&self, way: &Way, key: &str) -> Result<Option<StreamMessage>, Error> {
        match way.stream.direct_get_last_for_subject(self.subject(key)).await {
            Ok(message) => Ok(Some(message)),
            Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed("it could not be read", &error)),
        }
    }

    /// The last message of a key, a marker included.
    async fn read_leader(&self, way: &Way, key: &str) -> Result<Option<StreamMessage>, Error> {
        match way.stream.get_last_raw_message_by_subject(&self.subject(key)).await {
            Ok(message) => {
                self.seen.value(key, message.sequence);
                Ok(Some(message))
            }
            Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => {
                self.seen.gone(key);
                Ok(None)
            }
            Err(error) => Err(self.failed("it could not be read", &error)),
        }
    }

    /// Writes a message, if the key's last one is `expected`.
    async fn publish(&self, way: &Way, key: &str, value: Bytes, expected: Option<u64>) -> Result<Written, Error> {
        let mut headers = HeaderMap::new();
        if let Some(expected) = expected {
            headers.insert(EXPECTED, expected.to_string());
        }
        self.send(way, key, headers, value).await
    }

    async fn send(&self, way: &Way, key: &str, headers: HeaderMap, value: Bytes) -> Result<Written, Error> {
        let most = way.client.max_payload().saturating_sub(if headers.is_empty() { 0 } else { HEADERS_BYTES_MAX });
        if value.len() > most {
            return Err(Error::refused(format!("a value of {} bytes; this NATS takes {most}", value.len())));
        }
        let request = Request::new().payload(value).timeout(Some(ANSWER_WITHIN));
        let request = if headers.is_empty() { request } else { request.headers(headers) };
        let failed = |error: &dyn std::fmt::Display| self.failed("it could not be written", error);
        let answer = way.client.send_request(self.subject(key), request).await.map_err(|error| failed(&error))?;
        let answer: Acknowledged = serde_json::from_slice(&answer.payload).map_err(|error| failed(&error))?;
        match answer.error {
            None => {
                self.seen.value(key, answer.seq);
                Ok(Written::At(answer.seq))
            }
            Some(error) if is_full(&error) => Ok(Written::Full),
            Some(error) if is_other(&error) => Ok(Written::Other),
            Some(error) => Err(failed(&error.description)),
        }
    }

    async fn write(&self, way: &Way, bound: &Bound, write: Write) -> Result<(), Error> {
        match write.value {
            Some(value) => self.set(way, bound, &write.key, value).await,
            None => self.delete(way, &write.key).await,
        }
    }

    async fn set(&self, way: &Way, bound: &Bound, key: &str, value: Bytes) -> Result<(), Error> {
        match self.publish(way, key, value, None).await? {
            Written::At(_) => Ok(()),
            Written::Full => Err(Error::too_many_keys(bound.spec.keys_max)),
            Written::Other => Err(Error::contended()),
        }
    }

    /// A marker in place of the value, which then goes, too.
    async fn delete(&self, way: &Way, key: &str) -> Result<(), Error> {
        let mut headers = HeaderMap::new();
        headers.insert(OPERATION, "PURGE");
        headers.insert(ROLLUP, "sub");
        // Where there is no room for a marker there is none for another key: this one is not there.
        let Written::At(revision) = self.send(way, key, headers, Bytes::new()).await? else { return Ok(()) };
        let purge = way.stream.purge().filter(self.subject(key)).sequence(revision + 1).await;
        if let Err(error) = purge {
            tracing::debug!(bucket = self.name, %error, "the marker of a deleted key stays");
        }
        self.seen.gone(key);
        Ok(())
    }

    async fn swap(&self, way: &Way, bound: &Bound, key: &str, revision: u64, value: Bytes) -> Result<bool, Error> {
        match self.publish(way, key, value.clone(), Some(revision)).await? {
            Written::At(_) => return Ok(true),
            Written::Full => return Err(Error::too_many_keys(bound.spec.keys_max)),
            Written::Other if revision != 0 => return Ok(false),
            Written::Other => {}
        }
        // There may be a marker, which is no value.
        let marker = match self.read_leader(way, key).await? {
            Some(message) if is_marker(&message) => message.sequence,
            Some(_) => return Ok(false),
            None => 0,
        };
        Ok(matches!(self.publish(way, key, value, Some(marker)).await?, Written::At(_)))
    }

    async fn increment(&self, way: &Way, bound: &Bound, key: &str, delta: i64) -> Result<i64, Error> {
        let _one = self.increments.lock().await;
        for _ in 0..TRIES_MAX {
            let last = self.read_leader(way, key).await?;
            let revision = last.as_ref().map_or(0, |message| message.sequence);
            let value = last.and_then(has_value).map(|message| message.payload);
            let sum = sum(value.as_deref(), delta)?;
            match self.publish(way, key, sum.to_string().into(), Some(revision)).await? {
                Written::At(_) => return Ok(sum),
                Written::Full => return Err(Error::too_many_keys(bound.spec.keys_max)),
                Written::Other => {}
            }
        }
        Err(Error::contended())
    }

    /// The keys by the numbers of their messages: a key that is written meanwhile comes once more, and none is missed.
    async fn page(&self, way: &Way, cursor: Option<&str>) -> Result<Page, Error> {
        let after = cursor.map_or(Ok(0), |cursor| cursor.parse::<u64>().map_err(|_| bad_cursor()))?;
        // Any server of the bucket may list its keys: one may be behind the leader for a moment, or not be known to the
        // one that is asked. After the first page it has caught up.
        let info = if after == 0 { way.stream.get_info().await.ok() } else { None };
        let there = info.map_or(0, |info| info.state.messages);
        let began = Instant::now();
        for wait_ms in LISTED_AGAIN_MS {
            match self.listed(way, after, there).await {
                Ok(Some(page)) => return Ok(page),
                // Who takes so long to refuse is away.
                Err(error) if began.elapsed() >= KEY_WITHIN => return Err(error),
                Ok(None) | Err(_) => tokio::time::sleep(Duration::from_millis(wait_ms)).await,
            }
        }
        // Keys may have gone meanwhile: what is there now is all.
        self.listed(way, after, 0).await.map(Option::unwrap_or_default)
    }

    /// The same from one server; `None` where that has fewer messages than `there`.
    async fn listed(&self, way: &Way, after: u64, there: u64) -> Result<Option<Page>, Error> {
        let failed = |error: &dyn std::fmt::Display| self.failed("its keys could not be listed", error);
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: after + 1 },
            ack_policy: AckPolicy::None,
            headers_only: true,
            memory_storage: true,
            num_replicas: 1,
            inactive_threshold: KEY_WITHIN * 2,
            ..pull::Config::default()
        };
        let consumer = way.stream.create_consumer(config).await.map_err(|error| failed(&error))?;
        let listed = self.read_page(&consumer, after, there).await;
        // One that is left ends by itself.
        let _ = way.stream.delete_consumer(&consumer.cached_info().name).await;
        listed
    }

    async fn read_page(&self, consumer: &PullConsumer, after: u64, there: u64) -> Result<Option<Page>, Error> {
        let failed = |error: &dyn std::fmt::Display| self.failed("its keys could not be listed", error);
        let pending = consumer.cached_info().num_pending;
        if pending < there {
            return Ok(None);
        }
        let pending = usize::try_from(pending).unwrap_or(usize::MAX);
        let most = pending.min(PAGE_KEYS);
        let (mut page, mut last, mut heard) = (Page::default(), after, 0);
        if most > 0 {
            let fetch = consumer.fetch().max_messages(most).expires(KEY_WITHIN).messages().await;
            let mut messages = fetch.map_err(|error| failed(&error))?;
            while let Some(message) = messages.next().await {
                let message = message.map_err(|error| failed(&error))?;
                heard += 1;
                last = message.info().map_err(|error| failed(&error))?.stream_sequence;
                let is_value = message.headers.as_ref().is_none_or(|headers| headers.get(OPERATION).is_none());
                page.keys.extend(key_of(&message.subject).filter(|_| is_value));
            }
        }
        if pending > heard {
            page.cursor = Some(last.to_string());
        }
        Ok(Some(page))
    }
}

fn current(message: Option<StreamMessage>) -> Current {
    message
        .map_or_else(Current::default, |message| Current { value: Some(message.payload), revision: message.sequence })
}

fn is_marker(message: &StreamMessage) -> bool {
    message.headers.get(OPERATION).is_some()
}

fn has_value(message: StreamMessage) -> Option<StreamMessage> {
    (!is_marker(&message)).then_some(message)
}

fn key_of(subject: &str) -> Option<String> {
    let (_, key) = subject.rsplit_once('.')?;
    String::from_utf8(URL_SAFE_NO_PAD.decode(key).ok()?).ok()
}

fn is_full(error: &Failed) -> bool {
    error.err_code == ErrorCode::STREAM_STORE_FAILED.0 && error.description.contains("maximum messages")
}

fn is_other(error: &Failed) -> bool {
    let other = [ErrorCode::STREAM_WRONG_LAST_SEQUENCE.0, ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT.0];
    other.contains(&error.err_code)
}
