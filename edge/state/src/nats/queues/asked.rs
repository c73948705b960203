//! One request for messages, as it is answered. The library's own (`Consumer::batch`, 0.51) is not woken by what follows a
//! heartbeat, and drops what is on its way when it is dropped itself.

use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::consumer::pull::BatchConfig;
use async_nats::jetstream::{Context, Message as Delivered};
use async_nats::{StatusCode, Subject, Subscriber};
use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout_at};

/// How long servers keep a request for messages.
const ASKED_FOR: Duration = Duration::from_secs(30);
/// How often they say meanwhile that they are there.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Who says nothing for so long is not there any more: two heartbeats, and a moment.
const SILENT_MAX: Duration = Duration::from_secs(12);
/// How long a server may take to say that nothing more comes.
const LEFT_WITHIN: Duration = Duration::from_secs(2);

/// A request for messages.
pub(super) struct Asked {
    context: Context,
    subscriber: Subscriber,
    /// Messages that may still come.
    left: usize,
    /// When what comes is no longer waited for, if it was left.
    ends: Option<Instant>,
}

impl Asked {
    /// Asks for `count` messages at most.
    pub(super) async fn ask(context: &Context, consumer: &PullConsumer, count: usize) -> Result<Self, String> {
        let client = context.client();
        let inbox = Subject::from(client.new_inbox());
        let subscriber = client.subscribe(inbox.clone()).await.map_err(|error| error.to_string())?;
        let batch =
            BatchConfig { batch: count, expires: Some(ASKED_FOR), idle_heartbeat: HEARTBEAT, ..BatchConfig::default() };
        consumer.request_batch(batch, inbox).await.map_err(|error| error.to_string())?;
        Ok(Self { context: context.clone(), subscriber, left: count, ends: None })
    }

    /// The next message; `None` when no more come. Nothing is lost where this is dropped.
    pub(super) async fn next(&mut self) -> Option<Result<Delivered, String>> {
        while self.left > 0 {
            let ends = self.ends.unwrap_or_else(|| Instant::now() + SILENT_MAX);
            let message = match timeout_at(ends, self.subscriber.next()).await {
                Ok(message) => message?,
                Err(_) if self.ends.is_some() => return None,
                Err(_) => return Some(Err("NATS says nothing".to_owned())),
            };
            match message.status {
                None | Some(StatusCode::OK) => {
                    self.left -= 1;
                    return Some(Ok(Delivered { message, context: self.context.clone() }));
                }
                Some(StatusCode::IDLE_HEARTBEAT) => {}
                // As long as it was asked for, nothing more came.
                Some(StatusCode::TIMEOUT | StatusCode::NOT_FOUND) => return None,
                Some(status) => {
                    let why = message.description.as_deref().unwrap_or("no reason");
                    return Some(Err(format!("NATS gives no messages: {status}, {why}")));
                }
            }
        }
        None
    }

    /// Asks for no more. What is on its way still comes, and then the end.
    pub(super) async fn leave(&mut self) {
        self.ends = Some(Instant::now() + LEFT_WITHIN);
        // If that fails, the connection is gone, and with it the request.
        let _ = self.subscriber.drain().await;
    }
}
