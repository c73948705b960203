//! Answers that are larger than what is kept in one piece: their head is kept by itself, and their body in slices that are
//! asked for as ranges (RFC 9110, section 14). All slices are of one representation, by its strong validator (section
//! 8.8.1): what says that it is of another one ends the reading.

use http::header::{ACCEPT_RANGES, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue};
use http::{Method, StatusCode};

use super::kept::Kept;
use super::key;

/// A slice has so many bytes at most.
pub const SLICE_BYTES_MAX: u64 = 1 << 20;
/// A slice has so many bytes at least, but for the last one.
pub const SLICE_BYTES_MIN: u64 = 64 << 10;

/// How the body of an answer is kept in slices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slices {
    /// The length of the whole, in bytes.
    pub length: u64,
    /// The length of a slice but the last, in bytes.
    pub size: u64,
    /// The strong validator of the whole.
    pub tag: HeaderValue,
}

impl Slices {
    /// How the answer to a request of `method` is kept that has `length` bytes, where at most `most` are kept in one piece.
    /// None: it is not kept in slices.
    pub fn of(method: &Method, kept: &Kept, length: Option<u64>, most: u64) -> Option<Self> {
        let length = length.filter(|length| *length > most)?;
        let size = SLICE_BYTES_MAX.min(1 << most.checked_ilog2()?);
        let tag = kept.headers.get(ETAG).filter(|tag| tag.as_bytes().starts_with(b"\""))?.clone();
        let is_kept = *method == Method::GET && kept.status == StatusCode::OK && takes_ranges(&kept.headers);
        (is_kept && size >= SLICE_BYTES_MIN).then_some(Self { length, size, tag })
    }

    /// The slice that has the byte at `at`.
    pub fn number(&self, at: u64) -> u64 {
        at / self.size
    }

    /// Where a slice begins, and before where it ends.
    pub fn bounds(&self, number: u64) -> (u64, u64) {
        let from = number.saturating_mul(self.size).min(self.length);
        (from, from.saturating_add(self.size).min(self.length))
    }

    /// The value of `Range` that asks for a slice (section 14.1.2).
    pub fn range(&self, number: u64) -> HeaderValue {
        let (from, to) = self.bounds(number);
        HeaderValue::try_from(format!("bytes={from}-{}", to.saturating_sub(1))).expect("digits")
    }

    /// Whether an answer is this slice, and of the same whole (section 15.3.7): exactly the range that was asked for, of as
    /// many bytes in all, with the same validator.
    pub fn is(&self, number: u64, status: StatusCode, headers: &HeaderMap) -> bool {
        let (from, to) = self.bounds(number);
        let range = format!("bytes {from}-{}/{}", to.saturating_sub(1), self.length);
        let says = |name, value: &[u8]| headers.get(name).is_some_and(|said: &HeaderValue| said.as_bytes() == value);
        status == StatusCode::PARTIAL_CONTENT
            && says(CONTENT_RANGE, range.as_bytes())
            && says(ETAG, self.tag.as_bytes())
    }

    /// The key of a slice of what is kept as `kept` under `id`.
    pub fn key(&self, id: u128, kept: &Kept, number: u64) -> u128 {
        let selected = kept.selected.iter().flat_map(|(name, value)| [Some(name.as_str()), value.as_deref()]);
        key::id(&key::slice(id, self.tag.as_bytes(), selected, [self.length, self.size, number]))
    }
}

