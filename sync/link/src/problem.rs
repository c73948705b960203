//! Problem documents (RFC 9457), as far as the wire reads and writes them.

use serde::{Deserialize, Serialize};

/// A problem document larger than this is not read, in bytes.
pub const PROBLEM_BYTES_MAX: usize = 16 << 10;

/// A problem document.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// The kind, a URN.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// For people.
    #[serde(default)]
    pub title: String,
    /// The HTTP status.
    #[serde(default)]
    pub status: u16,
    /// The code: a fault's or a refusal's.
    #[serde(default)]
    pub code: String,
    /// What it was about.
    #[serde(default)]
    pub detail: String,
}
