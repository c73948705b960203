//! Paths that some readers take for others. A path is normalised before a route is looked up (`request::path`), but who is
//! asked in the end may read more into it: an escaped slash, a doubled one, a parameter behind `;`. A request must not come
//! by such a reading to what another route guards.

/// The plainest reading of a path, as the most lenient of readers would have it: all escapes decoded, and those inside them,
/// without parameters (RFC 3986, section 3.3), doubled slashes and dot segments. None where a path has nothing of the kind.
pub fn plainest(path: &str) -> Option<String> {
    let is_plain = !path.contains(['%', ';', '\\']) && !path.contains("//");
    if is_plain {
        return None;
    }
    let text = String::from_utf8_lossy(&decoded(path.as_bytes().to_vec())).replace('\\', "/");
    let mut out: Vec<&str> = Vec::new();
    for segment in text.split('/').map(|segment| segment.split(';').next().unwrap_or_default()) {
        match segment {
            "" | "." => {}
            ".." => drop(out.pop()),
            _ => out.push(segment),
        }
    }
    Some(format!("/{}", out.join("/")))
}

/// How often escapes of escapes are decoded: more is nobody's reading.
const ROUNDS: usize = 3;

fn decoded(mut bytes: Vec<u8>) -> Vec<u8> {
    for _ in 0..ROUNDS {
        if !bytes.contains(&b'%') {
            break;
        }
        bytes = once(&bytes);
    }
    bytes
}

fn once(bytes: &[u8]) -> Vec<u8> {
    let digit = |at: usize| char::from(*bytes.get(at)?).to_digit(16);
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escaped = digit(at + 1).zip(digit(at + 2)).filter(|_| *byte == b'%');
        match escaped.and_then(|(high, low)| u8::try_from(high * 16 + low).ok()) {
            Some(decoded) => {
                out.push(decoded);
                at += 3;
            }
            None => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_lenient_readers_make_of_a_path_is_known() {
        for (path, expect) in [
            ("/closed/a", None),
            ("/", None),
            ("/a.b/c-d_e~f", None),
            ("//closed/a", Some("/closed/a")),
            ("/closed//a/", Some("/closed/a")),
            ("/closed%2Fa", Some("/closed/a")),
            ("/closed%5Ca", Some("/closed/a")),
            ("/open/..%2Fclosed/a", Some("/closed/a")),
            ("/open%2F..%2Fclosed", Some("/closed")),
            ("/open/%252e%252e/closed", Some("/closed")),
            ("/open/%25252e%25252e/closed", Some("/closed")),
            ("/closed;x=y/a", Some("/closed/a")),
            ("/closed%3Bx/a", Some("/closed/a")),
            ("/open/..;/closed/a", Some("/closed/a")),
            ("/;/closed", Some("/closed")),
            ("/%2e%2e/%2e%2e", Some("/")),
            ("/a%20b", Some("/a b")),
            ("/100%", Some("/100%")),
            ("/%zz;", Some("/%zz")),
            ("/%C3%28", Some("/\u{fffd}(")),
        ] {
            assert_eq!(plainest(path).as_deref(), expect, "{path}");
        }
    }

    proptest! {
        #[test]
        fn the_plainest_reading_has_nothing_left_to_be_read(path in "(/|//|[a-c]|\\.\\.?|%2[eEfF]|%5c|%3b|;|%25){0,12}") {
            let path = format!("/{path}");
            let Some(plain) = plainest(&path) else { return Ok(()) };
            prop_assert!(plain.starts_with('/') && !plain.contains("//") && !plain.contains(['\\', ';']), "{}", plain);
            let dots = plain.split('/').any(|segment| matches!(segment, "." | ".."));
            prop_assert!(!dots, "{} is {}", path, plain);
        }
    }
}
