//! What is done with bytes that may be a file of the cache's disk tier, or what stands there beside a body: it panics if
//! the cache does not hold what it promises. The fuzzer runs it, and so do the tests, over the seeds.

use std::io;

use eyot_cache::disk::format::{Loaded, Source, seal};
use eyot_cache::disk::{CHUNK, META_BYTES_MAX};
use eyot_cache::meta::{FIELDS_MAX, KEYS_MAX, Meta};

/// More is never read of a file at once.
const READ_BYTES_MAX: usize = if META_BYTES_MAX > CHUNK { META_BYTES_MAX } else { CHUNK } + 64;

/// A file that is as long as it is asked to be.
struct Endless<'a>(&'a [u8]);

impl Source for Endless<'_> {
    fn read(&self, at: u64, bytes: usize) -> io::Result<Vec<u8>> {
        assert!(bytes <= READ_BYTES_MAX, "{bytes} bytes at once");
        let mut out = self.0.read(at, bytes)?;
        out.resize(bytes, 0);
        Ok(out)
    }
}

/// A file, as it is and with sums that are right: what is read of it is of the length that it says, or nothing.
pub(crate) fn object(input: &[u8]) {
    let mut sealed = input.to_vec();
    seal(&mut sealed);
    for file in [input, &sealed] {
        for head in [0, 128] {
            let Some(serial) = file.get(head + 16..head + 24) else { continue };
            let serial = u64::from_le_bytes(serial.try_into().expect("eight bytes"));
            look(&file, serial);
            look(&Endless(file), serial);
        }
    }
}

fn look(source: &impl Source, serial: u64) {
    let Some(loaded) = Loaded::load(source, serial).expect("memory can be read") else { return };
    let body_bytes = loaded.head.body_bytes();
    assert!(loaded.meta.len() <= META_BYTES_MAX && body_bytes <= 1 << 40);
    let last = body_bytes / CHUNK as u64;
    for number in [0, 1, last, last + 1, u64::MAX / CHUNK as u64, u64::MAX] {
        let Some(chunk) = loaded.chunk(source, number).expect("memory can be read") else { continue };
        assert_eq!(chunk.len() as u64, (body_bytes - number * CHUNK as u64).min(CHUNK as u64));
    }
}

/// What stands beside a body: bounded when it is read, and the same when it is written and read again.
pub(crate) fn meta(input: &[u8]) {
    let Some(meta) = Meta::decode(input) else { return };
    assert!(meta.keys.len() <= KEYS_MAX && meta.kept.headers.len() <= FIELDS_MAX);
    let again = meta.encode().expect("what was read is within its bounds");
    assert_eq!(Meta::decode(&again), Some(meta));
}
