//! What a file of the disk tier holds, as bytes: pure, and distrustful of every one of them.
//!
//! ```text
//! 0            two heads of 128 bytes, the newer of which counts
//! 256          the meta, if it fits the room before the body
//! body_at      the body in chunks of 64 KiB, the last one shorter, each followed by its sum
//! body_end     metas for which there was no room
//! ```
//!
//! A sum is seeded by what it is the sum of: the file's number, its writer's life, what it is, which, and how long. So
//! bytes that are whole but stand in the wrong place, or are of an earlier file on the same blocks, have the wrong one.

use std::io;

use bytes::Bytes;
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

/// The bytes of a body that have a sum of their own.
pub const CHUNK: usize = 64 * 1024;

/// The most that the meta of an object may have.
pub const META_BYTES_MAX: usize = 256 * 1024;

/// The most that a body may have.
pub const BODY_BYTES_MAX: u64 = 1 << 40;

/// What names an object, or what several of them share.
pub type Id = [u8; 16];

pub(crate) const SUM: usize = 16;
const HEAD: usize = 128;
/// Where the heads end.
pub(crate) const HEADS: usize = 2 * HEAD;
/// What is read of a file at once to begin with: its heads, mostly its meta, and all of a small object.
pub(crate) const PROBE: usize = 16 * 1024;
const MAGIC: &[u8; 8] = b"eyotobj1";
/// How many metas a file may hold behind its body before it is taken for broken.
const METAS_MAX: u64 = 4;

/// What is known of a file: who it is, and where in it the rest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Which of the metas that the object had this is; its parity says which of the two heads it is.
    pub(crate) turn: u64,
    /// The file's number, which is its name.
    pub(crate) serial: u64,
    /// A random number of the process that wrote it.
    pub(crate) life: u64,
    pub(crate) primary: Id,
    pub(crate) id: Id,
    pub(crate) body_at: u64,
    pub(crate) body_bytes: u64,
    pub(crate) meta_at: u64,
    pub(crate) meta_bytes: u64,
    pub(crate) meta_sum: [u8; SUM],
}

/// What a sum is of.
#[derive(Clone, Copy)]
enum Part {
    Chunk(u64),
    Head,
    Meta(u64),
}

fn sum(serial: u64, life: u64, part: Part, bytes: &[u8]) -> [u8; SUM] {
    let (kind, which) = match part {
        Part::Chunk(number) => (1, number),
        Part::Head => (2, 0),
        Part::Meta(turn) => (3, turn),
    };
    let mut context = [0; 40];
    for (place, value) in context.chunks_exact_mut(8).zip([serial, life, kind, which, bytes.len() as u64]) {
        place.copy_from_slice(&value.to_le_bytes());
    }
    xxh3_128_with_seed(bytes, xxh3_64_with_seed(&context, life)).to_le_bytes()
}

/// How many chunks a body has.
pub(crate) fn chunks(body_bytes: u64) -> u64 {
    body_bytes.div_ceil(CHUNK as u64)
}

/// What of a file a body takes, with its sums.
pub(crate) fn stored(body_bytes: u64) -> u64 {
    body_bytes + chunks(body_bytes) * SUM as u64
}

/// Where the body begins if a meta of this many bytes is to stand before it.
pub(crate) fn body_at(meta_bytes: usize) -> u64 {
    (HEADS + meta_bytes.next_multiple_of(64)) as u64
}

