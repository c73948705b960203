//! A table being read: keys are taken out one by one, and what is left at its end is not known here.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::rc::Rc;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::field::{Field, State};
use super::{Notes, units};

/// A table being read. When it is dropped, each key that was not taken out of it is refused.
#[derive(Debug)]
pub struct Table<'i> {
    notes: Rc<Notes>,
    /// The tables it stands in and its own name, with dots; empty for the document.
    path: String,
    line: usize,
    present: bool,
    entries: BTreeMap<String, Entry<'i>>,
    /// The keys that were asked for, in the order of asking.
    asked: Vec<String>,
}

#[derive(Debug)]
struct Entry<'i> {
    line: usize,
    value: Spanned<DeValue<'i>>,
}

const DURATION: &str = "write a whole number and its unit: `50ms`, `10s`, `5m`, `24h`";
const SIZE: &str = "write a whole number and its unit: `64KiB`, `128MiB`, `10GiB`";

impl<'i> Table<'i> {
    pub(super) fn root(notes: Rc<Notes>, table: DeTable<'i>) -> Self {
        Self::new(notes, String::new(), 1, Some(table))
    }

    fn new(notes: Rc<Notes>, path: String, line: usize, table: Option<DeTable<'i>>) -> Self {
        let present = table.is_some();
        let entry = |(key, value): (Spanned<_>, _)| {
            let line = notes.line(key.span().start);
            (std::borrow::Cow::<str>::into_owned(key.into_inner()), Entry { line, value })
        };
        let entries = table.into_iter().flatten().map(entry).collect();
        Self { notes, path, line, present, entries, asked: Vec::new() }
    }

    /// Whether the document has this table.
    pub fn is_present(&self) -> bool {
        self.present
    }

    /// The line its name stands on, from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// Whether `key` stands in it and was not taken yet.
    pub fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Whether `key` stands in it as a list and was not taken yet: for keys that are a word or a list.
    pub fn is_list(&self, key: &str) -> bool {
        self.entries.get(key).is_some_and(|entry| matches!(entry.value.get_ref(), DeValue::Array(_)))
    }

    /// Whether `key` is a text.
    pub fn is_string(&self, key: &str) -> bool {
        self.entries.get(key).is_some_and(|entry| matches!(entry.value.get_ref(), DeValue::String(_)))
    }

    /// Whether `key` stands in it as a yes or no and was not taken yet: for keys that are one, or a table.
    pub fn is_boolean(&self, key: &str) -> bool {
        self.entries.get(key).is_some_and(|entry| matches!(entry.value.get_ref(), DeValue::Boolean(_)))
    }

    /// How many problems were noted in the whole document so far: what was read since the last count is sound if it is
    /// still the same, and worth checking as a whole.
    pub fn noted(&self) -> usize {
        self.notes.count()
    }

    /// Notes what the table lacks, as [`Table::note`] does, unless broken syntax may hide it.
    pub fn note_lack(&self, text: impl Display) {
        if !self.notes.is_broken() {
            self.note(text);
        }
    }

    /// Notes a problem with the table as a whole, at its line.
    pub fn note(&self, text: impl Display) {
        self.note_at(self.line, text);
    }

    /// Notes a problem at `line`.
    pub fn note_at(&self, line: usize, text: impl Display) {
        let text = if self.path.is_empty() { text.to_string() } else { format!("`{}`: {text}", self.path) };
        self.notes.note(line, text);
    }

    /// A text.
    pub fn string(&mut self, key: &str) -> Field<String> {
        self.take(key, |value| match value {
            DeValue::String(text) => Ok(text.into_owned()),
            other => Err(unlike("a text in quotes", &other)),
        })
    }

    /// A text that `T` parses: a name, a host, an address.
    pub fn parsed<T: FromStr<Err: Display>>(&mut self, key: &str) -> Field<T> {
        self.string(key).and_then(|text| text.parse::<T>())
    }

    /// One of `choices`, each a word and what it means.
    pub fn choice<T: Clone>(&mut self, key: &str, choices: &[(&str, T)]) -> Field<T> {
        self.string(key).and_then(|text| {
            let found = choices.iter().find(|(word, _)| *word == text).map(|(_, meaning)| meaning.clone());
            let words = || choices.iter().map(|(word, _)| format!("`{word}`")).collect::<Vec<_>>().join(", ");
            found.ok_or_else(|| format!("`{}` is none of {}", short(&text), words()))
        })
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, key: &str) -> Field<bool> {
        self.take(key, |value| match value {
            DeValue::Boolean(value) => Ok(value),
            other => Err(unlike("`true` or `false`", &other)),
        })
    }

