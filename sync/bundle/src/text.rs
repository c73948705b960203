//! TOML for people, read so that every mistake comes at once, each with its file and line. It reads texts, never files.
//!
//! [`read`] parses a document and hands its root [`Table`] to a closure. Each reading method takes a key out of the
//! table and gives a [`Field`]; what is wrong is noted, and reading goes on. A key nobody took is refused when its table
//! is dropped, naming the nearest key that was asked for. The closure's value comes out only if nothing was noted, so a
//! blank that stands in for a refused value is never seen.
//!
//! ```
//! use eyot_bundle::text;
//!
//! struct Config { region: String, drain_ms: u64, body_bytes: u64, listen: Vec<core::net::SocketAddr>, redirect: bool }
//!
//! let source = r#"
//! [node]
//! region = "eu-fra"
//! drain = "30s"
//! [listen]
//! https = ["0.0.0.0:443"]
//! plain = "serve"
//! "#;
//! let config = text::read("node.toml", source, |root| {
//!     let mut node = root.table("node");            // an absent table is an empty one
//!     let mut listen = root.table("listen");
//!     Config {
//!         region: node.string("region").required(),
//!         drain_ms: node.duration_ms("drain").or(10_000),
//!         body_bytes: node.size_bytes("body").or(100 << 20),
//!         listen: listen.parsed_list("https").required(),
//!         redirect: listen.choice("plain", &[("redirect", true), ("serve", false)]).or(true),
//!     }
//! }).expect("a good document");
//! assert_eq!((config.region.as_str(), config.drain_ms, config.redirect), ("eu-fra", 30_000, false));
//!
//! let bad = text::read("node.toml", "[node]\nregoin = 1\ndrain = \"soon\"\n", |root| {
//!     let mut node = root.table("node");
//!     (node.string("region").required(), node.duration_ms("drain").or(0))
//! });
//! let lines: Vec<_> = bad.expect_err("three mistakes").0.iter().map(ToString::to_string).collect();
//! assert_eq!(lines[0], "node.toml:1: `node.region` is missing");
//! assert_eq!(lines[1], "node.toml:2: `node.regoin` is not known; did you mean `region`?");
//! assert!(lines[2].starts_with("node.toml:3: `node.drain`: `soon` is no duration"));
//! ```

mod field;
mod table;
mod units;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt;
use std::rc::Rc;

pub use field::{Blank, Field};
pub use table::Table;
pub use units::{duration_us, size_bytes};

/// A document larger than this is refused before it is parsed, in bytes.
pub const TEXT_BYTES_MAX: usize = 1 << 20;
/// No more problems than this are kept: what follows is rarely read.
const PROBLEMS_MAX: usize = 200;

/// One mistake. Displayed as `file:line: text`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file, as it was named to [`read`].
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, and where it can be said, what to write instead.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.text)
    }
}

/// All mistakes of one document, in the order of their lines. Displayed one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(f, "{newline}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Reads the TOML document `source`, called `file` in problems, by `take`.
///
/// # Errors
/// Everything that was wrong with it: syntax, what `take` asked and did not find, and what nobody asked for. Where the
/// syntax is broken, missing keys are not noted, for they may be in the part that could not be read.
pub fn read<T>(file: &str, source: &str, take: impl FnOnce(&mut Table<'_>) -> T) -> Result<T, Problems> {
    let notes = Rc::new(Notes::new(file, source));
    if source.len() > TEXT_BYTES_MAX {
        notes.note(1, format!("is larger than {TEXT_BYTES_MAX} bytes"));
        return Err(notes.take());
    }
    let (document, errors) = toml::de::DeTable::parse_recoverable(source);
    let mut last = "";
    for error in &errors {
        let line = notes.line(error.span().map_or(0, |span| span.start));
        // One bracket that is not closed makes every line after it wrong in the same way: it is said once.
        notes.note_syntax(line, error.message(), error.message() != last);
        last = error.message();
    }
    let mut root = Table::root(Rc::clone(&notes), document.into_inner());
    let value = take(&mut root);
    drop(root);
    let problems = notes.take();
    if problems.0.is_empty() { Ok(value) } else { Err(problems) }
}

/// What was noted so far about one document, shared by its tables and fields.
#[derive(Debug)]
struct Notes {
    file: String,
    /// Where each line begins, in bytes.
    line_starts: Vec<usize>,
    /// Lines whose syntax is broken: nothing else is said about them.
    broken: RefCell<BTreeSet<usize>>,
    problems: RefCell<BTreeSet<(usize, String)>>,
    /// Whether more was wrong than is kept.
    full: Cell<bool>,
}

impl Notes {
    fn new(file: &str, source: &str) -> Self {
        let after_newlines = source.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self {
            file: file.to_owned(),
            line_starts: std::iter::once(0).chain(after_newlines).collect(),
            broken: RefCell::default(),
            problems: RefCell::default(),
            full: Cell::new(false),
        }
    }

    /// The line, from 1, of the byte at `offset`.
    fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset).max(1)
    }

    fn note_syntax(&self, line: usize, message: &str, first: bool) {
        if first {
            self.note(line, message.replace('\n', ", "));
        }
        self.broken.borrow_mut().insert(line);
    }

    fn note(&self, line: usize, text: String) {
        let mut problems = self.problems.borrow_mut();
        if self.broken.borrow().contains(&line) {
            return;
        }
        if problems.len() < PROBLEMS_MAX {
            problems.insert((line, text));
        } else {
            self.full.set(true);
        }
    }

    fn note_missing(&self, line: usize, path: &str) {
        if !self.is_broken() {
            self.note(line, format!("`{path}` is missing"));
        }
    }

    fn is_broken(&self) -> bool {
        !self.broken.borrow().is_empty()
    }

    fn count(&self) -> usize {
        self.problems.borrow().len()
    }

    fn take(&self) -> Problems {
        let problem = |(line, text)| Problem { file: self.file.clone(), line, text };
        let mut problems: Vec<_> = std::mem::take(&mut *self.problems.borrow_mut()).into_iter().map(problem).collect();
        if self.full.get() {
            problems.push(problem((self.line_starts.len(), "there is more, which is not listed".to_owned())));
        }
        Problems(problems)
    }
}

#[cfg(test)]
mod tests;
