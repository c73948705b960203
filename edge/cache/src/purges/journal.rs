//! The journal of purges: one file, `purges`, of frames. The first is all that was known when the file was written; each
//! later one is one call, synced before the call returns. The file is written anew when it is opened, and when more was
//! added to it than it began with.
//!
//! A frame is its length (4 bytes), the length's complement (4), a sum over the frame before and this one (8), and its
//! records. A file that ends within a frame lost what nobody was told was done. All else that does not add up is damage.

mod record;

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::marks::Marks;
use super::{Position, Purge};
use record::{Record, put};

/// The file's name.
const NAME: &str = "purges";
/// What the file begins with.
const MAGIC: &[u8] = b"eyot purges 1\n";
/// What stands before the records of a frame, in bytes.
const HEAD_BYTES: usize = 16;
/// A larger file is none of ours, in bytes.
const FILE_BYTES_MAX: u64 = 512 << 20;
/// The file is not written anew before this much was added, in bytes.
const ADDED_BYTES_MIN: u64 = 256 << 10;
/// An opened journal counts on so far above what is in it: above all that a process which did not live to write it down
/// can have counted.
const LEAP: u64 = 1 << 32;

/// All that a journal says.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) counter: u64,
    /// The count that the journal began with.
    pub(super) first: u64,
    pub(super) apps: HashMap<Box<str>, Marks>,
    pub(super) position: Option<Position>,
}

/// What was opened.
pub(super) struct Opened {
    pub(super) journal: Journal,
    pub(super) state: State,
    pub(super) lost: Option<String>,
}

/// The journal, open for what comes.
#[derive(Debug)]
pub(super) struct Journal {
    folder: PathBuf,
    file: File,
    /// The sum of the last frame.
    sum: Sum,
    /// What the file began with, and what was added.
    began_bytes: u64,
    added_bytes: u64,
    /// A write failed: what the file ends with is not known.
    torn: bool,
}

type Sum = [u8; 8];

/// The first count of a journal that begins at `now_ms`: above all counts of one that began before it and was lost, as
/// long as the clock went forward and fewer than a million purges came in each millisecond.
pub(super) fn first(now_ms: u64) -> u64 {
    now_ms.clamp(1, u64::MAX >> 21) << 20
}

