//! QPACK's static table (RFC 9204, appendix A).

/// Name and value of each entry, by index.
pub static ENTRIES: [(&str, &str); 99] = [
    (":authority", ""),
    (":path", "/"),
    ("age", "0"),
    ("content-disposition", ""),
    ("content-length", "0"),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("referer", ""),
    ("set-cookie", ""),
    (":method", "CONNECT"),
    (":method", "DELETE"),
    (":method", "GET"),
    (":method", "HEAD"),
    (":method", "OPTIONS"),
    (":method", "POST"),
    (":method", "PUT"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "103"),
    (":status", "200"),
    (":status", "304"),
    (":status", "404"),
    (":status", "503"),
    ("accept", "*/*"),
    ("accept", "application/dns-message"),
    ("accept-encoding", "gzip, deflate, br"),
    ("accept-ranges", "bytes"),
    ("access-control-allow-headers", "cache-control"),
    ("access-control-allow-headers", "content-type"),
    ("access-control-allow-origin", "*"),
    ("cache-control", "max-age=0"),
    ("cache-control", "max-age=2592000"),
    ("cache-control", "max-age=604800"),
    ("cache-control", "no-cache"),
    ("cache-control", "no-store"),
    ("cache-control", "public, max-age=31536000"),
    ("content-encoding", "br"),
    ("content-encoding", "gzip"),
    ("content-type", "application/dns-message"),
    ("content-type", "application/javascript"),
    ("content-type", "application/json"),
    ("content-type", "application/x-www-form-urlencoded"),
    ("content-type", "image/gif"),
    ("content-type", "image/jpeg"),
    ("content-type", "image/png"),
    ("content-type", "text/css"),
    ("content-type", "text/html; charset=utf-8"),
    ("content-type", "text/plain"),
    ("content-type", "text/plain;charset=utf-8"),
    ("range", "bytes=0-"),
    ("strict-transport-security", "max-age=31536000"),
    ("strict-transport-security", "max-age=31536000; includesubdomains"),
    ("strict-transport-security", "max-age=31536000; includesubdomains; preload"),
    ("vary", "accept-encoding"),
    ("vary", "origin"),
    ("x-content-type-options", "nosniff"),
    ("x-xss-protection", "1; mode=block"),
    (":status", "100"),
    (":status", "204"),
    (":status", "206"),
    (":status", "302"),
    (":status", "400"),
    (":status", "403"),
    (":status", "421"),
    (":status", "425"),
    (":status", "500"),
    ("accept-language", ""),
    ("access-control-allow-credentials", "FALSE"),
    ("access-control-allow-credentials", "TRUE"),
    ("access-control-allow-headers", "*"),
    ("access-control-allow-methods", "get"),
    ("access-control-allow-methods", "get, post, options"),
    ("access-control-allow-methods", "options"),
    ("access-control-expose-headers", "content-length"),
    ("access-control-request-headers", "content-type"),
    ("access-control-request-method", "get"),
    ("access-control-request-method", "post"),
    ("alt-svc", "clear"),
    ("authorization", ""),
    ("content-security-policy", "script-src 'none'; object-src 'none'; base-uri 'none'"),
    ("early-data", "1"),
    ("expect-ct", ""),
    ("forwarded", ""),
    ("if-range", ""),
    ("origin", ""),
    ("purpose", "prefetch"),
    ("server", ""),
    ("timing-allow-origin", "*"),
    ("upgrade-insecure-requests", "1"),
    ("user-agent", ""),
    ("x-forwarded-for", ""),
    ("x-frame-options", "deny"),
    ("x-frame-options", "sameorigin"),
];

/// The entry at `index`.
pub fn entry(index: u64) -> Option<(&'static str, &'static str)> {
    ENTRIES.get(usize::try_from(index).ok()?).copied()
}

/// What the table has for a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Name and value.
    Field(u64),
    /// The name, with other values.
    Name(u64),
}

/// Looks up a field.
pub fn find(name: &str, value: &[u8]) -> Option<Found> {
    let (first, count) = named(name)?;
    let runs = [(first, count), more(name)];
    let same = runs.into_iter().flat_map(|(first, count)| first..first + count);
    for index in same {
        if entry(index).is_some_and(|(_, known)| known.as_bytes() == value) {
            return Some(Found::Field(index));
        }
    }
    Some(Found::Name(first))
}

/// The first run of entries with this name: index and count.
fn named(name: &str) -> Option<(u64, u64)> {
    Some(match name {
        ":authority" => (0, 1),
        ":path" => (1, 1),
        ":method" => (15, 7),
        ":scheme" => (22, 2),
        ":status" => (24, 5),
        "accept" => (29, 2),
        "accept-encoding" => (31, 1),
        "accept-language" => (72, 1),
        "accept-ranges" => (32, 1),
        "access-control-allow-credentials" => (73, 2),
        "access-control-allow-headers" => (33, 2),
        "access-control-allow-methods" => (76, 3),
        "access-control-allow-origin" => (35, 1),
        "access-control-expose-headers" => (79, 1),
        "access-control-request-headers" => (80, 1),
        "access-control-request-method" => (81, 2),
        "age" => (2, 1),
        "alt-svc" => (83, 1),
        "authorization" => (84, 1),
        "cache-control" => (36, 6),
        "content-disposition" => (3, 1),
        "content-encoding" => (42, 2),
        "content-length" => (4, 1),
        "content-security-policy" => (85, 1),
        "content-type" => (44, 11),
        "cookie" => (5, 1),
        "date" => (6, 1),
        "early-data" => (86, 1),
        "etag" => (7, 1),
        "expect-ct" => (87, 1),
        "forwarded" => (88, 1),
        "if-modified-since" => (8, 1),
        "if-none-match" => (9, 1),
        "if-range" => (89, 1),
        "last-modified" => (10, 1),
        "link" => (11, 1),
        "location" => (12, 1),
        "origin" => (90, 1),
        "purpose" => (91, 1),
        "range" => (55, 1),
        "referer" => (13, 1),
        "server" => (92, 1),
        "set-cookie" => (14, 1),
        "strict-transport-security" => (56, 3),
        "timing-allow-origin" => (93, 1),
        "upgrade-insecure-requests" => (94, 1),
        "user-agent" => (95, 1),
        "vary" => (59, 2),
        "x-content-type-options" => (61, 1),
        "x-forwarded-for" => (96, 1),
        "x-frame-options" => (97, 2),
        "x-xss-protection" => (62, 1),
        _ => return None,
    })
}

/// The second run of entries with this name, where there is one.
fn more(name: &str) -> (u64, u64) {
    match name {
        ":status" => (63, 9),
        "access-control-allow-headers" => (75, 1),
        _ => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_found_at_its_index() {
        for (index, (name, value)) in (0..).zip(ENTRIES) {
            assert_eq!(find(name, value.as_bytes()), Some(Found::Field(index)), "{name}: {value}");
        }
        assert_eq!(entry(99), None);
        assert_eq!(entry(u64::MAX), None);
    }

    #[test]
    fn a_known_name_with_another_value_gives_the_name() {
        assert_eq!(find(":status", b"418"), Some(Found::Name(24)));
        assert_eq!(find("content-type", b"font/woff2"), Some(Found::Name(44)));
        assert_eq!(find("x-unknown", b""), None);
    }
}
