//! One message: worked on while the servers are told that it is, and what becomes of it.

use std::time::Duration;

use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{AckKind, Context, Message as Delivered};
use async_nats::{HeaderMap, HeaderValue};

use super::place::ACK_WAIT;
use super::{Ended, MESSAGE_BYTES_MAX, Message, Queue, Worker};

/// How often the servers are told that a message is being worked on.
const PROGRESS: Duration = Duration::from_secs(10);
const _: () = assert!(PROGRESS.as_secs() * 2 < ACK_WAIT.as_secs(), "one may be lost on its way");
/// Characters of a reason that a dead letter carries.
const REASON_CHARS_MAX: usize = 500;
/// A dead letter that could not be sent is tried again after this.
const DEAD_AGAIN: Duration = Duration::from_secs(10);

/// Works on a message, and says how that ended.
pub(super) async fn work<W: Worker>(context: &Context, queue: &Queue, worker: &W, delivered: Delivered) {
    let Some(message) = read(queue, &delivered) else {
        tracing::error!(app = %queue.app, subject = %delivered.subject, "a message that is none of this queue");
        return;
    };
    let attempt = message.attempt;
    let tried = if attempt > queue.spec.attempts {
        Err("whoever worked on it was lost at its last try".to_owned())
    } else if message.body.len() > MESSAGE_BYTES_MAX {
        Err(format!("it is larger than {MESSAGE_BYTES_MAX} bytes"))
    } else {
        worked_on(worker, message, &delivered).await
    };
    let ended = match tried {
        Ok(()) => heard(&delivered, AckKind::Ack, Ended::Done).await,
        Err(_) if attempt < queue.spec.attempts && delivered.payload.len() <= MESSAGE_BYTES_MAX => {
            let wait = Duration::from_millis(wait_ms(&queue.spec.backoff_ms, attempt));
            heard(&delivered, AckKind::Nak(Some(wait)), Ended::Retried).await
        }
        Err(reason) => bury(context, queue, &delivered, attempt, &reason).await,
    };
    worker.ended(ended);
}

/// The worker's answer, while the servers hear that it works.
async fn worked_on<W: Worker>(worker: &W, message: Message, delivered: &Delivered) -> Result<(), String> {
    let working = worker.work(message);
    tokio::pin!(working);
    loop {
        tokio::select! {
            ended = &mut working => return ended,
            () = tokio::time::sleep(PROGRESS) => {
                if let Err(error) = delivered.ack_with(AckKind::Progress).await {
                    tracing::debug!(%error, "NATS was not told that a message is worked on");
                }
            }
        }
    }
}

/// Tells the servers what becomes of a message, until they have heard.
async fn heard(delivered: &Delivered, kind: AckKind, ended: Ended) -> Ended {
    match delivered.double_ack_with(kind).await {
        Ok(()) => ended,
        Err(error) => {
            tracing::debug!(%error, "NATS did not hear what became of a message, which comes again");
            Ended::Unheard
        }
    }
}

/// Makes a message a dead letter; only then it is taken from the queue.
async fn bury(context: &Context, queue: &Queue, delivered: &Delivered, attempt: u32, reason: &str) -> Ended {
    let Some(dead) = &queue.spec.dead_letter else {
        return heard(delivered, AckKind::Term, Ended::Dropped).await;
    };
    match send(context, queue, delivered, dead, attempt, reason).await {
        Ok(()) => heard(delivered, AckKind::Ack, Ended::Dead).await,
        Err(error) => {
            tracing::warn!(app = %queue.app, subject = queue.spec.subject, error, "a dead letter could not be sent");
            heard(delivered, AckKind::Nak(Some(DEAD_AGAIN)), Ended::Retried).await
        }
    }
}

async fn send(
    context: &Context,
    queue: &Queue,
    delivered: &Delivered,
    dead: &str,
    attempt: u32,
    reason: &str,
) -> Result<(), String> {
    let number = delivered.info().map_err(|error| error.to_string())?.stream_sequence;
    let mut headers = HeaderMap::new();
    for (name, values) in delivered.headers.iter().flat_map(HeaderMap::iter) {
        // Those are the servers' to read, and were said of the message as it came.
        if !AsRef::<str>::as_ref(name).to_ascii_lowercase().starts_with("nats-") {
            values.iter().for_each(|value| headers.append(name.clone(), value.clone()));
        }
    }
    let subject = within(queue, &delivered.subject).unwrap_or_default();
    for (name, value) in [
        ("Eyot-Attempts", attempt.min(queue.spec.attempts).to_string()),
        ("Eyot-Function", queue.spec.function.to_string()),
        ("Eyot-Reason", plain(reason)),
        ("Eyot-Release", queue.release.to_string()),
        ("Eyot-Subject", subject.to_owned()),
    ] {
        headers.insert(name, value.parse::<HeaderValue>().map_err(|error| error.to_string())?);
    }
    let letter = PublishMessage::build()
        .payload(delivered.payload.clone())
        .headers(headers)
        // If only its end was not heard, it is not sent twice.
        .message_id(format!("eyot-dead-{number}"));
    let sent =
        context.send_publish(format!("{}.{dead}", queue.app), letter).await.map_err(|error| error.to_string())?;
    sent.await.map(drop).map_err(|error| error.to_string())
}

/// A reason as a field can carry it.
fn plain(reason: &str) -> String {
    reason.chars().map(|it| if it.is_control() { ' ' } else { it }).take(REASON_CHARS_MAX).collect()
}

/// A subject within the app's own.
fn within<'a>(queue: &Queue, subject: &'a str) -> Option<&'a str> {
    subject.strip_prefix(queue.app.as_str())?.strip_prefix('.')
}

fn read(queue: &Queue, delivered: &Delivered) -> Option<Message> {
    let info = delivered.info().ok()?;
    let fields = delivered.headers.iter().flat_map(HeaderMap::iter);
    let fields = fields.flat_map(|(name, values)| {
        let name: &str = name.as_ref();
        values.iter().map(move |value| (name.to_owned(), value.as_str().to_owned()))
    });
    let mut fields: Vec<_> = fields.collect();
    fields.sort();
    Some(Message {
        subject: within(queue, &delivered.subject)?.to_owned(),
        fields,
        body: delivered.payload.clone(),
        number: info.stream_sequence,
        published_ms: i64::try_from(info.published.unix_timestamp_nanos() / 1_000_000).unwrap_or_default(),
        attempt: u32::try_from(info.delivered).unwrap_or(u32::MAX),
    })
}

/// The wait after try `attempt`; the last one goes on.
fn wait_ms(waits: &[u64], attempt: u32) -> u64 {
    let index = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
    waits.get(index).or(waits.last()).copied().unwrap_or(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_waits_between_tries_are_the_queues_and_the_last_one_goes_on() {
        let waits = [1_000, 10_000];
        assert_eq!([1, 2, 3, 100].map(|attempt| wait_ms(&waits, attempt)), [1_000, 10_000, 10_000, 10_000]);
    }

    #[test]
    fn a_reason_is_one_line_of_500_characters_at_most() {
        assert_eq!(plain("no\r\nInjected: 1"), "no  Injected: 1");
        assert_eq!(plain(&"é".repeat(501)).chars().count(), 500);
    }
}
