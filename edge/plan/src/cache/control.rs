//! `Cache-Control` of answers and of requests (RFC 9111, section 5.2), and `CDN-Cache-Control` (RFC 9213), read once.

use http::header::{CACHE_CONTROL, HeaderMap, HeaderName};

/// `CDN-Cache-Control`, what is said to caches like this one alone (RFC 9213, section 3.1).
pub const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

/// Times beyond this are this (RFC 9111, section 1.2.2): 2^31 seconds.
pub const SECONDS_MAX: u64 = 1 << 31;
/// Fields that one `no-cache` or `private` may name.
const NAMED_MAX: usize = 32;

/// Which fields a directive is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// The directive is not there.
    #[default]
    None,
    /// These fields alone: `no-cache="set-cookie"`.
    Fields(Vec<HeaderName>),
    /// The whole answer.
    All,
}

impl Scope {
    /// Whether the whole answer is meant.
    pub fn is_all(&self) -> bool {
        *self == Self::All
    }

    fn widen(&mut self, by: Self) {
        *self = match (std::mem::take(self), by) {
            (Self::All, _) | (_, Self::All) => Self::All,
            (Self::Fields(mut mine), Self::Fields(others)) => {
                mine.extend(others);
                mine.truncate(NAMED_MAX);
                Self::Fields(mine)
            }
            (one, Self::None) | (Self::None, one) => one,
        };
    }
}

/// What an answer says of its keeping. A time that is there and is none, such as `max-age=-1`, is 0: what is not understood
/// makes an answer stale, never fresh (RFC 9111, section 4.2.1). Of a directive that stands twice the first one counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// `max-age`, in seconds.
    pub max_age: Option<u64>,
    /// `s-maxage`, in seconds.
    pub s_maxage: Option<u64>,
    /// `stale-while-revalidate`, in seconds (RFC 5861, section 3).
    pub stale_while_revalidate: Option<u64>,
    /// `stale-if-error`, in seconds (RFC 5861, section 4).
    pub stale_if_error: Option<u64>,
    /// `no-cache`: not without asking.
    pub no_cache: Scope,
    /// `private`: not for a shared cache.
    pub private: Scope,
    /// `no-store`.
    pub no_store: bool,
    /// `public`.
    pub public: bool,
    /// `must-revalidate`, or `proxy-revalidate`: never stale.
    pub must_revalidate: bool,
    /// `must-understand`: what a status means must be known to keep it, and then `no-store` does not count.
    pub must_understand: bool,
    /// `no-transform`.
    pub no_transform: bool,
}

impl Control {
    /// What `headers` say to a shared cache: `CDN-Cache-Control` where it is sound and says something, and then that alone
    /// (RFC 9213, section 2.2); else `Cache-Control`. The second value: whether the first was heeded.
    pub fn of(headers: &HeaderMap) -> (Self, bool) {
        if headers.contains_key(&CDN_CACHE_CONTROL)
            && let Some(control) = targeted(headers)
        {
            return (control, true);
        }
        let mut control = Self::default();
        for value in headers.get_all(CACHE_CONTROL) {
            each(value.as_bytes(), |name, argument| control.take(&name, argument));
        }
        (control, false)
    }

    fn take(&mut self, name: &str, argument: Argument<'_>) {
        let time = |slot: &mut Option<u64>| {
            slot.get_or_insert(argument.seconds());
        };
        match name {
            "max-age" => time(&mut self.max_age),
            "s-maxage" => time(&mut self.s_maxage),
            "stale-while-revalidate" => time(&mut self.stale_while_revalidate),
            "stale-if-error" => time(&mut self.stale_if_error),
            "no-cache" => self.no_cache.widen(argument.scope()),
            "private" => self.private.widen(argument.scope()),
            "no-store" => self.no_store = true,
            "public" => self.public = true,
            "must-revalidate" | "proxy-revalidate" => self.must_revalidate = true,
            "must-understand" => self.must_understand = true,
            "no-transform" => self.no_transform = true,
            _ => {}
        }
    }
}

/// What a request says of what it takes (RFC 9111, section 5.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// `max-age`, in seconds.
    pub max_age: Option<u64>,
    /// `max-stale`, in seconds; without a number any.
    pub max_stale: Option<u64>,
    /// `min-fresh`, in seconds.
    pub min_fresh: Option<u64>,
    /// `no-cache`.
    pub no_cache: bool,
    /// `no-store`.
    pub no_store: bool,
    /// `only-if-cached`.
    pub only_if_cached: bool,
}

