//! On whose behalf and how a request leaves the node, and which connections may therefore carry it. It opens nothing.

use core::net::SocketAddr;
use std::sync::Arc;

use eyot_bundle::digest::Hasher;
use eyot_bundle::grant::PrivateNet;
use eyot_bundle::name::Name;
use eyot_bundle::release::upstream::{Http, Queue, Timeouts, UpstreamTls};
use eyot_bundle::secret::Value;

use crate::proxied::Proxied;

/// On whose behalf and how a request leaves.
#[derive(Clone, Debug)]
pub struct Way {
    /// The app.
    pub app: Name,
    /// The private addresses it may reach: its grant's and the node's.
    pub private: Vec<PrivateNet>,
    /// Where it is connected to, whatever the host that is asked for; none: where its name leads.
    pub at: Option<SocketAddr>,
    /// How TLS is spoken, when not by the host's own name and the public roots.
    pub tls: Option<UpstreamTls>,
    /// The newest version of HTTP that is spoken.
    pub http: Http,
    /// The key of the certificate by which the node says who it is, where `tls` has one: PEM.
    pub client_key: Option<Arc<Value>>,
    /// What each connection begins with, before TLS; none: nothing.
    pub proxied: Option<Proxied>,
    /// How long each step may take.
    pub timeouts: Timeouts,
    /// How many connections there may be to one server; none: as many as the app may have.
    pub bound: Option<Bound>,
}

/// How many connections there may be to one server, and who waits for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Connections at most.
    pub connections_max: u32,
    /// Who waits.
    pub queue: Queue,
}

impl Way {
    /// The way of an app that may reach these private addresses, as plain as there is.
    pub fn new(app: Name, private: Vec<PrivateNet>, timeouts: Timeouts) -> Self {
        Self {
            app,
            private,
            at: None,
            tls: None,
            http: Http::default(),
            client_key: None,
            proxied: None,
            timeouts,
            bound: None,
        }
    }

    /// Two ways may share a connection to the same place if this is equal: same app, same address policy, same address
    /// where one is said, same name, authorities, oldest version and certificate in TLS, same choice of HTTP, and the same
    /// client where its address is told. Timeouts and bounds do not count.
    pub fn identity(&self) -> [u8; 32] {
        let common = self.common();
        let Some(proxied) = &self.proxied else { return common };
        let mut hasher = Hasher::default();
        hasher.update(&common);
        hasher.update(&proxied.header());
        *hasher.finish().as_bytes()
    }

    /// The same, whoever the client is: two ways are bounded together, and know the same of a server, if this is equal.
    pub fn common(&self) -> [u8; 32] {
        let mut hasher = Hasher::default();
        piece(&mut hasher, self.app.as_str());
        for net in &self.private {
            piece(&mut hasher, &format!("{} {:?}", net.net, net.ports));
        }
        // No net is written like this, so what follows is none.
        piece(&mut hasher, "tls");
        let tls = self.tls.as_ref();
        optional(&mut hasher, tls.and_then(|tls| tls.name.as_deref()));
        spoken(&mut hasher, tls);
        hasher.update(&[u8::from(self.http.takes_3())]);
        optional(&mut hasher, self.proxied.map(|proxied| proxied.version.label()));
        optional(&mut hasher, self.at.map(|at| at.to_string()).as_deref());
        *hasher.finish().as_bytes()
    }

    /// Two ways may share TLS sessions if this is equal: same app, same authorities, same oldest version, same
    /// certificate.
    pub fn trust(&self) -> [u8; 32] {
        let mut hasher = Hasher::default();
        piece(&mut hasher, self.app.as_str());
        spoken(&mut hasher, self.tls.as_ref());
        *hasher.finish().as_bytes()
    }
}

/// How TLS is spoken, but for the name. A certificate stands for its key: another one does not fit it.
fn spoken(hasher: &mut Hasher, tls: Option<&UpstreamTls>) {
    optional(hasher, tls.and_then(|tls| tls.ca.as_deref()));
    hasher.update(&[u8::from(tls.is_none_or(|tls| tls.min_version.takes_1_2()))]);
    optional(hasher, tls.and_then(|tls| Some(tls.client.as_ref()?.chain.as_str())));
}

/// A text with its length before it, so that no two lists of texts are written alike.
fn piece(hasher: &mut Hasher, text: &str) {
    hasher.update(&text.len().to_le_bytes());
    hasher.update(text.as_bytes());
}

