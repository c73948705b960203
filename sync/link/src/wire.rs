//! The messages of the wire (`docs/formats.md`, section 5). They are JSON; all bytes inside are base64.
//!
//! A message is read leniently where a newer side may say more (watch lines, answers), strictly where it asks for
//! something to be done.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use eyot_bundle::control::State;
use eyot_bundle::name::Name;
use eyot_bundle::refusal::Reason;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::acme::Sealed;
use crate::purge::Told;
use crate::tail::Tail;

/// A line of a watch stream longer than this ends the stream, in bytes.
pub const WATCH_LINE_BYTES_MAX: usize = 1 << 20;
/// How often a quiet watch stream says that it lives, in milliseconds.
pub const BEAT_MS: u64 = 15_000;
/// A report larger than this is refused, in bytes.
pub const REPORT_BYTES_MAX: usize = 256 << 10;
/// A metadata file or target larger than this is refused, in bytes.
pub const METADATA_BYTES_MAX: usize = 4 << 20;
/// A listing (apps, releases, the fleet, the audit) larger than this is refused, in bytes.
pub const LISTING_BYTES_MAX: usize = 32 << 20;
/// The body of a publish or of an operator's upload is at most this, in bytes.
pub const UPLOAD_BYTES_MAX: usize = 16 << 20;
/// A blob is at most this, in bytes.
pub const BLOB_BYTES_MAX: u64 = 64 << 20;

/// Bytes that travel as standard base64 with padding.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Base64(pub Vec<u8>);

impl std::fmt::Debug for Base64 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        STANDARD.decode(text.as_bytes()).map(Self).map_err(serde::de::Error::custom)
    }
}

/// One line of a watch stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchLine {
    /// The stream lives; when its sender wrote this.
    Beat(jiff::Timestamp),
    /// A challenge of ACME that a node wants all nodes to answer, sealed by it for them.
    Challenge(Sealed),
    /// The state is now at `seq`.
    Change(Change),
    /// Purges that the node has not done.
    Purges(Told),
    /// Somebody follows an app: send what is told of it.
    Tail(Tail),
}

/// A change of the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The version of the TUF snapshot.
    pub seq: u64,
    /// The metadata files that are new since the last line, by the name they are fetched under; what is missing here
    /// is fetched.
    #[serde(default)]
    pub inline: BTreeMap<String, Base64>,
}

/// All that a line may hold; what this build does not know is passed over.
#[derive(Deserialize)]
struct AnyLine {
    challenge: Option<serde_json::Value>,
    tail: Option<serde_json::Value>,
    purges: Option<serde_json::Value>,
    beat: Option<jiff::Timestamp>,
    seq: Option<u64>,
    #[serde(default)]
    inline: BTreeMap<String, Base64>,
}

impl WatchLine {
    /// Reads one line, without its end. `None`: a kind of line that this build does not know.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, serde_json::Error> {
        let line: AnyLine = serde_json::from_slice(bytes)?;
        if line.purges.is_some() {
            return Ok(Told::read(bytes).map(Self::Purges));
        }
        Ok(match (line.seq, line.beat, line.challenge, line.tail) {
            (Some(seq), ..) => Some(Self::Change(Change { seq, inline: line.inline })),
            (None, Some(beat), ..) => Some(Self::Beat(beat)),
            // One of another kind is a later version's.
            (None, None, Some(challenge), _) => serde_json::from_value(challenge).ok().map(Self::Challenge),
            (None, None, None, Some(tail)) => serde_json::from_value(tail).ok().map(Self::Tail),
            (None, None, None, None) => None,
        })
    }

    /// Writes the line, with its end.
    pub fn encode(&self) -> Vec<u8> {
        let value = match self {
            Self::Beat(beat) => serde_json::json!({ "beat": beat }),
            Self::Challenge(challenge) => serde_json::json!({ "challenge": challenge }),
            Self::Purges(told) => serde_json::json!(told),
            Self::Tail(tail) => serde_json::json!({ "tail": tail }),
            Self::Change(change) => serde_json::json!({ "seq": change.seq, "inline": change.inline }),
        };
        let mut line = value.to_string().into_bytes();
        line.push(b'\n');
        line
    }
}

