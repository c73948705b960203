//! Compiling a component to machine code. It takes seconds and memory for large ones, and what it is given is hostile: it
//! belongs into a process of its own, under limits, with no network and no keys.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use eyot_bundle::digest::{self, Digest};

use crate::engine;
use crate::known::Known;
use crate::settings::Error;
use crate::world::World;

/// A component larger than this is not compiled, in bytes.
pub const WASM_BYTES_MAX: usize = 64 << 20;

/// Compiles a component. The result is trusted code: keep it by [`crate::artefacts`], never take it from the wire.
pub fn compile(wasm: &[u8]) -> Result<Vec<u8>, Error> {
    compile_with(wasm, None)
}

/// The same, with what of its functions is `known` already. What it is not, it is then.
pub fn compile_with(wasm: &[u8], known: Option<Arc<Known>>) -> Result<Vec<u8>, Error> {
    if wasm.len() > WASM_BYTES_MAX {
        return Err(Error::Compile(format!("{} bytes, more than {WASM_BYTES_MAX}", wasm.len())));
    }
    let engine = engine::compiling(World::of(wasm), known)?;
    engine.precompile_component(wasm).map_err(|error| Error::Compile(format!("{error:#}")))
}

/// What an artefact must have been made by to be loaded here: version, target and options of the compilers of all worlds,
/// and this build.
pub fn compatibility() -> Result<Digest, Error> {
    let mut hasher = Sha256::default();
    hasher.write(concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"), "\n").as_bytes());
    for world in World::ALL {
        engine::compiling(world, None)?.precompile_compatibility_hash().hash(&mut hasher);
    }
    Ok(hasher.0.finish())
}

/// A hasher whose result is the same in every process.
#[derive(Default)]
struct Sha256(digest::Hasher);

impl Hasher for Sha256 {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Not used: the digest is taken whole.
    fn finish(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compatibility_is_the_same_each_time_it_is_asked() {
        assert_eq!(compatibility().expect("an engine"), compatibility().expect("an engine"));
    }

    #[test]
    fn what_is_no_component_is_refused() {
        for wasm in [&b""[..], b"hello", b"\0asm\x01\0\0\0"] {
            assert!(matches!(compile(wasm), Err(Error::Compile(_))));
        }
    }
}
