//! What a route asks of requests and does to answers, whoever the target is: rates, lists, credentials, CORS, rewrites,
//! fields, compression, sizes, maintenance (`docs/policy.md`).
//!
//! These types are the wire. What may be said is checked in [`crate::verify`].

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::files::Encoding;

/// The policy of one route; all that is absent is not done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Who may ask, by address and country.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// Who may ask, by credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// The largest body of a request, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_bytes: Option<u64>,
    /// Answers are compressed on their way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compress: Option<Compress>,
    /// Which pages of other origins may read the answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    /// Fields that are changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<Headers>,
    /// Nobody is served but those it names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<Maintenance>,
    /// How often one may ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// The largest body of an answer, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_body_bytes: Option<u64>,
    /// The path that the target is asked for; `{path}` is the request's, `{rest}` what of it stands for the route's `*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<String>,
    /// Fields by which browsers take more care.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_headers: Option<SecurityHeaders>,
}

impl Policy {
    /// Whether nothing is asked or done.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Who may ask, by address and country. Each list that is there has its say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Access {
    /// The networks that may ask; none named: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<IpNet>,
    /// The networks that may not, whatever `allow` says.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<IpNet>,
    /// The countries.
    #[serde(skip_serializing_if = "Countries::is_none")]
    pub countries: Countries,
}

/// Countries by their codes (ISO 3166-1 alpha-2), in capitals.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Countries {
    /// Those that may ask; none named: all. Where it is not known where a client is, it may not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// Those that may not. Where it is not known where a client is, it may.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
}

impl Countries {
    /// Whether none is named.
    pub fn is_none(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }
}

/// Who may ask, by credentials (RFC 9110, section 11); where both kinds are named, either is enough.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// What is said to those who must say who they are (RFC 9110, section 11.5).
    pub realm: String,
    /// Names and the hashes of their passwords (RFC 7617), as [`crate::credential`] reads them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub basic: BTreeMap<String, String>,
    /// Names of tokens and their hashes (RFC 6750), as [`crate::credential`] reads them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub bearer: BTreeMap<String, String>,
    /// Whether the target sees the credentials too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub pass: bool,
}

/// Compression of answers on their way (RFC 9110, section 8.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Compress {
    /// The encodings, the preferred first: of those a request likes the same.
    pub encodings: Vec<Encoding>,
    /// What is known to be smaller is sent as it is, in bytes.
    pub min_bytes: u64,
    /// Media types beside those that are known to gain: `application/x-thing`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
}

impl Default for Compress {
    fn default() -> Self {
        Self { encodings: vec![Encoding::Br, Encoding::Zstd, Encoding::Gzip], min_bytes: 1024, types: Vec::new() }
    }
}

/// Which pages of other origins may read the answers (Fetch standard, section 3.3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cors {
    /// Origins such as `https://app.example`, `https://*.app.example`; `*` for all.
    pub origins: Vec<String>,
    /// Methods beside GET, HEAD and POST, which need no leave; none named: those of the route.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Fields that a page may send, beside those that need no leave.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<String>,
    /// Fields that a page may read, beside those that need no leave.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expose: Vec<String>,
    /// Whether cookies and credentials may come along.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub credentials: bool,
    /// How long a page's browser need not ask again, in seconds.
    pub max_age_s: u64,
}

/// Fields that are changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Headers {
    /// Of a request, before anybody else sees it.
    #[serde(skip_serializing_if = "Changes::is_none")]
    pub request: Changes,
    /// Of an answer of a target, after all others.
    #[serde(skip_serializing_if = "Changes::is_none")]
    pub response: Changes,
}

/// Changes of fields, in this order: `remove`, `set`, `add`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Changes {
    /// These take the place of those of their name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, String>,
    /// These come beside those of their name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub add: BTreeMap<String, String>,
    /// These go.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}

impl Changes {
    /// Whether nothing is changed.
    pub fn is_none(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
}

/// Nobody is served but those it names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Maintenance {
    /// Networks that are served all the same.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<IpNet>,
    /// A page of HTML that says so; none: the error contract's answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<String>,
    /// After how many seconds to try again.
    pub retry_after_s: u32,
}

impl Default for Maintenance {
    fn default() -> Self {
        Self { allow: Vec::new(), page: None, retry_after_s: 60 }
    }
}

/// How often one may ask, on each node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// All of these hold.
    pub windows: Vec<Window>,
    /// What is counted apart.
    #[serde(default)]
    pub key: RateKey,
}

/// So many requests in so long, written `100/1s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// How many.
    pub requests: u32,
    /// In how long, in milliseconds.
    pub window_ms: u64,
}

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || format!("`{}` is no rate: write `100/1s`", text.chars().take(60).collect::<String>());
        let (requests, window) = text.split_once('/').ok_or_else(refuse)?;
        let window_us = crate::text::duration_us(window).filter(|us| us % 1_000 == 0).ok_or_else(refuse)?;
        let digits = requests.bytes().all(|byte| byte.is_ascii_digit());
        let requests = requests.parse().ok().filter(|_| digits).ok_or_else(refuse)?;
        Ok(Self { requests, window_ms: window_us / 1_000 })
    }
}

/// What is counted apart: `client`, `route`, `header:<name>` or `cookie:<name>`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RateKey {
    /// Each client by its address; of IPv6 the first 64 bits, which are one host's or household's.
    #[default]
    Client,
    /// Each value of a cookie; who brings none is counted by address.
    Cookie(String),
    /// Each value of a field; who brings none is counted by address.
    Header(String),
    /// All together.
    Route,
}

impl FromStr for RateKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = |name: &str| crate::verify::policy::name(name).map(|()| name.to_ascii_lowercase());
        match text.split_once(':') {
            None if text == "client" => Ok(Self::Client),
            None if text == "route" => Ok(Self::Route),
            // The names of cookies differ in case (RFC 6265, section 5.4).
            Some(("cookie", name)) => named(name).map(|_| Self::Cookie(name.to_owned())),
            Some(("header", name)) => named(name).map(Self::Header),
            _ => Err(format!(
                "`{}` is none of `client`, `route`, `header:<name>`, `cookie:<name>`",
                text.chars().take(60).collect::<String>()
            )),
        }
    }
}

impl fmt::Display for RateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client => f.write_str("client"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Route => f.write_str("route"),
        }
    }
}

impl Serialize for RateKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RateKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Fields by which browsers take more care. Each is said where the answer does not say its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SecurityHeaders {
    /// `Strict-Transport-Security` (RFC 6797): for how long, in seconds; 0: not said. Never said without TLS.
    pub hsts_s: u64,
    /// Whether it holds for names below, too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hsts_subdomains: bool,
    /// `X-Content-Type-Options: nosniff`.
    pub nosniff: bool,
    /// `X-Frame-Options`: `DENY` or `SAMEORIGIN`; empty: not said.
    pub frame: String,
    /// `Referrer-Policy`; empty: not said.
    pub referrer: String,
    /// `Content-Security-Policy`; none: not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub csp: Option<String>,
}

impl Default for SecurityHeaders {
    fn default() -> Self {
        Self {
            hsts_s: 365 * 24 * 3_600,
            hsts_subdomains: false,
            nosniff: true,
            frame: "SAMEORIGIN".to_owned(),
            referrer: "strict-origin-when-cross-origin".to_owned(),
            csp: None,
        }
    }
}
