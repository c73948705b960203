//! Whether an answer is compressed on its way, and what is said of it then (RFC 9110, section 8.4). Never what is compressed
//! already, a part of something, what its sender wants as it is, and what gains nothing.

use eyot_bundle::files::{Encoding, media};
use eyot_bundle::release::policy::Compress;
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, RANGE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::{encoding, varies_by};

/// Digests of the content or of the representation: another encoding has others (RFC 9530, section 2).
const DIGESTS: [&str; 4] = ["content-digest", "repr-digest", "digest", "content-md5"];

/// What a request says of how it wants its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// The encoding it likes best of those that the route offers; none: the answer as it is.
    encoding: Option<Encoding>,
    /// It wants the head alone.
    pub head: bool,
    /// It wants a part, or no change on the way.
    whole: bool,
    /// The entity tags that it has and that were made weak.
    weak: Vec<HeaderValue>,
}

/// What becomes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is sent in this encoding.
    Encoded(Encoding),
    /// It is sent as it is.
    Plain,
    /// It is sent as it is, and would have been encoded for others.
    Varies,
    /// It says that what was encoded once is still good.
    Weakened,
}

impl Wants {
    /// What a request with this method and these fields wants, of what a route offers.
    pub fn of(compress: &Compress, method: &Method, headers: &HeaderMap) -> Self {
        let chosen = encoding::chosen(headers, compress.encodings.iter().copied());
        let weak =
            headers.get_all(IF_NONE_MATCH).iter().filter(|value| value.as_bytes().windows(2).any(|it| it == b"W/"));
        Self {
            encoding: Some(chosen).filter(|it| *it != Encoding::Identity),
            head: *method == Method::HEAD,
            whole: !headers.contains_key(RANGE) && !no_transform(headers),
            weak: weak.cloned().collect(),
        }
    }

    /// What becomes of an answer, whose body has so many bytes if that is known.
    pub fn verdict(&self, compress: &Compress, status: StatusCode, headers: &HeaderMap, bytes: Option<u64>) -> Verdict {
        if status == StatusCode::NOT_MODIFIED {
            return if self.has_weak(headers) { Verdict::Weakened } else { Verdict::Plain };
        }
        let small = bytes.is_some_and(|bytes| bytes < compress.min_bytes.max(1));
        if small || !may_change(status, headers) || !gains(compress, headers) {
            return Verdict::Plain;
        }
        match self.encoding.filter(|_| self.whole) {
            Some(encoding) => Verdict::Encoded(encoding),
            None => Verdict::Varies,
        }
    }

    /// Whether the request has this answer's entity tag as it was made weak.
    fn has_weak(&self, headers: &HeaderMap) -> bool {
        let Some(tag) = headers.get(ETAG).and_then(|tag| tag.to_str().ok()) else { return false };
        let weak = weaker(tag);
        let has = |value: &HeaderValue| value.to_str().is_ok_and(|text| text.split(',').any(|one| one.trim() == weak));
        self.weak.iter().any(has)
    }
}

impl Verdict {
    /// Says it in the answer's fields.
    pub fn say(self, headers: &mut HeaderMap) {
        if self == Self::Plain {
            return;
        }
        varies_by(headers, &ACCEPT_ENCODING);
        if matches!(self, Self::Encoded(_) | Self::Weakened) {
            weaken(headers);
        }
        if let Self::Encoded(encoding) = self {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding.label()));
            // The length is of other bytes, and so is every range.
            headers.remove(CONTENT_LENGTH);
            headers.remove(ACCEPT_RANGES);
            for name in DIGESTS {
                headers.remove(name);
            }
        }
    }
}

/// Whether an answer may be changed at all: whole, in no encoding, and not kept from it (RFC 9110, section 7.7).
fn may_change(status: StatusCode, headers: &HeaderMap) -> bool {
    let bodiless = status.is_informational() || (204..=206).contains(&status.as_u16());
    let plain =
        headers.get_all(CONTENT_ENCODING).iter().all(|value| value.as_bytes().eq_ignore_ascii_case(b"identity"));
    !bodiless && plain && !headers.contains_key(CONTENT_RANGE) && !no_transform(headers)
}

/// Whether a message is to be passed on as it is (RFC 9111, sections 5.2.1.6 and 5.2.2.6).
fn no_transform(headers: &HeaderMap) -> bool {
    let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case("no-transform"))
}

/// Whether bytes of this type get smaller; of an unknown one, nothing is known.
fn gains(compress: &Compress, headers: &HeaderMap) -> bool {
    let Some(of) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    let of = of.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media::is_compressible(&of) || compress.types.iter().any(|known| known.eq_ignore_ascii_case(&of))
}

/// The bytes are others for the same tag, so it is a weak one (RFC 9110, section 8.8.1).
fn weaken(headers: &mut HeaderMap) {
    let tag = headers.get(ETAG).and_then(|tag| tag.to_str().ok()).map(weaker);
    match tag.and_then(|tag| HeaderValue::from_str(&tag).ok()) {
        Some(tag) => headers.insert(ETAG, tag),
        None => headers.remove(ETAG),
    };
}

fn weaker(tag: &str) -> String {
    if tag.starts_with("W/") { tag.to_owned() } else { format!("W/{tag}") }
}

