//! What can be asked of a store, and what it says: one enum each, so that an engine is one function, and so is a line to
//! another process.

use bytes::Bytes;
use eyot_bundle::name::Name;
use eyot_bundle::release::Store as Spec;

use crate::error::Error;

/// A key of more bytes is refused.
pub const KEY_BYTES_MAX: usize = 1 << 10;
/// Keys of one page.
pub const PAGE_KEYS: usize = 500;
/// Keys asked at once.
pub const BATCH_KEYS_MAX: usize = 256;
/// Values given or taken at once, in bytes.
pub const BATCH_BYTES_MAX: usize = 8 << 20;

/// One store of one app, as its release describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The app.
    pub app: Name,
    /// Its name for the store.
    pub store: Name,
    /// What the release says of it.
    pub spec: Spec,
    /// What all stores of the app may hold on this node, in bytes; for the engine `node`.
    pub disk_bytes_max: u64,
}

/// What is asked. Keys, values and counts are within their bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Current(String),
    Exists(String),
    Get(Vec<String>),
    Increment {
        key: String,
        delta: i64,
    },
    Keys {
        cursor: Option<String>,
    },
    Swap {
        key: String,
        revision: u64,
        value: Bytes,
    },
    /// Each key once.
    Write(Vec<Write>),
}

/// A value that is set, or a key that is deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Write {
    pub(crate) key: String,
    pub(crate) value: Option<Bytes>,
}

/// What a store says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Current(Current),
    Done,
    Exists(bool),
    Keys(Page),
    Sum(i64),
    Swapped(bool),
    /// In the order of the keys.
    Values(Vec<Option<Bytes>>),
}

/// Some keys of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The keys.
    pub keys: Vec<String>,
    /// Where the next ones begin; none: these are the last. What it holds is the engine's own.
    pub cursor: Option<String>,
}

/// A value with its revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Current {
    /// The value; none: the key has none.
    pub value: Option<Bytes>,
    /// Its revision, which no other value of this key ever has; 0: the key has no value.
    pub revision: u64,
}

impl Ask {
    /// Whether it changes nothing, and may be asked again.
    pub(crate) fn only_reads(&self) -> bool {
        match self {
            Self::Current(_) | Self::Exists(_) | Self::Get(_) | Self::Keys { .. } => true,
            Self::Increment { .. } | Self::Swap { .. } | Self::Write(_) => false,
        }
    }

    /// What it holds, in bytes, for those who count what waits.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Current(key) | Self::Exists(key) | Self::Increment { key, delta: _ } => key.len(),
            Self::Get(keys) => keys.iter().map(String::len).sum(),
            Self::Keys { cursor } => cursor.as_ref().map_or(0, String::len),
            Self::Swap { key, revision: _, value } => key.len() + value.len(),
            Self::Write(writes) => {
                writes.iter().map(|write| write.key.len() + write.value.as_ref().map_or(0, Bytes::len)).sum()
            }
        }
    }
}

/// The values that are given at once, counted.
#[derive(Debug, Default)]
pub(crate) struct Given {
    values: Vec<Option<Bytes>>,
    bytes: usize,
}

impl Given {
    pub(crate) fn add(&mut self, value: Option<Bytes>) -> Result<(), Error> {
        self.bytes += value.as_ref().map_or(0, Bytes::len);
        if self.bytes > BATCH_BYTES_MAX {
            return Err(Error::refused(format!("these values have more than {BATCH_BYTES_MAX} bytes; ask for fewer")));
        }
        self.values.push(value);
        Ok(())
    }

    pub(crate) fn said(self) -> Said {
        Said::Values(self.values)
    }
}

/// The number that `value` is, 0 where there is none, and `delta` more.
pub(crate) fn sum(value: Option<&[u8]>, delta: i64) -> Result<i64, Error> {
    let number = match value {
        None => 0,
        Some(text) => number(text).ok_or_else(Error::no_number)?,
    };
    i64::checked_add(number, delta).ok_or_else(Error::overflow)
}

/// The number, in the one way it is written: no plus, no zero before it. Every engine takes the same.
fn number(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    text.parse().ok().filter(|number: &i64| number.to_string() == text)
}
