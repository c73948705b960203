//! Files of the cache's disk tier that may be anything.

#![no_main]

#[path = "../cache.rs"]
mod cache;

libfuzzer_sys::fuzz_target!(|input: &[u8]| cache::object(input));
