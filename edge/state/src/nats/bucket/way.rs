//! The way to a bucket: its stream, made where there is none, and as the last release wants it.

use std::sync::PoisonError;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, Stream};
use eyot_bundle::release::Store as Spec;

use super::{Bucket, HEADERS_BYTES_MAX};
use crate::error::Error;

/// How soon it is looked again whether somebody leads.
const LED_AGAIN: Duration = Duration::from_millis(100);

/// The stream and the way to it.
pub(super) struct Way {
    pub(super) client: Client,
    pub(super) stream: Stream,
}

impl Bucket {
    /// The stream, made or changed to be as the last release wants it.
    pub(super) async fn way(&self) -> Result<Way, Error> {
        let servers = self.servers.upgrade().ok_or_else(|| Error::unavailable("this process ends"))?;
        let context = servers.context().await?;
        let wanted = *self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = self.stream.lock().await;
        if let Some((spec, stream)) = &*known
            && *spec == wanted
        {
            return Ok(Way { client: context.client(), stream: stream.clone() });
        }
        let config = self.config(&wanted, servers.replicas);
        let failed = |error: &dyn std::fmt::Display| self.failed("its bucket cannot be had", error);
        let stream = match context.get_stream(&config.name).await {
            Ok(stream) if is_as(&stream.cached_info().config, &config) => stream,
            Ok(mut stream) => {
                context.update_stream(&config).await.map_err(|error| failed(&error))?;
                stream.info().await.map_err(|error| failed(&error))?;
                stream
            }
            Err(error) if is_missing(&error.kind()) => {
                context.get_or_create_stream(config).await.map_err(|error| failed(&error))?
            }
            Err(error) => return Err(failed(&error)),
        };
        let stream = self.led(stream).await?;
        *known = Some((wanted, stream.clone()));
        Ok(Way { client: context.client(), stream })
    }

    /// Waits until one of the servers that keep it leads: what is asked before that is never answered.
    async fn led(&self, mut stream: Stream) -> Result<Stream, Error> {
        while !is_led(stream.cached_info()) {
            tokio::time::sleep(LED_AGAIN).await;
            stream.info().await.map_err(|error| self.failed("its bucket has no leader", &error))?;
        }
        Ok(stream)
    }

    fn config(&self, spec: &Spec, replicas: usize) -> Config {
        let value_bytes = usize::try_from(spec.value_max_bytes).unwrap_or(usize::MAX);
        Config {
            name: format!("KV_{}", self.name),
            subjects: vec![format!("$KV.{}.>", self.name)],
            max_messages_per_subject: 1,
            max_messages: i64::try_from(spec.keys_max).unwrap_or(i64::MAX),
            max_message_size: i32::try_from(value_bytes.saturating_add(HEADERS_BYTES_MAX)).unwrap_or(i32::MAX),
            max_age: Duration::from_millis(spec.ttl_ms.unwrap_or(0)),
            // A key that is there may be written when there is no room for another.
            discard: DiscardPolicy::New,
            allow_rollup: true,
            deny_delete: true,
            allow_direct: true,
            num_replicas: replicas,
            ..Config::default()
        }
    }
}

fn is_missing(kind: &GetStreamErrorKind) -> bool {
    matches!(kind, GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// Whether a stream needs no change.
fn is_as(there: &Config, wanted: &Config) -> bool {
    let what = |config: &Config| (config.max_messages, config.max_message_size, config.max_age, config.num_replicas);
    what(there) == what(wanted)
}

/// Whether a stream has a leader; one server alone needs none.
fn is_led(info: &Info) -> bool {
    let is_named = |leader: &Option<String>| leader.as_ref().is_some_and(|leader| !leader.is_empty());
    info.cluster.as_ref().is_none_or(|cluster| is_named(&cluster.leader))
}
