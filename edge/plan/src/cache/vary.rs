//! Answers that differ by the request's fields (RFC 9111, section 4.1): what is compared, and in which form.

use http::header::{
    ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, CONTENT_LANGUAGE, HeaderMap, HeaderName, VARY,
};

use super::control::split;

/// Fields that an answer may vary by; one that names more is not kept.
pub const FIELDS_MAX: usize = 16;

/// What a kept answer was selected by: the fields that its `Vary` names, each with what its request had there, in the one
/// form that [`normal`] gives it; none: it had none.
pub type Selected = Vec<(HeaderName, Option<Box<str>>)>;

/// An answer that no other request may have: `Vary: *`, too many fields, or something that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unique;

/// Fields that the node makes for each request anew: an answer that differs by one is for one request.
const MADE_HERE: [&str; 5] = ["cdn-loop", "forwarded", "via", "x-forwarded-for", "x-request-id"];
/// Those of them that are in the key of what is kept.
const IN_THE_KEY: [&str; 3] = ["host", "x-forwarded-host", "x-forwarded-proto"];

/// The fields that the answer's `Vary` names and that a request brings, in order and once each.
///
/// # Errors
/// [`Unique`].
pub fn fields(answer: &HeaderMap) -> Result<Vec<HeaderName>, Unique> {
    let mut fields = Vec::new();
    for value in answer.get_all(VARY) {
        for name in value.to_str().map_err(|_| Unique)?.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let name = HeaderName::try_from(name).ok().filter(|_| name != "*").ok_or(Unique)?;
            if MADE_HERE.contains(&name.as_str()) {
                return Err(Unique);
            }
            if !IN_THE_KEY.contains(&name.as_str()) {
                fields.push(name);
            }
        }
    }
    fields.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
    fields.dedup();
    if fields.len() > FIELDS_MAX { Err(Unique) } else { Ok(fields) }
}

/// What `request` has of these fields.
pub fn select(fields: Vec<HeaderName>, request: &HeaderMap) -> Selected {
    fields.into_iter().map(|name| (normal(&name, request).map(String::into_boxed_str), name)).map(swap).collect()
}

fn swap<A, B>((a, b): (A, B)) -> (B, A) {
    (b, a)
}

/// Whether what was selected by `selected` and has these fields answers `request` too.
pub fn matches(selected: &Selected, answer: &HeaderMap, request: &HeaderMap) -> bool {
    selected.iter().all(|(name, value)| {
        let asked = normal(name, request);
        asked.as_deref() == value.as_deref() || (*name == ACCEPT_LANGUAGE && is_its_language(answer, request))
    })
}

/// A field of a request in its one form: its lines joined, no white space around the members of lists (section 4.1). In
/// fields that weigh what is accepted, the order and case of members of one weight mean nothing (RFC 9110, section 12.4.2).
pub fn normal(name: &HeaderName, request: &HeaderMap) -> Option<String> {
    let mut values = request.get_all(name).iter().peekable();
    values.peek()?;
    let lines: Vec<_> = values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    let members = lines.iter().flat_map(|line| split(line));
    if ![ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE].contains(name) {
        return Some(members.collect::<Vec<_>>().join(","));
    }
    let mut weighed: Vec<(u16, String)> = members.map(weigh).collect();
    weighed.sort_unstable_by(|one, other| other.0.cmp(&one.0).then_with(|| one.1.cmp(&other.1)));
    weighed.dedup();
    Some(weighed.into_iter().map(|(weight, member)| format!("{member};q={weight}")).collect::<Vec<_>>().join(","))
}

/// A member in lower case and without spaces, and its weight in thousandths; a weight that is none leaves it as it stands.
fn weigh(member: &str) -> (u16, String) {
    let mut weight = 1000;
    let mut rest = Vec::new();
    for part in member.split(';').map(|part| part.trim().to_ascii_lowercase()) {
        match part.strip_prefix("q=").and_then(crate::policy::encoding::thousandths) {
            Some(thousandths) => weight = thousandths,
            None => rest.push(part),
        }
    }
    (weight, rest.join(";"))
}

/// Whether the language that the request likes best, of all that it names, is the answer's own: what has that language has
/// no better one for it.
fn is_its_language(answer: &HeaderMap, request: &HeaderMap) -> bool {
    let Some(language) = answer.get(CONTENT_LANGUAGE).and_then(|value| value.to_str().ok()) else { return false };
    let language = language.trim().to_ascii_lowercase();
    let values = request.get_all(ACCEPT_LANGUAGE).iter().filter_map(|value| value.to_str().ok());
    let mut weighed: Vec<_> = values.flat_map(split).map(weigh).collect();
    weighed.sort_unstable_by_key(|(weight, _)| std::cmp::Reverse(*weight));
    let mut best = weighed.iter();
    let Some((most, first)) = best.next() else { return false };
    *most > 0 && *first == language && best.next().is_none_or(|(weight, _)| weight < most)
}