impl Head {
    /// The length of the body in bytes.
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// The head as it stands in the file.
    pub(crate) fn encode(&self) -> [u8; HEAD] {
        let mut out = [0; HEAD];
        out[..8].copy_from_slice(MAGIC);
        let numbers = [(8, self.turn), (16, self.serial), (24, self.life)];
        let places = [(64, self.body_at), (72, self.body_bytes), (80, self.meta_at), (88, self.meta_bytes)];
        for (at, value) in numbers.into_iter().chain(places) {
            out[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        out[32..48].copy_from_slice(&self.primary);
        out[48..64].copy_from_slice(&self.id);
        out[96..112].copy_from_slice(&self.meta_sum);
        let sum = sum(self.serial, self.life, Part::Head, &out[..112]);
        out[112..].copy_from_slice(&sum);
        out
    }

    /// Where in the file this head stands.
    pub(crate) fn at(&self) -> u64 {
        (self.turn & 1) * HEAD as u64
    }

    /// Both heads, with nothing where the other one is.
    pub(crate) fn alone(&self) -> [u8; HEADS] {
        let mut out = [0; HEADS];
        let at = if self.turn & 1 == 0 { 0 } else { HEAD };
        out[at..at + HEAD].copy_from_slice(&self.encode());
        out
    }

    /// The heads of the file `serial` that are whole, the newest first.
    pub(crate) fn read(bytes: &[u8], serial: u64) -> impl Iterator<Item = Self> {
        let read = |place: usize| {
            let head = Self::decode(bytes.get(place * HEAD..(place + 1) * HEAD)?)?;
            (head.serial == serial && head.turn & 1 == place as u64 && head.is_sound()).then_some(head)
        };
        let mut found = [read(0), read(1)];
        found.sort_by_key(|head| std::cmp::Reverse(head.map(|head| head.turn)));
        found.into_iter().flatten()
    }

    /// A head whose sum is right.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let head = Self::parse(bytes)?;
        let sum = sum(head.serial, head.life, Part::Head, bytes.get(..HEAD - SUM)?);
        (bytes.starts_with(MAGIC) && bytes.ends_with(&sum)).then_some(head)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let words = |at: usize| bytes.get(at..at + 16)?.try_into().ok();
        Some(Self {
            turn: number(8)?,
            serial: number(16)?,
            life: number(24)?,
            primary: words(32)?,
            id: words(48)?,
            body_at: number(64)?,
            body_bytes: number(72)?,
            meta_at: number(80)?,
            meta_bytes: number(88)?,
            meta_sum: words(96)?,
        })
    }

    /// Whether its places are such as this code makes.
    fn is_sound(&self) -> bool {
        let (heads, most) = (HEADS as u64, META_BYTES_MAX as u64);
        let first = self.meta_at == heads && self.meta_bytes.saturating_add(heads) <= self.body_at;
        self.body_bytes <= BODY_BYTES_MAX
            && self.meta_bytes <= most
            && (heads..=body_at(META_BYTES_MAX)).contains(&self.body_at)
            && (first || (self.body_end()..=self.body_end() + METAS_MAX * most).contains(&self.meta_at))
    }

    /// Where the body ends.
    pub(crate) fn body_end(&self) -> u64 {
        self.body_at + stored(self.body_bytes)
    }

    /// How long the file is at least.
    pub(crate) fn end(&self) -> u64 {
        self.body_end().max(self.meta_at + self.meta_bytes)
    }

    /// Where a chunk of the body stands, and how long it is without its sum; nothing if the body has no such chunk.
    pub(crate) fn chunk(&self, number: u64) -> Option<(u64, usize)> {
        let before = number.checked_mul(CHUNK as u64).filter(|before| *before < self.body_bytes)?;
        let bytes = usize::try_from(self.body_bytes - before).map_or(CHUNK, |rest| rest.min(CHUNK));
        Some((self.body_at + stored(before), bytes))
    }

    /// The same object with another meta, beside the one that it has.
    pub(crate) fn with_meta(&self, meta: &[u8]) -> Self {
        let mut next = Self { turn: self.turn + 1, meta_bytes: meta.len() as u64, ..*self };
        next.meta_at = self.place_for(next.meta_bytes);
        next.meta_sum = next.sum_of_meta(meta);
        next
    }

    /// Where another meta may stand while this one is still good.
    fn place_for(&self, bytes: u64) -> u64 {
        let (heads, end) = (HEADS as u64, self.body_end());
        let after = self.meta_at + self.meta_bytes;
        if self.meta_at == heads {
            end
        } else if heads + bytes <= self.body_at {
            heads
        } else if end + bytes <= self.meta_at {
            end
        } else {
            after
        }
    }

    pub(crate) fn sum_of_meta(&self, meta: &[u8]) -> [u8; SUM] {
        sum(self.serial, self.life, Part::Meta(self.turn), meta)
    }
}

/// The sum that follows a chunk.
pub(crate) fn sum_of_chunk(serial: u64, life: u64, number: u64, bytes: &[u8]) -> [u8; SUM] {
    sum(serial, life, Part::Chunk(number), bytes)
}

/// Gives the heads of a file, and the metas that they name, the sums that they should have: for those who make up files
/// to see what comes of them.
pub fn seal(file: &mut [u8]) {
    for at in [0, HEAD] {
        let Some(mut head) = file.get(at..at + HEAD).and_then(Head::parse) else { continue };
        let meta = usize::try_from(head.meta_at).ok().and_then(|from| {
            let bytes = usize::try_from(head.meta_bytes).ok()?;
            file.get(from..from.checked_add(bytes)?)
        });
        if let Some(meta) = meta {
            head.meta_sum = head.sum_of_meta(meta);
        }
        file[at..at + HEAD].copy_from_slice(&head.encode());
    }
}

/// A file, however it is read.
pub trait Source {
    /// Up to `bytes` from `at` on; fewer only where the file ends.
    ///
    /// # Errors
    /// That it cannot be read, or not at once.
    fn read(&self, at: u64, bytes: usize) -> io::Result<Vec<u8>>;
}

impl Source for &[u8] {
    fn read(&self, at: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let rest = usize::try_from(at).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        Ok(rest[..bytes.min(rest.len())].to_vec())
    }
}

/// What is known of an object once its file was looked at.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Where the rest is.
    pub head: Head,
    /// The caller's.
    pub meta: Bytes,
    /// All of the body with its sums, unlooked at, if the file is small.
    pub body: Option<Bytes>,
}

