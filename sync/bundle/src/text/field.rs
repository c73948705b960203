//! One key's value on its way out of a table: present, absent, or refused and noted.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use super::Notes;
use crate::host::HostPattern;
use crate::name::Name;
use crate::release::PathPattern;

/// What was read for one key. End it with [`Field::or`], [`Field::optional`] or [`Field::required`].
#[derive(Debug)]
#[must_use = "what was read comes out by `or`, `optional` or `required`"]
pub struct Field<T> {
    pub(super) notes: Rc<Notes>,
    /// The key with the tables it stands in: `functions.cart.wasm`.
    pub(super) path: String,
    /// The key's line; the table's where the key is absent.
    pub(super) line: usize,
    pub(super) state: State<T>,
}

#[derive(Debug)]
pub(super) enum State<T> {
    Absent,
    Present(T),
    /// Its problem is noted already.
    Refused,
}

/// What stands in for a required value that is missing or refused. It never leaves [`super::read`], which gives the
/// problems instead.
pub trait Blank {
    /// The value that stands in.
    fn blank() -> Self;
}

impl<T> Field<T> {
    /// The value, or `default` where the key is absent.
    pub fn or(self, default: T) -> T {
        self.optional().unwrap_or(default)
    }

    /// The value, or the default of its type where the key is absent.
    pub fn or_default(self) -> T
    where
        T: Default,
    {
        self.optional().unwrap_or_default()
    }

    /// The value, or `None` where the key is absent.
    pub fn optional(self) -> Option<T> {
        match self.state {
            State::Present(value) => Some(value),
            State::Absent | State::Refused => None,
        }
    }

    /// The value; where the key is absent, that is noted.
    pub fn required(self) -> T
    where
        T: Blank,
    {
        if let State::Absent = self.state {
            self.notes.note_missing(self.line, &self.path);
        }
        self.optional().unwrap_or_else(T::blank)
    }

    /// The value turned into another.
    pub fn map<U>(self, turn: impl FnOnce(T) -> U) -> Field<U> {
        self.and_then(|value| Ok::<U, std::convert::Infallible>(turn(value)))
    }

    /// The value turned into another, or refused with the reason that `turn` gives.
    pub fn and_then<U, E: fmt::Display>(self, turn: impl FnOnce(T) -> Result<U, E>) -> Field<U> {
        let Self { notes, path, line, state } = self;
        let state = match state {
            State::Absent => State::Absent,
            State::Refused => State::Refused,
            State::Present(value) => match turn(value) {
                Ok(value) => State::Present(value),
                Err(reason) => {
                    notes.note(line, format!("`{path}`: {reason}"));
                    State::Refused
                }
            },
        };
        Field { notes, path, line, state }
    }

    /// The line it stands on, from 1; the table's where it is absent.
    pub fn line(&self) -> usize {
        self.line
    }
}

impl<T: Copy + PartialOrd + fmt::Display> Field<T> {
    /// Refuses a value outside `least..=most`, as these stand: numbers, or counts of the base unit.
    pub fn within(self, least: T, most: T) -> Self {
        self.and_then(|value| {
            if value < least || value > most { Err(format!("{value} is outside {least} to {most}")) } else { Ok(value) }
        })
    }
}

impl Field<String> {
    /// Refuses an empty text.
    pub fn not_empty(self) -> Self {
        self.and_then(|text| if text.is_empty() { Err("may not be empty") } else { Ok(text) })
    }
}

impl<T> Field<Vec<T>> {
    /// Refuses an empty list.
    pub fn not_empty_list(self) -> Self {
        self.and_then(|list| if list.is_empty() { Err("names nothing: at least one is needed") } else { Ok(list) })
    }
}

macro_rules! blank_by_default {
    ($($kind:ty),*) => {$(
        impl Blank for $kind {
            fn blank() -> Self {
                Self::default()
            }
        }
    )*};
}
blank_by_default!(String, bool, f64, u16, u32, u64, usize, std::path::PathBuf);

impl<T> Blank for Vec<T> {
    fn blank() -> Self {
        Self::new()
    }
}

impl<K, V> Blank for BTreeMap<K, V> {
    fn blank() -> Self {
        Self::new()
    }
}

impl<T> Blank for Option<T> {
    fn blank() -> Self {
        None
    }
}

impl Blank for HostPattern {
    fn blank() -> Self {
        Self::Any
    }
}

impl Blank for PathPattern {
    fn blank() -> Self {
        Self::Prefix(String::new())
    }
}

impl Blank for Name {
    fn blank() -> Self {
        "blank".parse().expect("five lower-case letters are a name")
    }
}

impl Blank for core::net::SocketAddr {
    fn blank() -> Self {
        Self::from(([0, 0, 0, 0], 0))
    }
}
