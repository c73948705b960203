//! The words of an upstream that are parsed: what is hashed, and which statuses are meant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What of a request is hashed: `client`, `path`, `header:<name>` or `cookie:<name>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashBy {
    /// The client's address.
    Client,
    /// The value of this cookie.
    Cookie(String),
    /// The value of this field, its name in lower case.
    Header(String),
    /// The path, without the query.
    Path,
}

/// Why a text is nothing to hash by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is nothing to hash by: write `client`, `path`, `header:<name>` (in lower case) or `cookie:<name>`")]
pub struct HashByError(String);

impl FromStr for HashBy {
    type Err = HashByError;

    fn from_str(text: &str) -> Result<Self, HashByError> {
        let is_lower = |name: &str| !name.bytes().any(|byte| byte.is_ascii_uppercase());
        match text.split_once(':') {
            None if text == "client" => Ok(Self::Client),
            None if text == "path" => Ok(Self::Path),
            Some(("header", name)) if is_token(name) && is_lower(name) => Ok(Self::Header(name.to_owned())),
            Some(("cookie", name)) if is_token(name) => Ok(Self::Cookie(name.to_owned())),
            _ => Err(HashByError(text.chars().take(100).collect())),
        }
    }
}

/// Whether a text is a token (RFC 9110, section 5.6.2), and not a long one.
fn is_token(text: &str) -> bool {
    let char = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.len() <= 100 && text.bytes().all(char)
}

impl fmt::Display for HashBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client => f.write_str("client"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Path => f.write_str("path"),
        }
    }
}

/// Statuses from one to another: `200-299`, or `204` alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statuses {
    /// The first that is meant.
    pub first: u16,
    /// The last that is meant.
    pub last: u16,
}

/// Why a text is no statuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` are no statuses: write `204` or `200-399`, within 200 to 599")]
pub struct StatusesError(String);

impl Statuses {
    /// Whether it holds `status`.
    pub fn holds(self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }
}

impl FromStr for Statuses {
    type Err = StatusesError;

    fn from_str(text: &str) -> Result<Self, StatusesError> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let status = |text: &str| {
            let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u16>().ok().filter(|status| digits && (200..=599).contains(status))
        };
        match (status(first), status(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self { first, last }),
            _ => Err(StatusesError(text.chars().take(100).collect())),
        }
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

macro_rules! serde_by_text {
    ($($kind:ty),*) => {$(
        impl Serialize for $kind {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
serde_by_text!(HashBy, Statuses);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hashed_and_expected_is_written_in_one_way() {
        for text in ["client", "path", "header:x-user", "cookie:Uid"] {
            assert_eq!(text.parse::<HashBy>().map(|it| it.to_string()).as_deref(), Ok(text));
        }
        for text in
            ["", "Client", "client:", "header", "header:", "header:X-User", "header:a b", "cookie:a=b", "query:a"]
        {
            assert!(text.parse::<HashBy>().is_err(), "{text}");
        }
        for (text, first, last) in [("204", 204, 204), ("200-399", 200, 399)] {
            assert_eq!(text.parse(), Ok(Statuses { first, last }));
            assert_eq!(Statuses { first, last }.to_string(), text);
        }
        for text in ["", "2xx", "199", "600", "299-200", "200-", "-200", "200-300-400", "+200", " 200"] {
            assert!(text.parse::<Statuses>().is_err(), "{text}");
        }
    }
}
