//! The PROXY protocol towards upstreams, versions 1 and 2 (haproxy.org, `proxy-protocol.txt`): what a connection begins
//! with, so that a server learns who the client is. It opens nothing; what listeners are told so, `front` reads.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use eyot_bundle::release::upstream::ProxyProtocol;

/// What version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, and the node speaks for itself.
const LOCAL: u8 = 0x20;
/// Version 2, and the node speaks for a client.
const PROXY: u8 = 0x21;
/// A stream over IPv4, and over IPv6; and nothing that is said.
const STREAM_V4: u8 = 0x11;
const STREAM_V6: u8 = 0x21;
const UNSPECIFIED: u8 = 0x00;

/// What a connection to an upstream begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proxied {
    /// The version.
    pub version: ProxyProtocol,
    /// The client's address; none: the node asks for itself.
    pub client: Option<SocketAddr>,
    /// The port that the client asked. The address it asked is told as the unspecified one.
    pub port: u16,
}

impl Proxied {
    /// The header. Its addresses are of one family, the client's; an address of IPv4 in one of IPv6 is one of IPv4.
    pub fn header(&self) -> Vec<u8> {
        let client = self.client.map(|client| SocketAddr::new(client.ip().to_canonical(), client.port()));
        match self.version {
            ProxyProtocol::V1 => text(client, self.port).into_bytes(),
            ProxyProtocol::V2 => binary(client, self.port),
        }
    }
}

fn text(client: Option<SocketAddr>, port: u16) -> String {
    let Some(client) = client else { return "PROXY UNKNOWN\r\n".to_owned() };
    let (family, asked) = match client.ip() {
        IpAddr::V4(_) => ("TCP4", IpAddr::from(Ipv4Addr::UNSPECIFIED)),
        IpAddr::V6(_) => ("TCP6", Ipv6Addr::UNSPECIFIED.into()),
    };
    format!("PROXY {family} {} {asked} {} {port}\r\n", client.ip(), client.port())
}

fn binary(client: Option<SocketAddr>, port: u16) -> Vec<u8> {
    let (command, family, length) = match client.map(|client| client.ip()) {
        None => (LOCAL, UNSPECIFIED, 0_u16),
        Some(IpAddr::V4(_)) => (PROXY, STREAM_V4, 12),
        Some(IpAddr::V6(_)) => (PROXY, STREAM_V6, 36),
    };
    let mut header = SIGNATURE.to_vec();
    header.extend([command, family]);
    header.extend(length.to_be_bytes());
    let Some(client) = client else { return header };
    match client.ip() {
        IpAddr::V4(ip) => header.extend([ip, Ipv4Addr::UNSPECIFIED].iter().flat_map(Ipv4Addr::octets)),
        IpAddr::V6(ip) => header.extend([ip, Ipv6Addr::UNSPECIFIED].iter().flat_map(Ipv6Addr::octets)),
    }
    header.extend(client.port().to_be_bytes());
    header.extend(port.to_be_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(version: ProxyProtocol, client: Option<&str>) -> Vec<u8> {
        let client = client.map(|text| text.parse().expect("an address"));
        Proxied { version, client, port: 443 }.header()
    }

    #[test]
    fn a_line_of_version_1_says_the_client_in_its_own_family() {
        for (client, expect) in [
            (Some("192.0.2.7:5000"), "PROXY TCP4 192.0.2.7 0.0.0.0 5000 443\r\n"),
            (Some("[::ffff:192.0.2.7]:5000"), "PROXY TCP4 192.0.2.7 0.0.0.0 5000 443\r\n"),
            (Some("[2001:db8::7]:65535"), "PROXY TCP6 2001:db8::7 :: 65535 443\r\n"),
            (None, "PROXY UNKNOWN\r\n"),
        ] {
            assert_eq!(String::from_utf8_lossy(&header(ProxyProtocol::V1, client)), expect);
        }
    }

    #[test]
    fn a_header_of_version_2_says_the_same_in_bytes() {
        let v4 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\0\0\0\0\x13\x88\x01\xbb";
        for client in ["192.0.2.7:5000", "[::ffff:192.0.2.7]:5000"] {
            assert_eq!(header(ProxyProtocol::V2, Some(client)), v4);
        }
        let v6 = header(ProxyProtocol::V2, Some("[2001:db8::7]:5000"));
        assert_eq!(v6[..16], *b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24");
        assert_eq!(
            (v6.len(), &v6[16..20], &v6[31..32], &v6[48..]),
            (52, &b"\x20\x01\x0d\xb8"[..], &b"\x07"[..], &b"\x13\x88\x01\xbb"[..])
        );
        assert_eq!(header(ProxyProtocol::V2, None), b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0");
    }
}