/// Opens the journal of a folder, or begins one; of an app it tells at most `marks_max` purges apart.
pub(super) fn open(folder: &Path, marks_max: usize, now_ms: u64) -> io::Result<Opened> {
    let read = match File::open(folder.join(NAME)) {
        Ok(file) => {
            let mut bytes = Vec::new();
            file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
            parse(&bytes, marks_max)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err("there is no journal of purges yet".to_owned()),
        Err(error) => return Err(error),
    };
    let (state, lost) = match read {
        Ok(state) => (State { counter: (state.counter + LEAP).max(first(now_ms)), ..state }, None),
        Err(why) => (State { counter: first(now_ms), first: first(now_ms), ..State::default() }, Some(why)),
    };
    let (file, sum, began_bytes) = write(folder, &state)?;
    let journal = Journal { folder: folder.to_owned(), file, sum, began_bytes, added_bytes: 0, torn: false };
    Ok(Opened { journal, state, lost })
}

impl Journal {
    /// Adds one call and syncs it, or writes the file anew from `state`, which has the call in it.
    pub(super) fn append(
        &mut self,
        counter: u64,
        purges: &[(&str, Purge)],
        upto: Option<Position>,
        state: impl FnOnce() -> State,
    ) -> io::Result<()> {
        if self.torn || self.added_bytes > self.began_bytes.max(ADDED_BYTES_MIN) {
            return self.anew(&state());
        }
        let mut records = Vec::new();
        for (app, purge) in purges {
            let of = purge.what.named();
            put(&mut records, &Record::Mark { app, of, since: purge.at(counter) });
        }
        if let Some(position) = upto {
            put(&mut records, &Record::Position(position));
        }
        if records.is_empty() {
            return Ok(());
        }
        let (frame, sum) = frame(&self.sum, &records)?;
        self.torn = true;
        self.file.write_all(&frame)?;
        self.file.sync_data()?;
        (self.torn, self.sum) = (false, sum);
        self.added_bytes += frame.len() as u64;
        Ok(())
    }

    /// Writes the file anew.
    pub(super) fn anew(&mut self, state: &State) -> io::Result<()> {
        self.torn = true;
        (self.file, self.sum, self.began_bytes) = write(&self.folder, state)?;
        (self.torn, self.added_bytes) = (false, 0);
        Ok(())
    }
}

/// Writes a whole file beside the old one, and puts it in its place when it is on the disk.
fn write(folder: &Path, state: &State) -> io::Result<(File, Sum, u64)> {
    let mut records = Vec::new();
    put(&mut records, &Record::Counter { counter: state.counter, first: state.first });
    for (app, marks) in &state.apps {
        put(&mut records, &Record::Mark { app, of: None, since: marks.app });
        for (hash, since) in &marks.named {
            put(&mut records, &Record::Mark { app, of: Some(*hash), since: *since });
        }
    }
    if let Some(position) = state.position {
        put(&mut records, &Record::Position(position));
    }
    let (frame, sum) = frame(&Sum::default(), &records)?;
    let (aside, place) = (folder.join("purges.part"), folder.join(NAME));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    file.write_all(MAGIC)?;
    file.write_all(&frame)?;
    file.sync_all()?;
    fs::rename(&aside, &place)?;
    File::open(folder)?.sync_all()?;
    Ok((file, sum, frame.len() as u64))
}

fn frame(before: &Sum, records: &[u8]) -> io::Result<(Vec<u8>, Sum)> {
    let length = u32::try_from(records.len()).map_err(|_| io::Error::other("too many purges for one frame"))?;
    let sum = sum(before, records);
    let mut frame = Vec::with_capacity(HEAD_BYTES + records.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&(!length).to_be_bytes());
    frame.extend_from_slice(&sum);
    frame.extend_from_slice(records);
    Ok((frame, sum))
}

fn sum(before: &Sum, records: &[u8]) -> Sum {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    context.update(before);
    context.update(records);
    let mut out = Sum::default();
    out.copy_from_slice(&context.finish().as_ref()[..size_of::<Sum>()]);
    out
}

/// What a file says.
fn parse(bytes: &[u8], marks_max: usize) -> Result<State, String> {
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it is larger than {FILE_BYTES_MAX} bytes"));
    }
    let mut rest = bytes.strip_prefix(MAGIC).ok_or("it does not begin as a journal of purges does")?;
    let (mut state, mut before) = (State::default(), Sum::default());
    let mut frames = 0_u64;
    while let Some((records, sum)) = next(&mut rest, &before)? {
        let mut records = record::Records(records);
        while let Some(record) = records.next()? {
            if matches!(record, Record::Counter { .. }) != (frames == 0 && state.first == 0) {
                return Err("the count stands in another place than at the start".to_owned());
            }
            state.take(&record, marks_max);
        }
        (before, frames) = (sum, frames + 1);
    }
    if state.first == 0 {
        return Err("its first frame is not whole".to_owned());
    }
    Ok(state)
}

/// The next frame that is whole; none when the file ends before, or within it.
fn next<'a>(rest: &mut &'a [u8], before: &Sum) -> Result<Option<(&'a [u8], Sum)>, String> {
    // Where a file was made longer before its bytes were written, they read as zeroes.
    if rest.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let Some((head, body)) = rest.split_at_checked(HEAD_BYTES) else { return Ok(None) };
    let word = |at: usize| <[u8; 4]>::try_from(&head[at..at + 4]).map(u32::from_be_bytes).unwrap_or_default();
    if word(0) != !word(4) {
        return Err("the head of a frame is damaged".to_owned());
    }
    let Some((records, after)) = body.split_at_checked(word(0) as usize) else { return Ok(None) };
    let sum = sum(before, records);
    if head[8..] != sum {
        return Err("the sum of a frame is not that of its records".to_owned());
    }
    *rest = after;
    Ok(Some((records, sum)))
}

impl State {
    fn take(&mut self, record: &Record<'_>, marks_max: usize) {
        match *record {
            Record::Counter { counter, first } => (self.counter, self.first) = (counter, first),
            Record::Position(position) => self.position = Some(position),
            Record::Mark { app, of, since } => {
                if !self.apps.contains_key(app) {
                    self.apps.insert(app.into(), Marks::default());
                }
                if let Some(marks) = self.apps.get_mut(app) {
                    marks.mark(of, since, marks_max);
                }
                self.counter = self.counter.max(since.soft).max(since.doubt).max(since.hard);
            }
        }
    }
}

#[cfg(test)]
mod tests;
