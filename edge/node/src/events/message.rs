//! An event as its function sees it: a request with a message of CloudEvents 1.0 in binary mode (its HTTP binding, section
//! 3.1). It is made here, and nowhere else.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use bytes::Bytes;
use eyot_plan::arrival::{Arrival, Interim, Protocol};
use eyot_plan::body;
use eyot_plan::fault::{Code, Fault};
use futures_util::FutureExt as _;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use tracing::Instrument as _;

use crate::call;
use crate::entry::{Entry, EventTarget};
use crate::node::Node;
use crate::record::{Record, Recorded};

/// Where events go.
pub(super) const URL: &str = "https://events.eyot.internal/";
/// What a function's answer to an event may have, in bytes: nobody reads it.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// An event.
pub(super) struct Event {
    /// `io.eyot.schedule` or `io.eyot.queue`.
    pub(super) kind: &'static str,
    /// The same for the same event, however often it comes.
    pub(super) id: String,
    /// `/apps/shop/schedules/0123456789abcdef` or `/apps/shop/queues/orders.>`.
    pub(super) source: String,
    /// The schedule as it is written, or the message's subject.
    pub(super) subject: String,
    /// When it was due, or sent.
    pub(super) time: jiff::Timestamp,
    /// Which try this is, from 1.
    pub(super) attempt: u32,
    /// The media type of its body.
    pub(super) content_type: Option<String>,
    /// Its body.
    pub(super) body: Bytes,
}

/// Brings an event to its function, to the last byte of the answer. An error is why it counts as failed.
pub(super) async fn bring(node: &Node, entry: &Arc<Entry>, target: &EventTarget, event: Event) -> Result<(), String> {
    let size = event.body.len() as u64;
    let arrival = Arrival {
        request: request(event).map_err(|error| format!("an event that is no request: {error}"))?,
        protocol: Protocol::H1,
        client: std::net::SocketAddr::from(([0, 0, 0, 0], 0)),
        tls: None,
        at: SystemTime::now(),
        connect: None,
        early: false,
        interim: Interim::none(),
    };
    let mut record = Record::begin(&node.telemetry, &node.access, &arrival);
    record.event(entry, target);
    record.in_bytes.fetch_add(size, Ordering::Relaxed);
    let span = tracing::debug_span!("event", id = record.id);
    let size_max = target.function.guest.limits.body_bytes;
    let answered = if size > size_max {
        Err(Fault::new(Code::RequestTooLarge).over("body_bytes", size_max, size))
    } else {
        let called = call::event(node, entry, &target.function, arrival.request, &record);
        let called = AssertUnwindSafe(called).catch_unwind().instrument(span).await;
        called.unwrap_or_else(|_| Err(Fault::new(Code::InternalError).because("a panic")))
    };
    match answered {
        Ok(response) => {
            let status = response.status();
            record.head(status);
            ended(Recorded::new(response.into_body(), record)).await?;
            good(status)
        }
        Err(fault) => {
            record.fault(&fault);
            let status = fault.response(&record.id).status();
            record.head(status);
            Err(fault.code.name().to_owned())
        }
    }
}

fn good(status: StatusCode) -> Result<(), String> {
    if status.is_success() { Ok(()) } else { Err(format!("status {}", status.as_u16())) }
}

/// Waits for the end of an answer.
async fn ended(mut body: Recorded) -> Result<(), String> {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|fault| fault.code.name().to_owned())?;
        bytes += frame.data_ref().map_or(0, Bytes::len);
        if bytes > ANSWER_BYTES_MAX {
            return Err("an answer that does not end".to_owned());
        }
    }
    Ok(())
}

fn request(event: Event) -> Result<Request<body::Body>, http::Error> {
    let Event { kind, id, source, subject, time, attempt, content_type, body } = event;
    let mut request = Request::builder().method(Method::POST).uri(URL).body(body::full(body))?;
    let headers = request.headers_mut();
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-type", kind),
        ("ce-id", &id),
        ("ce-source", &source),
        ("ce-subject", &encoded(&subject)),
        ("ce-time", &time.to_string()),
        ("ce-attempt", &attempt.to_string()),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value)?);
    }
    // One that is none is left out: the body is what counts.
    if let Some(value) = content_type.and_then(|value| HeaderValue::from_str(&value).ok()) {
        headers.insert(CONTENT_TYPE, value);
    }
    Ok(request)
}

/// Percent-encoded as the binding demands (section 3.1.3.2): all but printable ASCII, and `"` and `%`.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'"' | b'%' => out.push_str(&format!("%{byte:02X}")),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_message_of_cloudevents_in_binary_mode() {
        let event = Event {
            kind: "io.eyot.queue",
            id: "shop-7".to_owned(),
            source: "/apps/shop/queues/orders.>".to_owned(),
            subject: "orders.é \"1\" 5%".to_owned(),
            time: "2026-11-23T06:00:00Z".parse().expect("a time"),
            attempt: 2,
            content_type: Some("application/json".to_owned()),
            body: Bytes::from_static(b"{}"),
        };
        let request = request(event).expect("a request");
        assert_eq!((request.method(), request.uri().to_string().as_str()), (&Method::POST, URL));
        let mut fields: Vec<_> = request
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")))
            .collect();
        fields.sort();
        assert_eq!(
            fields,
            [
                "ce-attempt: 2",
                "ce-id: shop-7",
                "ce-source: /apps/shop/queues/orders.>",
                "ce-specversion: 1.0",
                "ce-subject: orders.%C3%A9 %221%22 5%25",
                "ce-time: 2026-11-23T06:00:00Z",
                "ce-type: io.eyot.queue",
                "content-type: application/json",
            ]
        );
    }
}
