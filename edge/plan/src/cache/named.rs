//! What functions keep by names of their own: which names there are, and how such an object stands among kept answers. It
//! is in no HTTP; its times and keys are those that its maker says.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::Kept;
use super::life::Life;
use super::vary::Selected;

/// A name has so many bytes at most: with what stands before it, it is a surrogate key.
pub const NAME_BYTES_MAX: usize = 240;
/// What a maker says of an object beside its body has so many bytes at most.
pub const METADATA_BYTES_MAX: usize = 4096;
/// An object is kept at most a year, fresh and stale together, in milliseconds.
pub const KEEP_MS_MAX: u64 = 366 * 86_400_000;

/// Where its metadata stands: a field that no answer has, for it is taken off all.
const METADATA: HeaderName = HeaderName::from_static("eyot-metadata");

/// Whether something may be kept by this name: a surrogate key may be made of it.
pub fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// The surrogate key that an object has by its name.
pub fn tag(name: &str) -> String {
    format!("object:{name}")
}

/// How long an object is good for, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Fresh.
    pub fresh_ms: u64,
    /// After that, while it is made anew.
    pub stale_ms: u64,
}

/// An object that is made now, of `length` bytes if that is known. None: it is kept for too long, or too much is said of it.
pub fn kept(times: Times, metadata: &[u8], length: Option<u64>, now_ms: u64) -> Option<Kept> {
    let all_ms = times.fresh_ms.checked_add(times.stale_ms)?;
    if all_ms > KEEP_MS_MAX || metadata.len() > METADATA_BYTES_MAX {
        return None;
    }
    let mut headers = HeaderMap::new();
    if !metadata.is_empty() {
        headers.insert(METADATA, HeaderValue::try_from(BASE64_STANDARD.encode(metadata)).ok()?);
    }
    headers.extend(length.map(|length| (CONTENT_LENGTH, HeaderValue::from(length))));
    let life = Life {
        answered_ms: now_ms,
        initial_age_ms: 0,
        fresh_ms: times.fresh_ms,
        stale_while_ms: times.stale_ms,
        stale_error_ms: Some(0),
        strict: false,
        no_cache: false,
    };
    Some(Kept { status: StatusCode::OK, headers, selected: Selected::default(), life })
}

/// What its maker said of an object.
pub fn metadata(kept: &Kept) -> Vec<u8> {
    let said = kept.headers.get(METADATA);
    said.and_then(|said| BASE64_STANDARD.decode(said.as_bytes()).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::key;
    use crate::cache::life::Use;

    #[test]
    fn a_name_is_what_a_surrogate_key_may_be_made_of() {
        let (long, longer) = ("n".repeat(NAME_BYTES_MAX), "n".repeat(NAME_BYTES_MAX + 1));
        for (name, good) in [
            ("a", true),
            ("price/7?currency=EUR", true),
            ("é", true),
            (&*long, true),
            (&*longer, false),
            ("", false),
            ("a b", false),
            ("a\n", false),
            ("a\u{7f}", false),
            ("a\u{2003}b", false),
        ] {
            assert_eq!(is_name(name), good, "{name:?}");
        }
    }

    #[test]
    fn what_is_said_of_an_object_is_found_with_it_and_its_times_are_those_that_are_said() {
        let all: Vec<u8> = (0..=255).collect();
        let kept = kept(Times { fresh_ms: 1000, stale_ms: 500 }, &all, None, 7_000).expect("an object");
        assert_eq!(metadata(&kept), all);
        for (now_ms, good) in [
            (7_000, Use::Fresh),
            (7_999, Use::Fresh),
            (8_000, Use::StaleWhile),
            (8_499, Use::StaleWhile),
            (8_500, Use::Ask),
        ] {
            assert_eq!(kept.life.judge(None, false, now_ms), good, "{now_ms}");
        }
        assert_eq!(kept.life.over_ms(), 8_500);
    }

    #[test]
    fn what_is_kept_for_too_long_or_with_too_much_said_of_it_is_refused() {
        let times = |fresh_ms, stale_ms| Times { fresh_ms, stale_ms };
        assert!(kept(times(KEEP_MS_MAX, 0), &[0; METADATA_BYTES_MAX], None, 0).is_some());
        assert!(kept(times(KEEP_MS_MAX, 1), b"", None, 0).is_none());
        assert!(kept(times(u64::MAX, u64::MAX), b"", None, 0).is_none());
        assert!(kept(times(1, 1), &[0; METADATA_BYTES_MAX + 1], None, 0).is_none());
        assert!(metadata(&kept(times(1, 1), b"", None, 0).expect("an object")).is_empty());
    }

    #[test]
    fn each_app_environment_and_name_has_a_key_of_its_own_that_no_request_has() {
        let request = key::bytes(
            &key::Place { app: "a", environment: "production", class: key::Class::Route, maker: "" },
            &"https://n/".parse().expect("a URL"),
            &HeaderMap::new(),
            &key::Rules::default(),
        );
        let keys = [
            key::named("a", "production", "n"),
            key::named("b", "production", "n"),
            key::named("a", "preview", "n"),
            key::named("a", "production", "m"),
            key::named("a", "production", "https://n/"),
            request,
        ];
        let all: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(all.len(), keys.len());
    }
}
