//! The compiler that a node starts: what it gives, and that it gives nothing when its limits are too tight.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Output;

use crate::harness::guests;
use crate::harness::world::eyot;

/// The verb that a node starts, with the component of a guest as its input.
fn compile(guest: &str, memory_bytes: u64) -> Output {
    compile_with(guest, memory_bytes, None)
}

/// The same, with the file of what is known.
fn compile_with(guest: &str, memory_bytes: u64, known: Option<&Path>) -> Output {
    let wasm = File::open(guests::path(guest)).expect("a guest");
    let mut compile = eyot();
    compile.args(["compile", "--memory-bytes", &memory_bytes.to_string(), "--cpu-ms", "120000"]);
    compile.args(known.iter().flat_map(|file| [Path::new("--known"), file]));
    compile.env_clear().stdin(wasm).output().expect("run")
}

#[test]
fn the_compiler_lives_within_its_default_memory_and_gives_nothing_where_that_is_not_enough() {
    let good = compile("echo", 2 << 30);
    assert!(good.status.success() && good.stdout.starts_with(b"\x7fELF"), "{:?}", good.stderr);
    let tight = compile("echo", 64 << 20);
    assert!(!tight.status.success() && tight.stdout.is_empty(), "{:?}", tight.stderr);
}

#[test]
fn what_was_compiled_is_kept_for_the_next_compiler_which_gives_the_same_and_does_without_where_it_is_torn() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("known");
    let plain = compile("echo", 2 << 30).stdout;
    let first = compile_with("echo", 2 << 30, Some(&file));
    assert!(first.stdout == plain && first.status.success(), "{:?}", first.stderr);
    let kept = fs::read(&file).expect("kept");
    assert!(kept.len() > 100_000, "the functions of a guest: {}", kept.len());
    assert_eq!(fs::metadata(&file).expect("kept").mode() & 0o777, 0o600);
    assert!(compile_with("echo", 2 << 30, Some(&file)).stdout == plain, "by what is known");
    // Another guest has much in common with it.
    let other = compile_with("hello", 2 << 30, Some(&file));
    assert!(other.stdout == compile("hello", 2 << 30).stdout, "by what is known of another");
    fs::write(&file, &kept[..kept.len() / 2]).expect("torn");
    assert!(compile_with("echo", 2 << 30, Some(&file)).stdout == plain, "torn");
    // What is kept of two compilations is not the same to the byte.
    assert!(fs::read(&file).expect("kept").len() > kept.len() * 3 / 4, "it is whole again");
    let left = fs::read_dir(folder.path()).expect("the folder").count();
    assert_eq!(left, 1, "nothing is left beside it");
    let nowhere = compile_with("echo", 2 << 30, Some(Path::new("/nonexistent/known")));
    assert!(!nowhere.status.success() && nowhere.stdout.is_empty(), "{:?}", nowhere.stderr);
}
