//! The address policy: which addresses an app may reach. It decides about addresses only; who resolved a name, and when,
//! is `fetch`'s work.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use eyot_bundle::grant::PrivateNet;

/// Whether a connection to `ip` and `port` is allowed: to globally reachable unicast, and to what `private` lists.
/// Never to one of `own`; an `own` with an unspecified address stands for every loopback address, one with port 0 for
/// every port. Unspecified, multicast and broadcast addresses stay closed whatever `private` says.
pub fn allowed(ip: IpAddr, port: u16, private: &[PrivateNet], own: &[SocketAddr]) -> bool {
    let ips = Unwrapped::of(ip);
    port != 0
        && !ips.any(|ip| own.iter().any(|own| is_own(ip, port, own)))
        && !ips.any(is_never)
        && ips.all(|ip| is_public_plain(ip) || private.iter().any(|net| holds(net, ip, port)))
}

/// Whether `ip` is globally reachable unicast by the IANA special-purpose registries. IPv4-mapped, NAT64, 6to4 and
/// Teredo forms are judged by the IPv4 addresses inside.
pub fn is_public(ip: IpAddr) -> bool {
    Unwrapped::of(ip).all(is_public_plain)
}

/// The addresses that a packet to one address may end up at: one, or for Teredo the server and the client inside.
struct Unwrapped(IpAddr, Option<IpAddr>);

impl Unwrapped {
    fn of(ip: IpAddr) -> Self {
        let IpAddr::V6(v6) = ip else { return Self(ip, None) };
        let inside = |high: u16, low: u16| {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        };
        match v6.segments() {
            // ::ffff:0:0/96, RFC 4291, section 2.5.5.2
            [0, 0, 0, 0, 0, 0xffff, high, low] => Self(inside(high, low), None),
            // 64:ff9b::/96, RFC 6052
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Self(inside(high, low), None),
            // 2002::/16, RFC 3056
            [0x2002, high, low, ..] => Self(inside(high, low), None),
            // 2001::/32, RFC 4380, section 4: the server plain, the client with all bits turned
            [0x2001, 0, high, low, _, _, turned_high, turned_low] => {
                Self(inside(high, low), Some(inside(!turned_high, !turned_low)))
            }
            _ => Self(ip, None),
        }
    }

    fn all(&self, test: impl Fn(IpAddr) -> bool) -> bool {
        test(self.0) && self.1.is_none_or(&test)
    }

    fn any(&self, test: impl Fn(IpAddr) -> bool) -> bool {
        test(self.0) || self.1.is_some_and(&test)
    }
}

fn is_own(ip: IpAddr, port: u16, own: &SocketAddr) -> bool {
    let same_ip = own.ip().to_canonical() == ip || (own.ip().is_unspecified() && ip.is_loopback());
    same_ip && (own.port() == port || own.port() == 0)
}

/// What no grant opens: these are not one host, or are this host by another name.
fn is_never(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[0] == 0 || ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unspecified() || ip.is_multicast(),
    }
}

fn holds(private: &PrivateNet, ip: IpAddr, port: u16) -> bool {
    private.net.contains(&ip) && (private.ports.is_empty() || private.ports.contains(&port))
}

