//! The fleet documents: which nodes there are, and which digests are denied.

use core::net::SocketAddr;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::name::Name;
use crate::secret::Recipient;

/// `fleet/nodes.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nodes {
    /// The nodes by id.
    pub nodes: BTreeMap<Name, Node>,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its region.
    pub region: String,
    /// The SHA-256 of the bearer token it joins with.
    pub token_sha256: Digest,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The public half of its age identity, which secrets are sealed to; absent: none can be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Recipient>,
    /// Where other nodes reach its listener with TLS, to have it ask upstreams for them; absent: they do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shield: Option<SocketAddr>,
    /// Whether it was put out of the fleet.
    #[serde(default)]
    pub revoked: bool,
}

/// `fleet/denied.json`: bundles that must not run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Denied {
    /// Their digests.
    pub digests: Vec<Digest>,
}
