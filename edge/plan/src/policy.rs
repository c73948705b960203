//! What a route asks of requests and does to answers, whoever the target is: a file a topic. It reads what
//! `eyot_bundle::verify` has found good.

pub mod access;
pub mod auth;
pub mod compress;
pub mod cors;
pub mod disguise;
pub mod encoding;
pub mod fields;
pub mod rate;
pub mod rewrite;
pub mod security;

use http::header::VARY;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Says of an answer that it would have been another with another field `name` (RFC 9110, section 12.5.5).
pub fn varies_by(headers: &mut HeaderMap, name: &HeaderName) {
    let said = headers.get_all(VARY).iter().filter_map(|value| value.to_str().ok());
    let known = |one: &str| one == "*" || one.eq_ignore_ascii_case(name.as_str());
    if !said.flat_map(|value| value.split(',')).any(|one| known(one.trim())) {
        headers.append(VARY, HeaderValue::from_name(name.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields, from names and values.
    pub(super) fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::try_from(*name).expect("a name"), value.parse().expect("a value"));
        }
        headers
    }

    #[test]
    fn what_an_answer_varies_by_is_said_once() {
        for (said, expect) in [
            (&[][..], &[("vary", "origin")][..]),
            (&[("vary", "accept")], &[("vary", "accept"), ("vary", "origin")]),
            (&[("vary", "accept, Origin")], &[("vary", "accept, Origin")]),
            (&[("vary", "*")], &[("vary", "*")]),
            (&[("vary", "x-origin")], &[("vary", "x-origin"), ("vary", "origin")]),
        ] {
            let mut headers = map(said);
            varies_by(&mut headers, &http::header::ORIGIN);
            assert_eq!(headers, map(expect));
        }
    }
}