fn is_public_plain(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

/// IANA IPv4 Special-Purpose Address Registry. 192.0.0.0/24 is closed as a whole: its two reachable addresses (port
/// control, TURN) are by design the nearest network's own boxes.
fn is_public_v4(ip: Ipv4Addr) -> bool {
    !matches!(
        ip.octets(),
        [0 | 10 | 127, ..]                  // this network, private, loopback
            | [100, 64..=127, ..]           // carrier-grade NAT
            | [169, 254, ..]                // link-local; cloud metadata
            | [172, 16..=31, ..]            // private
            | [192, 0, 0 | 2, _]            // protocol assignments, documentation
            | [192, 88, 99, _]              // 6to4 relays, withdrawn
            | [192, 168, ..]                // private
            | [198, 18 | 19, ..]            // benchmarking
            | [198, 51, 100, _]             // documentation
            | [203, 0, 113, _]              // documentation
            | [224..=255, ..] // multicast, reserved, broadcast
    )
}

/// IANA IPv6 Special-Purpose Address Registry: of global unicast (2000::/3) what is not set aside; all else is closed.
fn is_public_v6(ip: Ipv6Addr) -> bool {
    match ip.segments() {
        [0x2001, 0x3, ..] | [0x2001, 0x4, 0x112, ..] => true, // AMT, AS112
        [0x2001, 0..=0x1ff, ..] => false,                     // protocol assignments
        [0x2001, 0xdb8, ..] => false,                         // documentation
        [0x2002, ..] => false,                                // 6to4, judged by what is inside
        [0x3fff, 0..=0xfff, ..] => false,                     // documentation
        [0x2000..=0x3fff, ..] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn nets(rows: &[(&str, &[u16])]) -> Vec<PrivateNet> {
        let net =
            |(net, ports): &(&str, &[u16])| PrivateNet { net: net.parse().expect("a net"), ports: ports.to_vec() };
        rows.iter().map(net).collect()
    }

    #[test]
    fn only_globally_reachable_unicast_is_public() {
        for (expect, addresses) in [
            (
                true,
                "1.1.1.1 8.8.8.8 100.63.255.255 100.128.0.0 172.15.0.1 172.32.0.1 192.0.1.1 192.31.196.1 192.52.193.1 \
                 198.17.0.1 198.20.0.1 223.255.255.255 2606:4700::1111 2a00::1 2001:200::1 2001:4860:4860::8888 \
                 2620:4f:8000::1 3fff:1000::1 2001:3::1 2001:4:112::1 ::ffff:1.1.1.1 64:ff9b::8.8.8.8 2002:101:101::1 \
                 2001:0:808:808:0:0:f7f7:f7f7",
            ),
            (
                false,
                "0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.127.255.255 127.0.0.1 127.255.255.255 169.254.169.254 \
                 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.9 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.19.9.9 \
                 198.51.100.1 203.0.113.1 224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255 \
                 :: ::1 ::7f00:1 ::ffff:127.0.0.1 ::ffff:10.1.1.1 ::ffff:0:0 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe \
                 64:ff9b:1::1 64:ff9b:1:ffff::808:808 100::1 100:0:0:1::1 1fff::1 2001:1::1 2001:2::1 2001:10::1 \
                 2001:20::1 2001:db8::1 2002:7f00:1::1 2002:a9fe:a9fe::1 2002:c0a8:101::1 2001:0:7f00:1:0:0:f7f7:f7f7 \
                 2001:0:808:808:0:0:80ff:fffe 3fff::1 3fff:fff::1 4000::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1 \
                 febf::1 fec0::1 ff02::1",
            ),
        ] {
            for address in addresses.split_whitespace() {
                assert_eq!(is_public(ip(address)), expect, "{address}");
                assert_eq!(allowed(ip(address), 443, &[], &[]), expect, "{address}");
            }
        }
    }

    #[test]
    fn a_private_address_is_allowed_as_the_grant_lists_it_in_any_form() {
        let private = nets(&[("10.1.0.0/16", &[443]), ("127.0.0.0/8", &[]), ("fd00::/8", &[80])]);
        for (address, port, expect) in [
            ("10.1.2.3", 443, true),
            ("10.1.2.3", 80, false),
            ("10.2.0.1", 443, false),
            ("127.0.0.1", 9, true),
            ("127.0.0.1", 0, false),
            ("::1", 9, false),
            ("::ffff:10.1.2.3", 443, true),
            ("64:ff9b::10.1.2.3", 443, true),
            ("2002:a01:203::9", 443, true),
            ("2002:a02:203::9", 443, false),
            ("fd00::1", 80, true),
            ("fd00::1", 443, false),
        ] {
            assert_eq!(allowed(ip(address), port, &private, &[]), expect, "{address} {port}");
        }
    }

    #[test]
    fn an_address_of_the_node_itself_is_never_allowed() {
        let everything = nets(&[("0.0.0.0/0", &[]), ("::/0", &[])]);
        let own: Vec<SocketAddr> = ["1.2.3.4:443", "127.0.0.1:7443", "[2606::1]:0", "0.0.0.0:9180"]
            .iter()
            .map(|text| text.parse().expect("a socket address"))
            .collect();
        for (address, port, expect) in [
            ("1.2.3.4", 443, false),
            ("1.2.3.4", 444, true),
            ("::ffff:1.2.3.4", 443, false),
            ("64:ff9b::1.2.3.4", 443, false),
            ("127.0.0.1", 7443, false),
            ("127.0.0.2", 7443, true),
            ("2606::1", 1, false),
            ("127.9.9.9", 9180, false),
            ("::1", 9180, false),
            ("0.0.0.0", 80, false),
            ("::", 80, false),
            ("255.255.255.255", 80, false),
            ("ff02::1", 80, false),
            ("169.254.169.254", 80, true),
        ] {
            assert_eq!(allowed(ip(address), port, &everything, &own), expect, "{address} {port}");
        }
    }

    proptest! {
        #[test]
        fn every_wrapped_form_is_judged_as_the_address_inside(bits: u32) {
            let v4 = Ipv4Addr::from(bits);
            let [a, b, c, d] = v4.octets();
            let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            let expect = is_public(IpAddr::V4(v4));
            for wrapped in [
                v4.to_ipv6_mapped(),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 1, 2, 3, 4, 5),
                Ipv6Addr::new(0x2001, 0, 0x808, 0x808, 0, 0, !high, !low),
                Ipv6Addr::new(0x2001, 0, high, low, 0, 0, !0x808, !0x808),
            ] {
                prop_assert_eq!(is_public(IpAddr::V6(wrapped)), expect, "{}", wrapped);
            }
        }
    }
}
