//! Extensible priorities (RFC 9218): the `priority` field and the order of responses that follows from it.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The field's name.
pub const PRIORITY: HeaderName = HeaderName::from_static("priority");

/// The urgency of a request that says none (RFC 9218, section 4.1).
const URGENCY: u8 = 3;
/// The least urgent.
const URGENCY_MAX: u8 = 7;
/// How many ranks an urgency has: one for responses that share, and one each for those that come one after another.
const URGENCY_RANKS: i32 = 1 << 13;
/// How many responses can have ranks one after another; later ones share the last.
pub const LATER_MAX: u64 = (1 << 13) - 2;
/// How many ranks there are.
pub const RANKS: i32 = URGENCY_RANKS << 3;

/// What is asked for a response. What is not said, or not said rightly, is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Priority {
    /// 0, the most urgent, to 7.
    pub urgency: Option<u8>,
    /// Whether its parts are of use as they come, so that it may share its turn with others.
    pub incremental: Option<bool>,
}

impl Priority {
    /// What the fields of a head say. Fields that cannot be read say nothing (RFC 9218, section 5).
    pub fn of(headers: &HeaderMap) -> Self {
        let mut priority = Self::default();
        let lines = headers.get_all(PRIORITY).iter().map(HeaderValue::as_bytes);
        for line in lines {
            if Text(line).dictionary(&mut priority).is_none() {
                return Self::default();
            }
        }
        priority
    }

    /// Reads one field value: a dictionary (RFC 8941, section 3.2), of which `u` and `i` are kept. None: it is none.
    pub fn parse(field: &[u8]) -> Option<Self> {
        let mut priority = Self::default();
        Text(field).dictionary(&mut priority).map(|()| priority)
    }

    /// What this says, and for the rest what `other` says (RFC 9218, section 8).
    pub fn or(self, other: Self) -> Self {
        Self { urgency: self.urgency.or(other.urgency), incremental: self.incremental.or(other.incremental) }
    }

    /// The place of this response among those of its connection, from 0 to below [`RANKS`]; what is larger goes first, and
    /// equals share. `later` is how many requests came before this one.
    ///
    /// The urgent go first. Of one urgency, those that are of use only as a whole go one after another, in the order in
    /// which they were asked for, and then the incremental ones, in turns (RFC 9218, section 10). A request that says
    /// nothing at all is taken as incremental: one that waits for ever would hold up the others.
    pub fn rank(self, later: u64) -> i32 {
        let urgency = self.urgency.unwrap_or(URGENCY).min(URGENCY_MAX);
        let base = i32::from(URGENCY_MAX - urgency) * URGENCY_RANKS;
        if self.incremental.unwrap_or(self.urgency.is_none()) {
            return base;
        }
        let later = i32::try_from(later.min(LATER_MAX)).unwrap_or_default();
        base + URGENCY_RANKS - 1 - later
    }

    fn set(&mut self, key: &[u8], value: Value) {
        match key {
            b"u" => {
                self.urgency = match value {
                    Value::Integer(urgency) => u8::try_from(urgency).ok().filter(|it| *it <= URGENCY_MAX),
                    _ => None,
                }
            }
            b"i" => {
                self.incremental = match value {
                    Value::Boolean(incremental) => Some(incremental),
                    _ => None,
                }
            }
            _ => {}
        }
    }
}

/// A value, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Boolean(bool),
    Integer(i64),
    Other,
}

