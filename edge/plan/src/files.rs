//! How a file is answered: which path is meant, in which encoding, whether it is sent at all (RFC 9110, section 13), and
//! which part of it (section 14). It opens no file.

use eyot_bundle::files::Encoding;
use http::HeaderMap;
use http::header::{IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE};

use crate::policy::encoding;

/// What is sent, by what the request says of what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// These bytes, from and to before: 206.
    Part(u64, u64),
    /// Nothing: it is not what the request expects: 412.
    PreconditionFailed,
    /// Nothing: who asks has it: 304.
    NotModified,
    /// Nothing: there are no such bytes: 416.
    Unsatisfiable,
    /// All of it: 200.
    Whole,
}

/// The path within a folder that the path of a URL means; none for what names no file: an escape that is none, and what
/// some reader could take for another path.
pub fn path(raw: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
        let decoded = u8::try_from(digit()? * 16 + digit()?).ok()?;
        // An escaped slash would make a path of another depth.
        if decoded == b'/' {
            return None;
        }
        bytes.push(decoded);
    }
    let path = String::from_utf8(bytes).ok()?;
    let plain = |segment: &str| segment != "." && segment != "..";
    let legal = path.split('/').all(plain) && !path.chars().any(|char| char.is_control() || char == '\\');
    legal.then_some(path)
}

/// The encoding, of those that a file `has`, that the request likes best; of those it likes the same, the one that is
/// smallest by rule.
pub fn encoding(headers: &HeaderMap, has: impl Fn(Encoding) -> bool) -> Encoding {
    encoding::chosen(headers, Encoding::ALL.into_iter().filter(|encoding| has(*encoding)))
}

/// What is sent of `length` bytes with this strong entity tag (with its quotes) for a GET or HEAD. A file has no time of its
/// own, so dates are never compared.
pub fn sent(headers: &HeaderMap, tag: &str, length: u64) -> Sent {
    if headers.contains_key(IF_MATCH) && !names(headers, &IF_MATCH, tag, false) {
        return Sent::PreconditionFailed;
    }
    if names(headers, &IF_NONE_MATCH, tag, true) {
        return Sent::NotModified;
    }
    let mut ranges = headers.get_all(RANGE).iter();
    let (Some(range), None) = (ranges.next().and_then(|range| range.to_str().ok()), ranges.next()) else {
        return Sent::Whole;
    };
    match headers.get(IF_RANGE) {
        Some(one) if one.as_bytes() != tag.as_bytes() => Sent::Whole,
        _ => self::range(range, length),
    }
}

/// Whether a list of entity tags names this one, or all; `weakly` where `W/` does not matter (RFC 9110, section 8.8.3.2).
fn names(headers: &HeaderMap, field: &http::HeaderName, tag: &str, weakly: bool) -> bool {
    let values = headers.get_all(field).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).any(|one| {
        let one = if weakly { one.strip_prefix("W/").unwrap_or(one) } else { one };
        one == "*" || one == tag
    })
}

/// What a `Range` asks for. One range is sent alone; of several, and of what is no range of bytes, all is.
pub(crate) fn range(text: &str, length: u64) -> Sent {
    let Some(range) = text.strip_prefix("bytes=").map(str::trim).filter(|range| !range.contains(',')) else {
        return Sent::Whole;
    };
    let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true if text.is_empty() => Some(None),
        // Beyond what can be counted is beyond the end.
        true => Some(Some(text.parse().unwrap_or(u64::MAX))),
        false => None,
    };
    let Some((first, last)) = range.split_once('-') else { return Sent::Whole };
    let (begin, end) = match (number(first), number(last)) {
        (Some(Some(first)), Some(None)) => (first, length),
        (Some(Some(first)), Some(Some(last))) if first <= last => (first, last.saturating_add(1).min(length)),
        (Some(None), Some(Some(last))) => (length.saturating_sub(last), length),
        _ => return Sent::Whole,
    };
    if begin < end { Sent::Part(begin, end) } else { Sent::Unsatisfiable }
}

#[cfg(test)]
mod tests;
