//! Lines of HTTP/1.1, read so strictly that no one can read them otherwise: CRLF ends them, nothing folds, no space
//! stands before a colon (RFC 9112, sections 2.2, 5 and 5.1).

/// What is wrong with a line, in a few words.
pub(super) type Wrong = &'static str;

/// Finds the end of the line that starts at `from`; looking begins at `searched`, before which no LF is. The line
/// without its CRLF, or `None` when it is not there yet.
pub(super) fn line(bytes: &[u8], from: usize, searched: usize) -> Result<Option<&[u8]>, Wrong> {
    let Some(found) = bytes[searched..].iter().position(|byte| *byte == b'\n') else { return Ok(None) };
    let line = bytes[from..searched + found].strip_suffix(b"\r").ok_or("a line that ends without CR")?;
    if line.contains(&b'\r') {
        return Err("a CR inside a line");
    }
    Ok(Some(line))
}

/// Splits `name: value`. The value has no white space around it.
pub(super) fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Wrong> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err("a folded line");
    }
    let colon = line.iter().position(|byte| *byte == b':').ok_or("a line without a colon")?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        return Err("a field name that is no token");
    }
    if !value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..)) {
        return Err("a control character in a field");
    }
    Ok((name, value.trim_ascii()))
}

/// RFC 9110, section 5.6.2.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_a_token_a_colon_and_text() {
        assert_eq!(field(b"Host:a.b"), Ok((&b"Host"[..], &b"a.b"[..])));
        assert_eq!(field(b"x: \t a b \t"), Ok((&b"x"[..], &b"a b"[..])));
        assert_eq!(field(b"x:"), Ok((&b"x"[..], &b""[..])));
        for bad in [
            &b"x"[..],
            b":y",
            b"x :y",
            b" x:y",
            b"\tx:y",
            b"x\t:y",
            b"x y:z",
            b"x\x00:y",
            b"x:\x00",
            b"x:\x7f",
            b"x:\x0b",
            b"\xc3\xa4:y",
            b"(x):y",
        ] {
            assert!(field(bad).is_err(), "{}", bad.escape_ascii());
        }
    }
}
