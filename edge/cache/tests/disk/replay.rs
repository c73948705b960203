//! The seeds of the fuzzer of files, and bytes like them, through what the fuzzer runs.

use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;

#[path = "../../../../fuzz/cache.rs"]
mod target;

fn seeds(of: &str, least: usize) -> Vec<Bytes> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(of);
    let files = crate::tool::files(&folder);
    assert!(files.len() >= least, "there are seeds");
    files.iter().map(|file| std::fs::read(file).expect("read").into()).collect()
}

#[test]
fn every_seed_of_the_fuzzer_is_read_as_promised() {
    for seed in seeds("object", 8) {
        target::object(&seed);
    }
    for seed in seeds("meta", 2) {
        assert!(eyot_cache::meta::Meta::decode(&seed).is_some(), "it is a good one");
        target::meta(&seed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]
    #[test]
    fn bytes_like_the_seeds_are_read_as_promised(
        seed in prop::sample::select(seeds("object", 8)),
        bytes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        words in prop::collection::vec((0..32_usize, prop::sample::select(vec![0, 1, 255, 1 << 16, 1 << 40, 1 << 63, u64::MAX])), 0..3),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut file = seed.to_vec();
        for (at, byte) in bytes {
            file[at.index(seed.len())] = byte;
        }
        for (word, value) in words {
            if let Some(place) = file.get_mut(word * 8..word * 8 + 8) {
                place.copy_from_slice(&value.to_le_bytes());
            }
        }
        target::object(&file);
        target::object(&file[..cut.index(seed.len())]);
    }
}
