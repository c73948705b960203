//! A path in its one spelling, so that what a route matched is what everyone behind it reads.

/// Normalises a path and its query (RFC 3986, section 6.2.2): escapes of unreserved characters are decoded, the others
/// written in capitals, bytes outside ASCII escaped, dot segments removed. `//` stays: it may mean something. `None`
/// if the path is in that form already.
///
/// # Errors
/// What is wrong, in a few words: no `/` at the start, a `\` (a separator to some), a broken escape, an escaped NUL.
pub(crate) fn normalise(path: &str, query: Option<&str>) -> Result<Option<String>, &'static str> {
    if !path.starts_with('/') {
        return Err("the path does not start with `/`");
    }
    if is_normal(path) && query.is_none_or(str::is_ascii) {
        return Ok(None);
    }
    let mut out = remove_dot_segments(&escapes(path)?);
    if let Some(query) = query {
        out.push('?');
        for byte in query.bytes() {
            push(&mut out, byte, byte.is_ascii());
        }
    }
    Ok(Some(out))
}

/// Whether nothing in the path could need a change: no escape, no `\`, plain ASCII, no segment that starts with a dot.
fn is_normal(path: &str) -> bool {
    let bytes = path.as_bytes();
    bytes.iter().all(|byte| byte.is_ascii() && !matches!(byte, b'%' | b'\\'))
        && !bytes.windows(2).any(|pair| pair == b"/.")
}

/// Each byte as it must be written.
fn escapes(path: &str) -> Result<String, &'static str> {
    let mut out = String::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => return Err("a `\\` in the path"),
            b'%' => {
                let high = bytes.next().and_then(hex).ok_or("a broken escape")?;
                let low = bytes.next().and_then(hex).ok_or("a broken escape")?;
                let decoded = high << 4 | low;
                if decoded == 0 {
                    return Err("an escaped NUL");
                }
                push(&mut out, decoded, is_unreserved(decoded));
            }
            _ => push(&mut out, byte, byte.is_ascii()),
        }
    }
    Ok(out)
}

/// Writes a byte, plain or escaped.
fn push(out: &mut String, byte: u8, plain: bool) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    if plain {
        out.push(char::from(byte));
    } else {
        out.push('%');
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// RFC 3986, section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// RFC 3986, section 5.2.4, for a path that starts with `/`.
fn remove_dot_segments(path: &str) -> String {
    let mut out: Vec<&str> = Vec::new();
    let mut segments = path[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => {
                out.pop();
            }
            _ => {
                out.push(segment);
                continue;
            }
        }
        if last {
            out.push("");
        }
    }
    let mut joined = String::with_capacity(path.len());
    for segment in out {
        joined.push('/');
        joined.push_str(segment);
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_spelling() {
        for (path, expect) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a//b/", "/a//b/"),
            ("//a", "//a"),
            ("/%7euser/%41", "/~user/A"),
            ("/a%2fb", "/a%2Fb"),
            ("/a%5cb", "/a%5Cb"),
            ("/%2e%2e/secret", "/secret"),
            ("/a/%2E%2e/b", "/b"),
            ("/a/./b/.", "/a/b/"),
            ("/a/b/..", "/a/"),
            ("/a/b/../", "/a/"),
            ("/a/b/../c", "/a/c"),
            ("/../../a", "/a"),
            ("/..", "/"),
            ("/.", "/"),
            ("/a//../b", "/a/b"),
            ("/.well-known/x", "/.well-known/x"),
            ("/..a/.b", "/..a/.b"),
            ("/%252e%252e/a", "/%252e%252e/a"),
            ("/\u{e4}", "/%C3%A4"),
            ("/a;b=c@d:e!$&'()*+,=", "/a;b=c@d:e!$&'()*+,="),
        ] {
            let found = normalise(path, None).map(|path_now| path_now.unwrap_or_else(|| path.to_owned()));
            assert_eq!(found, Ok(expect.to_owned()), "{path}");
        }
        let again = |path: &str| normalise(path, None).map(|now| now.unwrap_or_else(|| path.to_owned()));
        for path in ["/a/%2E%2e/b", "/%252e/..//x", "/\u{e4}/./%7e"] {
            let once = again(path).expect("a path of this test");
            assert_eq!(again(&once).as_ref(), Ok(&once), "{path} is stable");
        }
    }

    #[test]
    fn a_query_keeps_its_escapes_and_loses_bytes_outside_ascii() {
        assert_eq!(normalise("/a", Some("b=%7e&c=../..\\")), Ok(None));
        assert_eq!(normalise("/a", Some("\u{e4}=%7e")), Ok(Some("/a?%C3%A4=%7e".to_owned())));
        assert_eq!(normalise("/%41", Some("")), Ok(Some("/A?".to_owned())));
    }

    #[test]
    fn a_hostile_path_is_refused() {
        for path in ["", "a", "*", "/a\\b", "/..\\a", "/%", "/%4", "/%zz", "/%+1", "/a%00b", "/%4\u{e4}"] {
            assert!(normalise(path, None).is_err(), "{path}");
        }
    }
}
