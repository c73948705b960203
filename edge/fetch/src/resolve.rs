//! Names to addresses: hickory, with bounds on time, answers and cache. It judges nothing.

use core::net::IpAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;

use crate::{Error, Resolver};

/// Addresses of one name that are considered at most.
pub(crate) const ADDRESSES_MAX: usize = 16;
/// Questions at once on one TCP connection to a server. The room of all connections bounds what is asked at once, and
/// keeps each app to its part; a smaller count of the resolver's own, over all apps, would let one app take it from the
/// others.
const QUESTIONS_MAX: usize = 16_384;

/// How long an answer is waited for and believed.
struct Bounds {
    /// The time of one question; it is asked twice.
    time: Duration,
    /// Answers kept in the cache.
    cached_max: u64,
    /// How long a name is believed to have its addresses, whatever its server says.
    good_max: Duration,
    /// How long it is believed to have none.
    bad_max: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(1),
            cached_max: 4096,
            good_max: Duration::from_secs(300),
            bad_max: Duration::from_secs(10),
        }
    }
}

/// The resolver of all apps.
pub(crate) struct Names(TokioResolver);

impl Names {
    pub(crate) fn new(resolver: &Resolver) -> Result<Self, Error> {
        Self::within(resolver, &Bounds::default())
    }

    fn within(resolver: &Resolver, bounds: &Bounds) -> Result<Self, Error> {
        let mut builder = match resolver {
            Resolver::System => TokioResolver::builder_tokio().map_err(Error::Resolver)?,
            Resolver::Servers(servers) => {
                let servers = servers.iter().map(server).collect();
                let config = ResolverConfig::from_name_servers(servers);
                TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            }
        };
        bound(builder.options_mut(), bounds);
        builder.build().map(Self).map_err(Error::Resolver)
    }

    /// The addresses of `host`, which may be an address itself; IPv6 and IPv4 by turns, at most [`ADDRESSES_MAX`].
    pub(crate) async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        // With its last dot a name is complete: no search list is tried.
        let name = format!("{}.", host.strip_suffix('.').unwrap_or(host));
        let found = self.0.lookup_ip(name).await.map_err(|error| error.to_string())?;
        let (v6, v4): (Vec<_>, Vec<_>) = found.iter().partition(IpAddr::is_ipv6);
        Ok(by_turns(v6, v4))
    }
}

fn by_turns(first: Vec<IpAddr>, second: Vec<IpAddr>) -> Vec<IpAddr> {
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut out = Vec::new();
    while out.len() < ADDRESSES_MAX {
        let before = out.len();
        out.extend(first.next());
        out.extend(second.next());
        if out.len() == before {
            break;
        }
    }
    out
}

fn server(address: &std::net::SocketAddr) -> NameServerConfig {
    let mut connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = address.port();
    }
    NameServerConfig::new(address.ip(), true, connections.into())
}

fn bound(options: &mut ResolverOpts, bounds: &Bounds) {
    options.timeout = bounds.time;
    options.attempts = 1;
    options.cache_size = bounds.cached_max;
    options.ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
    options.positive_max_ttl = Some(bounds.good_max);
    options.negative_max_ttl = Some(bounds.bad_max);
    options.max_active_requests = QUESTIONS_MAX;
    options.case_randomization = false;
}

#[cfg(test)]
mod tests;
