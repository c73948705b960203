//! A server of each engine of the fleet, and the stores of two nodes that ask it.

use eyot_bundle::release::Engine;
use eyot_state::{Clock, Options, Stores};

use super::cases::{Ground, open, until};
use crate::harness::nats::Nats;
use crate::harness::process::Process;
use crate::harness::redis::Redis;

/// A running server.
pub(super) enum Server {
    Nats(Nats),
    Redis(Redis),
}

/// The stores of a node without a file.
pub(super) fn stores(nats: Option<eyot_state::Nats>, redis: Option<eyot_state::Redis>) -> Stores {
    let file = "/nowhere/stores.redb".into();
    Stores::new(Options { file, nats, redis, clock: Clock::system() }).expect("stores")
}

pub(super) fn nats(url: String, replicas: usize) -> Stores {
    stores(Some(eyot_state::Nats { url, credentials: None, replicas }), None)
}

impl Server {
    pub(super) fn nats() -> Self {
        Self::Nats(Nats::new())
    }

    pub(super) fn redis() -> Self {
        Self::Redis(Redis::new())
    }

    fn engine(&self) -> Engine {
        match self {
            Self::Nats(_) => Engine::Nats,
            Self::Redis(_) => Engine::Redis,
        }
    }

    /// What a node has for it.
    pub(super) fn stores(&self) -> Stores {
        match self {
            Self::Nats(server) => nats(server.url(), 1),
            Self::Redis(server) => {
                let password = Some(Redis::PASSWORD.to_owned());
                stores(None, Some(eyot_state::Redis { url: server.url(), password }))
            }
        }
    }

    /// Two nodes.
    pub(super) fn ground(&self) -> Ground {
        Ground { engine: self.engine(), stores: self.stores(), other: self.stores() }
    }

    pub(super) fn process(&mut self) -> &mut Process {
        match self {
            Self::Nats(server) => &mut server.process,
            Self::Redis(server) => &mut server.process,
        }
    }

    /// Starts it again, where it was.
    pub(super) fn restart(&mut self) {
        match self {
            Self::Nats(server) => server.restart(),
            Self::Redis(server) => server.restart(),
        }
    }
}

/// Three servers of NATS that keep the same, and a node at each of two of them.
pub(super) struct Fleet([Nats; 3]);

impl Fleet {
    /// Started, and one of them leads.
    pub(super) async fn new() -> Self {
        let fleet = Self(Nats::cluster());
        let ground = fleet.ground();
        let probe = open(&ground.stores, "probe", "probe", ground.spec());
        until("the servers have a leader", async || probe.set("key".to_owned(), "1".into()).await.is_ok()).await;
        fleet
    }

    pub(super) fn ground(&self) -> Ground {
        let [one, two, _] = &self.0;
        Ground { engine: Engine::Nats, stores: nats(one.url(), 3), other: nats(two.url(), 3) }
    }

    /// A node that knows all of them.
    pub(super) fn stores(&self) -> Stores {
        nats(self.0.each_ref().map(Nats::url).join(","), 3)
    }

    pub(super) fn servers(&mut self) -> &mut [Nats; 3] {
        &mut self.0
    }
}
