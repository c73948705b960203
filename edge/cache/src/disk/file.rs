//! How a file is written. The heads come last: a file without them is nothing, whenever its writer dies.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;

use super::format::{CHUNK, HEADS, Head, SUM, body_at, chunks, stored, sum_of_chunk};
use super::write::Draft;

/// A file that is being written.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) file: File,
    /// How many chunks it has.
    pub(crate) chunks: u64,
    /// What is counted for it.
    pub(crate) granted: u64,
}

/// What makes an object of what was written.
pub(crate) struct Whole<'a> {
    /// The last chunk, or all if there is no other.
    pub(crate) rest: &'a [u8],
    pub(crate) meta: &'a [u8],
    pub(crate) body_bytes: u64,
}

impl Whole<'_> {
    /// Whether some of the chunks before the last one are not in the file.
    pub(crate) fn misses(&self, target: Option<&Target>) -> bool {
        let there = target.map_or(0, |target| target.chunks);
        there * CHUNK as u64 + self.rest.len() as u64 != self.body_bytes || chunks(self.body_bytes) < there
    }

    pub(crate) fn head(&self, draft: &Draft, life: u64) -> Head {
        let small = self.body_bytes == self.rest.len() as u64;
        let meta_bytes = self.meta.len() as u64;
        let mut head = Head {
            turn: 0,
            serial: draft.serial,
            life,
            primary: draft.primary,
            id: draft.id,
            body_at: if small { body_at(self.meta.len()) } else { draft.body_at },
            body_bytes: self.body_bytes,
            meta_at: HEADS as u64,
            meta_bytes,
            meta_sum: [0; SUM],
        };
        if head.meta_at + meta_bytes > head.body_at {
            head.meta_at = head.body_end();
        }
        head.meta_sum = head.sum_of_meta(self.meta);
        head
    }
}

impl Target {
    /// Where the file ends with this many whole chunks.
    pub(crate) fn end_of(draft: &Draft, chunks: u64) -> u64 {
        draft.body_at + stored(chunks * CHUNK as u64)
    }

    pub(crate) fn chunk(&mut self, draft: &Draft, life: u64, number: u64, chunk: &[u8]) -> io::Result<()> {
        let sum = sum_of_chunk(draft.serial, life, number, chunk);
        write_all(&self.file, Self::end_of(draft, number), &mut [IoSlice::new(chunk), IoSlice::new(&sum)])?;
        self.chunks = number + 1;
        Ok(())
    }

    pub(crate) fn finish(&mut self, head: &Head, whole: &Whole<'_>) -> io::Result<()> {
        let heads = head.alone();
        let sum = sum_of_chunk(head.serial, head.life, self.chunks, whole.rest);
        let sum = if whole.rest.is_empty() { &[][..] } else { &sum[..] };
        if self.chunks == 0 {
            let between = [0; 64];
            let between = &between[..usize::try_from(head.body_at - HEADS as u64).unwrap_or(0) - whole.meta.len()];
            let parts = [&heads, whole.meta, between, whole.rest, sum];
            return write_all(&self.file, 0, &mut parts.map(IoSlice::new));
        }
        let at = head.body_at + stored(self.chunks * CHUNK as u64);
        write_all(&self.file, at, &mut [IoSlice::new(whole.rest), IoSlice::new(sum)])?;
        self.file.write_all_at(whole.meta, head.meta_at)?;
        self.file.write_all_at(&heads, 0)
    }
}

/// Writes another meta beside the one that counts, and then the head that makes it the one. `end` is where both end.
pub(crate) fn remeta(file: &File, next: &Head, meta: &[u8], end: u64) -> io::Result<Head> {
    if file.metadata()?.len() > end {
        file.set_len(end)?;
    }
    file.write_all_at(meta, next.meta_at)?;
    file.write_all_at(&next.encode(), next.at())?;
    Ok(*next)
}

fn write_all(file: &File, mut at: u64, mut parts: &mut [IoSlice<'_>]) -> io::Result<()> {
    IoSlice::advance_slices(&mut parts, 0);
    while !parts.is_empty() {
        match rustix::io::pwritev(file, parts, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(wrote) => {
                at += wrote as u64;
                IoSlice::advance_slices(&mut parts, wrote);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