impl Wish {
    /// What `headers` say.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut wish = Self::default();
        for value in headers.get_all(CACHE_CONTROL) {
            each(value.as_bytes(), |name, argument| match name.as_str() {
                "max-age" => wish.max_age = Some(argument.seconds()),
                "max-stale" if argument == Argument::None => wish.max_stale = Some(SECONDS_MAX),
                "max-stale" => wish.max_stale = Some(argument.seconds()),
                "min-fresh" => wish.min_fresh = Some(argument.seconds()),
                "no-cache" => wish.no_cache = true,
                "no-store" => wish.no_store = true,
                "only-if-cached" => wish.only_if_cached = true,
                _ => {}
            });
        }
        wish
    }
}

/// What stands behind a directive's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Argument<'a> {
    /// Nothing.
    None,
    /// `=token`, or `="quoted"` without its quotes, escapes as they stand.
    Some(&'a str),
    /// Something that is neither.
    Wrong,
}

impl Argument<'_> {
    fn seconds(self) -> u64 {
        match self {
            Self::Some(text) => seconds(text).unwrap_or(0),
            Self::None | Self::Wrong => 0,
        }
    }

    /// What cannot be read is about all: a cache may take a qualified directive for an unqualified one.
    fn scope(self) -> Scope {
        let Self::Some(text) = self else { return Scope::All };
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        match names.take(NAMED_MAX + 1).map(HeaderName::try_from).collect::<Result<Vec<_>, _>>() {
            Ok(names) if !names.is_empty() && names.len() <= NAMED_MAX => Scope::Fields(names),
            _ => Scope::All,
        }
    }
}

/// Delta-seconds (RFC 9111, section 1.2.2): digits alone, whatever their count.
pub(super) fn seconds(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // More than can be counted is more than the most.
    digits.then(|| text.parse().unwrap_or(SECONDS_MAX).min(SECONDS_MAX))
}

/// Each directive of a field's value, its name in lower case. Commas within quotes part nothing.
fn each(value: &[u8], mut directive: impl FnMut(String, Argument<'_>)) {
    // Bytes beyond ASCII are in no directive's name, and in no number.
    let Ok(text) = str::from_utf8(value) else { return };
    for part in split(text) {
        let (name, argument) = match part.split_once('=') {
            None => (part, Argument::None),
            Some((name, argument)) => (name, self::argument(argument)),
        };
        // White space around `=` is none of a directive: what is meant by it is not known.
        let argument = if name.ends_with([' ', '\t']) { Argument::Wrong } else { argument };
        directive(name.trim_end().to_ascii_lowercase(), argument);
    }
}

fn argument(text: &str) -> Argument<'_> {
    match text.strip_prefix('"') {
        None if text.contains('"') || text.starts_with([' ', '\t']) => Argument::Wrong,
        None => Argument::Some(text),
        Some(quoted) => quoted.strip_suffix('"').map_or(Argument::Wrong, Argument::Some),
    }
}

/// The members of a list, trimmed, those that are empty left out (RFC 9110, section 5.6.1.2).
pub(super) fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (mut quoted, mut escaped) = (false, false);
        let end = text.bytes().position(|byte| {
            let parts = byte == b',' && !quoted;
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                _ => {}
            }
            parts
        });
        rest = end.map(|end| &text[end + 1..]);
        Some(text[..end.unwrap_or(text.len())].trim_matches([' ', '\t']))
    })
    .filter(|part| !part.is_empty())
}

/// `CDN-Cache-Control` as the dictionary of structured fields that it is (RFC 8941, section 3.2). None where it is none, is
/// empty, or holds a time that is no integer: then it is as if it were not there (RFC 9213, section 2.1).
fn targeted(headers: &HeaderMap) -> Option<Control> {
    let mut control = Control::default();
    let mut members = 0;
    for value in headers.get_all(&CDN_CACHE_CONTROL) {
        let text = value.to_str().ok()?;
        let mut rest = text.trim_matches(' ');
        while !rest.is_empty() {
            let (key, after) = key(rest)?;
            let (item, after) = item(after)?;
            control.set(key, item)?;
            members += 1;
            rest = after.trim_start_matches([' ', '\t']);
            if let Some(more) = rest.strip_prefix(',') {
                rest = more.trim_start_matches([' ', '\t']);
                if rest.is_empty() {
                    return None;
                }
            } else if !rest.is_empty() {
                return None;
            }
        }
    }
    (members > 0).then_some(control)
}

