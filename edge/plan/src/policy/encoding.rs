//! Which encoding a request likes best (RFC 9110, section 12.5.3).

use eyot_bundle::files::Encoding;
use http::HeaderMap;
use http::header::ACCEPT_ENCODING;

/// The encoding of `offered` (the preferred first) that the request likes best; of those it likes the same, the first. An
/// answer as it is, is always offered, whether it is liked or not: better what is not liked than nothing.
pub fn chosen(headers: &HeaderMap, offered: impl DoubleEndedIterator<Item = Encoding>) -> Encoding {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let said: Vec<_> = values.flat_map(|value| value.split(',')).filter_map(coding).collect();
    let offered = offered.filter(|encoding| *encoding != Encoding::Identity);
    // Of equals the last is taken, and the first is preferred.
    let all = [Encoding::Identity].into_iter().chain(offered.rev());
    let best = all.map(|encoding| (liked(&said, encoding), encoding)).filter(|(liked, _)| *liked > 0);
    best.max_by_key(|(liked, _)| *liked).map_or(Encoding::Identity, |(_, encoding)| encoding)
}

/// How an encoding is liked, by what was said.
fn liked(said: &[(String, u16)], encoding: Encoding) -> u16 {
    let named = |wanted: &str| said.iter().filter(|(name, _)| name == wanted).map(|(_, liked)| *liked).max();
    let gzip = || if encoding == Encoding::Gzip { named("x-gzip") } else { None };
    let any = || if encoding == Encoding::Identity { named("*").filter(|it| *it == 0) } else { named("*") };
    // What is not said of the answer as it is: it may come, and whatever else may come is better.
    let unsaid = if encoding == Encoding::Identity { Some(1) } else { None };
    named(encoding.label()).or_else(gzip).or_else(any).or(unsaid).unwrap_or(0)
}

/// A coding in lower case, and how it is liked: 0, or 2 to 1001.
fn coding(text: &str) -> Option<(String, u16)> {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().filter(|name| !name.is_empty())?.to_ascii_lowercase();
    let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    let thousandths = match weight {
        None => 1000,
        Some(weight) => thousandths(weight)?,
    };
    Some((name, if thousandths == 0 { 0 } else { thousandths + 1 }))
}

/// A weight: `0`, `0.25`, `1.000` (RFC 9110, section 12.4.2).
pub(crate) fn thousandths(text: &str) -> Option<u16> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    let digits = rest.len() <= 3 && rest.bytes().all(|byte| byte.is_ascii_digit());
    let rest: u16 = format!("{rest:0<3}").parse().ok()?;
    match whole {
        "0" if digits => Some(rest),
        "1" if digits && rest == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use Encoding::{Br, Gzip, Identity, Zstd};
    use proptest::prelude::*;

    use super::super::tests::map;
    use super::*;

    #[test]
    fn the_encoding_is_the_one_the_request_likes_best_of_those_that_are_offered() {
        let all = &[Br, Zstd, Gzip][..];
        for (accept, offered, expect) in [
            ("", all, Identity),
            ("gzip, deflate, br, zstd", all, Br),
            ("gzip, deflate, br, zstd", &[Zstd, Gzip], Zstd),
            ("gzip, deflate, br, zstd", &[Gzip, Zstd, Br], Gzip),
            ("gzip, deflate, br", &[Zstd], Identity),
            ("br;q=0.5, gzip", all, Gzip),
            ("br;q=0.5, gzip;q=0.501", all, Gzip),
            ("br;q=0, gzip;q=0.000", all, Identity),
            ("*", all, Br),
            ("*;q=0.1, br;q=0", all, Zstd),
            ("*;q=0", all, Identity),
            ("identity, gzip;q=0.5", all, Identity),
            ("identity;q=0", all, Identity),
            ("identity;q=1, br;q=1", all, Br),
            ("x-gzip", all, Gzip),
            ("br;q=2, gzip;q=0.1", all, Gzip),
        ] {
            let found = chosen(&map(&[("accept-encoding", accept)]), offered.iter().copied());
            assert_eq!(found, expect, "{accept} {offered:?}");
        }
        assert_eq!(chosen(&HeaderMap::new(), all.iter().copied()), Identity, "nothing is asked for");
    }

    proptest! {
        #[test]
        fn what_was_not_asked_for_is_never_sent(accept in "((br|zstd|gzip|identity|\\*|x)(;q=(0|1|0\\.[0-9]{1,3}))?(, ?)?){0,5}") {
            let found = chosen(&map(&[("accept-encoding", &accept)]), [Br, Zstd, Gzip].into_iter());
            let named = accept.contains(found.label()) || accept.contains('*');
            prop_assert!(found == Identity || named, "{} got {:?}", accept, found);
        }
    }
}
