//! The PROXY protocol, versions 1 and 2: a balancer before us says who its client is, before the first byte of that
//! client. Only balancers that the operator names are believed.
//!
//! It knows no connection: bytes go in, an address comes out, and not one byte more than the header is taken.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The longest line of version 1, its CRLF included, in bytes.
const LINE_BYTES_MAX: usize = 107;

/// What a header of version 2 may hold after its first 16 bytes: addresses, and fields that are not looked at.
const REST_BYTES_MAX: usize = 4096;

/// What version 2 begins with; no line of version 1 is shorter.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Takes the header at the beginning of a connection. None: the balancer speaks for itself, or does not know its client.
///
/// # Errors
/// What the stream says, or `InvalidData` for anything else than a header.
pub(crate) async fn header<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<SocketAddr>> {
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start == *SIGNATURE {
        return binary(stream).await;
    }
    let mut line = start.to_vec();
    // Byte by byte: what follows the line is for TLS.
    while !line.ends_with(b"\r\n") {
        if line.len() == LINE_BYTES_MAX {
            return Err(malformed());
        }
        line.push(stream.read_u8().await?);
    }
    text(&line).ok_or_else(malformed)
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no header of the PROXY protocol")
}

/// A line of version 1; the inner `None` is `UNKNOWN`.
fn text(line: &[u8]) -> Option<Option<SocketAddr>> {
    let line = std::str::from_utf8(line.strip_suffix(b"\r\n")?).ok()?;
    let mut words = line.split(' ');
    if words.next()? != "PROXY" {
        return None;
    }
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(None);
    }
    let source: IpAddr = words.next()?.parse().ok()?;
    let destination: IpAddr = words.next()?.parse().ok()?;
    let (port, _) = (number(words.next()?)?, number(words.next()?)?);
    let of_family = |address: IpAddr| match family {
        "TCP4" => address.is_ipv4(),
        "TCP6" => address.is_ipv6(),
        _ => false,
    };
    let is_whole = words.next().is_none() && of_family(source) && of_family(destination);
    is_whole.then(|| Some(SocketAddr::new(source, port)))
}

