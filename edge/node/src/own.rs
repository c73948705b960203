//! What no app may reach, whatever it was granted: the node's own sockets on every address of this machine, and its
//! parents. Both change while it runs: interfaces come and go, names get other addresses.
//!
//! It finds addresses and judges none: that is `plan::address`, where `fetch` connects.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use eyot_fetch::Fetch;
use eyot_link::line::Endpoint;
use tokio::time::{Instant, timeout};

/// How often the addresses are looked up.
const EVERY: Duration = Duration::from_secs(60);
/// How often while a parent's name does not resolve.
const AGAIN: Duration = Duration::from_secs(5);
/// How long a node waits for its parents' names before it serves.
const FIRST: Duration = Duration::from_secs(2);
/// An address that a parent's name once had stays refused so long.
const KEPT: Duration = Duration::from_secs(3600);
/// Addresses of parents that are kept.
const PARENTS_MAX: usize = 256;
/// Addresses of this machine that are taken.
const INTERFACES_MAX: usize = 1024;
/// What is read of the kernel's tables, in bytes; a router's may be long.
const TABLE_BYTES_MAX: u64 = 64 << 20;

/// What is a node's own.
#[derive(Debug)]
pub(crate) struct Own {
    /// Where it listens, as bound.
    listens: Vec<SocketAddr>,
    /// Whom it asks.
    parents: Vec<Endpoint>,
    /// The addresses of parents, and when each was last found.
    found: BTreeMap<SocketAddr, Instant>,
    /// The addresses of this machine.
    interfaces: Vec<IpAddr>,
}

impl Own {
    /// What is known without asking anybody: the sockets, the interfaces, the parents that are named by address.
    pub(crate) fn new(listens: Vec<SocketAddr>, parents: &[String]) -> Self {
        // A URL that is none keeps the pull from starting, and says so there.
        let parents: Vec<_> = parents.iter().filter_map(|url| Endpoint::parse(url).ok()).collect();
        let literal = |parent: &Endpoint| {
            let ip = parent.host.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
            Some(SocketAddr::new(ip, parent.port))
        };
        let found = parents.iter().filter_map(literal).map(|address| (address, Instant::now())).collect();
        Self { listens, parents, found, interfaces: interfaces() }
    }

    /// All of it: where the node listens on a wildcard, every address of this machine with that port.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let wild = self.listens.iter().filter(|listens| listens.ip().is_unspecified());
        // A socket of IPv6 may take IPv4, too.
        let spread = wild.flat_map(|listens| self.interfaces.iter().map(|ip| SocketAddr::new(*ip, listens.port())));
        let mut all: Vec<_> = self.listens.iter().copied().chain(spread).chain(self.found.keys().copied()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Looks again. Whether all parents' names resolved; one that did not keeps what it had.
    async fn look(&mut self) -> bool {
        self.interfaces = interfaces();
        let answers = self.parents.iter().map(Endpoint::addresses);
        let answers = futures_util::future::join_all(answers).await;
        let whole = answers.iter().all(Result::is_ok);
        let found: Vec<_> = answers.into_iter().filter_map(Result::ok).flatten().collect();
        self.note(&found, Instant::now());
        whole
    }

    fn note(&mut self, found: &[SocketAddr], now: Instant) {
        self.found.extend(found.iter().map(|address| (*address, now)));
        // An hour without one good answer forgets nothing.
        if !found.is_empty() {
            self.found.retain(|_, seen| now.duration_since(*seen) < KEPT);
        }
        while self.found.len() > PARENTS_MAX {
            let oldest = self.found.iter().min_by_key(|(_, seen)| **seen).map(|(address, _)| *address);
            oldest.and_then(|oldest| self.found.remove(&oldest));
        }
    }
}

/// Looks once, not for long, and tells `fetch`; gives what keeps it told until it is dropped.
pub(crate) async fn watch(mut own: Own, fetch: Fetch) -> impl Future<Output = ()> + Send + 'static {
    let whole = timeout(FIRST, own.look()).await.unwrap_or(false);
    fetch.set_own(own.addresses());
    async move {
        let mut pause = if whole { EVERY } else { AGAIN };
        loop {
            tokio::time::sleep(pause).await;
            pause = if own.look().await { EVERY } else { AGAIN };
            fetch.set_own(own.addresses());
        }
    }
}

/// The addresses of this machine, as the kernel tells every process. A socket of netlink, which would tell more, is not
/// open to a sandboxed node.
fn interfaces() -> Vec<IpAddr> {
    let mut all = v4(lines("/proc/self/net/fib_trie"));
    all.extend(v6(lines("/proc/self/net/if_inet6")));
    all.sort_unstable();
    all.dedup();
    all.truncate(INTERFACES_MAX);
    all
}

