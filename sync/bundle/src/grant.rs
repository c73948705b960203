//! The grant: what the operator signed for an app. It travels as `x-eyot` in the delegation of the app's role.

use serde::{Deserialize, Serialize};

use crate::host::HostPattern;

/// A grant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Whether the app may run.
    pub state: GrantState,
    /// The hosts it may answer; no two apps share one.
    pub hosts: Vec<HostPattern>,
    /// Ceilings over what its functions ask; none: the node's.
    #[serde(default)]
    pub limits: Ceilings,
    /// Its share of each node.
    #[serde(default)]
    pub share: Share,
    /// Private addresses it may reach.
    #[serde(default)]
    pub egress_private: Vec<PrivateNet>,
    /// The nodes that hold it: `*`.
    #[serde(default = "everywhere")]
    pub placement: String,
}

fn everywhere() -> String {
    "*".to_owned()
}

/// Whether an app may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GrantState {
    /// It may.
    Active,
    /// It has ended; its role stays as a tombstone.
    Removed,
    /// Its hosts answer `suspended`.
    Suspended,
}

/// Ceilings in a grant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ceilings {
    /// CPU time of one call, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_us: Option<u64>,
    /// Wall time of one call to its head, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall_ms: Option<u64>,
    /// Memory of one call, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Outbound requests of one call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subrequests: Option<u32>,
}

/// An app's share of one node.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Share {
    /// Of all cores' time: 0.25 on eight cores is two CPU seconds a second.
    pub cpu: f64,
    /// Of `guest_memory_max`.
    pub memory: f64,
    /// Bundles on disk, in bytes.
    pub disk_bytes: u64,
    /// Calls at once.
    pub concurrency: u32,
}

impl Default for Share {
    fn default() -> Self {
        Self { cpu: 0.5, memory: 0.5, disk_bytes: 10 << 30, concurrency: 512 }
    }
}

/// Private addresses with the ports that may be reached there; no port named: all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrivateNet {
    /// The network.
    pub net: ipnet::IpNet,
    /// The ports.
    #[serde(default)]
    pub ports: Vec<u16>,
}