/// What a node tells its parent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Its id.
    pub node: Name,
    /// Its region.
    pub region: String,
    /// The version of eyot it runs.
    pub version: String,
    /// A new UUID for each start of its process.
    pub boot: String,
    /// The state it has verified: the version of the TUF snapshot.
    pub seq: u64,
    /// The last purge it has done.
    #[serde(default)]
    pub purge: u64,
    /// `ok` or `floor_lost`.
    pub ledger: String,
    /// Its clock minus the signed time, in milliseconds.
    #[serde(default)]
    pub clock_ms_off: i64,
    /// Its apps.
    #[serde(default)]
    pub apps: BTreeMap<Name, AppReport>,
    /// How full it is.
    #[serde(default)]
    pub load: Load,
    /// Whether it is on its way out.
    #[serde(default)]
    pub draining: bool,
}

/// One app on one node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AppReport {
    /// The release that answers.
    #[serde(default)]
    pub active: Option<u64>,
    /// The newest release made ready.
    #[serde(default)]
    pub staged: Option<u64>,
    /// The last refusal, until a later release is taken.
    #[serde(default)]
    pub refused: Option<Refused>,
    /// What was counted since the last report.
    #[serde(default)]
    pub windows: Vec<Window>,
}

/// A release that a node did not take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Its number; 0 when it could not be known.
    pub release: u64,
    /// Why.
    pub reason: Reason,
    /// What it was about, for the operator.
    #[serde(default)]
    pub detail: String,
}

/// What one release did in one span of time on one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// The release.
    pub release: u64,
    /// When the span began.
    pub start: jiff::Timestamp,
    /// How long it was.
    pub seconds: u32,
    /// Requests answered.
    pub requests: u64,
    /// Faults by code.
    #[serde(default)]
    pub faults: BTreeMap<String, u64>,
    /// Half took at most this, in microseconds.
    #[serde(default)]
    pub p50_us: u64,
    /// All but one in a hundred took at most this, in microseconds.
    #[serde(default)]
    pub p99_us: u64,
    /// CPU time charged, in microseconds.
    #[serde(default)]
    pub cpu_us: u64,
}

/// How full a node is: shares of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Of its CPU.
    #[serde(default)]
    pub cpu: f64,
    /// Of its instance slots.
    #[serde(default)]
    pub slots: f64,
    /// Open connections, a count.
    #[serde(default)]
    pub connections: u64,
}

/// What a parent answers to a report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportAnswer {
    /// The highest `seq` that this node has ever reported. A node that is below it runs on an old copy of its disk.
    pub seq: u64,
}

/// `POST /v1/apps/{app}/releases`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    /// The new `app-<name>` metadata, exact signed bytes.
    pub role: Base64,
    /// The release document that it newly names, exact bytes.
    pub release: Base64,
}

/// What a publish answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The state that holds it.
    pub seq: u64,
    /// The release.
    pub number: u64,
}

/// `POST /v1/metadata`: what the operator signed offline.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorUpload {
    /// Metadata by file: `<version>.root.json` (each step of the chain), `targets.json`, `fleet.json`.
    #[serde(default)]
    pub metadata: BTreeMap<String, Base64>,
    /// Targets of `fleet`: `fleet/nodes.json`, `fleet/denied.json`.
    #[serde(default)]
    pub targets: BTreeMap<String, Base64>,
}

/// What an operator's upload answers, and what a rollout's change answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    /// The state that holds it.
    pub seq: u64,
}

/// `POST /v1/apps/{app}/rollout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutRequest {
    /// What to do.
    pub action: Action,
    /// With `rollback`: the release to go back to. Else, when given, the release that is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<u64>,
}

/// What can be done to a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Stop it: all run what ran before.
    Abort,
    /// Hold it where it stands.
    Pause,
    /// Take the next step now.
    Promote,
    /// Go on.
    Resume,
    /// Go back to a release that the newest names in `previous`.
    Rollback,
}

/// `GET /v1/apps`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Apps {
    /// The apps that the caller may see.
    pub apps: BTreeMap<Name, App>,
}

/// One app as the origin knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct App {
    /// `active`, `suspended` or `removed`.
    pub state: String,
    /// Its hosts.
    pub hosts: Vec<String>,
    /// The newest release; none published yet: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<u64>,
    /// Where its rollout stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
}

