//! The other nodes of the fleet, as far as they ask each other: who may, which of them are asked for a region, and who was
//! not there lately.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use eyot_bundle::fleet::Nodes;
use eyot_bundle::name::Name;
use eyot_bundle::secret::{Identity, Recipient, Shared};
use eyot_plan::upstream::draw;

use super::hop::LABEL;

/// How long a node is left alone that could not be reached, in milliseconds.
const DOWN_MS: u64 = 5_000;
/// Nodes that are asked for one request, one after another.
const ASKED_MAX: usize = 2;

/// The other nodes.
#[derive(Debug)]
pub(super) struct Peers {
    me: Name,
    identity: Arc<Identity>,
    /// This node's own region, as its operator names it.
    region: ArcSwap<String>,
    all: ArcSwap<BTreeMap<Name, Peer>>,
    /// Until when those are left alone that could not be reached.
    down: Mutex<HashMap<Name, u64>>,
}

/// Another node.
#[derive(Debug)]
pub(super) struct Peer {
    region: String,
    at: Option<SocketAddr>,
    recipient: Recipient,
    /// Derived when it is needed first.
    shared: OnceLock<Option<Shared>>,
}

impl Peer {
    /// Where it is asked.
    pub(super) fn at(&self) -> Option<SocketAddr> {
        self.at
    }

    /// What this node shares with it.
    fn shared(&self, identity: &Identity) -> Option<&Shared> {
        self.shared.get_or_init(|| identity.shared(&self.recipient, LABEL)).as_ref()
    }
}

impl Peers {
    /// None yet, and as long the region that this node says itself.
    pub(super) fn new(me: Name, region: String, identity: Arc<Identity>) -> Self {
        let region = ArcSwap::from_pointee(region);
        Self { me, identity, region, all: ArcSwap::default(), down: Mutex::default() }
    }

    /// This node.
    pub(super) fn me(&self) -> &Name {
        &self.me
    }

    /// Whether this node is in `region`.
    pub(super) fn are_of(&self, region: &str) -> bool {
        **self.region.load() == region
    }

    /// Those of the fleet, as its operator names them: without this one, those put out, and those without an identity.
    pub(super) fn set(&self, nodes: &Nodes) {
        if let Some(own) = nodes.nodes.get(&self.me) {
            self.region.store(Arc::new(own.region.clone()));
        }
        let others = nodes.nodes.iter().filter(|(name, node)| **name != self.me && !node.revoked);
        let peer = |(name, node): (&Name, &eyot_bundle::fleet::Node)| {
            let (region, at, recipient) = (node.region.clone(), node.shield, node.identity.clone()?);
            Some((name.clone(), Peer { region, at, recipient, shared: OnceLock::new() }))
        };
        self.all.store(Arc::new(others.filter_map(peer).collect()));
    }

    /// All of them now.
    pub(super) fn all(&self) -> Arc<BTreeMap<Name, Peer>> {
        self.all.load_full()
    }

    /// What this node shares with the one of this name.
    pub(super) fn shared<'a>(&self, all: &'a BTreeMap<Name, Peer>, name: &Name) -> Option<&'a Shared> {
        all.get(name)?.shared(&self.identity)
    }

    /// Who is asked in `region` for what hashes to `key`, the first first: the same on every node, so that one of them has
    /// it (rendezvous hashing).
    pub(super) fn of<'a>(&self, all: &'a BTreeMap<Name, Peer>, region: &str, key: u64, now_ms: u64) -> Vec<&'a Name> {
        let mut down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        down.retain(|_, until_ms| now_ms < *until_ms);
        let there = |(name, peer): &(&Name, &Peer)| {
            peer.region == region && peer.at.is_some() && !down.contains_key::<Name>(name)
        };
        let mut found: Vec<_> = all.iter().filter(there).map(|(name, _)| (draw(name.as_str(), key), name)).collect();
        found.sort_unstable();
        found.into_iter().map(|(_, name)| name).take(ASKED_MAX).collect()
    }

    /// This one could not be reached.
    pub(super) fn is_down(&self, name: &Name, now_ms: u64) {
        let mut down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        down.insert(name.clone(), now_ms.saturating_add(DOWN_MS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().expect("a name")
    }

    fn nodes(all: &[(&str, &str, bool)]) -> Nodes {
        let node = |(id, region, revoked): &(&str, &str, bool)| {
            let node = serde_json::json!({
                "region": region,
                "token_sha256": "0".repeat(64),
                "identity": Identity::generate().recipient(),
                "shield": "192.0.2.1:443",
                "revoked": revoked,
            });
            (name(id), serde_json::from_value(node).expect("a node"))
        };
        Nodes { nodes: all.iter().map(node).collect() }
    }

    #[test]
    fn each_key_has_a_node_of_the_region_and_another_one_where_that_is_not_there() {
        let peers = Peers::new(name("me"), "us".to_owned(), Arc::new(Identity::generate()));
        assert!(peers.of(&peers.all(), "eu", 1, 0).is_empty());
        let mut fleet = nodes(&[("a", "eu", false), ("b", "eu", false), ("c", "eu", false), ("me", "eu", false)]);
        let more = nodes(&[("d", "eu", true), ("e", "us", false), ("f", "eu", false), ("g", "eu", false)]);
        fleet.nodes.extend(more.nodes);
        fleet.nodes.get_mut(&name("f")).expect("a node").shield = None;
        fleet.nodes.get_mut(&name("g")).expect("a node").identity = None;
        assert!(peers.are_of("us"), "as it says itself");
        peers.set(&fleet);
        assert!(peers.are_of("eu"), "as its operator says");
        let all = peers.all();
        let of = |key: u64, now_ms: u64| -> Vec<String> {
            peers.of(&all, "eu", key, now_ms).into_iter().map(Name::to_string).collect()
        };
        let mut firsts = HashMap::<String, usize>::new();
        for key in 0..3_000 {
            let found = of(key, 0);
            assert!(found.len() == 2 && found[0] != found[1] && of(key, 0) == found, "{found:?}");
            *firsts.entry(found[0].clone()).or_default() += 1;
        }
        assert!(["a", "b", "c"].iter().all(|it| firsts[*it] > 700) && firsts.len() == 3, "{firsts:?}");
        let (first, second) = (of(7, 0)[0].clone(), of(7, 0)[1].clone());
        peers.is_down(&name(&first), 0);
        assert_eq!(of(7, 1)[0], second);
        assert_eq!(of(7, DOWN_MS)[0], first);
    }

    #[test]
    fn a_node_shares_a_key_with_each_of_its_fleet_and_with_no_other() {
        let (one, two) = (Arc::new(Identity::generate()), Arc::new(Identity::generate()));
        let mut fleet = nodes(&[("one", "eu", false), ("two", "us", false), ("out", "us", true)]);
        for (id, identity) in [("one", &one), ("two", &two)] {
            fleet.nodes.get_mut(&name(id)).expect("a node").identity = Some(identity.recipient());
        }
        let of = |id: &str, identity: &Arc<Identity>| {
            let peers = Peers::new(name(id), "eu".to_owned(), Arc::clone(identity));
            peers.set(&fleet);
            peers
        };
        let (here, there) = (of("one", &one), of("two", &two));
        let tag = here.shared(&here.all(), &name("two")).expect("a key").tag(b"text");
        assert!(there.shared(&there.all(), &name("one")).expect("a key").is_tag(b"text", &tag));
        for stranger in ["out", "one", "nobody"] {
            assert!(here.shared(&here.all(), &name(stranger)).is_none(), "{stranger}");
        }
    }
}
