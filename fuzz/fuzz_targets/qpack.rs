//! Field sections, and the strings and integers they are made of.

#![no_main]

#[path = "../targets.rs"]
#[allow(dead_code, reason = "each target runs one function")]
mod targets;

libfuzzer_sys::fuzz_target!(|input: &[u8]| targets::qpack(input));