/// Where a rollout stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// The release that is rolled out.
    pub release: u64,
    /// What nodes outside of it run. 0: nothing.
    pub base: u64,
    /// The step, from 0.
    pub step: u32,
    /// What it does.
    pub state: State,
    /// Since when.
    pub since: jiff::Timestamp,
    /// Why, for people.
    #[serde(default)]
    pub reason: Option<String>,
}

/// `GET /v1/apps/{app}/releases`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Releases {
    /// The version of the app's role; 0 before the first publish. The next publish signs one above it.
    pub role_version: u64,
    /// The releases that may run, newest last.
    pub releases: Vec<ReleaseRow>,
    /// Where the rollout stands.
    #[serde(default)]
    pub rollout: Option<Rollout>,
}

/// One release in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReleaseRow {
    /// Its number.
    pub number: u64,
    /// The digest of its document.
    pub sha256: eyot_bundle::digest::Digest,
    /// The size of its document, in bytes.
    pub length: u64,
    /// How many nodes answer with it, as last reported.
    pub nodes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_the_formats_document_are_read_and_unknown_kinds_passed_over() {
        let line = br#"{"seq":419,"inline":{"timestamp.json":"eA=="}}"#;
        let inline = BTreeMap::from([("timestamp.json".to_owned(), Base64(b"x".to_vec()))]);
        let change = WatchLine::Change(Change { seq: 419, inline });
        assert_eq!(WatchLine::decode(line).expect("a line"), Some(change.clone()));
        let written = change.encode();
        assert_eq!(WatchLine::decode(&written[..written.len() - 1]).expect("a line"), Some(change));
        let beat = WatchLine::decode(br#"{"beat":"2026-11-22T12:00:00Z"}"#).expect("a line");
        assert!(matches!(beat, Some(WatchLine::Beat(_))));
        let challenge = WatchLine::Challenge(Sealed { sealed: Base64(b"x".to_vec()) });
        assert_eq!(challenge.encode(), b"{\"challenge\":{\"sealed\":\"eA==\"}}\n");
        assert_eq!(WatchLine::decode(br#"{"challenge":{"sealed":"eA=="}}"#).expect("a line"), Some(challenge));
        let tail = br#"{"tail":{"app":"shop","id":"1","until":"2026-11-22T12:00:00Z"}}"#;
        let told = WatchLine::decode(tail).expect("a line").expect("one that is known");
        assert!(matches!(&told, WatchLine::Tail(tail) if tail.app.as_str() == "shop"));
        assert_eq!(told.encode(), [&tail[..], b"\n"].concat());
        for later in [r#"{"tail":7}"#, r#"{"purges":[]}"#, r#"{"challenge":{}}"#, "{}"] {
            assert_eq!(WatchLine::decode(later.as_bytes()).expect("a line"), None);
        }
        assert!(WatchLine::decode(b"[1]").is_err());
        assert!(WatchLine::decode(br#"{"seq":1,"inline":{"a":"!"}}"#).is_err());
    }

    #[test]
    fn the_report_of_the_formats_document_is_read() {
        let text = r#"{"node":"fra-1","region":"eu-fra","version":"0.4.0","boot":"u","seq":419,"purge":77,"ledger":"ok",
            "clock_ms_off":3,"apps":{"shop":{"active":416,"staged":417,"refused":{"release":418,"reason":"signature"},
            "windows":[{"release":417,"start":"2026-11-22T12:00:00Z","seconds":10,"requests":812,
            "faults":{"function_trapped":1},"p50_us":900,"p99_us":4100,"cpu_us":420000}]}},
            "load":{"cpu":0.42,"slots":0.1,"connections":812},"draining":false}"#;
        let report: Report = serde_json::from_str(text).expect("the report");
        let shop = &report.apps["shop"];
        assert_eq!(shop.refused.as_ref().map(|refused| refused.reason), Some(Reason::Signature));
        assert_eq!((shop.active, shop.windows[0].p99_us), (Some(416), 4100));
    }

    #[test]
    fn what_asks_for_something_refuses_keys_it_does_not_know() {
        assert!(serde_json::from_str::<RolloutRequest>(r#"{"action":"pause","speed":1}"#).is_err());
        assert!(serde_json::from_str::<Publish>(r#"{"role":"","release":"","x":1}"#).is_err());
        let back: RolloutRequest = serde_json::from_str(r#"{"action":"rollback","release":416}"#).expect("a request");
        assert_eq!(back, RolloutRequest { action: Action::Rollback, release: Some(416) });
    }
}
