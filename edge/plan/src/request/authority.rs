//! A request's authority: one host in its one spelling, and a port.

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};

use eyot_bundle::host::HostPattern;

/// A host and, where it is not the scheme's own, a port. Two authorities are equal when they mean the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// In lower case, without a closing dot; an IPv6 address in brackets, in its canonical form.
    pub host: String,
    /// The port, unless it is the scheme's own.
    pub port: Option<u16>,
}

impl Authority {
    /// Reads `host[:port]`. `port_default` is the port of the scheme.
    ///
    /// # Errors
    /// What is wrong, in a few words: user information, an empty or ill-formed host (RFC 9110, section 7.2 and RFC 3986,
    /// section 3.2), a percent sign, a number that is no IPv4 address, a port that is no port.
    pub fn parse(text: &str, port_default: u16) -> Result<Self, &'static str> {
        if text.contains('@') {
            return Err("user information in the authority");
        }
        let (host, port) = match text.rfind(']') {
            Some(end) => (&text[..=end], &text[end + 1..]),
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => None,
            Some("") => None,
            Some(digits) => Some(number(digits)?),
            None => return Err("something behind the address"),
        };
        Ok(Self { host: canonical(host)?, port: port.filter(|port| *port != port_default) })
    }
}

/// A port from its digits: no sign, no zero.
fn number(digits: &str) -> Result<u16, &'static str> {
    let plain = digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|port| plain && *port != 0).ok_or("a port that is no port")
}

fn canonical(host: &str) -> Result<String, &'static str> {
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<Ipv6Addr>().map(|address| format!("[{address}]")).map_err(|_| "no IPv6 address");
    }
    // A name with a closing dot is the same name; SNI and certificates never have the dot.
    let lower = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    // `2130706433`, `127.1` and `0x7f.1` are addresses to some and names to others; only the plain form is taken.
    let last = lower.rsplit('.').next().unwrap_or_default();
    let numeric = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x");
    if numeric && lower.parse::<Ipv4Addr>().is_err() {
        return Err("a number that is no IPv4 address");
    }
    match lower.parse::<HostPattern>() {
        Ok(HostPattern::Exact(host)) => Ok(host),
        _ => Err("no host"),
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            None => f.write_str(&self.host),
            Some(port) => write!(f, "{}:{port}", self.host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_has_one_spelling() {
        for (text, expect) in [
            ("shop.example.com", "shop.example.com"),
            ("SHOP.Example.COM.", "shop.example.com"),
            ("shop.example.com:443", "shop.example.com"),
            ("shop.example.com:", "shop.example.com"),
            ("shop.example.com:8443", "shop.example.com:8443"),
            ("shop.example.com:08443", "shop.example.com:8443"),
            ("localhost", "localhost"),
            ("a_b.example", "a_b.example"),
            ("127.0.0.1:8443", "127.0.0.1:8443"),
            ("[::1]", "[::1]"),
            ("[0:0::1]:8443", "[::1]:8443"),
            ("[2001:DB8::A]", "[2001:db8::a]"),
        ] {
            assert_eq!(Authority::parse(text, 443).map(|one| one.to_string()), Ok(expect.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_no_authority_is_refused() {
        for text in [
            "",
            ".",
            ":443",
            "..",
            "a..b",
            "user@host",
            "user:pass@host",
            "host:0",
            "host:65536",
            "host:-1",
            "host:+1",
            "host:8o",
            "host:80:80",
            "ho st",
            "ho/st",
            "ho\\st",
            "ho%73t",
            "*",
            "*.example.com",
            "[::1",
            "::1",
            "[::1]x",
            "[::1%25eth0]",
            "[::1%eth0]",
            "[v1.a]",
            "[]",
            "127.1",
            "2130706433",
            "0x7f.1",
            "0x7f000001",
            "1.2.3.256",
            "1.2.3.4.5",
            "01.2.3.4",
            "-a.example",
            "h\u{e4}",
        ] {
            assert!(Authority::parse(text, 443).is_err(), "{text}");
        }
    }
}