/// Whether ranges of bytes are taken (section 14.3).
fn takes_ranges(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_RANGES).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|unit| unit.trim().eq_ignore_ascii_case("bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{Asking, Rules};

    fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| ((*name).parse().expect("a name"), value.parse().expect("a value"))).collect()
    }

    fn kept(lines: &[(&'static str, &str)]) -> Kept {
        let (method, uri, request) = (Method::GET, "https://a.example/".parse().expect("a URL"), HeaderMap::new());
        let asking = Asking { method: &method, uri: &uri, headers: &request };
        Kept::of(&asking, StatusCode::OK, &fields(lines), (0, 0), &Rules::default()).expect("kept")
    }

    const GOOD: [(&str, &str); 3] = [("cache-control", "max-age=9"), ("etag", "\"1\""), ("accept-ranges", "bytes")];

    #[test]
    fn what_is_too_large_is_sliced_where_its_server_takes_ranges_and_has_a_strong_validator() {
        let most = 5 << 20;
        let of = |lines: &[(&'static str, &str)], length| Slices::of(&Method::GET, &kept(lines), length, most);
        let sliced = of(&GOOD, Some(most + 1)).expect("slices");
        assert_eq!((sliced.length, sliced.size, &sliced.tag), (most + 1, 1 << 20, &HeaderValue::from_static("\"1\"")));
        for (lines, length) in [
            (&GOOD[..], Some(most)),
            (&GOOD, None),
            (&GOOD[..2], Some(most + 1)),
            (&[GOOD[0], GOOD[2]], Some(most + 1)),
            (&[GOOD[0], ("etag", "W/\"1\""), GOOD[2]], Some(most + 1)),
            (&[GOOD[0], GOOD[1], ("accept-ranges", "none")], Some(most + 1)),
        ] {
            assert_eq!(of(lines, length), None, "{lines:?} {length:?}");
        }
        assert_eq!(Slices::of(&Method::POST, &kept(&GOOD), Some(most + 1), most), None);
        for (most, size) in [
            (1 << 20, Some(1 << 20)),
            (100_000, Some(65_536)),
            (65_535, None),
            (0, None),
            (u64::MAX - 1, Some(1 << 20)),
        ] {
            let sliced = Slices::of(&Method::GET, &kept(&GOOD), Some(u64::MAX), most);
            assert_eq!(sliced.map(|sliced| sliced.size), size, "{most}");
        }
    }

    #[test]
    fn slices_cover_the_whole_and_each_is_only_what_was_asked_for() {
        let sliced = Slices { length: 250, size: 100, tag: HeaderValue::from_static("\"1\"") };
        assert_eq!([0, 1, 2, 3].map(|number| sliced.bounds(number)), [(0, 100), (100, 200), (200, 250), (250, 250)]);
        assert_eq!([0, 99, 100, 249].map(|at| sliced.number(at)), [0, 0, 1, 2]);
        assert_eq!(sliced.range(2), "bytes=200-249");
        assert_eq!(Slices { length: u64::MAX, size: 1 << 20, ..sliced.clone() }.bounds(u64::MAX).1, u64::MAX);
        let (part, good) = (StatusCode::PARTIAL_CONTENT, [("content-range", "bytes 200-249/250"), ("etag", "\"1\"")]);
        assert!(sliced.is(2, part, &fields(&good)));
        assert!(!sliced.is(1, part, &fields(&good)) && !sliced.is(2, StatusCode::OK, &fields(&good)));
        for bad in [
            [("content-range", "bytes 200-249/251"), good[1]],
            [("content-range", "bytes 200-248/250"), good[1]],
            [("content-range", "bytes 200-249/*"), good[1]],
            [("x", "y"), good[1]],
            [good[0], ("etag", "\"2\"")],
            [good[0], ("etag", "W/\"1\"")],
            [good[0], ("x", "y")],
        ] {
            assert!(!sliced.is(2, part, &fields(&bad)), "{bad:?}");
        }
    }

    #[test]
    fn each_slice_of_each_version_of_each_answer_has_a_key_of_its_own() {
        let sliced = Slices { length: 250, size: 100, tag: HeaderValue::from_static("\"1\"") };
        let other = Slices { tag: HeaderValue::from_static("\"2\""), ..sliced.clone() };
        let (plain, mut varied) = (kept(&GOOD), kept(&GOOD));
        varied.selected.push((http::header::ACCEPT, Some("a".into())));
        let mut none = varied.clone();
        none.selected[0].1 = None;
        let keys = [
            sliced.key(7, &plain, 0),
            sliced.key(7, &plain, 1),
            sliced.key(8, &plain, 0),
            sliced.key(7, &varied, 0),
            sliced.key(7, &none, 0),
            other.key(7, &plain, 0),
            Slices { size: 50, ..sliced.clone() }.key(7, &plain, 0),
        ];
        let all: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(all.len(), keys.len());
    }
}
