//! The metrics of one place, which is a target of a route: looked up at its first request, and then at hand.

use std::sync::OnceLock;
use std::time::Duration;

use eyot_plan::arrival::Protocol;
use metrics::{Counter, Histogram};

use super::{Telemetry, Text};

/// How many statuses of one protocol are at hand; the others are looked up each time.
const STATUSES: usize = 8;

/// What stands for the protocol of events.
pub const EVENT: &str = "event";

/// The metrics of the requests that end at one place, of one node.
#[derive(Default)]
pub struct Place {
    seconds: OnceLock<Histogram>,
    in_bytes: OnceLock<Counter>,
    out_bytes: OnceLock<Counter>,
    /// By protocol, in the order in which the statuses were met.
    requests: [[OnceLock<(u16, Counter)>; STATUSES]; 4],
}

/// What one request was, when it ended.
pub struct RequestEnd<'a> {
    /// Its app; empty when the host is unknown.
    pub app: &'a Text,
    /// Its route's id; empty when there is none.
    pub route: &'a Text,
    /// Its target: `function:cart`, `upstream:api`, `respond`, `redirect`, or nothing.
    pub target: &'a Text,
    /// The protocol it came by; none: it is an event.
    pub protocol: Option<Protocol>,
    /// The status that was sent; 499 when the client left before.
    pub status: u16,
    /// How long it took, to its last byte.
    pub wall: Duration,
    /// Bytes of its body.
    pub in_bytes: u64,
    /// Bytes of the response's body.
    pub out_bytes: u64,
}

impl Telemetry {
    /// A request ended at this place.
    pub fn request(&self, end: &RequestEnd<'_>, place: &Place) {
        let recorder = &self.recorder;
        let route = || [end.app.clone(), end.route.clone()];
        let target = || [end.app.clone(), end.route.clone(), end.target.clone()];
        place.requests(end, || self.requests(end)).increment(1);
        let seconds = place.seconds.get_or_init(|| self.request_seconds.with(recorder, target()));
        seconds.record(end.wall.as_secs_f64());
        place.in_bytes.get_or_init(|| self.request_bytes.with(recorder, route())).increment(end.in_bytes);
        place.out_bytes.get_or_init(|| self.response_bytes.with(recorder, route())).increment(end.out_bytes);
    }

    fn requests(&self, end: &RequestEnd<'_>) -> Counter {
        let protocol = Text::const_str(end.protocol.map_or(EVENT, Protocol::label));
        let values = [end.app.clone(), end.route.clone(), end.target.clone(), protocol, status(end.status)];
        self.requests.with(&self.recorder, values)
    }
}

impl Place {
    fn requests(&self, end: &RequestEnd<'_>, look_up: impl Fn() -> Counter) -> Counter {
        let kept = match end.protocol {
            Some(Protocol::H1) => &self.requests[0],
            Some(Protocol::H2) => &self.requests[1],
            Some(Protocol::H3) => &self.requests[2],
            None => &self.requests[3],
        };
        let at_hand = kept.iter().map(|kept| kept.get_or_init(|| (end.status, look_up())));
        let found = at_hand.filter(|(status, _)| *status == end.status).map(|(_, counter)| counter.clone()).next();
        found.unwrap_or_else(look_up)
    }
}

/// The label of a status: itself, or `other` when it is none that a response may have.
fn status(status: u16) -> Text {
    match status {
        200..=599 => status.to_string().into(),
        _ => Text::const_str("other"),
    }
}
