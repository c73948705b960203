//! Hosts and host patterns: what a route names and what a grant allows.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A pattern over hosts. In lower case, without a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// Every host: `*`.
    Any,
    /// One host: `shop.example.com`, or an address literal.
    Exact(String),
    /// One or more labels before the suffix: `*.example.com` holds `.example.com`.
    Suffix(String),
}

/// Why a text is no host pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// It names what only a node calls so.
    #[error("`{0}`: the hosts of `{INTERNAL}` are the nodes' own, and never anybody's")]
    Internal(String),
    /// It is nothing of the kind.
    #[error("`{0}` is no host: write `shop.example.com`, `*.example.com` or `*`")]
    NoHost(String),
}

/// The domain of what a node answers to its functions by itself. No listener takes a request for a host in it, no grant
/// or release names one, and it is never resolved.
pub const INTERNAL: &str = "eyot.internal";

/// Whether `host` (no port; with or without a last dot) is in [`INTERNAL`], in whichever case it is written.
pub fn is_internal(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).as_bytes();
    let internal = INTERNAL.as_bytes();
    let Some(at) = host.len().checked_sub(internal.len()) else { return false };
    host[at..].eq_ignore_ascii_case(internal) && (at == 0 || host[at - 1] == b'.')
}

impl HostPattern {
    /// Whether `host` (lower case, no port) is in the pattern.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact == host,
            Self::Suffix(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
        }
    }

    /// Whether every host of `other` is in `self`.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (_, Self::Any) => false,
            (_, Self::Exact(host)) => self.matches(host),
            (Self::Exact(_), Self::Suffix(_)) => false,
            (Self::Suffix(ours), Self::Suffix(theirs)) => theirs.ends_with(ours.as_str()),
        }
    }

    /// Whether some host is in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }
}

/// Whether `host` is a host name of RFC 1123 in lower case, or an address literal as it stands in a URL.
fn is_host(host: &str) -> bool {
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<core::net::Ipv6Addr>().is_ok_and(|address| address.to_string() == inner);
    }
    let label = |label: &str| {
        let bytes = label.as_bytes();
        (1..=63).contains(&bytes.len())
            && bytes.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
            && bytes[0] != b'-'
            && bytes[bytes.len() - 1] != b'-'
    };
    host.len() <= 253 && host.split('.').all(label)
}

impl FromStr for HostPattern {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let short = || text.chars().take(80).collect();
        if is_internal(text.strip_prefix('*').unwrap_or(text)) {
            return Err(HostError::Internal(short()));
        }
        match text.strip_prefix('*') {
            Some("") => Ok(Self::Any),
            Some(suffix) if suffix.strip_prefix('.').is_some_and(is_host) => Ok(Self::Suffix(suffix.to_owned())),
            None if is_host(text) => Ok(Self::Exact(text.to_owned())),
            _ => Err(HostError::NoHost(short())),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(host) => f.write_str(host),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
        }
    }
}

impl Serialize for HostPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HostPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> HostPattern {
        text.parse().expect("a pattern of this test")
    }

    #[test]
    fn a_suffix_takes_one_or_more_labels_and_not_the_bare_name() {
        let suffix = pattern("*.example.com");
        assert!(suffix.matches("a.example.com") && suffix.matches("a.b.example.com"));
        assert!(!suffix.matches("example.com") && !suffix.matches("badexample.com"));
    }

    #[test]
    fn a_pattern_covers_only_what_it_matches_wholly() {
        assert!(pattern("*").covers(&pattern("*.a.b")) && !pattern("*.a.b").covers(&pattern("*")));
        assert!(pattern("*.b").covers(&pattern("*.a.b")) && !pattern("*.a.b").covers(&pattern("*.b")));
        assert!(!pattern("a.b").covers(&pattern("*.a.b")) && pattern("*.a.b").overlaps(&pattern("x.a.b")));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for bad in ["", ".", "a..b", "A.b", "a.b:80", "*a", "*.", "a*b", "a/b", "-a", "a-", "[::G]", "ä.de"] {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_hosts_that_nodes_call_their_own_are_nobodys() {
        for host in
            ["eyot.internal", "events.eyot.internal", "a.function.eyot.internal", "A.Eyot.Internal", "x.eyot.internal."]
        {
            assert!(is_internal(host), "{host}");
        }
        for host in ["", "internal", "noteyot.internal", "eyot.internal.example", "api-1.internal"] {
            assert!(!is_internal(host), "{host}");
        }
        for pattern in ["eyot.internal", "*.eyot.internal", "events.eyot.internal", "*.function.eyot.internal"] {
            assert_eq!(pattern.parse::<HostPattern>(), Err(HostError::Internal(pattern.to_owned())));
        }
        // It holds others; a request for one of ours is refused before any pattern is asked.
        assert!("*.internal".parse::<HostPattern>().is_ok());
    }
}
