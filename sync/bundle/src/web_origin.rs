//! Web origins (RFC 6454): scheme, host and port, as an upstream's server names one and as a function's egress allows
//! them by pattern. Names only: whether an address may be dialled is decided where it is dialled.

use std::fmt;
use std::str::FromStr;

use crate::host::HostPattern;

/// A web origin, or a pattern over some: `https://api.example`, `http://10.0.0.1:8080`, `https://*.cdn.example:8443`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WebOrigin {
    /// The scheme.
    pub scheme: Scheme,
    /// The host, or a pattern over hosts.
    pub host: HostPattern,
    /// The port; the scheme's own where none was written.
    pub port: u16,
}

/// How an origin is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// `http`, port 80.
    Http,
    /// `https`, port 443.
    Https,
}

/// What a function may fetch, by name. Addresses are judged apart from it, at every dial.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Egress {
    /// `*`: every origin.
    Any,
    /// The origins of this pattern.
    Origin(WebOrigin),
}

/// Why a text is no web origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no origin: write `https://api.example.com` or `https://api.example.com:8443`, without a path")]
pub struct WebOriginError(String);

impl Scheme {
    /// The scheme as it stands in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port where none is written.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl WebOrigin {
    /// The one host it names, without brackets around an IPv6 address; `None` for a pattern.
    pub fn exact_host(&self) -> Option<&str> {
        match &self.host {
            HostPattern::Exact(host) => Some(host.trim_start_matches('[').trim_end_matches(']')),
            HostPattern::Any | HostPattern::Suffix(_) => None,
        }
    }
}

impl Egress {
    /// Whether `scheme://host:port` is in it. `host` in lower case, an IPv6 address in brackets.
    pub fn allows(&self, scheme: Scheme, host: &str, port: u16) -> bool {
        match self {
            Self::Any => true,
            Self::Origin(origin) => origin.scheme == scheme && origin.port == port && origin.host.matches(host),
        }
    }
}

impl FromStr for WebOrigin {
    type Err = WebOriginError;

    fn from_str(text: &str) -> Result<Self, WebOriginError> {
        let refuse = || WebOriginError(text.chars().take(100).collect());
        let (scheme, rest) = match text.split_once("://") {
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(("https", rest)) => (Scheme::Https, rest),
            _ => return Err(refuse()),
        };
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (rest, None),
        };
        let host = host.parse().map_err(|_| refuse())?;
        let port = match port {
            None => scheme.default_port(),
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => port.parse().map_err(|_| refuse())?,
            Some(_) => return Err(refuse()),
        };
        if port == 0 { Err(refuse()) } else { Ok(Self { scheme, host, port }) }
    }
}

impl FromStr for Egress {
    type Err = WebOriginError;

    fn from_str(text: &str) -> Result<Self, WebOriginError> {
        if text == "*" { Ok(Self::Any) } else { text.parse().map(Self::Origin) }
    }
}

impl fmt::Display for WebOrigin {
    /// With its port, always: `https://api.example:443`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme.as_str(), self.host, self.port)
    }
}

impl fmt::Display for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Origin(origin) => origin.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port_and_nothing_after() {
        for (text, expect) in [
            ("https://a.example", Some("https://a.example:443")),
            ("http://a.example", Some("http://a.example:80")),
            ("http://127.0.0.1:8080", Some("http://127.0.0.1:8080")),
            ("https://[::1]", Some("https://[::1]:443")),
            ("https://[::1]:8443", Some("https://[::1]:8443")),
            ("https://*.cdn.example:8443", Some("https://*.cdn.example:8443")),
            ("https://a.example/", None),
            ("https://a.example/x", None),
            ("https://u@a.example", None),
            ("https://A.example", None),
            ("https://a.example:0", None),
            ("https://a.example:", None),
            ("https://a.example:+1", None),
            ("https://a.example:65536", None),
            ("ftp://a.example", None),
            ("a.example", None),
            ("https://", None),
            ("https://[::1", None),
        ] {
            let parsed = text.parse::<WebOrigin>().ok().map(|origin| origin.to_string());
            assert_eq!(parsed.as_deref(), expect, "{text}");
        }
    }

    #[test]
    fn egress_holds_scheme_and_port_as_well_as_the_name() {
        let egress: Egress = "https://*.cdn.example:8443".parse().unwrap();
        assert!(egress.allows(Scheme::Https, "a.cdn.example", 8443));
        assert!(!egress.allows(Scheme::Http, "a.cdn.example", 8443));
        assert!(!egress.allows(Scheme::Https, "a.cdn.example", 443));
        assert!(!egress.allows(Scheme::Https, "cdn.example", 8443));
        assert!("*".parse::<Egress>().unwrap().allows(Scheme::Http, "any", 1));
    }
}
