//! Bytes for tests, written without the code under test where that matters.

use bytes::Bytes;

use super::integer;

/// A frame whose length takes two bytes.
pub(crate) fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap() | 0x4000;
    [&[kind][..], &length.to_be_bytes(), payload].concat()
}

/// A field section of literal lines.
pub(crate) fn section(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = vec![0, 0];
    for (name, value) in fields {
        integer::write(name.len(), 3, 0x20, &mut out);
        out.extend_from_slice(name.as_bytes());
        integer::write(value.len(), 7, 0, &mut out);
        out.extend_from_slice(value.as_bytes());
    }
    out
}

/// A HEADERS frame.
pub(crate) fn headers(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(1, &section(fields))
}

/// A good request's pseudo-header fields.
pub(crate) const REQUEST: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "https"), (":authority", "a.example"), (":path", "/")];

/// `input`, cut at places that `cuts` chooses.
pub(crate) fn cut(input: &[u8], cuts: &[usize]) -> Vec<Bytes> {
    let mut rest = Bytes::copy_from_slice(input);
    let mut parts = Vec::new();
    for cut in cuts {
        if rest.is_empty() {
            break;
        }
        parts.push(rest.split_to(1 + cut % rest.len()));
    }
    parts.push(rest);
    parts.retain(|part| !part.is_empty());
    parts
}
