//! How TLS is spoken towards an upstream: whom it must be, and who the node says it is.

use serde::{Deserialize, Serialize};

use super::is_default;
use crate::release::Secret;

/// TLS towards an upstream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamTls {
    /// The name to send and to verify.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// PEM of the authorities to trust instead of the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// The oldest version that is spoken.
    #[serde(default, skip_serializing_if = "is_default")]
    pub min_version: TlsVersion,
    /// Who the node says it is, where a server asks; absent: nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientCertificate>,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    #[default]
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3 (RFC 8446).
    #[serde(rename = "1.3")]
    V1_3,
}

impl TlsVersion {
    /// Whether TLS 1.2 is not older than this.
    pub fn takes_1_2(self) -> bool {
        self == Self::V1_2
    }
}

/// Who the node says it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificate {
    /// PEM of the certificate, and of those between it and its authority.
    pub chain: String,
    /// The name of the secret that is its key: PEM too.
    pub secret: String,
    /// That secret.
    pub key: Secret,
}