#[cfg(test)]
mod tests {
    use super::super::tests::map;
    use super::*;

    const OLD: [(&str, &str); 2] = [("content-type", "text/html"), ("etag", "\"a\"")];

    fn verdict(request: &[(&str, &str)], status: u16, answer: &[(&str, &str)], bytes: Option<u64>) -> Verdict {
        let compress = Compress { types: vec!["application/x-thing".to_owned()], ..Compress::default() };
        let status = StatusCode::from_u16(status).expect("a status");
        Wants::of(&compress, &Method::GET, &map(request)).verdict(&compress, status, &map(answer), bytes)
    }

    #[test]
    fn an_answer_is_compressed_if_it_is_wanted_whole_and_gains_by_it() {
        use Verdict::{Encoded, Plain, Varies, Weakened};
        let br = &[("accept-encoding", "gzip, br")][..];
        let encoded = Encoded(Encoding::Br);
        let html = &[("content-type", "text/html; charset=utf-8")][..];
        let with = |name, value| [("content-type", "text/html"), (name, value)];
        for (request, status, answer, bytes, expect) in [
            (br, 200, html, None, encoded),
            (br, 200, html, Some(1_024), encoded),
            (br, 200, html, Some(1_023), Plain),
            (br, 200, html, Some(0), Plain),
            (br, 404, html, None, encoded),
            (br, 500, html, None, encoded),
            (&[], 200, html, None, Varies),
            (&[], 200, html, Some(10), Plain),
            (&[("accept-encoding", "deflate")], 200, html, None, Varies),
            (&[("accept-encoding", "gzip;q=1, br;q=0.9")], 200, html, None, Encoded(Encoding::Gzip)),
            (&[("accept-encoding", "br"), ("range", "bytes=0-9")], 200, html, None, Varies),
            (&[("accept-encoding", "br"), ("cache-control", "no-transform")], 200, html, None, Varies),
            (br, 206, html, None, Plain),
            (br, 204, html, None, Plain),
            (br, 205, html, None, Plain),
            (br, 200, &with("content-range", "bytes 0-9/100"), None, Plain),
            (br, 200, &with("content-encoding", "gzip"), None, Plain),
            (br, 200, &with("content-encoding", "x-unknown"), None, Plain),
            (br, 200, &with("content-encoding", "identity"), None, encoded),
            (br, 200, &with("cache-control", "public, No-Transform"), None, Plain),
            (br, 200, &with("cache-control", "public"), None, encoded),
            (br, 200, &[], None, Plain),
            (br, 200, &[("content-type", "image/png")], None, Plain),
            (br, 200, &[("content-type", "application/gzip")], None, Plain),
            (br, 200, &[("content-type", "application/zip")], None, Plain),
            (br, 200, &[("content-type", "video/mp4")], None, Plain),
            (br, 200, &[("content-type", "font/woff2")], None, Plain),
            (br, 200, &[("content-type", "application/octet-stream")], None, Plain),
            (br, 200, &[("content-type", "Application/JSON")], None, encoded),
            (br, 200, &[("content-type", "text/event-stream")], None, encoded),
            (br, 200, &[("content-type", "application/x-thing")], None, encoded),
            (br, 304, &OLD, None, Plain),
            (&[("accept-encoding", "br"), ("if-none-match", "W/\"b\", W/\"a\"")], 304, &OLD, None, Weakened),
            (&[("accept-encoding", "br"), ("if-none-match", "\"a\"")], 304, &OLD, None, Plain),
            (&[("accept-encoding", "br"), ("if-none-match", "W/\"b\"")], 304, &OLD, None, Plain),
        ] {
            assert_eq!(verdict(request, status, answer, bytes), expect, "{request:?} {status} {answer:?} {bytes:?}");
        }
    }

    #[test]
    fn what_is_said_of_other_bytes_is_no_longer_said() {
        let all = [
            ("content-type", "text/html"),
            ("content-length", "5000"),
            ("accept-ranges", "bytes"),
            ("etag", "\"a\""),
            ("repr-digest", "sha-256=:AA==:"),
            ("content-digest", "sha-256=:AA==:"),
            ("vary", "accept"),
            ("last-modified", "Mon, 23 Nov 2026 00:00:00 GMT"),
        ];
        let said = |verdict: Verdict| {
            let mut headers = map(&all);
            verdict.say(&mut headers);
            headers
        };
        let encoded = [
            ("content-type", "text/html"),
            ("etag", "W/\"a\""),
            ("vary", "accept"),
            ("vary", "accept-encoding"),
            ("last-modified", "Mon, 23 Nov 2026 00:00:00 GMT"),
            ("content-encoding", "zstd"),
        ];
        assert_eq!(said(Verdict::Encoded(Encoding::Zstd)), map(&encoded));
        assert_eq!(said(Verdict::Plain), map(&all));
        let mut varies = map(&all);
        varies.append("vary", HeaderValue::from_static("accept-encoding"));
        assert_eq!(said(Verdict::Varies), varies);
        varies.insert("etag", HeaderValue::from_static("W/\"a\""));
        assert_eq!(said(Verdict::Weakened), varies);
    }
}