/// An item of a structured field, as far as directives need it.
#[derive(Clone, Copy)]
enum Item<'a> {
    Flag(bool),
    Integer(i64),
    Text(&'a str),
}

impl Control {
    /// A member of the dictionary; of one that stands twice the last one counts (RFC 8941, section 4.2.2).
    fn set(&mut self, key: &str, item: Item<'_>) -> Option<()> {
        let time = |item: &Item<'_>| match item {
            Item::Integer(seconds) => Some(u64::try_from(*seconds).unwrap_or(0).min(SECONDS_MAX)),
            Item::Flag(_) | Item::Text(_) => None,
        };
        let is_set = !matches!(item, Item::Flag(false));
        let scope = |item: &Item<'_>| match item {
            Item::Flag(false) => Scope::None,
            Item::Text(names) => Argument::Some(names).scope(),
            Item::Flag(true) | Item::Integer(_) => Scope::All,
        };
        match key {
            "max-age" => self.max_age = Some(time(&item)?),
            "s-maxage" => self.s_maxage = Some(time(&item)?),
            "stale-while-revalidate" => self.stale_while_revalidate = Some(time(&item)?),
            "stale-if-error" => self.stale_if_error = Some(time(&item)?),
            "no-cache" => self.no_cache = scope(&item),
            "private" => self.private = scope(&item),
            "no-store" => self.no_store = is_set,
            "public" => self.public = is_set,
            "must-revalidate" | "proxy-revalidate" => self.must_revalidate = is_set,
            "must-understand" => self.must_understand = is_set,
            "no-transform" => self.no_transform = is_set,
            _ => {}
        }
        Some(())
    }
}

/// A key (RFC 8941, section 3.1.2), and what follows it.
fn key(text: &str) -> Option<(&str, &str)> {
    let is_key = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.*".contains(&byte);
    let end = text.bytes().position(|byte| !is_key(byte)).unwrap_or(text.len());
    let first = text.bytes().next()?;
    ((first.is_ascii_lowercase() || first == b'*') && end > 0).then(|| text.split_at(end))
}

/// `=item`, or nothing, which is true; parameters are passed over.
fn item(text: &str) -> Option<(Item<'_>, &str)> {
    let (item, rest) = match text.strip_prefix('=') {
        None => (Item::Flag(true), text),
        Some(text) => bare(text)?,
    };
    Some((item, parameters(rest)?))
}

fn parameters(mut rest: &str) -> Option<&str> {
    while let Some(more) = rest.strip_prefix(';') {
        let (_, after) = key(more.trim_start_matches(' '))?;
        rest = match after.strip_prefix('=') {
            None => after,
            Some(text) => bare(text)?.1,
        };
    }
    Some(rest)
}