    /// A whole number that `T` can hold: `u16`, `u32`, `u64`, `usize`.
    pub fn integer<T: TryFrom<u64>>(&mut self, key: &str) -> Field<T> {
        self.take(key, |value| {
            let DeValue::Integer(number) = &value else { return Err(unlike("a whole number", &value)) };
            whole(number.as_str(), number.radix())
        })
    }

    /// A list of whole numbers that `T` can hold.
    pub fn integers<T: TryFrom<u64>>(&mut self, key: &str) -> Field<Vec<T>> {
        self.take(key, |value| {
            let DeValue::Array(items) = value else { return Err(unlike("a list of whole numbers: `[1, 2]`", &value)) };
            let item = |item: Spanned<DeValue<'_>>| match item.into_inner() {
                DeValue::Integer(number) => whole(number.as_str(), number.radix()),
                other => Err(unlike("a whole number", &other)),
            };
            items.into_iter().map(item).collect()
        })
    }

    /// A number, whole or not.
    pub fn float(&mut self, key: &str) -> Field<f64> {
        self.take(key, |value| {
            let parsed = match &value {
                DeValue::Float(number) => number.as_str().parse::<f64>().ok(),
                DeValue::Integer(number) => number.as_str().parse::<f64>().ok(),
                _ => None,
            };
            parsed.filter(|number| number.is_finite()).ok_or_else(|| unlike("a number", &value))
        })
    }

    /// A duration such as `"250us"` or `"50ms"`, in microseconds.
    pub fn duration_us(&mut self, key: &str) -> Field<u64> {
        self.string(key).and_then(|text| {
            units::duration_us(&text).ok_or_else(|| format!("`{}` is no duration: {DURATION}", short(&text)))
        })
    }

    /// A duration such as `"50ms"`, in whole milliseconds.
    pub fn duration_ms(&mut self, key: &str) -> Field<u64> {
        self.duration_us(key).and_then(|duration_us| match duration_us % 1_000 {
            0 => Ok(duration_us / 1_000),
            _ => Err("is finer than a millisecond"),
        })
    }

    /// A size such as `"128MiB"`, in bytes.
    pub fn size_bytes(&mut self, key: &str) -> Field<u64> {
        self.string(key)
            .and_then(|text| units::size_bytes(&text).ok_or_else(|| format!("`{}` is no size: {SIZE}", short(&text))))
    }

    /// A list of texts.
    pub fn strings(&mut self, key: &str) -> Field<Vec<String>> {
        self.parsed_list(key)
    }

    /// A list of texts that `T` parses; each bad one is noted at its own line.
    pub fn parsed_list<T: FromStr<Err: Display>>(&mut self, key: &str) -> Field<Vec<T>> {
        let (notes, path) = (Rc::clone(&self.notes), self.join(key));
        self.take(key, |value| {
            let DeValue::Array(items) = value else { return Err(unlike("a list of texts: `[\"…\"]`", &value)) };
            let mut list = Vec::with_capacity(items.len());
            for item in items {
                let line = notes.line(item.span().start);
                let parsed = match item.into_inner() {
                    DeValue::String(text) => text.parse::<T>().map_err(|reason| reason.to_string()),
                    other => Err(unlike("a text in quotes", &other)),
                };
                match parsed {
                    Ok(item) => list.push(item),
                    Err(reason) => notes.note(line, format!("`{path}`: {reason}")),
                }
            }
            Ok(list)
        })
    }

    /// A table of texts, whatever its keys: environment, header fields.
    pub fn string_map(&mut self, key: &str) -> Field<BTreeMap<String, String>> {
        let Some((line, table)) = self.take_table(key) else {
            return self.take(key, |_| Ok(BTreeMap::new()));
        };
        let mut table = table;
        let keys: Vec<_> = table.entries.keys().cloned().collect();
        let entries = keys.into_iter().filter_map(|key| Some((key.clone(), table.string(&key).optional()?)));
        let state = State::Present(entries.collect());
        Field { notes: Rc::clone(&self.notes), path: self.join(key), line, state }
    }

    /// The table `key`; an empty one where it is absent.
    pub fn table(&mut self, key: &str) -> Table<'i> {
        let absent = |this: &Self| Table::new(Rc::clone(&this.notes), this.join(key), this.line, None);
        self.take_table(key).map(|(_, table)| table).unwrap_or_else(|| absent(self))
    }

    /// The tables inside the table `key`, by their names: `[functions.cart]`. A name that `K` does not parse is noted.
    pub fn named_tables<K: FromStr<Err: Display>>(&mut self, key: &str) -> Vec<(K, Table<'i>)> {
        let mut outer = self.table(key);
        let names: Vec<_> = outer.entries.keys().cloned().collect();
        let mut tables = Vec::with_capacity(names.len());
        for name in names {
            let Some((line, table)) = outer.take_table(&name) else { continue };
            match name.parse() {
                Ok(name) => tables.push((name, table)),
                Err(reason) => {
                    table.forget();
                    outer.note_at(line, reason);
                }
            }
        }
        tables
    }

    /// The tables of the list `key`: `[[routes]]`, or `[{…}, {…}]`.
    pub fn tables(&mut self, key: &str) -> Vec<Table<'i>> {
        let (notes, path) = (Rc::clone(&self.notes), self.join(key));
        let field = self.take(key, |value| {
            let DeValue::Array(items) = value else { return Err(unlike("a list of tables", &value)) };
            let mut tables = Vec::with_capacity(items.len());
            for item in items {
                let line = notes.line(item.span().start);
                match item.into_inner() {
                    DeValue::Table(table) => {
                        tables.push(Table::new(Rc::clone(&notes), path.clone(), line, Some(table)))
                    }
                    other => notes.note(line, format!("`{path}`: {}", unlike("a table", &other))),
                }
            }
            Ok(tables)
        });
        field.optional().unwrap_or_default()
    }

    /// Refuses each of `keys` that stands here: it is in the format, but not in this version.
    pub fn later(&mut self, keys: &[&str]) {
        for key in keys {
            if let Some(entry) = self.entries.remove(*key) {
                self.notes.note(entry.line, format!("`{}` comes with a later version", self.join(key)));
            }
        }
    }

    /// Takes what is left without reading it, so that nothing more is said about it.
    pub fn forget(mut self) {
        self.entries.clear();
    }

    fn take<T>(&mut self, key: &str, read: impl FnOnce(DeValue<'i>) -> Result<T, String>) -> Field<T> {
        if !self.asked.iter().any(|asked| asked == key) {
            self.asked.push(key.to_owned());
        }
        let (notes, path) = (Rc::clone(&self.notes), self.join(key));
        match self.entries.remove(key) {
            None => Field { notes, path, line: self.line, state: State::Absent },
            Some(entry) => {
                let present = Field { notes, path, line: entry.line, state: State::Present(entry.value.into_inner()) };
                present.and_then(read)
            }
        }
    }

    /// The table `key` and its line; `None` where it is absent, or no table, which is noted.
    fn take_table(&mut self, key: &str) -> Option<(usize, Table<'i>)> {
        let (notes, path) = (Rc::clone(&self.notes), self.join(key));
        let field = self.take(key, |value| match value {
            DeValue::Table(table) => Ok(table),
            other => Err(unlike("a table", &other)),
        });
        let line = field.line();
        field.optional().map(|table| (line, Table::new(notes, path, line, Some(table))))
    }

    fn join(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

impl Drop for Table<'_> {
    fn drop(&mut self) {
        for (key, entry) in &self.entries {
            let hint = match nearest(key, &self.asked) {
                Some(near) => format!("; did you mean `{near}`?"),
                None if self.asked.is_empty() => String::new(),
                None => format!("; known here: {}", self.asked.join(", ")),
            };
            self.notes.note(entry.line, format!("`{}` is not known{hint}", self.join(&short(key))));
        }
    }
}

/// The whole number that these digits are.
fn whole<T: TryFrom<u64>>(digits: &str, radix: u32) -> Result<T, String> {
    let parsed = u64::from_str_radix(digits, radix).ok();
    let fits = parsed.and_then(|number| T::try_from(number).ok());
    fits.ok_or_else(|| format!("{digits} is below 0 or too large"))
}

fn unlike(wanted: &str, value: &DeValue<'_>) -> String {
    let found = match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a yes or no",
        DeValue::Datetime(_) => "a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    format!("is {found}; it should be {wanted}")
}

/// At most 60 characters of a text, for a message.
fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

/// The key of `asked` that takes the fewest edits to get from `key`, if that is at most a third of it.
fn nearest<'a>(key: &str, asked: &'a [String]) -> Option<&'a str> {
    let edits_max = (key.chars().count() / 3).clamp(1, 3);
    let scored = asked.iter().filter(|known| *known != key).map(|known| (edits(key, known), known.as_str()));
    scored.min().filter(|(edits, _)| *edits <= edits_max).map(|(_, known)| known)
}

/// How many characters must be put in, taken out, changed or swapped with the next to get from `a` to `b`.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = match (i, j) {
                (0, n) | (n, 0) => n,
                _ => {
                    let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                    let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                    let swap = if swapped { rows[i - 2][j - 2] + 1 } else { usize::MAX };
                    change.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(swap)
                }
            };
        }
    }
    rows[a.len()][b.len()]
}
