//! Where a request goes, and which kept connections may carry it there.

use eyot_plan::fault::{Code, Fault};
use eyot_plan::way::Way;
use http::Uri;

/// A scheme that can be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// The scheme in a URI.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    /// The scheme.
    pub scheme: Scheme,
    /// The host in lower case: a name, or an address without brackets.
    pub host: Box<str>,
    /// The port.
    pub port: u16,
}

impl Destination {
    /// The destination of an absolute URI.
    ///
    /// # Errors
    /// `egress_denied` for a scheme other than `http` and `https` or port 0, `bad_request` for a URI without host or
    /// with user information.
    pub fn of(uri: &Uri) -> Result<Self, Fault> {
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            _ => return Err(Fault::new(Code::EgressDenied).because("the scheme is neither http nor https")),
        };
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let host = uri.host().unwrap_or_default();
        if host.is_empty() || authority.contains('@') {
            return Err(Fault::new(Code::BadRequest).because("the URI has no host, or user information"));
        }
        let port = match uri.port() {
            Some(port) => port.as_u16(),
            // A port that is there and is no number must not become the scheme's own.
            None if authority.len() > host.len() + 1 => 0,
            None => scheme.port(),
        };
        if port == 0 {
            return Err(Fault::new(Code::EgressDenied).because("the port is 0 or no port"));
        }
        let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        Ok(Self { scheme, host: host.to_ascii_lowercase().into(), port })
    }

    /// The value of `Host` and `:authority`: the port only where it is not the scheme's own.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.to_string() };
        if self.port == self.scheme.port() { host } else { format!("{host}:{}", self.port) }
    }
}

/// Which kept connections may carry a request: those made by the same app, under the same policy, to the same place,
/// with the same identity, and for the same client where its address is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// The app, for its bounds; it is part of `way` too.
    pub(crate) app: Box<str>,
    way: [u8; 32],
    /// The server, whoever the client is.
    pub(crate) server: Server,
}

/// Which connections are bounded together: those that differ at most in their client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Server {
    way: [u8; 32],
    to: Destination,
}

impl Key {
    pub(crate) fn of(way: &Way, to: &Destination) -> Self {
        let server = Server { way: way.common(), to: to.clone() };
        let identity = if way.proxied.is_none() { server.way } else { way.identity() };
        Self { app: way.app.as_str().into(), way: identity, server }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_has_one_destination_or_none() {
        for (uri, expect) in [
            ("http://A.example/x", Ok("http a.example 80 a.example")),
            ("https://a.example:443/", Ok("https a.example 443 a.example")),
            ("https://a.example:80/", Ok("https a.example 80 a.example:80")),
            ("http://[::1]:8080/", Ok("http ::1 8080 [::1]:8080")),
            ("http://127.0.0.1/", Ok("http 127.0.0.1 80 127.0.0.1")),
            ("ftp://a.example/", Err(Code::EgressDenied)),
            ("http://a.example:0/", Err(Code::EgressDenied)),
            ("http://u:p@a.example/", Err(Code::BadRequest)),
            ("http://u@a.example/", Err(Code::BadRequest)),
            ("/x", Err(Code::EgressDenied)),
            ("*", Err(Code::EgressDenied)),
        ] {
            let to = Destination::of(&uri.parse().expect("a URI"));
            let to = to.map(|to| format!("{} {} {} {}", to.scheme.as_str(), to.host, to.port, to.authority()));
            assert_eq!(to.map_err(|fault| fault.code), expect.map(str::to_owned), "{uri}");
        }
    }
}
