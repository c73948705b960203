//! The blocks of a ustar archive: what is written and what is read, nothing else of the format.

use super::{BLOCK_BYTES, Error, error};

/// What an entry's head says.
pub(super) struct Entry {
    /// Its whole path.
    pub(super) name: String,
    /// Its bytes.
    pub(super) size: u64,
}

const NAME: std::ops::Range<usize> = 0..100;
const MODE: std::ops::Range<usize> = 100..108;
const UID: std::ops::Range<usize> = 108..116;
const GID: std::ops::Range<usize> = 116..124;
const SIZE: std::ops::Range<usize> = 124..136;
const MTIME: std::ops::Range<usize> = 136..148;
const SUM: std::ops::Range<usize> = 148..156;
const KIND: usize = 156;
const MAGIC: std::ops::Range<usize> = 257..265;
const PREFIX: std::ops::Range<usize> = 345..500;
const FILE: u8 = b'0';

/// Bytes and what fills their last block.
pub(super) fn padded(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK_BYTES as u64).saturating_mul(BLOCK_BYTES as u64)
}

/// The length of an archive of files of these sizes.
pub(super) fn length(sizes: impl Iterator<Item = usize>) -> usize {
    let entries = sizes.map(|size| BLOCK_BYTES + size.div_ceil(BLOCK_BYTES) * BLOCK_BYTES);
    entries.sum::<usize>() + 2 * BLOCK_BYTES
}

/// Appends a file.
pub(super) fn append(out: &mut Vec<u8>, name: &str, bytes: &[u8]) -> Result<(), Error> {
    out.extend_from_slice(&head(name, bytes.len() as u64)?);
    out.extend_from_slice(bytes);
    out.resize(out.len().next_multiple_of(BLOCK_BYTES), 0);
    Ok(())
}

fn head(name: &str, size: u64) -> Result<[u8; BLOCK_BYTES], Error> {
    let (prefix, rest) = split(name).ok_or_else(|| error(format!("`{name}` does not fit into an archive")))?;
    let mut head = [0; BLOCK_BYTES];
    let mut put = |at: std::ops::Range<usize>, text: &[u8]| head[at.start..at.start + text.len()].copy_from_slice(text);
    put(NAME, rest.as_bytes());
    put(PREFIX, prefix.as_bytes());
    put(MODE, b"0000644\0");
    put(UID, b"0000000\0");
    put(GID, b"0000000\0");
    put(SIZE, format!("{size:011o}\0").as_bytes());
    put(MTIME, b"00000000000\0");
    put(SUM, b"        ");
    put(KIND..KIND + 1, &[FILE]);
    put(MAGIC, b"ustar\x0000");
    let sum = format!("{:06o}\0 ", sum(&head));
    head[SUM].copy_from_slice(sum.as_bytes());
    Ok(head)
}

/// A path in its two fields.
fn split(name: &str) -> Option<(&str, &str)> {
    if name.len() <= NAME.len() {
        return Some(("", name));
    }
    let mut cuts = name.match_indices('/').map(|(at, _)| (&name[..at], &name[at + 1..]));
    cuts.rfind(|(prefix, rest)| prefix.len() <= PREFIX.len() && rest.len() <= NAME.len())
}

/// The sum of a head, as if its own field were blank.
fn sum(head: &[u8; BLOCK_BYTES]) -> u32 {
    let bytes = head.iter().enumerate().map(|(at, byte)| if SUM.contains(&at) { b' ' } else { *byte });
    bytes.map(u32::from).sum()
}

/// The entry that a head begins; none: the archive ends here. Only what [`append`] writes is read.
pub(super) fn read(block: &[u8; BLOCK_BYTES]) -> Result<Option<Entry>, Error> {
    if block.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let text = |at: std::ops::Range<usize>| {
        let field = &block[at];
        let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
        std::str::from_utf8(&field[..end]).map_err(|_| error("a field of the archive is no text"))
    };
    let (prefix, rest) = (text(PREFIX)?, text(NAME)?);
    let name = if prefix.is_empty() { rest.to_owned() } else { format!("{prefix}/{rest}") };
    let size = u64::from_str_radix(text(SIZE)?, 8).map_err(|_| error(format!("`{name}` has no size")))?;
    // What it says must be what is written of it: so it is a plain file, without owner and time, and its sum is right.
    match head(&name, size)? == *block {
        true => Ok(Some(Entry { name, size })),
        false => Err(error(format!("`{name}` is not a plain file as they are packed"))),
    }
}
