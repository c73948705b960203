//! Where a queue is kept: the app's stream, and the consumer that remembers what the queue is done with.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, Info, PullConsumer, pull};
use async_nats::jetstream::stream::{
    Config, ConsumerError, ConsumerErrorKind, DiscardPolicy, RetentionPolicy, StorageType, Stream,
};
use async_nats::jetstream::{Context, ErrorCode};
use eyot_bundle::digest::Digest;
use eyot_bundle::name::Name;
use eyot_bundle::subject;
use futures_util::TryStreamExt as _;

use super::{MESSAGE_BYTES_MAX, Queue};

/// A message of which nothing is heard for so long comes again.
pub(super) const ACK_WAIT: Duration = Duration::from_secs(30);
/// What an app's messages may take, in bytes: whoever sends more is refused, and none that is there is lost.
const STREAM_BYTES_MAX: i64 = 1 << 30;
/// How long a message is kept that no queue is done with, dead letters too.
const KEPT_FOR: Duration = Duration::from_secs(30 * 86_400);
/// How long it is known which messages were sent already.
const KNOWN_FOR: Duration = Duration::from_secs(120);
/// Messages of one queue, in the whole fleet, that are worked on or wait to come again.
const UNDER_WAY_MAX: i64 = 100_000;
/// Nodes that ask for messages of one queue at once.
const ASKING_MAX: i64 = 4_096;
/// A consumer that nobody has asked for so long is nobody's, in seconds.
const LEFT_AFTER_S: i64 = 60;

/// The consumer of a queue, made when there is none.
pub(super) async fn consumer(context: &Context, queue: &Queue, replicas: usize) -> Result<PullConsumer, String> {
    let stream = context.get_or_create_stream(stream(&queue.app, replicas)).await.map_err(|error| error.to_string())?;
    let config = config(queue);
    match stream.create_consumer(config.clone()).await {
        Err(error) if is_taken(&error) => {
            give_way(&stream, queue).await?;
            stream.create_consumer(config).await.map_err(|error| error.to_string())
        }
        other => other.map_err(|error| error.to_string()),
    }
}

/// The stream of an app's messages. One that is there already is used as it is.
fn stream(app: &Name, replicas: usize) -> Config {
    Config {
        name: format!("eyot-{app}"),
        subjects: vec![format!("{app}.>")],
        description: Some(format!("the messages of the app {app}")),
        retention: RetentionPolicy::WorkQueue,
        storage: StorageType::File,
        num_replicas: replicas,
        discard: DiscardPolicy::New,
        max_bytes: STREAM_BYTES_MAX,
        max_age: KEPT_FOR,
        max_message_size: i32::try_from(MESSAGE_BYTES_MAX).unwrap_or(i32::MAX),
        duplicate_window: KNOWN_FOR,
        ..Config::default()
    }
}

fn config(queue: &Queue) -> pull::Config {
    let name = name(&queue.spec.subject);
    pull::Config {
        durable_name: Some(name.clone()),
        name: Some(name),
        description: Some(format!("the queue {} of the app {}", queue.spec.subject, queue.app)),
        filter_subject: format!("{}.{}", queue.app, queue.spec.subject),
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        // How often it is tried is counted here: servers would let it go without a word.
        max_deliver: -1,
        max_ack_pending: UNDER_WAY_MAX,
        max_waiting: ASKING_MAX,
        ..pull::Config::default()
    }
}

/// The same for the same subject in any release.
fn name(subject: &str) -> String {
    let digest = Digest::of(subject.as_bytes()).to_string();
    format!("q-{}", digest.get(..16).unwrap_or(&digest))
}

/// Whether another consumer takes some of the same messages.
fn is_taken(error: &ConsumerError) -> bool {
    match error.kind() {
        ConsumerErrorKind::JetStream(error) => {
            let code = error.error_code();
            code == ErrorCode::CONSUMER_WQ_CONSUMER_NOT_UNIQUE || code == ErrorCode::CONSUMER_WQ_MULTIPLE_UNFILTERED
        }
        _ => false,
    }
}

/// Ends the consumers that stand in the queue's way and that nobody asks any more: those of an earlier release, whose queue
/// had another subject. What they had not ended comes to this one.
async fn give_way(stream: &Stream, queue: &Queue) -> Result<(), String> {
    let own = name(&queue.spec.subject);
    let wanted = format!("{}.{}", queue.app, queue.spec.subject);
    let mut all = stream.consumers();
    while let Some(info) = all.try_next().await.map_err(|error| error.to_string())? {
        let meets = subject::meet(&info.config.filter_subject, &wanted);
        if !info.name.starts_with("q-") || info.name == own || !meets {
            continue;
        }
        if !is_left(&info, now_s()) {
            let theirs = &info.config.filter_subject;
            return Err(format!("nodes with another release still work on the queue `{theirs}`, which takes the same"));
        }
        tracing::info!(app = %queue.app, queue = info.config.filter_subject, "a queue that nobody works on gives way");
        stream.delete_consumer(&info.name).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn is_left(info: &Info, now_s: i64) -> bool {
    let active = [info.delivered.last_active, info.ack_floor.last_active, Some(info.created)];
    let last_s = active.iter().flatten().map(|at| at.unix_timestamp()).max().unwrap_or(0);
    info.num_waiting == 0 && now_s.saturating_sub(last_s) >= LEFT_AFTER_S
}

fn now_s() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.ok().and_then(|since| i64::try_from(since.as_secs()).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use eyot_bundle::release;

    fn queue(app: &str, subject: &str) -> Queue {
        let spec = release::Queue {
            engine: release::Engine::Nats,
            subject: subject.to_owned(),
            function: "order".parse().expect("a name"),
            concurrency: 8,
            attempts: 5,
            backoff_ms: vec![1_000],
            dead_letter: None,
        };
        Queue { app: app.parse().expect("a name"), release: 1, spec }
    }

    #[test]
    fn an_apps_stream_and_queues_hold_subjects_under_its_own_name_and_no_other_apps() {
        for (app, other) in [("shop", "shop-2"), ("shop-2", "shop"), ("a", "b")] {
            let own = stream(&app.parse().expect("a name"), 1);
            let others = stream(&other.parse().expect("a name"), 1);
            assert!(own.name != others.name && !subject::meet(&own.subjects[0], &others.subjects[0]), "{app} {other}");
            for text in ["orders.>", ">", "*", "shop-2.x"] {
                let config = config(&queue(app, text));
                assert!(subject::meet(&config.filter_subject, &own.subjects[0]), "{text}");
                assert!(!subject::meet(&config.filter_subject, &others.subjects[0]), "{text}");
                assert_eq!((config.max_deliver, config.ack_policy), (-1, AckPolicy::Explicit));
            }
        }
    }

    #[test]
    fn a_queue_has_one_name_in_all_releases_and_another_subject_has_another() {
        assert_eq!(name("orders.>"), name("orders.>"));
        assert_ne!(name("orders.>"), name("orders.*"));
        assert_eq!(name("orders.>").len(), 18);
    }
}
