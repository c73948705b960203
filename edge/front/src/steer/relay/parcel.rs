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

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(addr: &str, dst_ip: Option<&str>, ecn: Option<EcnCodepoint>) -> RecvMeta {
        let addr = addr.parse().expect("an address");
        let dst_ip = dst_ip.map(|ip| ip.parse().expect("an address"));
        RecvMeta { addr, len: 25, stride: 10, ecn, dst_ip }
    }

    fn message(head: [u8; HEAD_BYTES], length: usize) -> Vec<u8> {
        [head.as_slice(), &vec![7; length]].concat()
    }

    #[test]
    fn what_is_known_of_a_datagram_goes_over() {
        for (addr, local, ecn) in [
            ("192.0.2.1:1", Some("198.51.100.7"), Some(EcnCodepoint::Ect0)),
            ("192.0.2.1:65535", None, None),
            ("[2001:db8::1]:443", Some("2001:db8::2"), Some(EcnCodepoint::Ce)),
            ("[fe80::1%3]:443", None, Some(EcnCodepoint::Ect1)),
        ] {
            let sent = meta(addr, local, ecn);
            let message = message(head(200, &sent).expect("it goes over"), 25);
            let (group, got, bytes) = parse(&message).expect("it arrives");
            assert_eq!((group, bytes), (200, [7; 25].as_slice()));
            assert_eq!((got.addr, got.dst_ip, got.ecn), (sent.addr, sent.dst_ip, sent.ecn), "{addr}");
            assert_eq!((got.len, got.stride), (25, 10));
        }
        assert!(head(256, &meta("192.0.2.1:1", None, None)).is_none(), "a group beyond a byte");
        assert!(head(0, &meta("192.0.2.1:1", Some("::1"), None)).is_none(), "two families");
    }

    #[test]
    fn what_is_not_right_in_every_part_is_nothing() {
        let good = head(0, &meta("192.0.2.1:1", None, None)).expect("it goes over");
        let with = |at: usize, bytes: &[u8]| {
            let mut head = good;
            head[at..at + bytes.len()].copy_from_slice(bytes);
            head
        };
        let stride = |stride: u16| with(4, &stride.to_be_bytes());
        for (head, length, is_taken, what) in [
            (good, 25, true, "a good one"),
            (good, 0, false, "no datagram"),
            (with(0, &[2]), 25, false, "another format"),
            (with(2, &[4]), 25, false, "a mark of congestion that there is not"),
            (with(3, &[4]), 25, false, "a flag that there is not"),
            (with(6, &[0, 0]), 25, false, "port 0"),
            (stride(0), 25, false, "no stride"),
            (stride(25), 25, true, "one datagram"),
            (stride(26), 25, false, "a stride over all"),
            (stride(1), 64, true, "as many as the kernel merges"),
            (stride(1), 65, false, "one more"),
            (stride(u16::MAX), BYTES_MAX, true, "the longest"),
            (stride(u16::MAX), BYTES_MAX + 1, false, "one byte more"),
        ] {
            assert_eq!(parse(&message(head, length)).is_some(), is_taken, "{what}");
        }
        let whole = message(good, 25);
        for cut in 0..=HEAD_BYTES {
            assert!(parse(&whole[..cut]).is_none(), "cut off after {cut}");
        }
    }

    #[test]
    fn whatever_is_taken_of_random_bytes_is_within_bounds() {
        let mut random = [0; 200];
        let mut taken = 0;
        for length in (0..random.len()).cycle().take(50_000) {
            aws_lc_rs::rand::fill(&mut random).expect("randomness");
            // Otherwise hardly one would be taken.
            (random[0], random[2], random[3], random[4]) = (FORMAT, random[2] % 5, random[3] % 5, 0);
            if let Some((_, meta, bytes)) = parse(&random[..length]) {
                assert!(meta.len == bytes.len() && (1..=meta.len).contains(&meta.stride) && meta.addr.port() > 0);
                assert!(datagrams(meta.len, meta.stride) <= DATAGRAMS_MAX);
                assert!(meta.dst_ip.is_none_or(|ip| ip.is_ipv4() == meta.addr.is_ipv4()));
                taken += 1;
            }
        }
        assert!(taken > 1000, "{taken} were taken");
    }
}
