//! One line of the access log, as JSON. It is written for every request, so it is put together by hand: no text of it is
//! made twice.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::net::IpAddr;

/// Characters of a text from a request that are kept.
pub const TEXT_CHARS_MAX: usize = 1024;

/// What one line says. Empty texts stand for what there is not.
pub struct Line<'a> {
    /// When the request's head was complete.
    pub at: jiff::Timestamp,
    /// Our id of the request.
    pub id: &'a str,
    /// The app of the host.
    pub app: &'a str,
    /// The release that answered.
    pub release: Option<u64>,
    /// The route's id.
    pub route: &'a str,
    /// `function:cart`, `upstream:api`, `respond` or `redirect`.
    pub target: &'a str,
    /// `h1`, `h2` or `h3`.
    pub protocol: &'static str,
    /// The client's address, written only as its network.
    pub client: IpAddr,
    /// The request's method.
    pub method: &'a str,
    /// The request's host.
    pub host: &'a str,
    /// The request's path, without its query.
    pub path: &'a str,
    /// The status that was sent; 499 when the client left before.
    pub status: u16,
    /// The code of the fault that was met.
    pub fault: Option<&'static str>,
    /// What became of it in the cache; none: its route keeps nothing.
    pub cache: Option<&'static str>,
    /// From the head's arrival to the last byte, in microseconds.
    pub wall_us: u64,
    /// CPU time of the function, in microseconds.
    pub cpu_us: u64,
    /// The most memory of the function, in bytes.
    pub memory_bytes: u64,
    /// Outbound requests of the function.
    pub subrequests: u64,
    /// Bytes of the request's body.
    pub in_bytes: u64,
    /// Bytes of the response's body.
    pub out_bytes: u64,
}

impl Line<'_> {
    /// Adds the line as JSON, without a newline.
    pub(super) fn write(&self, out: &mut String) {
        out.push_str("{\"time\":\"");
        time(out, self.at);
        out.push('"');
        text(out, "id", self.id);
        text(out, "app", self.app);
        match self.release {
            Some(release) => number(out, "release", release),
            None => out.push_str(",\"release\":null"),
        }
        text(out, "route", self.route);
        text(out, "target", self.target);
        text(out, "protocol", self.protocol);
        out.push_str(",\"client\":\"");
        network(out, self.client);
        out.push('"');
        text(out, "method", self.method);
        text(out, "host", self.host);
        text(out, "path", self.path);
        number(out, "status", self.status.into());
        for (name, value) in [("fault", self.fault), ("cache", self.cache)] {
            match value {
                Some(value) => text(out, name, value),
                None => {
                    self::name(out, name);
                    out.push_str("null");
                }
            }
        }
        for (name, value) in [
            ("wall_us", self.wall_us),
            ("cpu_us", self.cpu_us),
            ("memory_bytes", self.memory_bytes),
            ("subrequests", self.subrequests),
            ("in_bytes", self.in_bytes),
            ("out_bytes", self.out_bytes),
        ] {
            number(out, name, value);
        }
        out.push('}');
    }
}

thread_local! {
    /// The last second that was written here, and as what: a busy node writes many lines in one.
    static SECOND: RefCell<(i64, String)> = const { RefCell::new((0, String::new())) };
}

/// Adds `2026-11-22T12:00:00.250000Z`.
fn time(out: &mut String, at: jiff::Timestamp) {
    let second = at.as_second();
    SECOND.with_borrow_mut(|(known, written)| {
        if *known != second || written.is_empty() {
            let whole = jiff::Timestamp::from_second(second).unwrap_or_default();
            (*known, *written) = (second, whole.to_string());
        }
        out.push_str(written.trim_end_matches('Z'));
    });
    // Its first digit stands there for the zeros that may follow.
    let micros = 1_000_000 + at.subsec_microsecond().unsigned_abs();
    out.push('.');
    out.push_str(itoa::Buffer::new().format(micros).get(1..).unwrap_or("000000"));
    out.push('Z');
}

/// Adds the network a client is logged as: /24 of IPv4, /48 of IPv6.
fn network(out: &mut String, client: IpAddr) {
    match client.to_canonical() {
        IpAddr::V4(address) => {
            let [parts @ .., _] = address.octets();
            for part in parts {
                out.push_str(itoa::Buffer::new().format(part));
                out.push('.');
            }
            out.push_str("0/24");
        }
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            let _ = write!(out, "{}/48", std::net::Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0));
        }
    }
}

fn name(out: &mut String, name: &str) {
    out.push_str(",\"");
    out.push_str(name);
    out.push_str("\":");
}

fn number(out: &mut String, of: &str, value: u64) {
    name(out, of);
    out.push_str(itoa::Buffer::new().format(value));
}

/// Adds `"of":"value"`: cut, and escaped to printable ASCII, so that no terminal and no parser is surprised.
fn text(out: &mut String, of: &str, value: &str) {
    name(out, of);
    out.push('"');
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') & (byte != b'"') & (byte != b'\\');
    // All of it is looked at, many bytes at once, rather than each until one is special.
    if value.len() <= TEXT_CHARS_MAX && value.bytes().fold(true, |plain, byte| plain & is_plain(byte)) {
        out.push_str(value);
    } else {
        escaped(out, value);
    }
    out.push('"');
}

fn escaped(out: &mut String, value: &str) {
    for character in value.chars().take(TEXT_CHARS_MAX) {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            ' '..='~' => out.push(character),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
}
