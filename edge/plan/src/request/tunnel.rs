//! Requests that open a tunnel, brought into the one form of [`Connect`]. What is exchanged in it is not looked at.

use http::header::{self, HeaderMap, HeaderName};
use http::request::Parts;
use http::{Method, Version};

use super::bad;
use crate::arrival::{Connect, Protocol};
use crate::fault::{Code, Fault};

/// The name of WebSocket, as a `:protocol` and in `Upgrade` (RFC 6455, section 11.2; RFC 8441, section 9.1).
const WEBSOCKET: &str = "websocket";

/// Fields of one hop of HTTP/1.1 (RFC 8441, section 5).
const OF_A_HOP: [HeaderName; 2] = [header::SEC_WEBSOCKET_KEY, header::SEC_WEBSOCKET_ACCEPT];

/// Makes a request for a tunnel a GET, and says for what it is; leaves all others as they are.
pub(super) fn take(parts: &mut Parts, extended: Option<&str>, protocol: Protocol) -> Result<Option<Connect>, Fault> {
    match (protocol, extended) {
        (Protocol::H1, _) if !is_upgrade(parts) => return Ok(None),
        (Protocol::H1, _) => key(&parts.headers)?,
        (Protocol::H2 | Protocol::H3, None) => return Ok(None),
        (Protocol::H2 | Protocol::H3, Some(_)) if parts.method != Method::CONNECT => {
            return Err(bad("a `:protocol` without CONNECT"));
        }
        (Protocol::H2 | Protocol::H3, Some(WEBSOCKET)) => {}
        // RFC 9220, section 3.
        (Protocol::H2 | Protocol::H3, Some(other)) => {
            return Err(Fault::new(Code::NotImplemented).because(format!("the protocol {other:?}")));
        }
    }
    let headers = &mut parts.headers;
    if only(headers, &header::SEC_WEBSOCKET_VERSION) != Some(b"13") {
        return Err(bad("`Sec-WebSocket-Version` is not 13"));
    }
    // What follows the head is the tunnel. A body before it would be one thing to us and another to who comes next.
    let has_body = headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get_all(header::CONTENT_LENGTH).iter().any(|length| length != "0");
    if has_body {
        return Err(bad("a tunnel with a body before it"));
    }
    for name in OF_A_HOP.iter().chain([&header::CONTENT_LENGTH, &header::TE]) {
        headers.remove(name);
    }
    parts.method = Method::GET;
    Ok(Some(Connect::WebSocket))
}

/// Whether an HTTP/1.1 request asks for a WebSocket (RFC 6455, section 4.2.1; RFC 9110, section 7.8: other upgrades, and
/// those of HTTP/1.0, are passed over).
fn is_upgrade(parts: &Parts) -> bool {
    let names = |field: &HeaderName, name: &str| {
        let mut values = parts.headers.get_all(field).iter().filter_map(|value| value.to_str().ok());
        values.any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(name)))
    };
    parts.method == Method::GET
        && parts.version == Version::HTTP_11
        && names(&header::UPGRADE, WEBSOCKET)
        && names(&header::CONNECTION, "upgrade")
}

/// The one value of a field.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    values.next().is_none().then_some(first.as_bytes())
}

/// 16 bytes in base64 (RFC 6455, section 4.1): 22 characters, of which the last leaves 4 bits unused, and `==`.
fn key(headers: &HeaderMap) -> Result<(), Fault> {
    let sound = only(headers, &header::SEC_WEBSOCKET_KEY).is_some_and(|key| {
        let of_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
        key.len() == 24 && key.ends_with(b"==") && key[..22].iter().all(of_base64) && b"AQgw".contains(&key[21])
    });
    if sound { Ok(()) } else { Err(bad("`Sec-WebSocket-Key` is not 16 bytes")) }
}
