//! The grant: what the operator signed for an app. It travels as `x-eyot` in the delegation of the app's role.

use serde::{Deserialize, Serialize};

use crate::host::HostPattern;
use crate::release::Engine;
use crate::sign::PublicKey;

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
    /// The engines that its stores and queues may use.
    #[serde(default = "own_engine", skip_serializing_if = "is_own_engine")]
    pub stores: Vec<Engine>,
    /// The nodes that hold it: `*`.
    #[serde(default = "everywhere")]
    pub placement: String,
    /// Keys that may do one thing.
    #[serde(default, skip_serializing_if = "Keys::is_empty")]
    pub keys: Keys,
}

/// Keys of an app beside its publishers', by what they may do, which is nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// Purge what caches keep of the app.
    #[serde(default)]
    pub purge: Vec<PublicKey>,
}

impl Keys {
    fn is_empty(&self) -> bool {
        self.purge.is_empty()
    }
}

/// What an app may use if its grant does not say: each node's own.
pub fn own_engine() -> Vec<Engine> {
    vec![Engine::Node]
}

fn is_own_engine(engines: &[Engine]) -> bool {
    engines == [Engine::Node]
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
    /// Of all cores' time: 0.25 on eight cores is two CPU seconds a second. On the wire `cpu_bp`, 2500.
    #[serde(rename = "cpu_bp", with = "basis_points")]
    pub cpu: f64,
    /// Of `guest_memory_max`. On the wire `memory_bp`.
    #[serde(rename = "memory_bp", with = "basis_points")]
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

/// Parts of a whole in hundredths of a percent: what is signed is canonical JSON, which has no fractions.
mod basis_points {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(part: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped, and rounded on purpose")]
        serializer.serialize_u16((part.clamp(0.0, 1.0) * 10_000.0).round() as u16)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        match u16::deserialize(deserializer)? {
            bp @ 0..=10_000 => Ok(f64::from(bp) / 10_000.0),
            bp => Err(serde::de::Error::custom(format!("{bp} is more than the whole, 10000"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_travels_in_whole_numbers_and_reads_back() {
        let share = Share { cpu: 0.25, memory: 1.0, ..Share::default() };
        let text = serde_json::to_string(&share).unwrap();
        assert!(text.contains(r#""cpu_bp":2500,"memory_bp":10000"#), "{text}");
        assert_eq!(serde_json::from_str::<Share>(&text).unwrap(), share);
        assert!(serde_json::from_str::<Share>(r#"{"cpu_bp":10001}"#).is_err());
    }
}
