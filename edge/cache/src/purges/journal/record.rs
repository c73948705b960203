//! What stands in a frame: records behind each other, each a tag and its fields. Numbers have their high byte first.

use super::super::marks::Since;
use super::super::{Hash, Position};

const COUNTER: u8 = 0;
const POSITION: u8 = 1;
const APP: u8 = 2;
const NAMED: u8 = 3;

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Record<'a> {
    /// What the counter was, and what it began with.
    Counter { counter: u64, first: u64 },
    /// When an app, or something of it, was purged.
    Mark { app: &'a str, of: Option<Hash>, since: Since },
    /// How far the parent's log was followed.
    Position(Position),
}

/// Writes one record.
pub(super) fn put(out: &mut Vec<u8>, record: &Record<'_>) {
    match record {
        Record::Counter { counter, first } => {
            out.push(COUNTER);
            out.extend_from_slice(&counter.to_be_bytes());
            out.extend_from_slice(&first.to_be_bytes());
        }
        Record::Mark { app, of, since } => {
            out.push(if of.is_some() { NAMED } else { APP });
            // The name of an app is far shorter.
            let length = u8::try_from(app.len()).unwrap_or(u8::MAX);
            out.push(length);
            out.extend_from_slice(&app.as_bytes()[..usize::from(length)]);
            out.extend_from_slice(of.as_ref().map_or(&[][..], |hash| hash.as_bytes()));
            for count in [since.soft, since.doubt, since.hard] {
                out.extend_from_slice(&count.to_be_bytes());
            }
        }
        Record::Position(position) => {
            out.push(POSITION);
            out.extend_from_slice(&position.log.to_be_bytes());
            out.extend_from_slice(&position.n.to_be_bytes());
        }
    }
}

/// The records of a frame, read from its start.
pub(super) struct Records<'a>(pub(super) &'a [u8]);

impl<'a> Records<'a> {
    /// The next one; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<Record<'a>>, String> {
        if self.0.is_empty() {
            return Ok(None);
        }
        self.read().map(Some).ok_or_else(|| "a record cannot be read".to_owned())
    }

    fn read(&mut self) -> Option<Record<'a>> {
        Some(match self.number::<1>()? {
            [COUNTER] => Record::Counter { counter: self.count()?, first: self.count()? },
            [POSITION] => Record::Position(Position { log: u128::from_be_bytes(self.number()?), n: self.count()? }),
            [tag @ (APP | NAMED)] => {
                let [length] = self.number()?;
                let app = str::from_utf8(self.take(usize::from(length))?).ok()?;
                let of = if tag == NAMED { Some(Hash::from_bytes(self.number()?)) } else { None };
                let since = Since { soft: self.count()?, doubt: self.count()?, hard: self.count()? };
                Record::Mark { app, of, since }
            }
            _ => return None,
        })
    }

    fn count(&mut self) -> Option<u64> {
        self.number().map(u64::from_be_bytes)
    }

    fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}