/// What is left of a structured field (RFC 8941, section 4.2). Each step takes bytes off its front; None: it is broken.
struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    fn dictionary(&mut self, priority: &mut Priority) -> Option<()> {
        self.skip(|byte| byte == b' ');
        if self.0.is_empty() {
            return Some(());
        }
        loop {
            let key = self.key()?;
            let value = if !self.eat(b'=') {
                Value::Boolean(true)
            } else if self.eat(b'(') {
                self.inner_list()?
            } else {
                self.item()?
            };
            self.parameters()?;
            priority.set(key, value);
            self.skip(is_blank);
            if self.0.is_empty() {
                return Some(());
            }
            if !self.eat(b',') {
                return None;
            }
            self.skip(is_blank);
        }
    }

    fn key(&mut self) -> Option<&'a [u8]> {
        let starts = matches!(self.0.first()?, b'a'..=b'z' | b'*');
        let key = self.skip(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' | b'*'));
        starts.then_some(key)
    }

    fn parameters(&mut self) -> Option<()> {
        while self.eat(b';') {
            self.skip(|byte| byte == b' ');
            self.key()?;
            if self.eat(b'=') {
                self.item()?;
            }
        }
        Some(())
    }

    fn inner_list(&mut self) -> Option<Value> {
        loop {
            self.skip(|byte| byte == b' ');
            if self.eat(b')') {
                return Some(Value::Other);
            }
            self.item()?;
            self.parameters()?;
            if !matches!(self.0.first()?, b' ' | b')') {
                return None;
            }
        }
    }

    fn item(&mut self) -> Option<Value> {
        let first = *self.0.first()?;
        match first {
            b'-' | b'0'..=b'9' => self.number(),
            b'A'..=b'Z' | b'a'..=b'z' | b'*' => {
                self.skip(|byte| is_token(byte) || matches!(byte, b':' | b'/'));
                Some(Value::Other)
            }
            _ => {
                self.0 = self.0.get(1..)?;
                match first {
                    b'"' => self.string(),
                    b'?' => self.boolean(),
                    b'@' => self.number().filter(|it| matches!(it, Value::Integer(_))).map(|_| Value::Other),
                    b':' => {
                        self.skip(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='));
                        self.eat(b':').then_some(Value::Other)
                    }
                    _ => None,
                }
            }
        }
    }

    fn boolean(&mut self) -> Option<Value> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        match first {
            b'0' => Some(Value::Boolean(false)),
            b'1' => Some(Value::Boolean(true)),
            _ => None,
        }
    }

    /// An integer of at most 15 digits, or a decimal of at most 12 and 3.
    fn number(&mut self) -> Option<Value> {
        let sign = if self.eat(b'-') { -1 } else { 1 };
        let whole = self.skip(|byte| byte.is_ascii_digit());
        let (digits, value) = (whole.len(), whole.iter().fold(0_i64, |value, byte| add(value, *byte)));
        if digits == 0 || digits > 15 {
            return None;
        }
        if !self.eat(b'.') {
            return Some(Value::Integer(sign * value));
        }
        let fraction = self.skip(|byte| byte.is_ascii_digit()).len();
        (digits <= 12 && (1..=3).contains(&fraction)).then_some(Value::Other)
    }

    /// A string whose opening quote was read.
    fn string(&mut self) -> Option<Value> {
        loop {
            let (first, rest) = self.0.split_first()?;
            self.0 = rest;
            match first {
                b'"' => return Some(Value::Other),
                b'\\' if self.eat(b'"') || self.eat(b'\\') => {}
                b'\\' => return None,
                b' '..=b'~' => {}
                _ => return None,
            }
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        match self.0.split_first() {
            Some((first, rest)) if *first == byte => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    /// Takes what `is` wants.
    fn skip(&mut self, is: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.0.iter().position(|byte| !is(*byte)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        taken
    }
}

fn add(value: i64, digit: u8) -> i64 {
    value.saturating_mul(10).saturating_add(i64::from(digit - b'0'))
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// A character of a token (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn said(urgency: Option<u8>, incremental: Option<bool>) -> Priority {
        Priority { urgency, incremental }
    }

    #[test]
    fn fields_are_read_and_what_is_not_understood_is_passed_over() {
        let table: [(&str, Option<Priority>); 28] = [
            ("", Some(said(None, None))),
            ("u=5", Some(said(Some(5), None))),
            ("i", Some(said(None, Some(true)))),
            ("u=0, i", Some(said(Some(0), Some(true)))),
            ("  u=1 \t,\t i=?0 ", Some(said(Some(1), Some(false)))),
            ("u=7;x=\"a, b\\\"\";y, i=?1;z=(", None),
            ("u=7;x=\"a, b\\\"\";y, i=?1;z=tok:en/x", Some(said(Some(7), Some(true)))),
            ("u=1, u=2", Some(said(Some(2), None))),
            ("u=1, u=9", Some(said(None, None))),
            ("u=8", Some(said(None, None))),
            ("u=-1", Some(said(None, None))),
            ("u=1.5", Some(said(None, None))),
            ("u=high, i=1", Some(said(None, None))),
            ("foo=(\"a\" b;c=1 :aGk=: ?1 @12), u=2", Some(said(Some(2), None))),
            ("foo=(), *bar, a.b-c_d=1", Some(said(None, None))),
            ("u", Some(said(None, None))),
            ("u=1,", None),
            (",u=1", None),
            ("u=", None),
            ("u=1 i", None),
            ("U=1", None),
            ("u=1234567890123456", None),
            ("u=1.", None),
            ("i=?2", None),
            ("x=\"a", None),
            ("x=\"a\\b\"", None),
            ("x=:a", None),
            ("x=(a\"b\")", None),
        ];
        for (field, expect) in table {
            assert_eq!(Priority::parse(field.as_bytes()), expect, "{field}");
        }
    }

    #[test]
    fn lines_of_a_head_are_one_field_and_a_broken_one_spoils_it() {
        let table: [(&[&str], Priority); 4] = [
            (&[], said(None, None)),
            (&["u=1", "i"], said(Some(1), Some(true))),
            (&["u=1", "u=2"], said(Some(2), None)),
            (&["u=1", "u="], said(None, None)),
        ];
        for (lines, expect) in table {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(PRIORITY, HeaderValue::from_static(line));
            }
            assert_eq!(Priority::of(&headers), expect, "{lines:?}");
        }
    }

    #[test]
    fn what_the_server_says_goes_before_what_the_client_says() {
        assert_eq!(said(Some(1), None).or(said(Some(5), Some(true))), said(Some(1), Some(true)));
        assert_eq!(said(None, Some(false)).or(said(None, Some(true))), said(None, Some(false)));
    }

    #[test]
    fn the_urgent_go_first_then_the_whole_one_by_one_then_the_incremental_in_turns() {
        let in_order = [
            RANKS,
            said(Some(0), Some(false)).rank(0),
            said(Some(0), Some(false)).rank(4_000_000),
            said(Some(0), Some(true)).rank(0),
            said(Some(3), None).rank(0),
            said(Some(3), None).rank(1),
            said(None, Some(false)).rank(2),
            said(Some(3), None).rank(1 << 60),
            said(Some(3), Some(true)).rank(0),
            said(Some(4), None).rank(0),
            said(Some(7), None).rank(0),
            said(Some(7), Some(true)).rank(0),
            -1,
        ];
        assert!(in_order.is_sorted_by(|before, after| before > after), "{in_order:?}");
        assert_eq!(said(Some(3), Some(true)).rank(0), said(Some(3), Some(true)).rank(1), "in turns");
        assert_eq!(said(None, None).rank(0), said(None, Some(true)).rank(2), "who says nothing shares");
    }

    proptest::proptest! {
        #[test]
        fn any_field_is_read_or_refused(field: Vec<u8>, likely in "[ui=?01-9a(); ,\".:@]{0,20}") {
            for field in [&field[..], likely.as_bytes()] {
                if let Some(priority) = Priority::parse(field) {
                    assert!(priority.urgency.is_none_or(|urgency| urgency <= 7));
                    let _ = priority.rank(field.len() as u64);
                }
            }
        }

        #[test]
        fn what_is_said_is_read(urgency in 0_u8..8, incremental: bool) {
            let field = format!("u={urgency}, i=?{}", u8::from(incremental));
            assert_eq!(Priority::parse(field.as_bytes()), Some(said(Some(urgency), Some(incremental))));
        }
    }
}
