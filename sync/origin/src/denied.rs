//! Why the origin did not do what it was asked, as the wire tells it: status, code, words.

use eyot_bundle::refusal::{Reason, Refusal};
use eyot_link::problem::Problem;
use http::StatusCode;

use crate::blobs::BlobsError;
use crate::heads::HeadsError;

/// Why something was not done. The codes never change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The origin itself failed; the cause is for its log.
    #[error("the origin failed: {0}")]
    Failed(String),
    /// Another writer was first, again and again.
    #[error("another writer was first; try again")]
    Moved,
    /// What was signed is not taken.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The request itself is not taken.
    #[error("{code}: {detail}")]
    Request {
        /// The HTTP status.
        status: StatusCode,
        /// The code.
        code: &'static str,
        /// What it is about, and what to do next.
        detail: String,
    },
}

impl Denied {
    /// A request that is not taken.
    pub fn request(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self::Request { status, code, detail: detail.into() }
    }

    /// Nothing is there.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::request(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// Malformed.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::request(StatusCode::BAD_REQUEST, "bad_request", detail)
    }

    /// A refusal for `reason`.
    pub fn refused(reason: Reason, detail: impl Into<String>) -> Self {
        Self::Refused(Refusal::new(reason, detail))
    }

    /// The code, for problem documents, the audit and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Failed(_) => "failed",
            Self::Moved => "moved",
            Self::Refused(refusal) => refusal.reason.code(),
            Self::Request { code, .. } => code,
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Moved => StatusCode::SERVICE_UNAVAILABLE,
            Self::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Request { status, .. } => *status,
        }
    }

    /// The problem document. What failed inside is not told.
    pub fn problem(&self) -> Problem {
        let detail = match self {
            Self::Failed(_) => "the origin's log says more".to_owned(),
            Self::Moved => self.to_string(),
            Self::Refused(refusal) => refusal.detail.clone(),
            Self::Request { detail, .. } => detail.clone(),
        };
        Problem {
            kind: format!("urn:eyot:origin:{}", self.code()),
            title: self.status().canonical_reason().unwrap_or_default().to_owned(),
            status: self.status().as_u16(),
            code: self.code().to_owned(),
            detail,
        }
    }
}

impl From<HeadsError> for Denied {
    fn from(error: HeadsError) -> Self {
        match error {
            HeadsError::Moved { .. } => Self::Moved,
            HeadsError::Failed(cause) => Self::Failed(cause),
        }
    }
}

impl From<BlobsError> for Denied {
    fn from(error: BlobsError) -> Self {
        match error {
            BlobsError::Digest(digest) => {
                Self::refused(Reason::DigestMismatch, format!("the bytes sent do not have the digest {digest}"))
            }
            BlobsError::Failed(cause) => Self::Failed(cause),
        }
    }
}
