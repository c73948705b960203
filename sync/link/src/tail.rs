//! What is followed of an app while it runs: the lines that a node tells of it, as `eyot dev` and `eyot logs -f` show
//! them, and the order by which an origin has them sent (`docs/formats.md`, section 5). Nothing is told when nobody
//! follows.

use bytes::Bytes;
use eyot_bundle::name::Name;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use crate::client::{Ask, Client};
use crate::error::Error;
use crate::ndjson::Lines;
use crate::path;
use crate::watch::SILENT_S;

/// Lines of one app that a node keeps for a follower who is slow; more are dropped and counted.
pub const LINES_MAX: usize = 2048;
/// What a node sends at once is at most this, in bytes.
pub const BATCH_BYTES_MAX: usize = 256 << 10;
/// One line is at most this, in bytes.
pub const LINE_BYTES_MAX: usize = 64 << 10;
/// How long an app is followed by one request, in seconds; who wants more asks again.
pub const FOLLOW_S_MAX: i64 = 3600;

/// An order: send what is told of `app`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tail {
    /// Where it is sent.
    pub id: String,
    /// The app.
    pub app: Name,
    /// Until when.
    pub until: jiff::Timestamp,
}

/// One line, by the node that told it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// The node.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// The line.
    #[serde(flatten)]
    pub line: Line,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Line {
    /// A release answers from now on.
    Activated(Activated),
    /// A request met a fault.
    Fault(Fault),
    /// A function said something.
    Log(Said),
    /// Lines were dropped here: too many came at once.
    Lost(Lost),
    /// A release was not taken.
    Refused(Refused),
    /// A request has ended.
    Request(Request),
}

/// A release that answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activated {
    /// When.
    pub time: jiff::Timestamp,
    /// The app.
    pub app: String,
    /// The release.
    pub release: u64,
}

/// A release that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// When.
    pub time: jiff::Timestamp,
    /// The app.
    pub app: String,
    /// The release; 0 when it could not be known.
    pub release: u64,
    /// Why: a code of `docs/formats.md`.
    pub reason: String,
    /// What it was about.
    #[serde(default)]
    pub detail: String,
}

/// Lines that were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// How many.
    pub lines: u64,
}

/// A request that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// When its head was complete.
    pub time: jiff::Timestamp,
    /// Its id.
    pub id: String,
    /// The app of its host.
    pub app: String,
    /// The release that answered.
    #[serde(default)]
    pub release: Option<u64>,
    /// The route's id.
    #[serde(default)]
    pub route: String,
    /// `function:cart`, `upstream:api`, `respond`, `redirect`.
    #[serde(default)]
    pub target: String,
    /// `h1`, `h2`, `h3`, or what called where no client did.
    #[serde(default)]
    pub protocol: String,
    /// Its method.
    pub method: String,
    /// Its host.
    pub host: String,
    /// Its path, without the query.
    pub path: String,
    /// The status that was sent; 499 when the client left before.
    pub status: u16,
    /// The code of the fault that was met.
    #[serde(default)]
    pub fault: Option<String>,
    /// What became of it in the cache: `hit`, `miss`, …
    #[serde(default)]
    pub cache: Option<String>,
    /// From its head to the last byte, in microseconds.
    #[serde(default)]
    pub wall_us: u64,
    /// CPU of its functions, in microseconds.
    #[serde(default)]
    pub cpu_us: u64,
    /// What they might have spent, in microseconds; none: no function was called.
    #[serde(default)]
    pub cpu_us_max: Option<u64>,
    /// The most memory of one function, in bytes.
    #[serde(default)]
    pub memory_bytes: u64,
    /// Their outbound requests.
    #[serde(default)]
    pub subrequests: u64,
    /// Bytes of the request's body.
    #[serde(default)]
    pub in_bytes: u64,
    /// Bytes of the response's body.
    #[serde(default)]
    pub out_bytes: u64,
}

/// What a function said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// When.
    pub time: jiff::Timestamp,
    /// The id of the request.
    pub id: String,
    /// The app.
    pub app: String,
    /// Its release.
    pub release: u64,
    /// The function.
    pub function: String,
    /// `stdout`, `stderr` or `log`.
    pub stream: String,
    /// With `log`: how much it matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// With `log`: the context it was said in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// One line. It may hold control characters.
    pub text: String,
}