/// A port as the protocol writes it: digits, no more zeros than it needs.
fn number(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

/// The rest of a header of version 2.
async fn binary<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<SocketAddr>> {
    let command = stream.read_u8().await?;
    let family = stream.read_u8().await?;
    let length = usize::from(stream.read_u16().await?);
    if !matches!(command, 0x20 | 0x21) || length > REST_BYTES_MAX {
        return Err(malformed());
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    match (command, family) {
        (0x20, _) => Ok(None), // LOCAL
        (_, 0x11) => v4(&rest).map(Some).ok_or_else(malformed),
        (_, 0x21) => v6(&rest).map(Some).ok_or_else(malformed),
        // Unspecified, datagrams and sockets of a file system: nothing we could use.
        (_, 0x00 | 0x12 | 0x22 | 0x31 | 0x32) => Ok(None),
        _ => Err(malformed()),
    }
}

/// Source, destination, source port, destination port, then what is not looked at.
fn v4(rest: &[u8]) -> Option<SocketAddr> {
    let addresses = rest.first_chunk::<12>()?;
    let source = Ipv4Addr::from(*addresses.first_chunk::<4>()?);
    Some(SocketAddr::from((source, u16::from_be_bytes([addresses[8], addresses[9]]))))
}

fn v6(rest: &[u8]) -> Option<SocketAddr> {
    let addresses = rest.first_chunk::<36>()?;
    let source = Ipv6Addr::from(*addresses.first_chunk::<16>()?);
    Some(SocketAddr::from((source, u16::from_be_bytes([addresses[32], addresses[33]]))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a header says: a client's address, nothing, or that it is none.
    #[derive(Debug, PartialEq)]
    enum Said {
        Client(&'static str),
        Nothing,
        Malformed,
        CutShort,
    }

    async fn check(bytes: &[u8], expect: &Said) {
        let after = b"\x16\x03\x01";
        let whole = if *expect == Said::CutShort { bytes.to_vec() } else { [bytes, after].concat() };
        let mut stream = &whole[..];
        let found = header(&mut stream).await;
        let shown = String::from_utf8_lossy(bytes).into_owned();
        match (&found, expect) {
            (Ok(Some(client)), Said::Client(address)) => assert_eq!(client.to_string(), *address, "{shown:?}"),
            (Ok(None), Said::Nothing) => {}
            (Err(error), Said::Malformed) if error.kind() == io::ErrorKind::InvalidData => return,
            (Err(error), Said::CutShort) if error.kind() == io::ErrorKind::UnexpectedEof => return,
            _ => panic!("{shown:?}: {found:?}, not {expect:?}"),
        }
        assert_eq!(stream, after, "{shown:?}: all but the header is left");
    }

    #[tokio::test]
    async fn a_line_of_version_1_is_read_as_it_is_written_and_no_further() {
        use Said::{Client, CutShort, Malformed, Nothing};
        let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(91));
        let over = format!("PROXY UNKNOWN {}\r\n", "x".repeat(92));
        assert_eq!((longest.len(), over.len()), (107, 108));
        for (line, expect) in [
            ("PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", Client("192.0.2.1:56324")),
            ("PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n", Client("[2001:db8::1]:1")),
            ("PROXY UNKNOWN\r\n", Nothing),
            ("PROXY UNKNOWN ffff:f...f:ffff 65535 65535\r\n", Nothing),
            (&longest, Nothing),
            (&over, Malformed),
            ("PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n", Malformed),
            ("PROXY TCP6 192.0.2.1 198.51.100.1 1 2\r\n", Malformed),
            ("PROXY TCP4 192.0.2.1 2001:db8::2 1 2\r\n", Malformed),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 65536 443\r\n", Malformed),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 +1 443\r\n", Malformed),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 01 443\r\n", Malformed),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 1\r\n", Malformed),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 1 2 3\r\n", Malformed),
            ("PROXY  TCP4 192.0.2.1 198.51.100.1 1 2\r\n", Malformed),
            ("PROXY UDP4 192.0.2.1 198.51.100.1 1 2\r\n", Malformed),
            ("proxy UNKNOWN\r\n", Malformed),
            ("GET / HTTP/1.1\r\n", Malformed),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 1 2\n", CutShort),
            ("PROXY TCP4", CutShort),
            ("", CutShort),
        ] {
            check(line.as_bytes(), &expect).await;
        }
    }

    #[tokio::test]
    async fn a_header_of_version_2_is_read_to_its_length_and_no_further() {
        use Said::{Client, CutShort, Malformed, Nothing};
        let v4 = [&[192, 0, 2, 1, 198, 51, 100, 1][..], &[0xdc, 0x04], &[1, 187]].concat();
        let v6 = [&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1][..], &[0; 16], &[0, 7], &[1, 187]].concat();
        let more = |bytes: &[u8], length: usize| [bytes, &vec![4; length - bytes.len()]].concat();
        for (command, family, rest, announced, expect) in [
            (0x21, 0x11, v4.clone(), None, Client("192.0.2.1:56324")),
            (0x21, 0x21, v6.clone(), None, Client("[2001:db8::1]:7")),
            (0x21, 0x11, more(&v4, 4096), None, Client("192.0.2.1:56324")),
            (0x21, 0x11, more(&v4, 4097), None, Malformed),
            (0x20, 0x00, vec![], None, Nothing),
            (0x20, 0x11, v4.clone(), None, Nothing),
            (0x21, 0x00, vec![], None, Nothing),
            (0x21, 0x12, v4.clone(), None, Nothing),
            (0x21, 0x31, vec![0; 216], None, Nothing),
            (0x21, 0x11, v4[1..].to_vec(), None, Malformed),
            (0x21, 0x21, v4.clone(), None, Malformed),
            (0x21, 0x41, v4.clone(), None, Malformed),
            (0x22, 0x11, v4.clone(), None, Malformed),
            (0x11, 0x11, v4.clone(), None, Malformed),
            (0x21, 0x11, v4.clone(), Some(13), CutShort),
        ] {
            let length = u16::try_from(announced.unwrap_or(rest.len())).expect("two bytes").to_be_bytes();
            let bytes = [&SIGNATURE[..], &[command, family], &length, &rest].concat();
            check(&bytes, &expect).await;
        }
    }
}