fn optional(hasher: &mut Hasher, text: Option<&str>) {
    hasher.update(&[u8::from(text.is_some())]);
    piece(hasher, text.unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use eyot_bundle::digest::Digest;
    use eyot_bundle::release::upstream::{ClientCertificate, ProxyProtocol, TlsVersion};
    use eyot_bundle::release::{Bundle, Secret};

    use super::*;

    fn way(app: &str, nets: &[(&str, u16)], tls: Option<(Option<&str>, Option<&str>)>) -> Way {
        let net = |(net, port): &(&str, u16)| PrivateNet { net: net.parse().expect("a net"), ports: vec![*port] };
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let tls = tls.map(|(name, ca)| UpstreamTls { name: owned(name), ca: owned(ca), ..UpstreamTls::default() });
        let private = nets.iter().map(net).collect();
        Way { tls, ..Way::new(app.parse().expect("a name"), private, Timeouts::default()) }
    }

    /// A way of `a` with this certificate, spoken from this version on.
    fn way_as(chain: Option<&str>, min_version: TlsVersion) -> Way {
        let bundle = Bundle { sha256: Digest::of(b"key"), size: 3 };
        let key = Secret { sealed: bundle, version: 1 };
        let client = chain.map(|chain| ClientCertificate { chain: chain.to_owned(), secret: "K".to_owned(), key });
        Way { tls: Some(UpstreamTls { min_version, client, ..UpstreamTls::default() }), ..way("a", &[], None) }
    }

    /// A way of `a` that says who its client is.
    fn way_for(version: ProxyProtocol, client: Option<&str>) -> Way {
        let client = client.map(|text| text.parse().expect("an address"));
        Way { proxied: Some(Proxied { version, client, port: 443 }), ..way("a", &[], None) }
    }

    #[test]
    fn connections_are_shared_only_within_app_policy_and_identity() {
        let ways = [
            way("a", &[], None),
            way("b", &[], None),
            way("a", &[("10.0.0.0/8", 1)], None),
            way("a", &[("10.0.0.0/8", 2)], None),
            way("a", &[("10.0.0.0/9", 1)], None),
            way("a", &[("10.0.0.0/9", 1), ("10.0.0.0/8", 1)], None),
            way("a", &[], Some((Some("x"), None))),
            way("a", &[], Some((None, Some("x")))),
            way("a", &[], Some((Some("x"), Some("x")))),
            way("a", &[], Some((Some(""), None))),
            way_as(Some("x"), TlsVersion::V1_2),
            way_as(Some("y"), TlsVersion::V1_2),
            way_as(None, TlsVersion::V1_3),
            Way { http: Http::H3, ..way("a", &[], None) },
            Way { at: Some(([192, 0, 2, 1], 443).into()), ..way("a", &[], None) },
            Way { at: Some(([192, 0, 2, 1], 444).into()), ..way("a", &[], None) },
            way_for(ProxyProtocol::V1, None),
            way_for(ProxyProtocol::V2, None),
            way_for(ProxyProtocol::V2, Some("192.0.2.1:1")),
            way_for(ProxyProtocol::V2, Some("192.0.2.1:2")),
            way_for(ProxyProtocol::V2, Some("192.0.2.2:1")),
        ];
        let identities: HashSet<_> = ways.iter().map(Way::identity).collect();
        assert_eq!(identities.len(), ways.len());
        let mut slow = ways[2].clone();
        slow.timeouts.total_ms = 1;
        assert_eq!(slow.identity(), ways[2].identity());
        // Whatever the client's address is, the server is the same one, and bounded as such.
        let common: HashSet<_> = ways.iter().map(Way::common).collect();
        assert_eq!(common.len(), ways.len() - 3);
    }

    #[test]
    fn sessions_are_shared_only_within_app_and_authorities() {
        let (plain, named) = (way("a", &[], None), way("a", &[], Some((Some("x"), None))));
        assert_eq!(plain.trust(), named.trust());
        for other in [
            way("b", &[], None),
            way("a", &[], Some((None, Some("x")))),
            way("a", &[], Some((None, Some("")))),
            way_as(Some("x"), TlsVersion::V1_2),
            way_as(None, TlsVersion::V1_3),
        ] {
            assert_ne!(plain.trust(), other.trust());
        }
    }
}