impl Loaded {
    /// What the file `serial` holds, if it is whole as far as this looks: its head and its meta.
    ///
    /// # Errors
    /// Those of the source.
    pub fn load(source: &impl Source, serial: u64) -> io::Result<Option<Self>> {
        let probe = Bytes::from(source.read(0, PROBE)?);
        for head in Head::read(&probe, serial) {
            if let Some(meta) = meta_of(source, &probe, &head)? {
                let body = range(&probe, head.body_at, stored(head.body_bytes));
                // Without the body the probe would be kept for a meta that is a part of it.
                let meta = if body.is_some() { meta } else { Bytes::copy_from_slice(&meta) };
                return Ok(Some(Self { head, meta, body }));
            }
        }
        Ok(None)
    }

    /// A chunk of the body, with what its file holds; nothing if that is not what was written.
    ///
    /// # Errors
    /// Those of the source.
    pub fn chunk(&self, source: &impl Source, number: u64) -> io::Result<Option<Bytes>> {
        let Some((at, bytes)) = self.head.chunk(number) else { return Ok(None) };
        let found = match &self.body {
            Some(body) => range(body, at - self.head.body_at, (bytes + SUM) as u64),
            None => Some(Bytes::from(source.read(at, bytes + SUM)?)),
        };
        Ok(found.and_then(|found| whole(&self.head, number, bytes, found)))
    }
}

fn meta_of(source: &impl Source, probe: &Bytes, head: &Head) -> io::Result<Option<Bytes>> {
    let meta = match range(probe, head.meta_at, head.meta_bytes) {
        Some(meta) => meta,
        None => match usize::try_from(head.meta_bytes) {
            Ok(bytes) => Bytes::from(source.read(head.meta_at, bytes)?),
            Err(_) => return Ok(None),
        },
    };
    Ok((meta.len() as u64 == head.meta_bytes && head.sum_of_meta(&meta) == head.meta_sum).then_some(meta))
}

/// The chunk without its sum, if that is right.
fn whole(head: &Head, number: u64, bytes: usize, mut found: Bytes) -> Option<Bytes> {
    (found.len() == bytes + SUM).then_some(())?;
    let sum = found.split_off(bytes);
    (sum == sum_of_chunk(head.serial, head.life, number, &found).as_slice()).then_some(found)
}

fn range(of: &Bytes, at: u64, bytes: u64) -> Option<Bytes> {
    let (from, to) = (usize::try_from(at).ok()?, usize::try_from(at.checked_add(bytes)?).ok()?);
    (to <= of.len()).then(|| of.slice(from..to))
}
