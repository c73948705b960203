//! Why a release was not taken. The codes stand in status, log, metric and wire, and never change.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The compiler failed, ran out of its limits, or was killed.
    CompileFailed,
    /// Bytes are not what their digest says.
    DigestMismatch,
    /// No room to store it.
    DiskFull,
    /// Its metadata has expired.
    Expired,
    /// The ledger was lost: no floor is known.
    FloorLost,
    /// It is of a format this build does not read.
    FormatUnknown,
    /// A route or host lies outside the grant.
    HostNotGranted,
    /// A component imports what it may not have.
    ImportForbidden,
    /// It needs something this node does not have.
    Incompatible,
    /// A blob could not be had from any parent.
    MissingBlob,
    /// It is older than what this node has seen.
    OlderThanFloor,
    /// It asks more than its grant gives.
    OverQuota,
    /// It is no document of its kind.
    Parse,
    /// It was compiled, but did not start.
    ProbeFailed,
    /// It drops routes without `allow_shrink`.
    Shrink,
    /// A signature is wrong.
    Signature,
    /// It is signed, by a key that does not hold the role.
    WrongKey,
}

impl Reason {
    /// The code.
    pub fn code(self) -> &'static str {
        match self {
            Self::CompileFailed => "compile_failed",
            Self::DigestMismatch => "digest_mismatch",
            Self::DiskFull => "disk_full",
            Self::Expired => "expired",
            Self::FloorLost => "floor_lost",
            Self::FormatUnknown => "format_unknown",
            Self::HostNotGranted => "host_not_granted",
            Self::ImportForbidden => "import_forbidden",
            Self::Incompatible => "incompatible",
            Self::MissingBlob => "missing_blob",
            Self::OlderThanFloor => "older_than_floor",
            Self::OverQuota => "over_quota",
            Self::Parse => "parse",
            Self::ProbeFailed => "probe_failed",
            Self::Shrink => "shrink",
            Self::Signature => "signature",
            Self::WrongKey => "wrong_key",
        }
    }
}

/// A refusal: the reason, and what it was about, in words for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Refusal {
    /// The reason.
    pub reason: Reason,
    /// What it was about.
    pub detail: String,
}

impl Refusal {
    /// A refusal for `reason`, about `detail`.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.code(), self.detail)
    }
}
