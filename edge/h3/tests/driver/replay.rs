//! The seeds of the fuzzers, and bytes like them, through what the fuzzers run.

use std::path::Path;

#[path = "../../../../fuzz/targets.rs"]
mod targets;

/// How many inputs are made of the seeds of each target.
const MADE: usize = 20_000;
/// No made input is longer.
const MADE_BYTES_MAX: usize = 4096;

type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 4] = [
    ("control", targets::control),
    ("frames", targets::frames),
    ("qpack", targets::qpack),
    ("request", targets::request),
];

/// The seeds of a target, by name.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut seeds: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).unwrap()))
        .collect();
    seeds.sort();
    assert!(seeds.len() >= 10, "{target} has seeds");
    seeds
}

/// Runs a target; when it panics, the input is said.
fn run(what: &str, target: Target, input: &[u8]) {
    let result = std::panic::catch_unwind(|| target(input));
    assert!(result.is_ok(), "{what}: {}", input.escape_ascii());
}

#[test]
fn every_seed_of_the_fuzzers_is_read_as_promised() {
    for (name, target) in TARGETS {
        for (seed, input) in seeds(name) {
            run(&format!("{name}/{seed}"), target, &input);
        }
    }
}

/// Numbers by chance, the same in each run (xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % end.max(1)
    }

    fn byte(&mut self) -> u8 {
        let likely = [0, 1, 4, 0x21, 0x3f, 0x40, 0x7f, 0x80, 0xc0, 0xff, b':', b'=', b',', b' '];
        match self.below(2) {
            0 => likely[self.below(likely.len())],
            _ => self.below(256).to_le_bytes()[0],
        }
    }

    /// An input like `seed`, with parts of `other`.
    fn change(&mut self, seed: &[u8], other: &[u8]) -> Vec<u8> {
        let mut out = seed.to_vec();
        for _ in 0..=self.below(6) {
            let at = self.below(out.len() + 1);
            let end = (at + self.below(12)).min(out.len());
            match self.below(6) {
                0 => out.insert(at, self.byte()),
                1 => drop(out.drain(at..end)),
                2 => out.truncate(at.max(1)),
                3 => {
                    let from = self.below(other.len() + 1);
                    let to = from + self.below(other.len() - from + 1);
                    drop(out.splice(at..end, other[from..to].iter().copied()));
                }
                _ if at < out.len() => out[at] = self.byte(),
                _ => out.extend_from_within(at.saturating_sub(8)..),
            }
        }
        out.truncate(MADE_BYTES_MAX);
        out
    }
}

#[test]
fn bytes_like_the_seeds_are_read_as_promised() {
    for (name, target) in TARGETS {
        let seeds = seeds(name);
        let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
        for _ in 0..MADE {
            let [(_, seed), (_, other)] = [0, 1].map(|_| &seeds[chance.below(seeds.len())]);
            let input = chance.change(seed, other);
            run(name, target, &input);
        }
    }
}
