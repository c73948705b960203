//! On whose behalf and how a request leaves the node, and which connections may therefore carry it. It opens nothing.

use eyot_bundle::digest::Hasher;
use eyot_bundle::grant::PrivateNet;
use eyot_bundle::name::Name;
use eyot_bundle::release::upstream::{Queue, Timeouts, UpstreamTls};

/// On whose behalf and how a request leaves.
#[derive(Clone, Debug)]
pub struct Way {
    /// The app.
    pub app: Name,
    /// The private addresses it may reach: its grant's and the node's.
    pub private: Vec<PrivateNet>,
    /// How TLS is spoken, when not by the host's own name and the public roots.
    pub tls: Option<UpstreamTls>,
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
    /// Two ways may share a connection to the same place if this is equal: same app, same address policy, same name
    /// and authorities in TLS. Timeouts and bounds do not count.
    pub fn identity(&self) -> [u8; 32] {
        let mut hasher = Hasher::default();
        piece(&mut hasher, self.app.as_str());
        for net in &self.private {
            piece(&mut hasher, &format!("{} {:?}", net.net, net.ports));
        }
        // No net is written like this, so what follows is none.
        piece(&mut hasher, "tls");
        let tls = self.tls.as_ref();
        optional(&mut hasher, tls.and_then(|tls| tls.name.as_deref()));
        optional(&mut hasher, tls.and_then(|tls| tls.ca.as_deref()));
        *hasher.finish().as_bytes()
    }

    /// Two ways may share TLS sessions if this is equal: same app, same authorities.
    pub fn trust(&self) -> [u8; 32] {
        let mut hasher = Hasher::default();
        piece(&mut hasher, self.app.as_str());
        optional(&mut hasher, self.tls.as_ref().and_then(|tls| tls.ca.as_deref()));
        *hasher.finish().as_bytes()
    }
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

    use super::*;

    fn way(app: &str, nets: &[(&str, u16)], tls: Option<(Option<&str>, Option<&str>)>) -> Way {
        let net = |(net, port): &(&str, u16)| PrivateNet { net: net.parse().expect("a net"), ports: vec![*port] };
        let tls = tls.map(|(name, ca)| UpstreamTls { name: name.map(str::to_owned), ca: ca.map(str::to_owned) });
        let app = app.parse().expect("a name");
        Way { app, private: nets.iter().map(net).collect(), tls, timeouts: Timeouts::default(), bound: None }
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
        ];
        let identities: HashSet<_> = ways.iter().map(Way::identity).collect();
        assert_eq!(identities.len(), ways.len());
        let mut slow = ways[2].clone();
        slow.timeouts.total_ms = 1;
        assert_eq!(slow.identity(), ways[2].identity());
    }

    #[test]
    fn sessions_are_shared_only_within_app_and_authorities() {
        let (plain, named) = (way("a", &[], None), way("a", &[], Some((Some("x"), None))));
        assert_eq!(plain.trust(), named.trust());
        for other in
            [way("b", &[], None), way("a", &[], Some((None, Some("x")))), way("a", &[], Some((None, Some(""))))]
        {
            assert_ne!(plain.trust(), other.trust());
        }
    }
}