/// A bare item (RFC 8941, section 3.3). Decimals, byte sequences and inner lists are in no directive.
fn bare(text: &str) -> Option<(Item<'_>, &str)> {
    let first = text.bytes().next()?;
    match first {
        b'?' => match text.get(..2)? {
            "?1" => Some((Item::Flag(true), &text[2..])),
            "?0" => Some((Item::Flag(false), &text[2..])),
            _ => None,
        },
        b'"' => {
            let end = 1 + text[1..].find('"')?;
            let inner = &text[1..end];
            (!inner.contains('\\')).then(|| (Item::Text(inner), &text[end + 1..]))
        }
        b'-' | b'0'..=b'9' => {
            let begin = usize::from(first == b'-');
            let digits = text[begin..].bytes().take_while(u8::is_ascii_digit).count();
            let (number, rest) = text.split_at(begin + digits);
            // More than 15 digits are no integer; what goes on with a point is a decimal.
            ((1..=15).contains(&digits) && !rest.starts_with('.'))
                .then(|| number.parse().ok().map(|number| (Item::Integer(number), rest)))?
        }
        b'*' | b'a'..=b'z' | b'A'..=b'Z' => {
            let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte);
            let end = text.bytes().position(|byte| !is_token(byte)).unwrap_or(text.len());
            Some((Item::Text(&text[..end]), &text[end..]))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::try_from(*name).expect("a name"), value.parse().expect("a value"));
        }
        headers
    }

    #[test]
    fn a_time_that_is_none_makes_stale_and_the_first_one_counts() {
        for (value, expect) in [
            ("max-age=3600", Some(3600)),
            ("MaX-aGe=3600", Some(3600)),
            ("foobar, max-age=3600", Some(3600)),
            ("max-age=\"3600\"", Some(3600)),
            ("max-age=003600", Some(3600)),
            ("max-age=99999999999999999999999", Some(SECONDS_MAX)),
            ("max-age=2147483648", Some(SECONDS_MAX)),
            ("max-age=1800, max-age=1", Some(1800)),
            ("max-age=1, max-age=1800", Some(1)),
            ("max-age=1, extension=\"max-age=3600\"", Some(1)),
            ("extension=\"max-age=3600\", max-age=1", Some(1)),
            ("extension=\"a\\\", max-age=3600\"", None),
            ("max-age=-3600", Some(0)),
            ("max-age=3600.0", Some(0)),
            ("max-age='3600'", Some(0)),
            ("max-age=a3600", Some(0)),
            ("max-age=3600a", Some(0)),
            ("max-age =3600", Some(0)),
            ("max-age= 3600", Some(0)),
            ("max-age=\"3600", Some(0)),
            ("max-age", Some(0)),
            ("", None),
            (",,  ,", None),
        ] {
            assert_eq!(Control::of(&map(&[("cache-control", value)])).0.max_age, expect, "{value}");
        }
        let lines = map(&[("cache-control", "max-age=1"), ("cache-control", "max-age=2, no-store")]);
        let expect = Control { max_age: Some(1), no_store: true, ..Control::default() };
        assert_eq!(Control::of(&lines), (expect, false));
    }

    #[test]
    fn a_directive_may_be_about_fields_alone() {
        let fields =
            |names: &[&'static str]| Scope::Fields(names.iter().copied().map(HeaderName::from_static).collect());
        for (value, expect) in [
            ("no-cache", Scope::All),
            ("No-CaChE", Scope::All),
            ("no-cache=\"a\"", fields(&["a"])),
            ("no-cache=\"a, B\"", fields(&["a", "b"])),
            ("no-cache=a, no-cache=\"b\"", fields(&["a", "b"])),
            ("no-cache=a, no-cache", Scope::All),
            ("no-cache=\"\"", Scope::All),
            ("no-cache=\"a b\"", Scope::All),
            ("no-cache=\"a", Scope::All),
            ("public", Scope::None),
        ] {
            assert_eq!(Control::of(&map(&[("cache-control", value)])).0.no_cache, expect, "{value}");
        }
    }

    #[test]
    fn what_is_said_to_caches_like_this_one_counts_alone_if_it_is_sound() {
        for (value, expect) in [
            ("max-age=3600", Some(Some(3600))),
            ("max-age=99999999999", Some(Some(SECONDS_MAX))),
            ("foobar, max-age=3600", Some(Some(3600))),
            ("max-age=1, max-age=2", Some(Some(2))),
            ("max-age=3600;a=b;c", Some(Some(3600))),
            ("max-age=-1", Some(Some(0))),
            ("private", Some(None)),
            ("x=\"a, b\", no-store", Some(None)),
            ("", None),
            ("max-age=10000, &&&&&", None),
            ("max-age=\"10000\"", None),
            ("max-age", None),
            ("max-age =100", None),
            ("max-age= 100", None),
            ("max-age=1.5", None),
            ("max-age=1,", None),
            ("MaX-aGe=3600", None),
            ("max-age=9999999999999999", None),
        ] {
            let headers = map(&[("cache-control", "max-age=7"), ("cdn-cache-control", value)]);
            let (control, targeted) = Control::of(&headers);
            assert_eq!(targeted.then_some(control.max_age), expect, "{value}");
            assert!(targeted || control.max_age == Some(7));
        }
    }

    #[test]
    fn a_request_says_what_it_takes() {
        let wish = Wish::of(&map(&[("cache-control", "max-age=5, max-stale, min-fresh=2, only-if-cached")]));
        let expect = Wish {
            max_age: Some(5),
            max_stale: Some(SECONDS_MAX),
            min_fresh: Some(2),
            only_if_cached: true,
            ..Wish::default()
        };
        assert_eq!(wish, expect);
        assert_eq!(Wish::of(&map(&[("cache-control", "nothing-to-see-here")])), Wish::default());
    }
}