fn lines(file: &str) -> impl Iterator<Item = String> {
    let file = File::open(file).ok().map(|file| BufReader::new(file.take(TABLE_BYTES_MAX)));
    file.into_iter().flat_map(|file| file.lines().map_while(Result::ok))
}

/// The local addresses of the kernel's routes: `|-- 192.0.2.2`, and below it `/32 host LOCAL`.
fn v4(lines: impl Iterator<Item = String>) -> Vec<IpAddr> {
    let mut leaf = None;
    let mut found = Vec::new();
    for line in lines {
        let line = line.trim();
        match line.strip_prefix("|-- ") {
            Some(address) => leaf = address.parse::<Ipv4Addr>().ok(),
            None if line.starts_with("/32 host LOCAL") => found.extend(leaf.map(IpAddr::V4)),
            None => {}
        }
    }
    found
}

/// The addresses of the kernel's interfaces, each line beginning with 32 hexadecimal digits.
fn v6(lines: impl Iterator<Item = String>) -> Vec<IpAddr> {
    let address = |line: String| {
        let digits = line.split(' ').next().filter(|digits| digits.len() == 32)?;
        u128::from_str_radix(digits, 16).ok().map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits)))
    };
    lines.filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str) -> Vec<SocketAddr> {
        text.split_whitespace().map(|text| text.parse().expect("an address")).collect()
    }

    fn own(listens: &str, parents: &[&str]) -> Own {
        let parents: Vec<_> = parents.iter().map(|url| (*url).to_owned()).collect();
        Own::new(addresses(listens), &parents)
    }

    #[test]
    fn a_socket_on_a_wildcard_is_every_address_of_this_machine_with_its_port() {
        for (listens, expect) in [
            ("192.0.2.1:443", "192.0.2.1:443"),
            ("0.0.0.0:443", "0.0.0.0:443 192.0.2.2:443 198.51.100.7:443 [2001:db8::2]:443"),
            (
                "[::]:80 0.0.0.0:443",
                "[::]:80 192.0.2.2:80 198.51.100.7:80 [2001:db8::2]:80 \
                 0.0.0.0:443 192.0.2.2:443 198.51.100.7:443 [2001:db8::2]:443",
            ),
        ] {
            let mut own = own(listens, &[]);
            own.interfaces = ["192.0.2.2", "198.51.100.7", "2001:db8::2"].map(|ip| ip.parse().expect("one")).into();
            let mut expect = addresses(expect);
            expect.sort_unstable();
            assert_eq!(own.addresses(), expect, "{listens}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_addresses_of_parents_are_known_at_once_or_when_their_names_resolve_and_stay_a_while() {
        let mut own = own("", &["https://127.0.0.1:7443", "https://[::1]", "https://localhost:1", "nonsense"]);
        assert_eq!(own.addresses(), addresses("127.0.0.1:7443 [::1]:443"));
        assert!(own.look().await, "names of this machine");
        assert!(own.addresses().contains(&addresses("127.0.0.1:1")[0]));
        let other = addresses("192.0.2.9:1");
        own.note(&other, Instant::now());
        tokio::time::advance(KEPT / 2).await;
        assert!(own.look().await);
        assert!(own.addresses().contains(&other[0]), "a name may take turns");
        tokio::time::advance(KEPT / 2).await;
        own.note(&[], Instant::now());
        assert!(own.addresses().contains(&other[0]), "no answer forgets nothing");
        assert!(own.look().await);
        assert!(!own.addresses().contains(&other[0]));
    }

    #[test]
    fn no_name_with_ever_other_addresses_fills_the_list() {
        let mut own = own("", &[]);
        let now = Instant::now();
        for count in 0..1000_u32 {
            let ip = IpAddr::V4(Ipv4Addr::from_bits(count));
            own.note(&[SocketAddr::new(ip, 1)], now + Duration::from_millis(count.into()));
        }
        assert_eq!(own.found.len(), PARENTS_MAX);
        assert!(own.found.contains_key(&addresses("0.0.3.231:1")[0]), "the newest stay");
    }

    #[test]
    fn the_kernels_tables_are_read_and_nonsense_in_them_is_not() {
        let of = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>().into_iter();
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 127.0.0.0\n\
                    /8 host LOCAL\n     |-- 192.0.2.2\n   /32 host LOCAL\n |-- 192.0.2.255\n   /32 link BROADCAST\n\
                    |-- 1.2.3\n /32 host LOCAL\n";
        assert_eq!(v4(of(trie)), ["192.0.2.2".parse::<IpAddr>().expect("one")]);
        let table =
            "20010db8000000000000000000000002 04 40 00 82     eth0\n2001 x\nzz010db8000000000000000000000002 0\n";
        assert_eq!(v6(of(table)), ["2001:db8::2".parse::<IpAddr>().expect("one")]);
        assert!(interfaces().contains(&"127.0.0.1".parse().expect("one")), "of this machine");
    }
}
