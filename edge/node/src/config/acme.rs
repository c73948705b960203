//! `tls.acme`: which certificates the node gets by itself, and from whom.

use std::path::PathBuf;

use eyot_bundle::host::HostPattern;
use eyot_bundle::text::Table;

use super::read::Place;
use super::secret::Secret;

/// Names of one node.
const NAMES_MAX: usize = 100;

/// An authority that speaks ACME, and what is asked of it.
#[derive(Clone, Debug)]
pub struct Acme {
    /// The URL of its directory.
    pub directory: String,
    /// PEM of the authorities that signed its own certificate; none: those that browsers trust.
    pub ca: Option<PathBuf>,
    /// Whom it may write to: `mailto:…`.
    pub contact: Option<String>,
    /// The names, each with a certificate of its own.
    pub names: Vec<String>,
    /// How the names are proven, the first choice first.
    pub challenges: Vec<ChallengeKind>,
    /// The key that all nodes of the fleet share, so that one order serves all.
    pub share: Option<Secret>,
}

/// How a name is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChallengeKind {
    /// On port 80 (RFC 8555, section 8.3).
    Http01,
    /// On port 443 (RFC 8737).
    TlsAlpn01,
}

impl std::str::FromStr for ChallengeKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "http-01" => Ok(Self::Http01),
            "tls-alpn-01" => Ok(Self::TlsAlpn01),
            _ => Err(format!("`{text}` is no challenge that is answered here: write `http-01` or `tls-alpn-01`")),
        }
    }
}

/// A name that a certificate can be had for.
struct DnsName(String);

impl std::str::FromStr for DnsName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(HostPattern::Exact(name)) if name == text && !is_address(text) => Ok(Self(name)),
            _ => Err(format!("`{text}` is no DNS name in lower case; certificates for `*.` need a challenge over DNS")),
        }
    }
}

fn is_address(text: &str) -> bool {
    text.starts_with('[') || text.parse::<std::net::IpAddr>().is_ok()
}

pub(super) fn read(place: &Place<'_>, table: &mut Table<'_>) -> Acme {
    let https = |url: String| {
        let uri = url.parse::<http::Uri>().ok().filter(|uri| uri.scheme_str() == Some("https") && uri.host().is_some());
        uri.map(|_| url.clone()).ok_or_else(|| format!("`{url}` is no URL of https"))
    };
    let mail = |contact: String| match contact.strip_prefix("mailto:") {
        Some(address) if address.contains('@') && contact.len() <= 320 => Ok(contact),
        _ => Err(format!("`{contact}` is no address to write to: `mailto:you@example.com`")),
    };
    let few = |names: Vec<DnsName>| match names.len() {
        0..=NAMES_MAX => Ok(names.into_iter().map(|name| name.0).collect::<Vec<_>>()),
        count => Err(format!("{count} names are more than the {NAMES_MAX} that one node gets certificates for")),
    };
    Acme {
        directory: table.string("directory").and_then(https).required(),
        ca: place.path(table, "ca").optional(),
        contact: table.string("contact").and_then(mail).optional(),
        names: table.parsed_list("names").not_empty_list().and_then(few).required(),
        challenges: table
            .parsed_list("challenges")
            .not_empty_list()
            .or(vec![ChallengeKind::TlsAlpn01, ChallengeKind::Http01]),
        share: place.secret(table, "share").optional(),
    }
}
