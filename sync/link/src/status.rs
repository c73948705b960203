//! The messages that tell people how the fleet is and who did what (`docs/formats.md`, section 5).

use std::collections::BTreeMap;

use eyot_bundle::name::Name;
use serde::{Deserialize, Serialize};

use crate::wire::Report;

/// `GET /v1/fleet`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fleet {
    /// The state the origin is at.
    pub seq: u64,
    /// The nodes.
    pub nodes: BTreeMap<Name, FleetNode>,
}

/// One node as the origin knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FleetNode {
    /// Its region, as signed.
    pub region: String,
    /// Whether it was put out.
    #[serde(default)]
    pub revoked: bool,
    /// Whether it holds a watch stream now.
    #[serde(default)]
    pub watching: bool,
    /// When it last reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported: Option<jiff::Timestamp>,
    /// What it last reported; of the apps, those that the caller may see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Report>,
}

/// `GET /v1/audit`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Audit {
    /// The newest records, newest last.
    pub records: Vec<AuditRecord>,
}

/// Who did what, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// When.
    pub time: jiff::Timestamp,
    /// The TUF key id that signed the request, or `origin`.
    pub who: String,
    /// `publish`, `rollout.pause`, `operator.upload`, …
    pub action: String,
    /// The app, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<Name>,
    /// `done`, or the code of what was refused.
    pub result: String,
    /// More, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}
