//! Names to addresses: hickory, with bounds on time, answers and cache. It judges nothing.

use core::net::IpAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;

use crate::{Error, Resolver};

/// Addresses of one name that are considered at most.
pub(crate) const ADDRESSES_MAX: usize = 16;
/// Names kept in the cache at most.
const CACHED_MAX: u64 = 4096;

/// The resolver of all apps.
pub(crate) struct Names(TokioResolver);

impl Names {
    pub(crate) fn new(resolver: &Resolver) -> Result<Self, Error> {
        let mut builder = match resolver {
            Resolver::System => TokioResolver::builder_tokio().map_err(Error::Resolver)?,
            Resolver::Servers(servers) => {
                let servers = servers.iter().map(server).collect();
                let config = ResolverConfig::from_name_servers(servers);
                TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            }
        };
        bound(builder.options_mut());
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

/// A name that does not resolve in two seconds does not resolve; an answer is not believed for longer than five minutes.
fn bound(options: &mut ResolverOpts) {
    options.timeout = Duration::from_secs(1);
    options.attempts = 1;
    options.cache_size = CACHED_MAX;
    options.ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
    options.positive_max_ttl = Some(Duration::from_secs(300));
    options.negative_max_ttl = Some(Duration::from_secs(10));
    options.max_active_requests = 256;
    options.case_randomization = false;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_take_turns_and_no_answer_is_endless() {
        let v6 = |n: u16| IpAddr::from([0x2600, 0, 0, 0, 0, 0, 0, n]);
        let v4 = |n: u8| IpAddr::from([1, 1, 1, n]);
        assert_eq!(by_turns(vec![v6(1), v6(2), v6(3)], vec![v4(1)]), [v6(1), v4(1), v6(2), v6(3)]);
        assert_eq!(by_turns(vec![], vec![v4(1), v4(2)]), [v4(1), v4(2)]);
        assert_eq!(by_turns((0..99).map(v6).collect(), (0..99).map(v4).collect()).len(), ADDRESSES_MAX);
    }
}