/// A fault that a request met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// When.
    pub time: jiff::Timestamp,
    /// The id of the request.
    pub id: String,
    /// The app.
    pub app: String,
    /// The release that answered.
    #[serde(default)]
    pub release: Option<u64>,
    /// The target that was at fault.
    #[serde(default)]
    pub target: String,
    /// Its code.
    pub code: String,
    /// The cause, for those who wrote the app; a client is never told. Of faults of functions only where it leaves the
    /// node: others may name addresses of the operator's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cause: String,
}

impl Line {
    /// Writes the line, with its end; none where it would be longer than one may be.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let mut line = serde_json::to_vec(self).ok()?;
        line.push(b'\n');
        (line.len() <= LINE_BYTES_MAX).then_some(line)
    }
}

/// What is told of an app, as it happens. Dropped, nobody follows any more.
#[derive(Debug)]
pub struct TailStream(Lines);

impl TailStream {
    /// The next line; `None`: its time is over. Safe to drop and call again.
    pub async fn next(&mut self) -> Result<Option<Told>, Error> {
        #[derive(Deserialize)]
        struct Kind {
            event: Option<String>,
        }
        while let Some(line) = self.0.next().await? {
            let kind: Kind = serde_json::from_slice(&line).map_err(self.0.malformed("line of a tail"))?;
            // A beat, or what a later version tells.
            let Some(told) = kind.event.and_then(|_| serde_json::from_slice(&line).ok()) else { continue };
            return Ok(Some(told));
        }
        Ok(None)
    }
}

impl Client {
    /// Follows `app` on all nodes.
    pub async fn follow(&self, app: &Name) -> Result<TailStream, Error> {
        let answer = self.ask(&Ask::get(path::follow(app.as_str()))).await?.good().await?;
        // What the origin adds to a node's line, its name, is short.
        Ok(TailStream(Lines::new(answer.response.into_body(), answer.url, 2 * LINE_BYTES_MAX, SILENT_S)))
    }

    /// Brings lines, each with its end, to the follower `id`. False: nobody follows any more.
    pub async fn tail(&self, id: &str, lines: Bytes) -> Result<bool, Error> {
        let headers = vec![(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"))];
        // A line that is told twice is worse than one that is not.
        let ask = Ask { method: Method::POST, path: path::tail(id), headers, body: lines, once: true };
        let answer = self.ask(&ask).await?;
        if answer.response.status() == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        answer.good().await.map(|_| true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written_and_carries_its_node() {
        let lost = Told { node: "fra-1".to_owned(), line: Line::Lost(Lost { lines: 7 }) };
        let text = serde_json::to_string(&lost).expect("JSON");
        assert_eq!(text, r#"{"node":"fra-1","event":"lost","lines":7}"#);
        assert_eq!(serde_json::from_str::<Told>(&text).expect("a line"), lost);
        let request = r#"{"event":"request","time":"2026-11-22T12:00:00Z","id":"1","app":"shop","method":"GET",
            "host":"h","path":"/","status":200,"cpu_us":310,"cpu_us_max":50000,"later":true}"#;
        let Told { node, line: Line::Request(request) } = serde_json::from_str(request).expect("a line") else {
            panic!("no request");
        };
        assert_eq!((node.as_str(), request.cpu_us, request.cpu_us_max), ("", 310, Some(50_000)));
    }

    #[test]
    fn a_line_of_more_than_64_kib_is_not_written() {
        let said = |length: usize| {
            let line = Line::Refused(Refused {
                time: jiff::Timestamp::UNIX_EPOCH,
                app: "shop".to_owned(),
                release: 1,
                reason: "parse".to_owned(),
                detail: "x".repeat(length),
            });
            line.encode().map(|line| line.len())
        };
        let around = said(0).expect("short");
        assert_eq!(said(LINE_BYTES_MAX - around), Some(64 << 10));
        assert_eq!(said(LINE_BYTES_MAX - around + 1), None);
    }
}
