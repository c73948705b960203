//! What a request hashes to, where servers are chosen by a hash.

use core::net::IpAddr;

use eyot_bundle::release::upstream::HashBy;
use http::HeaderMap;
use http::header::COOKIE;

use super::balance;

/// What a request of this client, for this path, with these fields hashes to. Where the field or the cookie is not there
/// it is the client's address: all that lack it must not go to one server.
pub fn of(by: &HashBy, client: IpAddr, path: &str, headers: &HeaderMap) -> u64 {
    let found = match by {
        HashBy::Client => None,
        HashBy::Cookie(name) => cookie(headers, name),
        HashBy::Header(name) => headers.get(name).map(|value| balance::key(value.as_bytes())),
        HashBy::Path => Some(balance::key(path.as_bytes())),
    };
    found.unwrap_or_else(|| balance::key(client.to_canonical().to_string().as_bytes()))
}

/// The first cookie of this name (RFC 6265, section 5.4).
fn cookie(headers: &HeaderMap, name: &str) -> Option<u64> {
    let fields = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = fields.flat_map(|field| field.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| balance::key(value.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One field, or none.
    fn map(line: &str) -> HeaderMap {
        let field = line.split_once(": ").map(|(name, value)| {
            (name.parse::<http::HeaderName>().expect("a name"), value.parse::<http::HeaderValue>().expect("a value"))
        });
        field.into_iter().collect()
    }

    #[test]
    fn requests_hash_to_the_same_by_what_is_said_and_by_nothing_else() {
        let (one, other) = ("203.0.113.7", "203.0.113.8");
        for (by, a, b, same) in [
            ("client", (one, "/a", "x: 1"), (one, "/b", "x: 2"), true),
            ("client", (one, "/a", ""), (other, "/a", ""), false),
            ("client", (one, "/a", ""), ("::ffff:203.0.113.7", "/a", ""), true),
            ("path", (one, "/a", ""), (other, "/a", "x: 1"), true),
            ("path", (one, "/a", ""), (one, "/b", ""), false),
            ("header:x", (one, "/a", "x: 1"), (other, "/b", "x: 1"), true),
            ("header:x", (one, "/a", "x: 1"), (one, "/a", "x: 2"), false),
            ("header:x", (one, "/a", ""), (other, "/a", ""), false),
            ("cookie:uid", (one, "/a", "cookie: a=b; uid=1"), (other, "/b", "cookie: uid=1"), true),
            ("cookie:uid", (one, "/a", "cookie: uid=1"), (one, "/a", "cookie: uid=2"), false),
            ("cookie:uid", (one, "/a", "cookie: xuid=1"), (one, "/a", "cookie: xuid=2"), true),
        ] {
            let by = by.parse().expect("a way to hash");
            let hash = |(client, path, fields): (&str, &str, &str)| {
                of(&by, client.parse().expect("an address"), path, &map(fields))
            };
            assert_eq!(hash(a) == hash(b), same, "{by}: {a:?} {b:?}");
        }
    }
}
