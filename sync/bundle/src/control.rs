//! The control document: the director's signed statement of where an app's rollout stands.

use serde::{Deserialize, Serialize};

use crate::name::Name;

/// A control document larger than this is refused before it is parsed, in bytes.
pub const CONTROL_BYTES_MAX: usize = 16 << 10;

/// A control: `control/<app>.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Control {
    /// The document's format, 1.
    pub format: u32,
    /// The app.
    pub app: Name,
    /// Counted up with each change.
    pub seq: u64,
    /// When it was signed.
    pub issued: jiff::Timestamp,
    /// The release that is rolled out.
    pub release: u64,
    /// What nodes outside the cohort run; after a rollback, what all run. 0: nothing.
    pub base: u64,
    /// The step it stands at, from 0.
    pub step: u32,
    /// What the rollout does.
    pub state: State,
    /// Since when.
    pub since: jiff::Timestamp,
    /// Why, for people.
    pub reason: Option<String>,
}

/// What a rollout does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Stopped before its end: all run `base`.
    Aborted,
    /// At its end: all run `release`.
    Done,
    /// Held at its step.
    Paused,
    /// Going back: all run `base`.
    RolledBack,
    /// Going on.
    Running,
}
