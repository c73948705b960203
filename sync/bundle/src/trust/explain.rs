//! Why metadata is not believed, in the words of the contract.

use std::error::Error as _;

use sigstore_tuf::Error;

use crate::refusal::{Reason, Refusal};

/// The refusal for `error`, which came of `bytes`; `holders` are the ids of the keys that might have signed them.
pub(super) fn explain(error: &Error, bytes: &[u8], holders: &[String]) -> Refusal {
    let reason = match error {
        Error::BadRootVersion { .. } | Error::EqualVersion { .. } | Error::Rollback { .. } => Reason::OlderThanFloor,
        Error::Expired { .. } => Reason::Expired,
        Error::IntegrityMismatch(_) => Reason::DigestMismatch,
        Error::ThresholdNotMet { .. } if !signed_by(bytes, holders) => Reason::WrongKey,
        Error::Crypto(_) | Error::DuplicateSignature { .. } | Error::ThresholdNotMet { .. } => Reason::Signature,
        Error::UnknownRole(_) => Reason::WrongKey,
        Error::UnsupportedScheme { .. } | Error::UnusableKey { .. } => Reason::Signature,
        _ => Reason::Parse,
    };
    let mut detail = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        detail = format!("{detail}: {error}");
        cause = error.source();
    }
    Refusal::new(reason, detail)
}

/// Whether `bytes` claim a signature of one of `holders`, right or wrong.
fn signed_by(bytes: &[u8], holders: &[String]) -> bool {
    let metadata: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    let signatures = metadata.get("signatures").and_then(|signatures| signatures.as_array());
    let claimed = |signature: &serde_json::Value| signature.get("keyid").and_then(|id| id.as_str().map(str::to_owned));
    signatures.into_iter().flatten().filter_map(claimed).any(|id| holders.contains(&id))
}
