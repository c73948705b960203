//! Files of the cache's disk tier that may be anything.

#![no_main]

#[path = "../cache.rs"]
#[allow(dead_code, reason = "each target runs one function")]
mod cache;

libfuzzer_sys::fuzz_target!(|input: &[u8]| cache::object(input));
