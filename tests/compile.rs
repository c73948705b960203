//! The compiler that a node starts: what it gives, and that it gives nothing when its limits are too tight.

use std::fs::File;
use std::process::Output;

use crate::harness::guests;
use crate::harness::world::eyot;

/// The verb that a node starts, with the component of a guest as its input.
fn compile(guest: &str, memory_bytes: u64) -> Output {
    let wasm = File::open(guests::path(guest)).expect("a guest");
    let mut compile = eyot();
    compile.args(["compile", "--memory-bytes", &memory_bytes.to_string(), "--cpu-ms", "120000"]);
    compile.env_clear().stdin(wasm).output().expect("run")
}

#[test]
fn the_compiler_lives_within_its_default_memory_and_gives_nothing_where_that_is_not_enough() {
    let good = compile("echo", 2 << 30);
    assert!(good.status.success() && good.stdout.starts_with(b"\x7fELF"), "{:?}", good.stderr);
    let tight = compile("echo", 64 << 20);
    assert!(!tight.status.success() && tight.stdout.is_empty(), "{:?}", tight.stderr);
}
