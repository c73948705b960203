//! What goes over the line between two processes: the datagrams of one sender that came together, behind a head of fixed
//! size that says whose they are. The other end is a process of this node, but perhaps of another version, or one that has
//! gone wrong: what is not right in every part is nothing.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use quinn::udp::{EcnCodepoint, RecvMeta};

use super::mailbox::datagrams;

/// The length of the head.
pub(super) const HEAD_BYTES: usize = 44;
/// The most that the datagrams of one receive hold: what one UDP datagram may.
pub(super) const BYTES_MAX: usize = u16::MAX as usize;
/// Datagrams of one receive: what the kernel merges at the most.
pub(super) const DATAGRAMS_MAX: u64 = 64;

/// The format of the head, its first byte.
const FORMAT: u8 = 1;
/// The address is one of IPv6.
const IS_V6: u8 = 1;
/// The local address is known.
const HAS_LOCAL: u8 = 2;

/// The head for these datagrams, at the group of this number; none when they are not of one family, or too many.
pub(super) fn head(group: usize, meta: &RecvMeta) -> Option<[u8; HEAD_BYTES]> {
    let (source, scope) = match meta.addr {
        SocketAddr::V4(_) => (octets(meta.addr.ip()), 0),
        SocketAddr::V6(address) => (address.ip().octets(), address.scope_id()),
    };
    let local = meta.dst_ip.map_or([0; 16], octets);
    if meta.dst_ip.is_some_and(|local| local.is_ipv6() != meta.addr.is_ipv6()) || meta.len > BYTES_MAX {
        return None;
    }
    let flags = if meta.addr.is_ipv6() { IS_V6 } else { 0 } | if meta.dst_ip.is_some() { HAS_LOCAL } else { 0 };
    let stride = u16::try_from(meta.stride.min(meta.len)).ok()?;
    let mut head = [0; HEAD_BYTES];
    head[0] = FORMAT;
    head[1] = u8::try_from(group).ok()?;
    head[2] = meta.ecn.map_or(0, |ecn| ecn as u8);
    head[3] = flags;
    head[4..6].copy_from_slice(&stride.to_be_bytes());
    head[6..8].copy_from_slice(&meta.addr.port().to_be_bytes());
    head[8..24].copy_from_slice(&source);
    head[24..28].copy_from_slice(&scope.to_be_bytes());
    head[28..44].copy_from_slice(&local);
    Some(head)
}

/// The group, what is known of the datagrams, and they themselves; none for what no reader of ours would send.
pub(super) fn parse(message: &[u8]) -> Option<(usize, RecvMeta, &[u8])> {
    let (head, bytes) = message.split_first_chunk::<HEAD_BYTES>()?;
    let [FORMAT, group, ecn @ 0..=3, flags @ 0..=3, ..] = *head else { return None };
    let stride = usize::from(u16::from_be_bytes([head[4], head[5]]));
    if bytes.is_empty() || bytes.len() > BYTES_MAX || stride == 0 || stride > bytes.len() {
        return None;
    }
    if datagrams(bytes.len(), stride) > DATAGRAMS_MAX {
        return None;
    }
    let port = u16::from_be_bytes([head[6], head[7]]);
    let (source, local) = (sixteen(head, 8), sixteen(head, 28));
    let scope = u32::from_be_bytes([head[24], head[25], head[26], head[27]]);
    let is_v6 = flags & IS_V6 != 0;
    let addr = match address(source, is_v6) {
        _ if port == 0 => return None,
        IpAddr::V4(ip) => SocketAddr::V4(SocketAddrV4::new(ip, port)),
        IpAddr::V6(ip) => SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope)),
    };
    let dst_ip = (flags & HAS_LOCAL != 0).then(|| address(local, is_v6));
    let mut meta = RecvMeta::default();
    (meta.addr, meta.len, meta.stride) = (addr, bytes.len(), stride);
    (meta.ecn, meta.dst_ip) = (EcnCodepoint::from_bits(ecn), dst_ip);
    Some((usize::from(group), meta, bytes))
}

/// An address of either family; those of IPv4 stand in front.
fn octets(address: IpAddr) -> [u8; 16] {
    let mut octets = [0; 16];
    match address {
        IpAddr::V4(ip) => octets[..4].copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => octets = ip.octets(),
    }
    octets
}

fn address(octets: [u8; 16], is_v6: bool) -> IpAddr {
    let [a, b, c, d, ..] = octets;
    if is_v6 { Ipv6Addr::from(octets).into() } else { Ipv4Addr::new(a, b, c, d).into() }
}

fn sixteen(head: &[u8; HEAD_BYTES], at: usize) -> [u8; 16] {
    core::array::from_fn(|index| head[at + index])
}
