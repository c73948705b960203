//! What was compiled before, a function of a component at a time: where a component differs from the last one in a few
//! functions, only those are compiled. For the machine of a developer, who compiles what nearly is the same again and again.
//!
//! What is kept becomes machine code unchecked, like an artefact. It has no MAC: where it is used, its key would lie beside it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use eyot_bundle::digest::Digest;
use wasmtime::CacheStore;

use crate::compile;
use crate::settings::Error;

/// More than this is not kept, in bytes: over it, what the last compilation did not use is forgotten.
pub const KNOWN_BYTES_MAX: usize = 256 << 20;

/// Functions that were compiled.
pub struct Known {
    /// The build they are of.
    build: Digest,
    before: HashMap<Vec<u8>, Entry>,
    now: Mutex<HashMap<Vec<u8>, Vec<u8>>>,
}

struct Entry {
    code: Vec<u8>,
    used: AtomicBool,
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Known").field("before", &self.before.len()).finish_non_exhaustive()
    }
}

impl Known {
    /// What [`Known::kept`] gave; nothing, where it is torn or was given by another build.
    ///
    /// # Errors
    /// When there is no engine.
    pub fn new(kept: &[u8]) -> Result<Self, Error> {
        let build = compile::compatibility()?;
        let before = whole(kept, build).and_then(entries).unwrap_or_default();
        Ok(Self { build, before, now: Mutex::default() })
    }

    /// All that is to be kept, of at most `bytes_max`; none: there is nothing new.
    pub fn kept(&self, bytes_max: usize) -> Option<Vec<u8>> {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if now.is_empty() {
            return None;
        }
        let size = |key: &[u8], code: &[u8]| 8 + key.len() + code.len();
        let all = self.before.iter().map(|(key, entry)| size(key, &entry.code)).sum::<usize>()
            + now.iter().map(|(key, code)| size(key, code)).sum::<usize>();
        let is_kept = |entry: &Entry| all <= bytes_max || entry.used.load(Ordering::Relaxed);
        let before = self.before.iter().filter(|(_, entry)| is_kept(entry)).map(|(key, entry)| (key, &entry.code));
        let mut bytes = self.build.as_bytes().to_vec();
        for (key, code) in before.chain(now.iter()) {
            if bytes.len() + size(key, code) <= bytes_max {
                put(&mut bytes, key);
                put(&mut bytes, code);
            }
        }
        bytes.extend(Digest::of(&bytes).as_bytes());
        Some(bytes)
    }
}

impl CacheStore for Known {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        if let Some(entry) = self.before.get(key) {
            entry.used.store(true, Ordering::Relaxed);
            return Some(Cow::Borrowed(&entry.code));
        }
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.get(key).cloned().map(Cow::Owned)
    }

    fn insert(&self, key: &[u8], code: Vec<u8>) -> bool {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_vec(), code);
        true
    }
}

/// The entries, if the digest behind them and the build before them are right.
fn whole(kept: &[u8], build: Digest) -> Option<&[u8]> {
    let (held, digest) = kept.split_at_checked(kept.len().checked_sub(32)?)?;
    if Digest::of(held).as_bytes() != digest {
        return None;
    }
    held.strip_prefix(build.as_bytes())
}

fn entries(mut bytes: &[u8]) -> Option<HashMap<Vec<u8>, Entry>> {
    let mut entries = HashMap::new();
    while !bytes.is_empty() {
        let (key, rest) = take(bytes)?;
        let (code, rest) = take(rest)?;
        entries.insert(key.to_vec(), Entry { code: code.to_vec(), used: AtomicBool::new(false) });
        bytes = rest;
    }
    Some(entries)
}

/// Some bytes, after how many they are.
fn put(into: &mut Vec<u8>, bytes: &[u8]) {
    into.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    into.extend(bytes);
}

fn take(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// A component of functions that each add another number; the artefact.
    fn compiled(known: &Arc<Known>, numbers: &[u32]) -> Vec<u8> {
        let functions: String = numbers
            .iter()
            .map(|number| {
                format!("(func (param i32) (result i32) (i32.mul (i32.add (local.get 0) (i32.const {number})) (local.get 0)))")
            })
            .collect();
        let wat = format!("(component (core module {functions}))");
        let wasm = wat::parse_str(wat).expect("a component");
        compile::compile_with(&wasm, Some(Arc::clone(known))).expect("compiled")
    }

    fn known(kept: &[u8]) -> Arc<Known> {
        Arc::new(Known::new(kept).expect("an engine"))
    }

    #[test]
    fn what_was_compiled_before_is_taken_and_only_the_rest_compiled() {
        let first = known(b"");
        let artefact = compiled(&first, &[1, 2, 3]);
        let kept = first.kept(KNOWN_BYTES_MAX).expect("something new");
        let again = known(&kept);
        let count = again.before.len();
        assert!(count >= 3, "each function, and what calls builtins");
        assert!(compiled(&again, &[1, 2, 3]) == artefact, "it is the same code");
        assert!(again.kept(KNOWN_BYTES_MAX).is_none(), "nothing is new");
        compiled(&again, &[1, 2, 3, 4]);
        assert_eq!(again.now.lock().expect("whole").len(), 1);
        assert_eq!(known(&again.kept(KNOWN_BYTES_MAX).expect("one")).before.len(), count + 1);
    }

    #[test]
    fn what_is_torn_or_of_another_build_is_nothing() {
        let first = known(b"");
        compiled(&first, &[1]);
        let kept = first.kept(KNOWN_BYTES_MAX).expect("something new");
        assert!(!known(&kept).before.is_empty());
        let mut other = kept[..kept.len() - 32].to_vec();
        other[0] ^= 1;
        other.extend_from_slice(Digest::of(&other).as_bytes());
        let mut flipped = kept.clone();
        flipped[40] ^= 1;
        for (bytes, why) in [(&kept[..kept.len() - 1], "torn"), (&other, "another build"), (&flipped, "altered")] {
            assert_eq!(known(bytes).before.len(), 0, "{why}");
        }
    }

    #[test]
    fn over_its_bound_what_was_not_used_is_forgotten() {
        let first = known(b"");
        compiled(&first, &[1, 2, 3, 4, 5, 6]);
        let kept = first.kept(KNOWN_BYTES_MAX).expect("something new");
        let second = known(&kept);
        compiled(&second, &[1, 2, 7]);
        let fewer = second.kept(kept.len()).expect("one more");
        // Four of the functions.
        assert_eq!(known(&fewer).before.len() + 4, second.before.len() + 1);
        assert_eq!(KNOWN_BYTES_MAX, 256 << 20);
    }
}
